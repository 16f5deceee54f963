"""Filesystem calls that may hang run in a thread with a deadline."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from hyperpod_ebs.kit import files


async def test_a_call_runs_in_another_thread() -> None:
    assert await files.off_loop(threading.get_ident) != threading.get_ident()


async def test_an_exception_of_the_call_reaches_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await files.off_loop((tmp_path / "absent").read_bytes)


async def test_a_timeout_error_of_the_call_is_not_mistaken_for_a_missed_deadline() -> None:
    """Python's OSError for ETIMEDOUT is a TimeoutError too."""

    def fail() -> None:
        raise TimeoutError("from the call")

    with pytest.raises(TimeoutError, match="from the call"):
        await files.off_loop(fail)


async def test_a_call_that_hangs_is_abandoned_at_its_deadline() -> None:
    """A dead device hangs `stat` for ever."""
    hang = threading.Event()
    try:
        with pytest.raises(files.Unresponsive, match=r"within 0\.05 s"):
            await files.off_loop(hang.wait, deadline=0.05)
    finally:
        hang.set()


async def test_repeated_calls_about_a_stuck_path_start_no_further_thread(tmp_path: Path) -> None:
    """Kubelet asks for a volume's statistics every minute, even if its device is dead."""
    hang, dead = threading.Event(), tmp_path / "dead"
    try:
        with pytest.raises(files.Unresponsive, match="no answer"):
            await files.off_loop(hang.wait, about=dead, deadline=0.05)
        threads = set(threading.enumerate())

        for _ in range(3):
            with pytest.raises(files.Unresponsive, match=f"earlier call about {dead} still has no answer"):
                await files.off_loop(hang.wait, about=dead, deadline=0.05)

        assert set(threading.enumerate()) <= threads  # unrelated threads may have ended
        assert await files.off_loop(lambda: "alive", about=tmp_path / "alive") == "alive"
    finally:
        hang.set()


async def test_a_path_that_answers_again_can_be_used_again(tmp_path: Path) -> None:
    """A device may come back."""
    hang = threading.Event()
    with pytest.raises(files.Unresponsive):
        await files.off_loop(hang.wait, about=tmp_path, deadline=0.05)
    (stuck,) = (thread for thread in threading.enumerate() if thread.name == f"stuck on {tmp_path}")
    hang.set()
    await files.off_loop(stuck.join)

    assert await files.off_loop(tmp_path.is_dir, about=tmp_path)


@pytest.mark.parametrize("late", [True, False], ids=["after the call was given up", "at the same moment"])
async def test_what_an_abandoned_call_opens_is_closed(tmp_path: Path, *, late: bool) -> None:
    """A descriptor that stays open keeps a device in use."""
    answers, opened, closed = threading.Event(), threading.Event(), threading.Event()

    def open_file() -> int:
        answers.wait()
        handle = os.open(tmp_path, os.O_PATH)
        opened.set()
        return handle

    def close(handle: int) -> None:
        os.close(handle)
        closed.set()

    async with asyncio.TaskGroup() as group:
        call = group.create_task(files.off_loop(open_file, discard=close))
        await asyncio.sleep(0)
        if not late:
            answers.set()
            opened.wait()  # the answer reaches the loop only when this task waits
        call.cancel()
    answers.set()

    assert await files.off_loop(closed.wait, 60)


async def test_the_result_of_a_call_that_is_waited_for_is_not_discarded() -> None:
    discarded: list[str] = []

    assert await files.off_loop(lambda: "result", discard=discarded.append) == "result"
    assert discarded == []


async def test_a_direct_read_returns_the_bytes_from_an_offset_up_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"a" * files.BLOCK + b"b" * files.BLOCK)

    assert await files.read_direct(path, offset=files.BLOCK) == b"b" * files.BLOCK
    assert await files.read_direct(path, size=4 * files.BLOCK) == path.read_bytes()


async def test_a_device_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """It must not be mistaken for an empty device."""
    with pytest.raises(OSError, match="absent"):
        await files.read_direct(tmp_path / "absent")
