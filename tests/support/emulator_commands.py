"""The `emulator` commands as processes."""

import sys
from typing import Final

from hyperpod_ebs.kit import command

EMULATOR: Final = (sys.executable, "-m", "hyperpod_ebs.emulator.commands")


async def run_emulator(*words: str, code: int = 0, user: tuple[str, ...] = ()) -> command.Finished:
    """Run an `emulator` command, which must exit with `code`; `user` is a command that changes the user first."""
    return await command.run([*user, *EMULATOR, *words], ok=frozenset({code}))
