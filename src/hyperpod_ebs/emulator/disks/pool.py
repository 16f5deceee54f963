"""Where the images are: a file system that can share blocks between files.

A snapshot is then a clone that costs milliseconds and is an exact point in time.
The state directory's own file system is used where it can clone; where it cannot, an
XFS in a sparse file is mounted in the directory; where that cannot be had (no root,
no mkfs.xfs) images are copied, which is slow and no point in time under writes.
"""

import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.disks import loops
from hyperpod_ebs.kit import command, files

_FICLONE: Final = 0x40049409

_SHARE: Final = 0.9
"""How much of the host's free space the pool may come to take; the rest is a reserve."""

_LEAST: Final = 1 << 30
_MOST: Final = 1 << 40
"""Bounds of the pool's size in bytes; it is sparse, so it costs what is in it."""

_MKFS: Final = ("mkfs.xfs", "-q", "-m", "reflink=1", "-d", "cowextsize=256", "-l", "size=64m")
"""Copies on write go in pieces of 1 MiB, so that random writes do not shred a snapshotted image."""

_DEADLINE: Final = 120.0


class Way(Enum):
    """How an image is copied."""

    HOST = "clones on the state directory's own file system"
    XFS = "clones on an XFS in a file"
    COPY = "plain copies: slow, and no exact point in time under writes"


@dataclass(frozen=True, slots=True)
class Pool:
    """The directory of the images, ready for use."""

    path: Path
    way: Way

    @classmethod
    async def opened(cls, state: Path) -> "Pool":
        """The pool of the state directory `state`; one that a dead process left mounted is used again."""
        path, image = state / "disks", _image(state)
        way = await files.off_loop(_way, path, image)
        if way is not Way.XFS:
            return cls(path, way)
        if not await files.off_loop(image.exists):
            await _make(image)
        if not await files.off_loop(path.is_mount):
            loop = await files.off_loop(_loop, image, deadline=_DEADLINE)
            options = "noatime,discard"
            await command.run(["mount", "-t", "xfs", "-o", options, str(loop.path), str(path)], deadline=_DEADLINE)
        return cls(path, way)

    def copy(self, source: Path, target: Path, *, size: int) -> None:
        """Make `target` a copy of `source`, `size` bytes long, on disk before it has its name."""
        unready = target.with_suffix(".new")
        try:
            self._fill(unready, source, size)
        except OSError:  # no space, above all: then even half a copy is too much
            unready.unlink(missing_ok=True)
            raise
        unready.rename(target)
        sync_directory(target.parent)

    def _fill(self, unready: Path, source: Path, size: int) -> None:
        with source.open("rb") as old, unready.open("wb") as new:
            os.fchmod(new.fileno(), 0o600)
            if self.way is Way.COPY:
                _copy(old.fileno(), new.fileno())
            else:
                fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            os.ftruncate(new.fileno(), size)
            os.fsync(new.fileno())


async def closed(state: Path) -> bool:
    """Take the pool of `state` out of use; whether nothing held it."""
    path, image = state / "disks", _image(state)
    if await files.off_loop(path.is_mount):
        try:
            await command.run(["umount", str(path)], deadline=_DEADLINE)
        except command.CommandFailed:
            return False
    return await files.off_loop(lambda: all(loop.free(image) for loop, file in loops.under(state) if file == image))


def sync_directory(path: Path) -> None:
    """Bring the names in `path` to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _image(state: Path) -> Path:
    return state / "pool.xfs"


def _way(path: Path, image: Path) -> Way:
    """What can be done in `path`, which is made; what was chosen once is kept."""
    path.mkdir(mode=0o700, exist_ok=True)
    if image.exists():
        return Way.XFS
    with tempfile.TemporaryFile(dir=path) as one, tempfile.TemporaryFile(dir=path) as other:
        try:
            fcntl.ioctl(other.fileno(), _FICLONE, one.fileno())
        except OSError:
            return Way.XFS if loops.usable() and shutil.which("mkfs.xfs") else Way.COPY
    return Way.HOST


async def _make(image: Path) -> None:
    """An empty XFS in `image`, which has its name only when it is whole."""
    unready = image.with_suffix(".new")
    await files.off_loop(_sparse, unready)
    await command.run([*_MKFS, "-f", str(unready)], deadline=_DEADLINE)
    await files.off_loop(unready.rename, image)


def _sparse(image: Path) -> None:
    size = min(_MOST, max(_LEAST, int(shutil.disk_usage(image.parent).free * _SHARE)))
    with image.open("wb") as new:
        os.fchmod(new.fileno(), 0o600)
        new.truncate(size)


def _loop(image: Path) -> loops.Loop:
    """The loop device of the pool: one that is there already, or a new one."""
    return next((loop for loop, file in loops.under(image.parent) if file == image), None) or loops.bound(image)


def _copy(old: int, new: int) -> None:
    """Copy what is not a hole."""
    end, at = os.fstat(old).st_size, 0
    os.ftruncate(new, end)
    while at < end:
        try:
            start = os.lseek(old, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but holes from here
            return
        at = os.lseek(old, start, os.SEEK_HOLE)
        _copy_range(old, new, start, at - start)


def _copy_range(old: int, new: int, offset: int, count: int) -> None:
    while count:
        done = os.copy_file_range(old, new, count, offset, offset)
        if not done:
            return
        offset, count = offset + done, count - done
