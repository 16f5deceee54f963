"""Looks at the paths that volumes are staged and published at, and never past the node's root directory.

A path on which something is mounted is not touched before the mount table was read: a dead
device hangs `stat` for ever, and what hangs has to be found, so that it can be unmounted.
"""

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.driver.linux.devices import number_of
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry, PathKind, PathState

DEAD: Final = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENXIO, errno.ENODEV, errno.ESHUTDOWN, errno.EHOSTDOWN}
)
"""What the kernel says of a filesystem whose device went away."""

_UNCLEAN: Final = 117
"""EUCLEAN, which errno has no name for on every platform: the filesystem's own structures are broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A path that is allowed, and what the mount table has of it. Nothing there was touched."""

    path: Path
    mounts: tuple[MountEntry, ...]
    siblings: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Nature:
    """What a path leads to."""

    kind: PathKind
    node: DeviceNumber | None = None
    broken: str = ""


def allowed(path: Path, root: Path) -> Path:
    """`path` with the links of its parents followed. Blocks: run it off the loop.

    Raises:
        InvalidRequest: It is relative, not normal, or does not end up below `root`.
    """
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise errors.InvalidRequest(f"path {str(path)!r} is not absolute and normal; give one without '..'")
    top = root.resolve()
    real = path.parent.resolve() / path.name
    if real == top or not real.is_relative_to(top):
        raise errors.InvalidRequest(f"path {path} ends up at {real}, which is not below {top}")
    return real


def spot(path: Path, root: Path) -> Spot:
    """What the mount table has of `path`. Blocks: run it off the loop.

    Raises:
        InvalidRequest: The path is not allowed, or is a symbolic link.
    """
    real = allowed(path, root)
    table = mountinfo.parse(mountinfo.TABLE.read_bytes())
    pile = mountinfo.stack(table, real)
    if not pile and real.is_symlink():
        raise errors.InvalidRequest(f"path {path} is a symbolic link; give the path that it leads to")
    top = root.resolve()
    return Spot(path=real, mounts=pile, siblings=_siblings(table, pile, top))


def nature(path: Path) -> Nature:
    """What is at `path`. Blocks, for ever where a device is dead: run it off the loop.

    Raises:
        OSError: It is neither there, nor absent, nor dead.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return Nature(PathKind.ABSENT)
    except OSError as error:
        if error.errno not in {*DEAD, _UNCLEAN}:
            raise
        return Nature(PathKind.UNKNOWN, broken=os.strerror(error.errno or 0))
    if stat.S_ISDIR(found.st_mode):
        return Nature(PathKind.DIRECTORY)
    if stat.S_ISREG(found.st_mode):
        return Nature(PathKind.FILE)
    return Nature(PathKind.OTHER, node=number_of(found) if stat.S_ISBLK(found.st_mode) else None)


def place(spot: Spot, nature: Nature) -> PathState:
    """Both looks put together."""
    return PathState(
        path=spot.path,
        kind=nature.kind,
        mounts=spot.mounts,
        device_node=nature.node,
        broken=nature.broken,
        siblings=spot.siblings,
    )


def clear(path: Path) -> None:
    """Remove `path` where it is an empty directory or an empty file. Blocks: run it off the loop.

    Raises:
        OSError: It is neither, and not simply in use.
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


def make(path: Path, *, directory: bool) -> bool:
    """Make an empty directory or file to mount on; whether it was not there. Blocks: run it off the loop.

    Raises:
        NotReady: Its parent is absent, or something of another kind is there.
    """
    try:
        if directory:
            path.mkdir(mode=0o750)
        else:
            path.touch(mode=0o640, exist_ok=False)
    except FileExistsError:
        if path.is_dir() != directory:
            wanted = PathKind.DIRECTORY if directory else PathKind.FILE
            raise errors.NotReady(f"{path} is not {wanted}, so nothing can be mounted there") from None
        return False
    except FileNotFoundError:
        raise errors.NotReady(f"{path.parent} is absent: who calls makes the directory around a target") from None
    return True


def shown_at(source: Path, root: Path) -> tuple[Path, ...]:
    """Where below `root` a bind mount shows `source`, a directory or a device node. Blocks: run it off the loop."""
    table = mountinfo.parse(mountinfo.TABLE.read_bytes())
    around = max(
        (mount for mount in table if source.is_relative_to(mount.mount_point)), key=lambda m: len(m.mount_point.parts)
    )
    top = mountinfo.stack(table, around.mount_point)[-1]
    inside = Path(top.root) / source.relative_to(top.mount_point)
    points = {mount.mount_point for mount in table if (mount.number, Path(mount.root)) == (top.number, inside)}
    return tuple(sorted(point for point in points - {source} if point.is_relative_to(root.resolve())))


def uses(device: Device, root: Path) -> tuple[Path, ...]:
    """Where below `root` the device is mounted, or its node shown. Blocks: run it off the loop."""
    top = root.resolve()
    table = mountinfo.parse(mountinfo.TABLE.read_bytes())
    mounted = {
        mount.mount_point for mount in table if mount.number == device.number and mount.mount_point.is_relative_to(top)
    }
    return tuple(sorted({*mounted, *shown_at(device.path, root)}))


def _siblings(table: Sequence[MountEntry], pile: Sequence[MountEntry], root: Path) -> tuple[Path, ...]:
    if not pile or pile[-1].number.is_anonymous:
        return ()
    top = pile[-1]
    others = {
        mount.mount_point for mount in table if mount.number == top.number and mount.mount_point != top.mount_point
    }
    return tuple(sorted(point for point in others if point.is_relative_to(root)))
