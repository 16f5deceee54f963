"""A process, told from a later one that has got its number."""

import asyncio
import dataclasses
import signal
from collections.abc import AsyncGenerator

import pytest

from localcluster.machines.life import Life


@pytest.fixture
async def sleeper() -> AsyncGenerator[asyncio.subprocess.Process]:
    """A process that runs."""
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_process_lasts_until_it_ends(sleeper: asyncio.subprocess.Process) -> None:
    """Ours: and is signalled only while it does."""
    life = Life.of(sleeper.pid)
    assert life.lasts()

    life.signal(signal.SIGTERM)

    assert await sleeper.wait() == -signal.SIGTERM
    assert not life.lasts()
    life.signal(signal.SIGTERM)


@pytest.mark.requirement("cluster.ends-only-its-processes")
async def test_a_later_process_of_the_same_number_is_left_alone(sleeper: asyncio.subprocess.Process) -> None:
    """Ours: a cluster's record outlives a reboot, and the number is somebody else's then."""
    earlier = dataclasses.replace(Life.of(sleeper.pid), started=1)

    earlier.signal(signal.SIGKILL)

    assert not earlier.lasts()
    assert Life.of(sleeper.pid).lasts()
    assert sleeper.returncode is None


async def test_nobody_has_the_life_of_a_process_that_is_not_there(sleeper: asyncio.subprocess.Process) -> None:
    """Ours."""
    sleeper.kill()
    await sleeper.wait()

    with pytest.raises(ProcessLookupError):
        Life.of(sleeper.pid)
