"""Our own processes in a sandbox, each watched for as long as it is needed."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

from hyperpod_ebs.kit import files
from hyperpod_ebs.sandbox.sandbox import Sandbox
from hyperpod_ebs.sandbox.trouble import Ended

OURS: Final = (sys.executable, "-m", "hyperpod_ebs.cli")
"""How the command is called, wherever it is installed."""

_TO_STOP: Final = 10.0
"""Seconds that processes have to stop in order; after that the sandbox ends them."""

_NOTICED: Final = 0.5
"""Seconds after which a death is known; it may well be why something else has failed."""

_SAID: Final = 300
"""Characters of a process's last words that are told."""


class Processes:
    """Those that run, by name."""

    def __init__(self, sandbox: Sandbox, watch: asyncio.TaskGroup) -> None:
        """Use `watched`."""
        self._sandbox = sandbox
        self._watch = watch
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = False

    @classmethod
    @asynccontextmanager
    async def watched(cls, sandbox: Sandbox) -> AsyncGenerator[Self]:
        """Processes of the sandbox; the end of one of them ends the block, the end of the block stops all.

        After an error, and when it is cancelled, stopping is left to the sandbox, which is quicker about it.

        Raises:
            ExceptionGroup: Of `Ended`, or of what the block raises.
        """
        async with asyncio.TaskGroup() as watch:
            processes = cls(sandbox, watch)
            try:
                yield processes
            except Exception:
                await asyncio.sleep(_NOTICED)
                raise
            await processes.stop()

    async def start(self, name: str, *words: str, env: Mapping[str, str] | None = None) -> None:
        """Start our command with `words`; its log is `<name>.log` in the sandbox."""
        process = await self._sandbox.start([*OURS, *words], log=f"{name}.log", env=env)
        self._running[name] = process
        self._watch.create_task(self._watched(name, process))

    async def stop(self) -> None:
        """Stop them: the first that was started last, since the others need it; again, there is nothing to do."""
        self._stopping = True
        everything = list(self._running.values())
        for processes in (everything[1:], everything[:1]):
            for process in processes:
                with suppress(ProcessLookupError):
                    process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(_TO_STOP):
                    for process in processes:
                        await process.wait()

    async def _watched(self, name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if self._stopping:
            return
        if code < 0:
            raise Ended(f"the process of the {name} was killed ({signal.Signals(-code).name}): start the demo again")
        raise Ended(f"the process of the {name} ended with exit code {code}: {await last_words(self._sandbox, name)}")


async def last_words(sandbox: Sandbox, name: str) -> str:
    """The end of a process's log, in one line."""
    log = sandbox.path / f"{name}.log"
    text = await files.off_loop(lambda: log.read_text(errors="replace"))
    return " ".join(text.split())[-_SAID:] or "it said nothing"
