"""The example programs, started as their containers start them: processes that report events as lines of JSON."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROGRAMS: Final = Path(__file__).parents[2] / "examples" / "workload"

Event = dict[str, Any]  # as JSON
"""An event that a program reports."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running program."""

    process: asyncio.subprocess.Process

    async def wait_for(self, event: str) -> Event:
        """The next event of this kind; others before it are ignored."""
        while (found := await self.next_event())["event"] != event:
            pass
        return found

    async def next_event(self) -> Event:
        """The next event."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "the program has ended"
        event: Event = json.loads(line)
        return event

    async def kill(self) -> list[Event]:
        """Kill the program; the events that were not read yet."""
        self.process.kill()
        return (await self.wait())[1]

    async def terminate(self) -> tuple[int, list[Event]]:
        """Send SIGTERM, as kubelet does; the exit code, and the events that were not read yet."""
        self.process.terminate()
        return await self.wait()

    async def wait(self) -> tuple[int, list[Event]]:
        """Wait until the program ends; the exit code, and the events that were not read yet."""
        out, _ = await self.process.communicate()
        # A killed program can leave an unfinished last line.
        events = [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith(b"\n")]
        assert self.process.returncode is not None
        return self.process.returncode, events


@asynccontextmanager
async def start(program: str, *words: str | Path) -> AsyncGenerator[Program]:
    """Start a program, and kill it at the end of the block if it still runs."""
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


async def run(program: str, *words: str | Path, code: int = 0) -> list[Event]:
    """Run a program until it ends with this exit code; its events."""
    async with asyncio.timeout(100), start(program, *words) as started:
        actual, events = await started.wait()
    assert actual == code, events
    return events
