"""Cleans a sandbox up after its owner has finished or was killed.

`python -m hyperpod_ebs.sandbox.janitor DIRECTORY` waits until its standard input
closes. Then it ends the processes that have the sandbox's directory in their environment
(children inherit the variable, so the janitor needs no list of processes, which could miss one),
unmounts everything mounted below the directory, frees the loop devices whose files are in it,
removes the control groups of the same name, and removes the directory.

A sandbox has a lock file that its owner and its janitor hold locked. If the file is not
locked, both have died, and the next janitor in the same parent directory cleans that sandbox.

The janitor makes kernel calls and runs no other programs, so it works with an empty PATH.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from hyperpod_ebs.sandbox import cgroups, kernel_tables
from hyperpod_ebs.sandbox.kernel_tables import LoopDevice

SANDBOX_VARIABLE: Final = "HYPERPOD_EBS_SANDBOX"
"""The environment variable with the sandbox's directory, in all processes of the sandbox."""

LOCK_FILE: Final = ".sandbox"
"""The file that makes a directory a sandbox, locked while its owner or its janitor lives."""

_STOP_TIMEOUT: Final = 3.0
"""Seconds that processes have after SIGTERM, before SIGKILL."""

_KILL_TIMEOUT: Final = 30.0
"""Seconds that the kernel has to end killed processes: a write to a slow disk has to finish first."""

_BUSY_TIMEOUT: Final = 6.0
"""Seconds that the last users of mounts and loop devices have to close them."""

_POLL: Final = 0.02
"""Seconds between two checks."""

# <sys/mount.h>
_DETACH: Final = 2
_NO_FOLLOW: Final = 8


def processes_of(path: Path) -> list[int]:
    """The ids of the processes started in the sandbox at `path`, and of their children."""
    variable = os.fsencode(f"{SANDBOX_VARIABLE}={path}")
    pids: list[int] = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # the process has ended
            if variable in environment.read_bytes().split(b"\0"):
                pids.append(int(environment.parent.name))
    return sorted(pids)


def mounts_below(path: Path) -> list[Path]:
    """Mount points at and below `path`, innermost first."""
    points = [mount.point for mount in kernel_tables.mounts()]
    return sorted((point for point in points if point.is_relative_to(path)), key=lambda point: -len(point.parts))


def loops_below(path: Path) -> list[Path]:
    """Loop devices whose backing file is below `path`, even if deleted, and loop devices on top of those."""
    return [loop.path for loop in _loops_below(path)]


def _loops_below(path: Path) -> list[LoopDevice]:
    """The loop devices of the sandbox; a device on top of another one comes first."""
    loops = list(kernel_tables.loop_devices())
    below = [loop for loop in loops if loop.file.is_relative_to(path)]
    # kubelet binds a loop device of its own to the device of a raw block volume. Its backing file has the path that
    # the device has on the node; that path does not exist in this mount namespace.
    elsewhere = [loop for loop in loops if not loop.file.is_relative_to(path) and not _may_be_file(loop.file)]
    numbers = {loop.number for loop in below if loop.number} if elsewhere else set()
    return [loop for loop in elsewhere if loop.backing_device() in numbers] + below


def _may_be_file(path: Path) -> bool:
    """Whether there is a regular file at `path`, or this process may not look: without root it bound no loop device."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def create_lock_file(path: Path) -> int:
    """Make the directory `path` a sandbox; the open, locked lock file.

    The lock lasts until each process that has the file open, or has inherited it, has closed it.
    """
    temporary = path / f"{LOCK_FILE}.new"
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    temporary.rename(path / LOCK_FILE)  # locked before it has its name, so no other janitor sees it unlocked
    return handle


def clean(path: Path) -> None:
    """End processes, unmount, free loop devices and remove files of the sandbox at `path`, and nothing else."""
    if not (path / LOCK_FILE).is_file() or path.is_symlink():
        return
    _end_processes(path)
    _unmount_and_free(path)
    # Repeated, because a last writer can still add a file, and a killed process stays in its control group until it
    # has ended.
    _wait_until(lambda: _remove_unless_mounted(path), seconds=_KILL_TIMEOUT)


def clean_abandoned(parent: Path, name: str) -> None:
    """Clean the sandboxes called `name` in `parent` whose owner and janitor have both died."""
    for path in sorted(parent.glob(f"{name}-*")):
        with suppress(OSError):  # locked, not a sandbox, or removed meanwhile
            handle = os.open(path / LOCK_FILE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if path.lstat().st_uid == os.fstat(handle).st_uid == os.geteuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    clean(path)
            finally:
                os.close(handle)


def _end_processes(path: Path) -> None:
    _signal_processes(path, signal.SIGTERM)
    if _wait_until(lambda: not processes_of(path), seconds=_STOP_TIMEOUT):
        return
    # Repeated, to catch processes that were started after the list was read.
    _wait_until(lambda: not _signal_processes(path, signal.SIGKILL), seconds=_KILL_TIMEOUT)


def _signal_processes(path: Path, number: signal.Signals) -> list[int]:
    """Signal all processes of the sandbox; their ids."""
    pids = processes_of(path)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return pids


def _unmount_and_free(path: Path) -> None:
    """Unmount and free in turns, because an emulator's own filesystem is below the loop devices of its volumes."""
    libc = ctypes.CDLL(None, use_errno=True)
    start = time.monotonic()
    while (mounts := mounts_below(path)) or loops_below(path):
        waited = time.monotonic() - start
        # A mount that a process outside of the sandbox keeps busy is detached; the kernel unmounts it at last close.
        flags = _NO_FOLLOW | (_DETACH if waited > _BUSY_TIMEOUT else 0)
        for point in mounts:
            libc.umount2(os.fsencode(point), flags)
        for loop in _loops_below(path):
            with suppress(OSError):
                loop.free()
        if waited > 2 * _BUSY_TIMEOUT:  # checked after the first attempt, however slow the machine
            return
        time.sleep(_POLL)


def _remove_unless_mounted(path: Path) -> bool:
    """Remove the control groups, then the directory they are named after; whether there is nothing left to do."""
    cgroups.remove(path.name)
    # The files below a mount that cannot be unmounted can belong to anything, so they are not deleted.
    if mounts_below(path):
        return True
    if not cgroups.groups(path.name):
        _remove_directory(path)
    return not path.exists()


def _remove_directory(path: Path) -> None:
    """Remove the directory, its lock file last: if this process is killed, it still counts as a sandbox."""
    with suppress(OSError):
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != LOCK_FILE:
                entry.unlink()
        if [entry.name for entry in path.iterdir()] == [LOCK_FILE]:
            shutil.rmtree(path)


def _wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Poll the condition until it holds or the time is up; whether it held."""
    end = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(_POLL)
    return holds


def main() -> None:
    """Clean abandoned sandboxes, wait for the owner's end, and clean its sandbox."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    path = Path(sys.argv[1])
    clean_abandoned(path.parent, path.name.rpartition("-")[0])
    sys.stdin.read()
    clean(path)


if __name__ == "__main__":
    main()
