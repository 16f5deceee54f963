"""Ends what was started in a sandbox, when its owner is done or has died by whatever signal.

`python -m hyperpod_ebs.sandbox.janitor DIRECTORY` waits until its standard input
closes. Then it ends the processes that carry the sandbox's mark in their
environment (children inherit it, so there is no list to keep and no moment in
which one is missing from it), unmounts what is mounted below the directory,
frees the loop devices whose files lie in it, removes the control groups of its
name, and removes it.

A sandbox is known by a file in it that its owner and its janitor hold locked. One
that nobody holds has lost both, and the next janitor that starts beside it cleans it.

Kernel calls and no other programs: cleaning works with an empty PATH, too.
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

MARK: Final = "HYPERPOD_EBS_SANDBOX"
"""The variable that holds the sandbox's directory in all that runs in it."""

SEAL: Final = ".sandbox"
"""The file by which a sandbox is known, locked for as long as somebody minds it."""

_GRACE: Final = 3.0
"""Seconds that processes have to stop by themselves; then they have to die."""

_DYING: Final = 30.0
"""Seconds that the kernel has to end what it has killed: a write to a slow disk comes to its end first."""

_BUSY: Final = 6.0
"""Seconds that mounts and loop devices have to be let go of by their last users."""

_LOOK: Final = 0.02
"""Seconds between two looks at something that is going."""

# <sys/mount.h>
_DETACH: Final = 2
_NO_FOLLOW: Final = 8


def processes_of(path: Path) -> list[int]:
    """Ids of the processes that were started in the sandbox at `path`, and of theirs."""
    mark = os.fsencode(f"{MARK}={path}")
    found: list[int] = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended since
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return sorted(found)


def mounts_below(path: Path) -> list[Path]:
    """Mount points at and below `path`, innermost first."""
    points = [mount.point for mount in kernel_tables.mounts()]
    return sorted((point for point in points if point.is_relative_to(path)), key=lambda point: -len(point.parts))


def loops_below(path: Path) -> list[Path]:
    """Loop devices whose backing file lies below `path`, deleted or not, and loop devices on top of those."""
    return [loop.path for loop in _loops_below(path)]


def _loops_below(path: Path) -> list[LoopDevice]:
    """The loop devices of the sandbox; a device on top of another one comes first."""
    loops = list(kernel_tables.loop_devices())
    below = [loop for loop in loops if loop.file.is_relative_to(path)]
    # kubelet binds a loop device of its own to the device of a raw block volume, under the name that the node has for
    # the latter: no file of that name exists here.
    elsewhere = [loop for loop in loops if not loop.file.is_relative_to(path) and not loop.file.is_file()]
    numbers = {loop.number for loop in below} if elsewhere else set()
    return [loop for loop in elsewhere if loop.backing_device() in numbers] + below


def seal(path: Path) -> int:
    """Make the directory `path` a sandbox; the handle whose copies keep it from being thought abandoned."""
    unready = path / f"{SEAL}.new"
    handle = os.open(unready, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    unready.rename(path / SEAL)  # nobody ever sees it unlocked
    return handle


def clean(path: Path) -> None:
    """End, unmount, free and remove, in that order; nothing outside of the sandbox at `path` is touched."""
    if not (path / SEAL).is_file() or path.is_symlink():
        return
    _end(path)
    _let_go(path)
    # Again and again: a last writer of the owner's may put something in while it goes, and processes that the kernel
    # has killed stay in their control group for as long as they take to die.
    _until(lambda: _is_removed(path), seconds=_DYING)


def clean_abandoned(parent: Path, name: str) -> None:
    """Clean the sandboxes called `name` in `parent` whose owner and janitor are both dead."""
    for path in sorted(parent.glob(f"{name}-*")):
        with suppress(OSError):  # no sandbox, or gone since
            handle = os.open(path / SEAL, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if path.lstat().st_uid == os.fstat(handle).st_uid == os.geteuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    clean(path)
            finally:
                os.close(handle)


def _end(path: Path) -> None:
    _signal(path, signal.SIGTERM)
    if _until(lambda: not processes_of(path)):
        return
    # Again and again, for those that were started between the look and the kill.
    _until(lambda: not _signal(path, signal.SIGKILL), seconds=_DYING)


def _signal(path: Path, number: signal.Signals) -> list[int]:
    """Signal all processes of the sandbox; their ids."""
    found = processes_of(path)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return found


def _let_go(path: Path) -> None:
    """Unmount and free by turns: an emulator's own filesystem lies below the loop devices of its volumes."""
    libc = ctypes.CDLL(None, use_errno=True)
    start = time.monotonic()
    while (mounts := mounts_below(path)) or loops_below(path):
        waited = time.monotonic() - start
        # What a stranger keeps open is taken out of the tree, and ends when he closes it.
        flags = _NO_FOLLOW | (_DETACH if waited > _BUSY else 0)
        for point in mounts:
            libc.umount2(os.fsencode(point), flags)
        for loop in _loops_below(path):
            with suppress(OSError):
                loop.free()
        if waited > 2 * _BUSY:  # after one try at the least, however slow the machine
            return
        time.sleep(_LOOK)


def _is_removed(path: Path) -> bool:
    """Remove the control groups, then the directory by which they are known; whether all is gone, or has to stay."""
    cgroups.remove(path.name)
    # What cannot be unmounted may be anything at all, and none of it is ours to delete.
    if mounts_below(path):
        return True
    if not cgroups.left(path.name):
        _remove(path)
    return not path.exists()


def _remove(path: Path) -> None:
    """Remove the directory, its seal last: should we be killed, it is still known for a sandbox."""
    with suppress(OSError):
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != SEAL:
                entry.unlink()
        if [entry.name for entry in path.iterdir()] == [SEAL]:
            shutil.rmtree(path)


def _until(done: Callable[[], bool], *, seconds: float = _GRACE) -> bool:
    """Whether it was so in time; other processes end without telling us."""
    end = time.monotonic() + seconds
    while not (so := done()) and time.monotonic() < end:
        time.sleep(_LOOK)
    return so


def main() -> None:
    """Clean up after the dead, then wait for the owner's end and clean up after him."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    path = Path(sys.argv[1])
    clean_abandoned(path.parent, path.name.rpartition("-")[0])
    sys.stdin.read()
    clean(path)


if __name__ == "__main__":
    main()
