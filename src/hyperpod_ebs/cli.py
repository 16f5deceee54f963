"""The command `hyperpod-ebs`: one subcommand for each process or job, and one line for each error."""

import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from cyclopts import App, CycloptsError

from hyperpod_ebs import __version__
from hyperpod_ebs.access.help_texts import epilogue
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.observe import structlog_without_rich
from hyperpod_ebs.kit.printable import printable

_FAILURE: Final = 1
_WRONG_USAGE: Final = 2
_INTERRUPTED: Final = 130

_ALL: Final = "all"
_HOOK: Final = "pre-stop-hook"
_SERVICES: Final = frozenset({"controller", "node", _ALL})
_REPEATABLE: Final = frozenset({"--extra-tags", "--extra-volume-tags"})
_LONG_NAMES: Final = {"-v": "--v"}
_INFORMATION: Final = frozenset({"--help", "-h", "--version"})


def _version() -> str:
    """The versions as JSON, under upstream's names where it has them."""
    versions = {
        "driverVersion": __version__,
        "pythonVersion": platform.python_version(),
        "platform": f"{platform.system()}/{platform.machine()}".lower(),
    }
    return json.dumps(versions, indent=2)


def _print_completion(shell: Literal["bash", "fish", "zsh"], /) -> None:
    """Print the script with which a shell completes the commands and flags of hyperpod-ebs.

    Args:
        shell: The shell.
    """
    sys.stdout.write(app.generate_completion(shell=shell))


app = App(
    name="hyperpod-ebs",
    help="CSI driver for Amazon EBS volumes on SageMaker HyperPod clusters and plain EC2 nodes.",
    help_epilogue="Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.",
    version=_version,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
# Registered by path, so that a command's module is imported only when the command runs.
app.command(
    "hyperpod_ebs.driver.app.controller:run_controller",
    name="controller",
    help="Run the CSI controller service, which creates, attaches, modifies and deletes volumes and snapshots.",
)
app.command(
    "hyperpod_ebs.driver.app.node:run_node",
    name="node",
    help="Run the CSI node service, which formats, mounts and unmounts the volumes of this node.",
)
app.command(
    "hyperpod_ebs.driver.app.all:run_all",
    name=_ALL,
    help="Run the controller and the node service in one process. Flags without a command do the same.",
)
app.command(
    "hyperpod_ebs.driver.app.pre_stop_hook:run_pre_stop_hook",
    name=_HOOK,
    help="Wait until all volumes are detached from this node, if the node is being drained or removed.",
)
app.command(
    "hyperpod_ebs.driver.app.metadata_labeler:run_metadata_labeler",
    name=["metadata-labeler", "metadataLabeler"],
    help="Not supported: the node service reads the node's labels itself.",
)
app.command(
    "hyperpod_ebs.access.volume.commands:app",
    name="volume",
    help="List, attach, detach, move, snapshot and grow volumes of HyperPod nodes and EC2 instances by hand.",
)
app.command(
    "hyperpod_ebs.access.doctor.command:app",
    name="doctor",
    help="Find what keeps volumes from working, and say how to fix it.",
)
app.command(
    "hyperpod_ebs.access.policy.commands:app",
    name="policy",
    help="Print or check the IAM and KMS policies that volumes on HyperPod nodes need, with this account's own values.",
)
app.command(
    _print_completion,
    name="completion",
    help_epilogue=epilogue(
        {
            "source <(hyperpod-ebs completion bash)": "complete in this shell; as a line of ~/.bashrc, in each new one",
            "source <(hyperpod-ebs completion zsh)": "the same for zsh, and ~/.zshrc",
            "hyperpod-ebs completion fish | source": "the same for fish, and ~/.config/fish/config.fish",
        }
    ),
)
app.command(
    "hyperpod_ebs.access.leftovers.command:app",
    name="leftovers",
    help="Find volumes, snapshots and attachments that nothing needs any more, and delete them on request.",
)
# The image for production clusters leaves out these two packages.
if find_spec("hyperpod_ebs.emulator"):
    app.command(
        "hyperpod_ebs.emulator.commands:app",
        name="emulator",
        help="Run and inspect the embedded cloud (the emulator): EC2, SageMaker, EKS and STS with real block devices.",
    )
if find_spec("hyperpod_ebs.demo"):
    app.command(
        "hyperpod_ebs.demo.command:app",
        name="demo",
        help="Show the life of a volume on HyperPod nodes, on the embedded cloud.",
    )


def main() -> None:
    """Run the command line."""
    _open_closed_streams()
    sys.exit(run(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Open /dev/null for each standard stream that is closed.

    Otherwise printing fails, and the next open file or socket gets the stream's number, which children write into.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open as long as the process


def run(words: Sequence[str]) -> int:
    """Run a command line, write errors to stderr, and return the exit code."""
    words = _translate_upstream_syntax(words)
    if words and words[0] in {*_SERVICES, _HOOK}:
        structlog_without_rich.load()
    try:
        result = app(words, print_error=False, exit_on_error=False, result_action="return_value")
    except KeyboardInterrupt:
        return _INTERRUPTED
    except CycloptsError as error:
        _write_error(str(error))
        return _WRONG_USAGE
    except Exception as error:  # noqa: BLE001 - users of a command see no traceback
        _write_error("; ".join(_messages(error)))
        return _WRONG_USAGE if isinstance(error, errors.InvalidRequest) else _FAILURE
    return result if isinstance(result, int) else 0


def _translate_upstream_syntax(words: Sequence[str]) -> Sequence[str]:
    """Translate a command line for the upstream driver into one for this driver.

    Flags without a command run both services. If a flag is given twice, such as a chart's default and an additional
    argument, the last one counts (spf13/pflag).
    """
    if words and words[0].startswith("-") and words[0] not in _INFORMATION:
        words = [_ALL, *words]
    if not words or words[0] not in _SERVICES:
        return words
    last = {flag: index for index, word in enumerate(words) if (flag := _assigned_flag(word))}
    return [word for index, word in enumerate(words) if last.get(_assigned_flag(word), index) == index]


def _assigned_flag(word: str) -> str:
    """The flag in a word of the form `--flag=value`; empty for other words and for flags that may be repeated."""
    flag, equals, _ = word.partition("=")
    return _LONG_NAMES.get(flag, flag) if equals and flag.startswith("-") and flag not in _REPEATABLE else ""


def _write_error(message: str) -> None:
    sys.stderr.write(f"hyperpod-ebs: {printable(' '.join(message.split()))}\n")


def _messages(error: BaseException) -> Iterator[str]:
    """The message of each error in a group; an unexpected error also has its type."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _messages(inner)
    elif isinstance(error, errors.Error):
        yield str(error)
    else:
        yield f"{error} ({type(error).__name__})"


if __name__ == "__main__":
    main()
