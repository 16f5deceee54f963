"""Processes of ours, started as they are in a pod, and what they say."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HOLDER: Final = "hyperpod-abcdefghijkl-i-0123456789abcdef0"


@dataclass
class Program:
    """A process of ours, and all that it has said."""

    running: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    async def until(self, word: str) -> str:
        """Read its log until a line has `word`; the line."""
        assert self.running.stderr is not None
        async with asyncio.timeout(60):
            while word not in (line := (await self.running.stderr.readline()).decode()):
                assert line, "".join(self.said)
                self.said.append(line)
        return line

    async def ended(self) -> int:
        """Its exit code, and the rest of its log read."""
        async with asyncio.timeout(60):
            _, rest = await self.running.communicate()
        self.said.append(rest.decode())
        assert self.running.returncode is not None
        return self.running.returncode


@asynccontextmanager
async def program(*words: str, **env: str) -> AsyncGenerator[Program]:
    """A process of ours, killed if it does not end by itself."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hyperpod_ebs.cli",
        *words,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Program(started)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


def node_words(directory: Path) -> tuple[str, ...]:
    """What starts a node process that needs no metadata."""
    return ("node", f"--endpoint=unix://{directory / 'csi.sock'}", f"--node-id={HOLDER}", "--zone=us-west-2a")
