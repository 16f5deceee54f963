"""An emulator in a process of its own, which a test can kill and start again on the same state directory."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hyperpod_ebs.kit import command
from tests.support.emulator_clients import Aws, clients
from tests.support.emulator_commands import EMULATOR


@dataclass
class EmulatorProcess:
    """An emulator process, which can be started again on the same state directory."""

    state: Path
    profile: str = "instant"
    port: int = 0
    process: asyncio.subprocess.Process | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    """The environment variables with which an SDK calls the emulator, once it is started."""

    async def start(self) -> Aws:
        """Start the emulator; return clients once it is ready."""
        words = (
            "run",
            "--state",
            str(self.state),
            "--port",
            str(self.port),
            "--profile",
            self.profile,
            "--snapshot-rate=off",
            "--throttle=off",  # tests poll more often than AWS allows
        )
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*EMULATOR, *words, stdout=pipe, stderr=pipe)
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            ready = await self.process.stdout.readline()
        assert b"ready at http://127.0.0.1:" in ready, await self.read_stderr()
        shown = await command.run([*EMULATOR, "env", "--state", str(self.state), "--output", "json"])
        self.env = json.loads(shown.out)
        return await asyncio.to_thread(clients, self.env)

    async def metadata_urls(self) -> dict[str, str | None]:
        """The metadata URL of each machine, as `emulator status` shows it."""
        words = ("status", "--state", str(self.state), "--output", "json")
        shown = json.loads((await command.run([*EMULATOR, *words])).out)
        return {row["id"]: row["metadata"] for row in shown["instances"]}

    async def end(self, number: signal.Signals) -> int:
        """Send a signal to the emulator and wait for its end; return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(20):
            return await self.process.wait()

    async def read_stderr(self) -> str:
        """Read what the emulator has written to stderr; it must have ended."""
        assert self.process is not None
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def reset(self) -> command.Finished:
        """Run `emulator reset` on the state directory."""
        return await command.run([*EMULATOR, "reset", "--state", str(self.state)], ok=frozenset({0, 1}))


@asynccontextmanager
async def prepare_emulator(state: Path, profile: str = "instant") -> AsyncGenerator[EmulatorProcess]:
    """An emulator that the test starts; at the end its process is killed and its state deleted."""
    emulator = EmulatorProcess(state, profile)
    try:
        yield emulator
    finally:
        if emulator.process is not None and emulator.process.returncode is None:
            await emulator.end(signal.SIGKILL)
        reset = await emulator.reset()
        assert reset.code == 0, reset.err
