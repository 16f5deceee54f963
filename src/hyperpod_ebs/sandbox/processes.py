"""The product's own processes in a sandbox, supervised for as long as they are needed."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

from hyperpod_ebs.kit import files
from hyperpod_ebs.sandbox.failures import ProcessEnded
from hyperpod_ebs.sandbox.sandbox import Sandbox

COMMAND: Final = (sys.executable, "-m", "hyperpod_ebs.cli")
"""The `hyperpod-ebs` command, independent of PATH."""

_STOP_TIMEOUT: Final = 10.0
"""Seconds that processes have to stop in order; the sandbox kills those that take longer."""

_EXIT_NOTICE: Final = 0.5
"""Seconds after which the exit of a process is known; that exit can be the cause of another error."""

_TAIL: Final = 300
"""Characters of a log's end that an error message quotes."""


class Processes:
    """The running processes, by name."""

    def __init__(self, sandbox: Sandbox, watchers: asyncio.TaskGroup) -> None:
        """Use `Processes.supervise`."""
        self._sandbox = sandbox
        self._watchers = watchers
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = False

    @classmethod
    @asynccontextmanager
    async def supervise(cls, sandbox: Sandbox) -> AsyncGenerator[Self]:
        """Supervise processes of the sandbox: if one exits, the block ends; when the block ends, all are stopped.

        After an error or a cancellation the sandbox ends them, which is quicker.

        Raises:
            ExceptionGroup: Of `ProcessEnded`, or of what the block raises.
        """
        async with asyncio.TaskGroup() as watchers:
            processes = cls(sandbox, watchers)
            try:
                yield processes
            except Exception:
                await asyncio.sleep(_EXIT_NOTICE)
                raise
            await processes.stop()

    async def start(self, name: str, *words: str, env: Mapping[str, str] | None = None) -> None:
        """Start `hyperpod-ebs` with the arguments `words`; its log is `<name>.log` in the sandbox."""
        process = await self._sandbox.start([*COMMAND, *words], log=f"{name}.log", env=env)
        self._running[name] = process
        self._watchers.create_task(self._watch(name, process))

    async def stop(self) -> None:
        """Stop all processes, the one started first last, since the others depend on it; idempotent."""
        self._stopping = True
        everything = list(self._running.values())
        for processes in (everything[1:], everything[:1]):
            for process in processes:
                with suppress(ProcessLookupError):
                    process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_TIMEOUT):
                    for process in processes:
                        await process.wait()

    async def _watch(self, name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if self._stopping:
            return
        if code < 0:
            raise ProcessEnded(f"the {name} process was killed ({signal.Signals(-code).name}); run the command again")
        raise ProcessEnded(f"the {name} process exited with code {code}: {await log_tail(self._sandbox, name)}")


async def log_tail(sandbox: Sandbox, name: str) -> str:
    """The end of a process's log, in one line."""
    log = sandbox.path / f"{name}.log"
    text = await files.off_loop(lambda: log.read_text(errors="replace"))
    return " ".join(text.split())[-_TAIL:] or "its log is empty"
