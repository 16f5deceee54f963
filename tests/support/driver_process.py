"""Processes of the driver, started as in a pod, and their logs."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HYPERPOD_NODE: Final = "hyperpod-abcdefghijkl-i-0123456789abcdef0"


@dataclass
class DriverProcess:
    """A process of the driver, and the lines of its log that were read."""

    subprocess: asyncio.subprocess.Process
    log: list[str] = field(default_factory=list)

    async def wait_for_log(self, text: str) -> str:
        """Read the log until a line contains `text`, and return that line."""
        assert self.subprocess.stderr is not None
        async with asyncio.timeout(60):
            while text not in (line := (await self.subprocess.stderr.readline()).decode()):
                assert line, "".join(self.log)
                self.log.append(line)
        return line

    async def wait(self) -> int:
        """Wait until the process ends, read the rest of its log, and return its exit code."""
        async with asyncio.timeout(60):
            _, rest = await self.subprocess.communicate()
        self.log.append(rest.decode())
        assert self.subprocess.returncode is not None
        return self.subprocess.returncode


@asynccontextmanager
async def start_driver(*arguments: str, **env: str) -> AsyncGenerator[DriverProcess]:
    """Start a process of the driver; kill it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hyperpod_ebs.cli",
        *arguments,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield DriverProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def node_arguments(directory: Path) -> tuple[str, ...]:
    """The arguments of a node process that needs no metadata."""
    return ("node", f"--endpoint=unix://{directory / 'csi.sock'}", f"--node-id={HYPERPOD_NODE}", "--zone=us-west-2a")
