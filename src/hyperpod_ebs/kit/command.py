"""The only door to other programs.

Arguments are a list, never a shell string; every call has a deadline; a
non-zero exit is a `CommandFailed` that carries what the program said. The
program runs in a session of its own, so that a Ctrl-C meant for us does not
stop an mkfs half-way, and is killed with its children when its time is up.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

DEADLINE: Final = 60.0
"""Seconds a program may run when the caller names no other bound."""

_TO_DIE: Final = 2.0
"""Seconds a killed program has to go; one stuck in the kernel does not hold us longer."""

_SAID: Final = 400
"""Characters of a program's own words that an error quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a program left."""

    code: int
    out: str
    err: str


class CommandFailed(Exception):  # noqa: N818 - reads as what happened, like its siblings in model.errors
    """A program could not be started, exited with a code that was not expected, or ran out of time."""

    def __init__(self, argv: Sequence[str], why: str, *, code: int | None = None, said: str = "") -> None:
        """`code` is None where the program never ended by itself."""
        self.argv = tuple(argv)
        self.code = code
        self.said = said.strip()[-_SAID:]
        super().__init__(f"{argv[0]} {why}" + (f": {self.said}" if self.said else ""))


class CommandTimedOut(CommandFailed):
    """A program ran past its deadline and was killed."""


async def run(
    argv: Sequence[str],
    *,
    ok: frozenset[int] = frozenset({0}),
    deadline: float = DEADLINE,
    stdin: bytes = b"",
    keep: Sequence[int] = (),
) -> Finished:
    """What `argv` printed and its exit code, which is one of `ok`.

    Args:
        argv: The program and its arguments; the program is looked up on PATH.
        ok: Exit codes that are answers rather than failures.
        deadline: Seconds until the program and its children are killed.
        stdin: Bytes that the program reads.
        keep: Open files that it gets too, with the locks on them: those last until it ends, even without us.

    Raises:
        CommandFailed: It could not be started, or exited with another code.
        CommandTimedOut: It was still running after `deadline`.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            # No pipe where there is nothing to say: uvloop fails to write to one whose reader has ended already.
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            pass_fds=keep,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise CommandFailed(argv, f"could not be started ({error.strerror})") from error
    try:
        async with asyncio.timeout(deadline):
            out, err = await process.communicate(stdin or None)
    except TimeoutError as error:
        raise CommandTimedOut(argv, f"did not end within {deadline:g} s") from error
    finally:
        await _end(process)
    code = process.returncode
    if code is None or code not in ok:
        raise CommandFailed(argv, f"exited with {code}", code=code, said=err.decode(errors="replace"))
    return Finished(code=code, out=out.decode(errors="replace"), err=err.decode(errors="replace"))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Leave no program running: kill its whole session and collect it."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_TO_DIE):
            await process.wait()
