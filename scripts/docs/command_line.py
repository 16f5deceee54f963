"""The page of all commands and flags, made from the command itself."""

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from cyclopts import App, Argument, Group

from hyperpod_ebs import cli

PAGE: Final = "docs/reference/command-line.md"
HEAD: Final = """\
<!-- Made from the command's own help by make generate; do not edit. -->

# Command line

A setting of the driver is a flag or an environment variable. A flag wins over its variable; of several variables the
first one that is set counts. When a flag is given twice, the last one counts; flags that are lists add up. Exit codes:
0 success, 1 failure, 2 wrong usage, 130 interrupted; the commands below list others. Errors are one line on stderr;
[errors](errors.md) has their causes.

Flags without a command run both services in one process, as the upstream driver does.

The access tools are the commands for people: they act with the credentials of the AWS CLI, print results on stdout as a
table or as JSON (`--output json`), and write progress and questions to stderr. They work on a laptop without root, and
in the driver's image.

For completion of commands and flags, add one of these lines to the start-up file of your shell:

```sh
source <(hyperpod-ebs completion bash)
source <(hyperpod-ebs completion zsh)
hyperpod-ebs completion fish | source
```
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_commands(cli.app, "hyperpod-ebs")])


def _commands(app: App, path: str) -> Iterator[str]:
    """A section for each command, and for the commands in it."""
    for name, command in _subcommands(app):
        yield f"## `{path} {name}`\n\n{_summary(command)}\n"
        if command.default_command is not None:
            yield from _arguments(command, f"{path} {name}")
        if command.help_epilogue:
            yield f"```text\n{command.help_epilogue}\n```\n"
        yield from _commands(command, f"{path} {name}")


def _subcommands(app: App) -> Iterator[tuple[str, App]]:
    """Each command with the first of its names."""
    named: dict[tuple[str, ...], str] = {}
    for name in app:
        if not name.startswith("-") and named.setdefault(app[name].name, name) == name:
            yield name, app[name]


def _summary(command: App) -> str:
    """The help without the part that describes the arguments."""
    return inspect.cleandoc(command.help).partition("\n\nArgs:")[0]


def _arguments(command: App, path: str) -> Iterator[str]:
    """The usage if there are positional arguments, and a table for each group in the order of `--help`."""
    groups: dict[Group, list[Argument]] = {}
    for argument in command.assemble_argument_collection(parse_docstring=True):
        if argument.show:
            groups.setdefault(_group(argument), []).append(argument)
    positional = [argument for arguments in groups.values() for argument in arguments if _is_positional(argument)]
    if positional:
        yield f"Usage: `{path} {' '.join(map(_usage, positional))} [FLAG...]`\n"
    for group in sorted(groups, key=lambda group: group.sort_key or 0):
        arguments = groups[group]
        if len(groups) > 1:
            yield f"### {group.name}\n"
        title = "argument" if _is_positional(arguments[0]) else "flag"
        yield f"| {title} | meaning | default | variables |\n|---|---|---|---|"
        yield from (_row(argument) for argument in arguments)
        yield ""


def _is_positional(argument: Argument) -> bool:
    return not argument.name.startswith("-")


def _usage(argument: Argument) -> str:
    """A positional argument as `--help` shows it."""
    is_list = argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL
    name = f"{argument.name}..." if is_list else argument.name
    return name if argument.required else f"[{name}]"


def _group(argument: Argument) -> Group:
    """The group in which `--help` shows the flag."""
    match argument.parameter.group:
        case (Group() as group, *_):
            return group
        case _:
            raise TypeError(f"{argument.name} is in no group")


def _row(argument: Argument) -> str:
    names = ", ".join(f"`{name}`" for name in argument.names if name not in argument.negatives)
    variables = ", ".join(f"`{name}`" for name in argument.parameter.env_var or ())
    choices = ", ".join(f"`{choice}`" for choice in _choices(argument.hint))
    meaning = f"{argument.parameter.help or ''}{f' One of {choices}.' if choices else ''}"
    return f"| {names} | {_cell(meaning)} | {_default(argument)} | {variables} |"


def _choices(hint: object) -> tuple[object, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _default(argument: Argument) -> str:
    value = argument.field_info.default
    if value is inspect.Parameter.empty:
        return "required" if argument.required else ""
    if value in {None, "", ()}:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def write(root: Path) -> None:
    """Write the page below a directory."""
    (root / PAGE).parent.mkdir(parents=True, exist_ok=True)
    (root / PAGE).write_text(page())
