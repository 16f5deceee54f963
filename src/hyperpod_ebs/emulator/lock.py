"""One emulator for each state directory, kept by a lock that dies with its holder.

The lock belongs to the open file, not to the process (fcntl(2), open file description
locks): two emulators in one process exclude each other too, and whoever only wants to
know whether one runs need not take it.
"""

import fcntl
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.store import StateRefused

_OURS: Final = {
    *("lock", "endpoint", "endpoint.new", "credentials.json", "credentials.new"),
    *("state.db", "state.db-wal", "state.db-shm", "state.db-journal"),
    *("pool.xfs", "pool.new", "disks", "nodes"),
}
"""Everything that an emulator makes in its state directory."""

_FLOCK: Final = struct.Struct("hhqqi0q")
"""struct flock: type, whence, start, length, pid."""


@contextmanager
def held(state: Path) -> Generator[None]:
    """Hold `state`, a directory that is made when there is none and is ours alone.

    Raises:
        StateRefused: Another emulator holds it; the message has its pid. Or there is something in it
            that no emulator made: somebody may have named a directory of another use.
        OSError: It cannot be made or written to.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if strange := sorted({entry.name for entry in state.iterdir()} - _OURS):
        text = f"directory {state} has {strange[0]} in it, which is no part of an emulator's state"
        raise StateRefused(f"{text}: name a directory of its own")
    state.chmod(0o700)
    handle = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(handle, state)
        yield
    finally:
        os.close(handle)


def holder(state: Path) -> int | None:
    """The pid of the emulator that runs on `state`; None when there is none."""
    try:
        handle = os.open(state / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        kind, *_ = _FLOCK.unpack(fcntl.fcntl(handle, fcntl.F_OFD_GETLK, _whole_file()))
        return None if kind == fcntl.F_UNLCK else _pid(handle)
    finally:
        os.close(handle)


def _take(handle: int, state: Path) -> None:
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, _whole_file())
    except (BlockingIOError, PermissionError) as error:  # EAGAIN or EACCES, as fcntl(2) has it
        text = f"state directory {state} is in use by an emulator with pid {_pid(handle)}: stop it first"
        raise StateRefused(text) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)


def _whole_file() -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def _pid(handle: int) -> int:
    return int(os.pread(handle, 20, 0) or b"0")
