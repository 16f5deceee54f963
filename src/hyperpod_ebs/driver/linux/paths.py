"""Look at the paths where volumes are staged and published.

A path is not read before its mount was looked up: `stat` on a mount of a dead device hangs for ever, and such a mount
must be found so that it can be unmounted. Opening it with O_PATH asks only the kernel.
"""

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.driver.linux.devices import device_number
from hyperpod_ebs.driver.linux.pinned_path import pin, real_path, real_root
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry, PathKind, PathState

DEAD: Final = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENXIO, errno.ENODEV, errno.ESHUTDOWN, errno.EHOSTDOWN}
)
"""The errors of a filesystem whose device was removed or failed."""

UNCLEAN: Final = 117
"""EUCLEAN, for which errno has no name on some platforms: the filesystem's own structures are corrupt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMounts:
    """An allowed path, resolved, and its mounts according to the mount table; nothing at the path was touched."""

    path: Path
    mounts: tuple[MountEntry, ...] = ()
    siblings: tuple[Path, ...] = ()
    """Other mount points of the top mount's device below the root directory."""


@dataclass(frozen=True, slots=True)
class Inode:
    """What a path leads to."""

    kind: PathKind
    device_node: DeviceNumber | None = None
    """The block device, if the path is a device node."""
    broken: str = ""
    """Why it cannot be used; empty if it can."""


def read_mounts(path: Path, root: Path, *, cached: bool = False) -> PathMounts:
    """Look up what is mounted at `path`. Blocks: run it off the loop.

    With `cached`, the options of a filesystem and the names of other mount points may be those of the last change of
    the mount table.

    Raises:
        InvalidRequest: The path is not allowed, or is a symbolic link.
    """
    real = real_path(path, root)
    try:
        with pin(path, root) as pinned:
            top_mount = pinned.find_mount_id()
            if top_mount is None and stat.S_ISLNK(pinned.stat().st_mode):
                raise errors.InvalidRequest(f"path {path} is a symbolic link; use the path that it leads to")
    except FileNotFoundError:
        top_mount = None
    if top_mount is None:
        return PathMounts(path=real)
    table = mountinfo.read_if_changed() if cached else mountinfo.read()
    mounts = mountinfo.stack(table, top_mount)
    if not mounts:
        raise OSError(errno.EAGAIN, "the mount there changed at the same moment")
    siblings = {
        mount.mount_point
        for mount in table
        if mount.number == mounts[-1].number and not mount.number.is_anonymous and mount.mount_point != real
    }
    top = real_root(root)
    return PathMounts(path=real, mounts=mounts, siblings=tuple(sorted(p for p in siblings if p.is_relative_to(top))))


def read_inode(path: Path, root: Path) -> Inode:
    """Find out what `path` leads to. Blocks, for ever if a device is dead: run it off the loop.

    Raises:
        OSError: The path exists and is not dead, but cannot be read.
    """
    try:
        with pin(path, root) as pinned:
            found = pinned.stat()
    except FileNotFoundError:
        return Inode(PathKind.ABSENT)
    except OSError as error:
        if error.errno not in {*DEAD, UNCLEAN}:
            raise
        return Inode(PathKind.UNKNOWN, broken=os.strerror(error.errno or 0))
    if stat.S_ISDIR(found.st_mode):
        return Inode(PathKind.DIRECTORY)
    if stat.S_ISREG(found.st_mode):
        return Inode(PathKind.FILE)
    return Inode(PathKind.OTHER, device_node=device_number(found) if stat.S_ISBLK(found.st_mode) else None)


@contextmanager
def open_volume(path: Path, root: Path, number: DeviceNumber) -> Generator[int]:
    """Open a directory on the device `number`, or its device node, without reading it; yield the descriptor.

    `path` was inspected before, so a link in it has appeared since. Blocks: run it off the loop.

    Raises:
        OSError: The path does not lead to that device any more.
    """
    try:
        with pin(path, root) as pinned, pinned.open() as handle:
            if volume_number(os.fstat(handle)) != number:
                raise OSError(errno.EAGAIN, f"{path} is not of device {number} any more")
            yield handle
    except errors.InvalidRequest as error:
        raise OSError(errno.EAGAIN, str(error)) from error


def volume_number(found: os.stat_result) -> DeviceNumber:
    """The device that a device node stands for, or that the filesystem of a file or directory is on."""
    if stat.S_ISBLK(found.st_mode):
        return device_number(found)
    return DeviceNumber(os.major(found.st_dev), os.minor(found.st_dev))


def path_state(found: PathMounts, inode: Inode) -> PathState:
    """Both views of a path as one value."""
    return PathState(
        path=found.path,
        kind=inode.kind,
        mounts=found.mounts,
        device_node=inode.device_node,
        broken=inode.broken,
        siblings=found.siblings,
    )


def bind_mounts_of(source: Path, root: Path) -> tuple[Path, ...]:
    """The bind mounts of `source`, a directory or a device node, below `root`. Blocks: run it off the loop."""
    top = real_root(root)
    found = _stat(source, root) if source.is_relative_to(top) else source.stat()
    number = DeviceNumber(os.major(found.st_dev), os.minor(found.st_dev))
    candidates = {mount.mount_point for mount in mountinfo.read() if mount.number == number} - {source}
    points = sorted(point for point in candidates if top in point.parents)  # kubelet's directory may be a mount itself
    return tuple(point for point in points if _is_same(point, root, found))


def mounts_of_device(device: Device, root: Path) -> tuple[Path, ...]:
    """The mounts of the device and the bind mounts of its device node below `root`. Blocks: run it off the loop."""
    top = real_root(root)
    mounts = {mount.mount_point for mount in mountinfo.read() if mount.number == device.number}
    mounts = {point for point in mounts if point.is_relative_to(top)}
    return tuple(sorted({*mounts, *bind_mounts_of(device.path, root)}))


def _is_same(point: Path, root: Path, source: os.stat_result) -> bool:
    """Whether a mount point shows the same directory as `source`, or a node of the same device."""
    try:
        found = _stat(point, root)
    except FileNotFoundError:  # it was unmounted at the same moment
        return False
    if stat.S_ISBLK(source.st_mode):
        return stat.S_ISBLK(found.st_mode) and found.st_rdev == source.st_rdev
    return os.path.samestat(found, source)


def _stat(path: Path, root: Path) -> os.stat_result:
    """Look at a directory or file that was below `root` a moment ago.

    Raises:
        OSError: It is absent, or a link leads to another place now.
    """
    try:
        with pin(path, root) as pinned:
            return pinned.stat()
    except errors.InvalidRequest as error:
        raise OSError(errno.EAGAIN, str(error)) from error
