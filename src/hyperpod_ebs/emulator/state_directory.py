"""The state directory: one emulator at a time locks it, and publishes its URL in it.

The emulator holds open file description locks (fcntl(2)) on the files `lock` and `endpoint`.
Such a lock belongs to the open file and not to the process, so two emulators in one process
exclude each other too. The kernel releases the locks when the emulator dies. Other processes
read the URL from `endpoint`; they see whether it is still valid without taking the lock.
"""

import fcntl
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.state.store import StateRefused

_ENTRIES: Final = {
    *("lock", "endpoint", "endpoint.new", "credentials.json", "credentials.new"),
    *("kms_root.key", "kms_root.new"),
    *("state.db", "state.db-wal", "state.db-shm", "state.db-journal"),
    *("pool.xfs", "pool.new", "disks", "nodes", "eks"),
}
"""Every name that an emulator creates in its state directory."""

_MAX_URL: Final = 4096
"""Maximum length of the URL in bytes."""

_FLOCK: Final = struct.Struct("hhqqi0q")
"""struct flock: l_type, l_whence, l_start, l_len, l_pid."""


@contextmanager
def lock(state: Path) -> Generator[None]:
    """Lock the state directory, which is created if it does not exist, and make it private to its owner.

    Raises:
        StateRefused: Another emulator holds the lock (the message has its pid), or the directory contains a file
            that an emulator does not create: the user may have named the wrong directory.
        OSError: The directory cannot be created or written to.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if foreign := sorted({entry.name for entry in state.iterdir()} - _ENTRIES):
        raise StateRefused(
            f"directory {state} contains {foreign[0]}, which is not part of an emulator's state: "
            "use an empty directory or one that does not exist"
        )
    state.chmod(0o700)
    handle = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, _whole_file())
        except (BlockingIOError, PermissionError) as error:  # EAGAIN or EACCES (fcntl(2))
            pid = int(os.pread(handle, 20, 0) or b"0")
            raise StateRefused(
                f"state directory {state} is in use by an emulator with pid {pid}: stop it first"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


@contextmanager
def publish_url(state: Path, url: str) -> Generator[None]:
    """Publish the emulator's URL until the block ends.

    A rename creates the file, so it is never incomplete. It stays after the block, but without its lock, and
    `published_url` then ignores it.

    Raises:
        OSError: The file cannot be written.
    """
    unfinished = state / "endpoint.new"
    unfinished.unlink(missing_ok=True)
    handle = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, url.encode())
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, _whole_file())
        unfinished.rename(state / "endpoint")
        yield
    finally:
        os.close(handle)


def published_url(state: Path) -> str | None:
    """The URL of the emulator that runs on the state directory; None if none runs."""
    try:
        handle = os.open(state / "endpoint", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        lock_type, *_ = _FLOCK.unpack(fcntl.fcntl(handle, fcntl.F_OFD_GETLK, _whole_file()))
        return None if lock_type == fcntl.F_UNLCK else os.pread(handle, _MAX_URL, 0).decode()
    finally:
        os.close(handle)


def _whole_file() -> bytes:
    """A write lock from the start of a file to its end."""
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
