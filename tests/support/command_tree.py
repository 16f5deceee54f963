"""The commands of `hyperpod-ebs`, found in the tree that `--help` shows."""

from collections.abc import Iterator
from typing import Final

from cyclopts import App

from hyperpod_ebs import cli

_TOOLS: Final = "hyperpod_ebs.access"


def commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Each command that does something, and the words that run it."""
    for name in (name for name in app if not name.startswith("-")):
        found = app[name]
        if found.default_command is not None:
            yield (*path, name), found
        yield from commands(found, (*path, name))


ACCESS_TOOLS: Final = {
    " ".join(words): found
    for words, found in commands(cli.app)
    if found.default_command is not None and found.default_command.__module__.startswith(_TOOLS)
}
"""The commands of the access tools, by the words that run them."""
