"""Supervised processes of the local cluster: signals never reach a later process with the same id."""

import asyncio
import dataclasses
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from localcluster.machines.supervised_process import SupervisedProcess


@pytest.fixture
async def sleeper() -> AsyncGenerator[asyncio.subprocess.Process]:
    """A running process."""
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_process_is_running_until_it_ends(sleeper: asyncio.subprocess.Process) -> None:
    """A signal to a process that has ended does nothing."""
    process = SupervisedProcess.find(sleeper.pid)
    assert process.is_running()

    process.signal(signal.SIGTERM)

    assert await sleeper.wait() == -signal.SIGTERM
    assert not process.is_running()
    process.signal(signal.SIGTERM)


@pytest.mark.requirement("cluster.ends-only-its-processes")
async def test_a_later_process_with_the_same_id_is_not_signalled(sleeper: asyncio.subprocess.Process) -> None:
    """After a reboot, a cluster's record is still there, but the process id belongs to another process."""
    earlier = dataclasses.replace(SupervisedProcess.find(sleeper.pid), started=1)

    earlier.signal(signal.SIGKILL)

    assert not earlier.is_running()
    assert SupervisedProcess.find(sleeper.pid).is_running()
    assert sleeper.returncode is None


async def test_a_process_whose_name_is_not_text_is_found(tmp_path: Path) -> None:
    """proc_pid_stat(5): the name is cut off after 15 bytes, which can be in the middle of a character."""
    program = tmp_path / "fourteen-bytesé"
    program.symlink_to("/bin/sleep")
    process = await asyncio.create_subprocess_exec(program, "1000")
    try:
        found = SupervisedProcess.find(process.pid)
        assert found.is_running()
    finally:
        process.kill()
        await process.wait()

    assert not found.is_running()


async def test_a_process_that_has_ended_is_not_found(sleeper: asyncio.subprocess.Process) -> None:
    """ESRCH, as kill(2) returns for such an id."""
    sleeper.kill()
    await sleeper.wait()

    with pytest.raises(ProcessLookupError):
        SupervisedProcess.find(sleeper.pid)
