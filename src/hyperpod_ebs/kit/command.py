"""The only way to run other programs.

Arguments are a list, never a shell string. Every call has a deadline. An unexpected exit code is a `CommandFailed` that
carries what the program wrote to stderr. The program runs in a session of its own, so that a Ctrl-C in the driver's
terminal does not stop an mkfs half-way. At its deadline it is killed together with its children.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

DEADLINE: Final = 60.0
"""Seconds a program may run if the caller sets no other deadline."""

_KILL_WAIT: Final = 2.0
"""Seconds to wait for a killed program to end; a program that is stuck in the kernel is left behind."""

_HEAD: Final = 200
_TAIL: Final = 200
"""Characters of a program's output that an error quotes: a program may give its reason before or after its usage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A finished program's exit code and output."""

    code: int
    out: str
    err: str


_stuck: Final[dict[str, asyncio.subprocess.Process]] = {}
"""The killed programs that were still in the kernel, by what they are about."""


class CommandFailed(Exception):  # noqa: N818 - reads as what happened, like its siblings in model.errors
    """A program could not be started, exited with an unexpected code, or ran past its deadline."""

    def __init__(self, argv: Sequence[str], why: str, *, code: int | None = None, output: str = "") -> None:
        """`code` is None if the program did not exit by itself."""
        self.argv = tuple(argv)
        self.why = why
        self.code = code
        self.output = excerpt(output.strip())
        super().__init__(f"{argv[0]} {why}" + (f": {self.output}" if self.output else ""))

    @property
    def has_failure_code(self) -> bool:
        """Whether the program ran and reported a failure; otherwise it was not started, or was killed."""
        return self.code is not None and self.code > 0

    def with_output(self, output: str) -> Self:
        """The same failure with another output."""
        return type(self)(self.argv, self.why, code=self.code, output=output)


class CommandTimedOut(CommandFailed):
    """A program ran past its deadline and was killed."""


async def run(  # noqa: PLR0913 - the ways to run a program
    argv: Sequence[str],
    *,
    ok: frozenset[int] = frozenset({0}),
    deadline: float = DEADLINE,
    stdin: bytes = b"",
    keep: Sequence[int] = (),
    about: str = "",
) -> Finished:
    """Run a program to its end and return its exit code and output.

    Args:
        argv: The program and its arguments; the program is looked up on PATH.
        ok: The expected exit codes.
        deadline: Seconds until the program and its children are killed.
        stdin: Bytes that the program reads.
        keep: Open file descriptors that the program inherits. Their locks last until the program ends, even if this
            process dies first.
        about: What the program may be stuck on in the kernel, where no signal ends it. While one is stuck, no further
            program about the same is started.

    Raises:
        CommandFailed: It could not be started, or exited with another code.
        CommandTimedOut: It was still running after `deadline`, or an earlier program about the same still runs.
    """
    if (earlier := _stuck.get(about)) and earlier.returncode is None:
        raise CommandTimedOut(argv, f"was not started, because process {earlier.pid} has not ended {about} yet")
    _stuck.pop(about, None)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            # A pipe only if there is input: uvloop fails to write to a pipe whose reader has already ended.
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
        if about and process.returncode is None:
            _stuck[about] = process
    code = process.returncode
    if code is None or code not in ok:
        raise CommandFailed(argv, f"exited with {code}", code=code, output=err.decode(errors="replace"))
    return Finished(code=code, out=out.decode(errors="replace"), err=err.decode(errors="replace"))


def excerpt(output: str) -> str:
    """The head and the tail of a long output."""
    return output if len(output) <= _HEAD + _TAIL else f"{output[:_HEAD]} … {output[-_TAIL:]}"


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the program's whole session if it still runs, and collect its exit code."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_KILL_WAIT):
            await process.wait()
