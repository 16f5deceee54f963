"""A program that runs for as long as the cluster, and is waited for no longer than it lives."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from hyperpod_ebs.sandbox.failures import ProcessEnded, ProcessNotReady
from hyperpod_ebs.sandbox.processes import log_tail
from hyperpod_ebs.sandbox.sandbox import Sandbox

_LOOK: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """One that was started."""

    name: str
    """Its log is called so, too."""
    sandbox: Sandbox
    process: asyncio.subprocess.Process

    @classmethod
    async def started(cls, sandbox: Sandbox, name: str, argv: Sequence[str], *, pass_fds: Sequence[int] = ()) -> Self:
        """Start it; `pass_fds` are open files that it inherits."""
        return cls(name=name, sandbox=sandbox, process=await sandbox.start(argv, log=f"{name}.log", pass_fds=pass_fds))

    async def until(
        self, true: Callable[[], Awaitable[bool]], *, seconds: float, needs: Sequence["Daemon"] = ()
    ) -> None:
        """Come back when it is so; `needs` are programs without which it never will be.

        Raises:
            ProcessEnded: The program, or one of those, ended first; the message has its last words.
            ProcessNotReady: It was not so within `seconds`; as above.
        """
        try:
            async with asyncio.timeout(seconds):
                while not await true():
                    for daemon in (*needs, self):
                        await daemon._look()  # noqa: SLF001 - one of ours
                    await asyncio.sleep(_LOOK)
        except TimeoutError as error:
            said = await log_tail(self.sandbox, self.name)
            raise ProcessNotReady(f"{self.name} is not ready after {seconds:g} s: {said}") from error

    async def _look(self) -> None:
        if (code := self.process.returncode) is not None:
            said = await log_tail(self.sandbox, self.name)
            raise ProcessEnded(f"{self.name} ended with exit code {code}: {said}")
