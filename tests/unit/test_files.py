"""File-system calls that may hang have a thread and a deadline."""

import threading
from pathlib import Path

import pytest

from hyperpod_ebs.kit import files


async def test_the_answer_comes_from_another_thread() -> None:
    """Ours: the loop goes on."""
    assert await files.off_loop(threading.get_ident) != threading.get_ident()


async def test_what_goes_wrong_there_goes_wrong_here(tmp_path: Path) -> None:
    """Ours."""
    with pytest.raises(FileNotFoundError):
        await files.off_loop((tmp_path / "absent").read_bytes)


async def test_a_call_that_times_out_by_itself_is_not_taken_for_a_hang() -> None:
    """Ours: the system's ETIMEDOUT is a TimeoutError too."""

    def fail() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await files.off_loop(fail)


async def test_a_call_that_hangs_is_left_behind() -> None:
    """A dead device hangs `stat` for ever; ours: the caller hears of it in time."""
    hang = threading.Event()
    try:
        with pytest.raises(files.Unresponsive, match=r"within 0\.05 s"):
            await files.off_loop(hang.wait, deadline=0.05)
    finally:
        hang.set()


async def test_a_path_on_which_a_call_is_stuck_costs_one_thread_however_often_it_is_asked_about(tmp_path: Path) -> None:
    """Kubelet asks for statistics every minute, of a dead device too; ours: no thread for each time."""
    hang, dead = threading.Event(), tmp_path / "dead"
    try:
        with pytest.raises(files.Unresponsive, match="no answer"):
            await files.off_loop(hang.wait, about=dead, deadline=0.05)
        threads = set(threading.enumerate())

        for _ in range(3):
            with pytest.raises(files.Unresponsive, match=f"earlier call about {dead} still has no answer"):
                await files.off_loop(hang.wait, about=dead, deadline=0.05)

        assert set(threading.enumerate()) <= threads  # others' may have ended
        assert await files.off_loop(lambda: "alive", about=tmp_path / "alive") == "alive"
    finally:
        hang.set()


async def test_a_path_that_answers_again_is_asked_again(tmp_path: Path) -> None:
    """Ours: a device may come back."""
    hang = threading.Event()
    with pytest.raises(files.Unresponsive):
        await files.off_loop(hang.wait, about=tmp_path, deadline=0.05)
    (stuck,) = (thread for thread in threading.enumerate() if thread.name == f"stuck on {tmp_path}")
    hang.set()
    await files.off_loop(stuck.join)

    assert await files.off_loop(tmp_path.is_dir, about=tmp_path)


async def test_a_direct_read_gives_the_bytes_from_an_offset(tmp_path: Path) -> None:
    """Ours; O_DIRECT on a file, at its end fewer bytes than asked."""
    path = tmp_path / "image"
    path.write_bytes(b"a" * files.BLOCK + b"b" * files.BLOCK)

    assert await files.read_direct(path, offset=files.BLOCK) == b"b" * files.BLOCK
    assert await files.read_direct(path, size=4 * files.BLOCK) == path.read_bytes()


async def test_a_device_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """Ours: never taken for an empty one."""
    with pytest.raises(OSError, match="absent"):
        await files.read_direct(tmp_path / "absent")
