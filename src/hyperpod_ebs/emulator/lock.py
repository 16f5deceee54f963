"""One emulator for each state directory, and where it answers: kept by locks that die with their holder.

A lock belongs to the open file, not to the process (fcntl(2), open file description
locks): two emulators in one process exclude each other too, and whoever only wants to
know whether one answers need not take it.
"""

import fcntl
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.state.store import StateRefused

_OURS: Final = {
    *("lock", "endpoint", "endpoint.new", "credentials.json", "credentials.new"),
    *("state.db", "state.db-wal", "state.db-shm", "state.db-journal"),
    *("pool.xfs", "pool.new", "disks", "nodes"),
}
"""Everything that an emulator makes in its state directory."""

_URL: Final = 4096
"""Bytes of an address, at the most."""

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


@contextmanager
def published(state: Path, url: str) -> Generator[None]:
    """Let `endpoint` find the address, whole or not at all. The file stays, and counts for nothing then.

    Raises:
        OSError: It cannot be written.
    """
    unready = state / "endpoint.new"
    unready.unlink(missing_ok=True)
    handle = os.open(unready, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, url.encode())
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, _whole_file())
        unready.rename(state / "endpoint")
        yield
    finally:
        os.close(handle)


def endpoint(state: Path) -> str | None:
    """Where the emulator of `state` answers; None when none does: a dead one's address has no lock any more."""
    try:
        handle = os.open(state / "endpoint", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        kind, *_ = _FLOCK.unpack(fcntl.fcntl(handle, fcntl.F_OFD_GETLK, _whole_file()))
        return None if kind == fcntl.F_UNLCK else os.pread(handle, _URL, 0).decode()
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
