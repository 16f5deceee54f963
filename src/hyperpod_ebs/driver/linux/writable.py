"""Whether a mounted filesystem accepts writes, as the kernel answers.

A filesystem that stopped writing after an error stays mounted, and its mount need not show that: ext4 shows `ro` before
Linux 6.12, nothing from then on, and `emergency_ro` from 6.15. stat, statvfs and access succeed. So the kernel is asked
to remove an extended attribute that does not exist. It begins a transaction, which a failed filesystem refuses. Then it
finds nothing to remove, so nothing changes, and a full filesystem or a used-up quota makes no difference.

The kernel refuses this for an immutable file before it asks the filesystem. So if the root directory is immutable, the
files in it are tried.
"""

import errno
import os
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import mountinfo, paths
from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry

DEADLINE: Final = 5.0
"""Seconds. Short, because kubelet asks for the statistics of one volume after the other."""

_ABSENT: Final = "trusted.hyperpod-ebs.absent"

_MOST_FILES: Final = 100
"""Files that are tried if the root directory is immutable; if they are immutable too, nothing is known."""

REFUSALS: Final = frozenset({errno.EROFS, *paths.DEAD, paths.UNCLEAN})
"""The errors of a filesystem that does not write. Others, as of a missing right or of a full disk, do not say so."""


def find_refusal(path: Path, root: Path, number: DeviceNumber) -> str:
    """Why the filesystem on device `number` refuses writes; empty if it accepts them or has only read-only mounts.

    `path` is the mount that is asked first; only mounts below `root` are asked. Blocks, for ever if the filesystem is
    frozen or its device is dead: run it off the loop.
    """
    for point in writable_mount_points(mountinfo.read_if_changed(), path, number):
        with ExitStack() as opened:
            try:
                handle = opened.enter_context(open_directory(point, root, number))
            except OSError as error:
                if error.errno in REFUSALS:
                    return os.strerror(error.errno or 0)
                continue  # another filesystem is mounted over this mount, or it is none of the driver's
            try:
                _request_change(handle)
            except OSError as error:
                return os.strerror(error.errno) if error.errno in REFUSALS else ""
    return ""


def _request_change(root: int) -> None:
    """Request a change that changes nothing, of the open root directory or of a file in it.

    Raises:
        OSError: The answer: nothing to change (ENODATA), or why the filesystem refuses.
    """
    try:
        os.removexattr(root, _ABSENT)
    except PermissionError:
        device = os.fstat(root).st_dev
        with os.scandir(root) as entries:
            for file in (f"/proc/self/fd/{root}/{entry.name}" for entry in islice(entries, _MOST_FILES)):
                with suppress(PermissionError, FileNotFoundError):
                    if os.lstat(file).st_dev == device:  # otherwise another filesystem is mounted there
                        os.removexattr(file, _ABSENT, follow_symlinks=False)


@contextmanager
def open_directory(path: Path, root: Path, number: DeviceNumber) -> Generator[int]:
    """Open a directory on the device `number` for reading; yield the descriptor. Blocks: run it off the loop.

    A container may have a file of the volume as a mount, and to open a FIFO would wait.

    Raises:
        OSError: The path leads to something else, is not below `root`, or cannot be read.
    """
    with paths.open_volume(path, root, number) as entry:
        handle = os.open(f"/proc/self/fd/{entry}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield handle
        finally:
            os.close(handle)


def writable_mount_points(table: Iterable[MountEntry], path: Path, number: DeviceNumber) -> list[Path]:
    """Where the filesystem on device `number` is mounted for writing, `path` first."""
    points = {mount.mount_point for mount in table if mount.number == number and "ro" not in mount.options}
    return sorted(points, key=lambda point: (point != path, point))
