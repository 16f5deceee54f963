"""The examples' programs, run as their containers run them: as processes that tell what they do in lines of JSON."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROGRAMS: Final = Path(__file__).parents[2] / "examples" / "workload"

Line = dict[str, Any]  # the facts of an event


@dataclass(frozen=True, slots=True)
class Program:
    """One that runs."""

    process: asyncio.subprocess.Process

    async def says(self, event: str) -> Line:
        """The next line that tells of `event`."""
        while (line := await self.line())["event"] != event:
            pass
        return line

    async def line(self) -> Line:
        """The next line."""
        assert self.process.stdout is not None
        text = await self.process.stdout.readline()
        assert text, "it has ended"
        line: Line = json.loads(text)
        return line

    async def killed(self) -> list[Line]:
        """Kill it at whatever line it is; what it said until then."""
        self.process.kill()
        return (await self._end())[1]

    async def told_to_end(self) -> tuple[int, list[Line]]:
        """End it as kubelet does; its exit code and what it said."""
        self.process.terminate()
        return await self._end()

    async def _end(self) -> tuple[int, list[Line]]:
        out, _ = await self.process.communicate()
        # The last line may be torn.
        lines = [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith(b"\n")]
        assert self.process.returncode is not None
        return self.process.returncode, lines


@asynccontextmanager
async def running(program: str, *words: str | Path) -> AsyncGenerator[Program]:
    """A program that runs for as long as the block, at the most."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAMS / program),
        *map(str, words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def run(program: str, *words: str | Path, code: int = 0) -> list[Line]:
    """What a program says until it ends of itself."""
    async with asyncio.timeout(100), running(program, *words) as started:
        ended, lines = await started._end()
    assert ended == code, lines
    return lines
