"""Look at the paths where volumes are staged and published; refuse paths outside the node's root directory.

A path is not touched before the mount table has been read: `stat` on a mount of a dead device hangs for ever, and such
a mount must be found so that it can be unmounted.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.driver.linux.devices import device_number
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
    mounts: tuple[MountEntry, ...]
    siblings: tuple[Path, ...]
    """Other mount points of the top mount's device below the root directory."""


@dataclass(frozen=True, slots=True)
class Inode:
    """What a path leads to."""

    kind: PathKind
    device_node: DeviceNumber | None = None
    """The block device, if the path is a device node."""
    broken: str = ""
    """Why it cannot be used; empty if it can."""


def resolve(path: Path, root: Path) -> Path:
    """Resolve the symbolic links of the path's parents. Blocks: run it off the loop.

    Raises:
        InvalidRequest: The path is relative, contains ".." or a zero byte, or is not below `root` when resolved.
    """
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise errors.InvalidRequest(
            f"path {str(path)!r} is relative, or contains '..' or a zero byte; use an absolute path"
        )
    top = root.resolve()
    real = path.parent.resolve() / path.name
    if real == top or not real.is_relative_to(top):
        raise errors.InvalidRequest(
            f"path {path} resolves to {real}, which is not below {top}; set --kubelet-root to kubelet's directory"
        )
    return real


def read_mounts(path: Path, root: Path) -> PathMounts:
    """Look up `path` in the mount table. Blocks: run it off the loop.

    Raises:
        InvalidRequest: The path is not allowed, or is a symbolic link.
    """
    real = resolve(path, root)
    table = mountinfo.read()
    mounts = mountinfo.stack(table, real)
    if not mounts and real.is_symlink():
        raise errors.InvalidRequest(f"path {path} is a symbolic link; use the path that it leads to")
    siblings: set[Path] = set()
    if mounts and not mounts[-1].number.is_anonymous:
        number, top = mounts[-1].number, root.resolve()
        siblings = {
            mount.mount_point for mount in table if mount.number == number and mount.mount_point.is_relative_to(top)
        }
    return PathMounts(path=real, mounts=mounts, siblings=tuple(sorted(siblings - {real})))


def read_inode(path: Path) -> Inode:
    """Find out what `path` leads to. Blocks, for ever if a device is dead: run it off the loop.

    Raises:
        OSError: The path exists and is not dead, but cannot be read.
    """
    try:
        found = path.stat()
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


def remove_empty(path: Path) -> None:
    """Remove `path` if it is an empty directory or an empty file. Blocks: run it off the loop.

    Raises:
        OSError: It cannot be removed, for a reason other than that it is in use or not empty.
    """
    try:
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            path.rmdir()
        elif stat.S_ISREG(found.st_mode) and found.st_size == 0:
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EBUSY}:
            raise


def create_mount_point(path: Path, *, directory: bool) -> bool:
    """Create an empty directory or file to mount on; return False if it exists. Blocks: run it off the loop.

    Raises:
        NotReady: The parent directory is absent, or something of another kind is there.
    """
    try:
        if directory:
            path.mkdir(mode=0o750)
        else:
            path.touch(mode=0o640, exist_ok=False)
    except FileExistsError:
        if path.is_dir() != directory:
            wanted = PathKind.DIRECTORY if directory else PathKind.FILE
            raise errors.NotReady(f"cannot mount at {path}: it exists and is not {wanted}; remove it") from None
        return False
    except FileNotFoundError:
        raise errors.NotReady(
            f"cannot mount at {path}: directory {path.parent} is absent; the caller must create it first"
        ) from None
    return True


def bind_mounts_of(source: Path, root: Path) -> tuple[Path, ...]:
    """The bind mounts of `source`, a directory or a device node, below `root`. Blocks: run it off the loop."""
    table = mountinfo.read()
    enclosing = max(
        (mount.mount_point for mount in table if source.is_relative_to(mount.mount_point)),
        key=lambda point: len(point.parts),
    )
    top = mountinfo.stack(table, enclosing)[-1]
    path_in_filesystem = Path(top.root) / source.relative_to(top.mount_point)
    same = (top.number, path_in_filesystem)
    points = {mount.mount_point for mount in table if (mount.number, Path(mount.root)) == same}
    return tuple(sorted(point for point in points - {source} if point.is_relative_to(root.resolve())))


def mounts_of_device(device: Device, root: Path) -> tuple[Path, ...]:
    """The mounts of the device and the bind mounts of its device node below `root`. Blocks: run it off the loop."""
    top = root.resolve()
    mounts = {mount.mount_point for mount in mountinfo.read() if mount.number == device.number}
    mounts = {point for point in mounts if point.is_relative_to(top)}
    return tuple(sorted({*mounts, *bind_mounts_of(device.path, root)}))
