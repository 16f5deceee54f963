"""A program that runs as long as the cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from hyperpod_ebs.sandbox.failures import ProcessEnded, ProcessNotReady
from hyperpod_ebs.sandbox.processes import log_tail
from hyperpod_ebs.sandbox.sandbox import Sandbox

_POLL: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A started program."""

    name: str
    """Also the name of its log."""
    sandbox: Sandbox
    process: asyncio.subprocess.Process

    @classmethod
    async def start(
        cls, sandbox: Sandbox, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None
    ) -> Self:
        """Start a program in the sandbox, with the log `<name>.log` and these additional environment variables."""
        return cls(name=name, sandbox=sandbox, process=await sandbox.start(argv, log=f"{name}.log", env=env))

    async def wait_until(
        self, condition: Callable[[], Awaitable[bool]], *, seconds: float, dependencies: Sequence["Daemon"] = ()
    ) -> None:
        """Wait until the condition holds, as long as this program and those that it depends on run.

        Raises:
            ProcessEnded: One of the programs ended first; the message has the end of its log.
            ProcessNotReady: The condition did not hold within `seconds`; the message has the end of the log.
        """
        try:
            async with asyncio.timeout(seconds):
                while not await condition():
                    for daemon in (*dependencies, self):
                        if (code := daemon.process.returncode) is not None:
                            tail = await log_tail(daemon.sandbox, daemon.name)
                            raise ProcessEnded(f"{daemon.name} exited with code {code}: {tail}")
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            tail = await log_tail(self.sandbox, self.name)
            raise ProcessNotReady(f"{self.name} is not ready after {seconds:g} s: {tail}") from error
