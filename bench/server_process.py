"""A server of AWS's APIs as a process in a sandbox."""

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from bench.process_usage import cpu_seconds
from hyperpod_ebs.sandbox.sandbox import Sandbox

Call = Callable[[], Awaitable[object]]
"""Makes one call of the server."""

_CPU_SECONDS: Final = 2.0
"""CPU time for which a call is repeated; the kernel counts in steps of 10 ms."""

_ENV: Final = {"PYTHONDONTWRITEBYTECODE": ""}
"""Lets the first start keep the compiled modules, which an installed package has from the beginning."""

_START_TIMEOUT: Final = 60.0
_START_POLL: Final = 0.005


@dataclass(slots=True, kw_only=True)
class ServerProcess:
    """The process; it can be started again after it was stopped."""

    sandbox: Sandbox
    name: str
    argv: Sequence[str]
    _process: Process | None = None

    @property
    def pid(self) -> int:
        """The id of the process that was started last.

        Raises:
            RuntimeError: None was started.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    async def start(self, call: Call) -> float:
        """Start the process; return the seconds until `call` is answered.

        Raises:
            TimeoutError: The call is not answered in time.
        """
        begin = time.monotonic()
        self._process = await self.sandbox.start(self.argv, log=f"{self.name}.log", env=_ENV)
        async with asyncio.timeout(_START_TIMEOUT):
            while True:
                try:
                    await call()
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(_START_POLL)
                else:
                    return time.monotonic() - begin

    async def stop(self) -> None:
        """Stop the process, and wait until it has ended."""
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()

    async def cpu_milliseconds(self, call: Call) -> float:
        """The CPU time of one call, on average over many after the first."""
        await call()
        begin, calls = cpu_seconds(self.pid), 0
        while (used := cpu_seconds(self.pid) - begin) < _CPU_SECONDS:
            await call()
            calls += 1
        return 1000 * used / calls
