"""Whether a mounted filesystem accepts writes, as the kernel answers.

A filesystem that stopped writing after an error stays mounted, and its mount need not show that: ext4 shows `ro` before
Linux 6.12, nothing from then on, and `emergency_ro` from 6.15. stat, statvfs and access succeed. So the kernel is asked
to remove an extended attribute that does not exist. It begins a transaction, which a failed filesystem refuses. Then it
finds nothing to remove, so nothing changes, and a full filesystem or a used-up quota makes no difference.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import mountinfo, paths
from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry

DEADLINE: Final = 5.0
"""Seconds. Short, because kubelet asks for the statistics of one volume after the other."""

_ABSENT: Final = "trusted.hyperpod-ebs.absent"

REFUSALS: Final = frozenset({errno.EROFS, *paths.DEAD, paths.UNCLEAN})
"""The errors of a filesystem that does not write. Others, as of a missing right or of a full disk, do not say so."""


def find_refusal(path: Path, number: DeviceNumber) -> str:
    """Why the filesystem on device `number` refuses writes; empty if it accepts them or has only read-only mounts.

    `path` is the mount that is asked first. Blocks, for ever if the filesystem is frozen or its device is dead: run it
    off the loop.
    """
    for point in writable_mount_points(mountinfo.read_if_changed(), path, number):
        try:
            # A container may have a file of the volume as a mount: a socket cannot be opened, and a FIFO would wait.
            handle = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in REFUSALS:
                return os.strerror(error.errno or 0)
            continue
        try:
            found = os.fstat(handle).st_dev
            if DeviceNumber(os.major(found), os.minor(found)) != number:
                continue  # another filesystem is mounted over this mount
            os.removexattr(handle, _ABSENT)
        except OSError as error:
            return os.strerror(error.errno) if error.errno in REFUSALS else ""
        finally:
            os.close(handle)
    return ""


def writable_mount_points(table: Iterable[MountEntry], path: Path, number: DeviceNumber) -> list[Path]:
    """Where the filesystem on device `number` is mounted for writing, `path` first."""
    points = {mount.mount_point for mount in table if mount.number == number and "ro" not in mount.options}
    return sorted(points, key=lambda point: (point != path, point))
