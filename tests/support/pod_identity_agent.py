"""A Pod Identity agent as a process."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_commands import EMULATOR


class Agent:
    """A running agent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.log = ""
        """What it wrote to stderr, once it has ended."""


@asynccontextmanager
async def start_agent(emulator: Emulator, **environment: str) -> AsyncGenerator[Agent]:
    """Run the agent of the cluster `eks` on a free loopback port, with the administrator's key unless one is given."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(*EMULATOR, "pod-identity-agent", "--cluster", "eks", "--address", "127.0.0.1", "--port", "0"),
        env={**os.environ, **emulator.env, **environment},
        stdout=pipe,
        stderr=pipe,
    )
    assert process.stdout is not None
    ready = (await process.stdout.readline()).decode()
    agent = Agent(ready.removeprefix("Pod Identity agent ready at ").strip())
    try:
        yield agent
    finally:
        process.terminate()
        _, log = await process.communicate()
        agent.log = log.decode()
    assert process.returncode == 0
