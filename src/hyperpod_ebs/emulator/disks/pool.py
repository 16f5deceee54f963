"""The directory of the backing files, where possible on a filesystem that shares blocks between files.

A snapshot is then a clone, which takes milliseconds and is an exact point in time. If the
state directory's filesystem cannot clone files, the emulator mounts an XFS in a sparse file.
Without root or mkfs.xfs, it copies the files, which is slow and not an exact point in time
while a node writes.
"""

import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.disks import loop_devices
from hyperpod_ebs.kit import command, files

_FICLONE: Final = 0x40049409

_MAX_SHARE: Final = 0.9
"""Fraction of the host's free space that the XFS may fill; the rest is a reserve."""

_MIN_SIZE: Final = 1 << 30
_MAX_SIZE: Final = 1 << 40
"""Limits of the size of the XFS in bytes; its file is sparse and takes only the space that is used."""

_MKFS: Final = ("mkfs.xfs", "-q", "-m", "reflink=1", "-d", "cowextsize=256", "-l", "size=64m")
"""The command with extents of 1 MiB for copy-on-write: random writes then do not fragment a file with a snapshot."""

_DEADLINE: Final = 120.0


class CopyMethod(Enum):
    """How a backing file is copied."""

    HOST = "clones on the state directory's own filesystem"
    XFS = "clones on an XFS in a file"
    COPY = "plain copies: slow, and not an exact point in time while a node writes"


@dataclass(frozen=True, slots=True)
class Pool:
    """The directory of the backing files, ready for use."""

    path: Path
    copy_method: CopyMethod

    @classmethod
    async def open(cls, state: Path) -> "Pool":
        """Open the pool of the state directory, or create it; a mount that a dead process left is used again."""
        path, image = state / "disks", _xfs_image(state)
        copy_method = await files.off_loop(_prepare_directory, path, image)
        if copy_method is not CopyMethod.XFS:
            return cls(path, copy_method)
        if not await files.off_loop(image.exists):
            await _create_xfs(image)
        if not await files.off_loop(path.is_mount):
            loop = await files.off_loop(_find_or_bind, image, deadline=_DEADLINE)
            # Without -w, mount(8) mounts a write-protected device read-only and exits with 0.
            mount = ["mount", "-w", "-t", "xfs", "-o", "noatime,discard", str(loop.path), str(path)]
            await command.run(mount, deadline=_DEADLINE)
        return cls(path, copy_method)

    def copy(self, source: Path, target: Path, *, size: int) -> None:
        """Copy `source` to `target`, extended to `size` bytes; `target` appears only when it is complete on disk."""
        unready = target.with_suffix(".new")
        try:
            with source.open("rb") as old, unready.open("wb") as new:
                os.fchmod(new.fileno(), 0o600)
                if self.copy_method is CopyMethod.COPY:
                    _copy(old.fileno(), new.fileno())
                else:
                    fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
                os.ftruncate(new.fileno(), size)
                os.fsync(new.fileno())
        except OSError:  # mostly a full disk, which a partial copy must not fill further
            unready.unlink(missing_ok=True)
            raise
        unready.rename(target)
        sync_directory(target.parent)


async def close(state: Path) -> bool:
    """Unmount the XFS of `state` and free its loop device; return False if it is in use."""
    path, image = state / "disks", _xfs_image(state)
    if await files.off_loop(path.is_mount):
        try:
            await command.run(["umount", str(path)], deadline=_DEADLINE)
        except command.CommandFailed:
            return False
    return await files.off_loop(
        lambda: all(loop.free(image) for loop, file in loop_devices.find_in(state) if file == image)
    )


def sync_directory(path: Path) -> None:
    """Flush the directory entries of `path` to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _xfs_image(state: Path) -> Path:
    return state / "pool.xfs"


def _prepare_directory(path: Path, image: Path) -> CopyMethod:
    """Create the directory `path`; return how files in it can be copied. An existing XFS is always used."""
    path.mkdir(mode=0o700, exist_ok=True)
    if image.exists():
        return CopyMethod.XFS
    with tempfile.TemporaryFile(dir=path) as source, tempfile.TemporaryFile(dir=path) as target:
        try:
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        except OSError:
            return CopyMethod.XFS if loop_devices.usable() and shutil.which("mkfs.xfs") else CopyMethod.COPY
    return CopyMethod.HOST


async def _create_xfs(image: Path) -> None:
    """Create an empty XFS in the file `image`, which appears only when it is complete."""
    unready = image.with_suffix(".new")
    await files.off_loop(_create_sparse_file, unready)
    await command.run([*_MKFS, "-f", str(unready)], deadline=_DEADLINE)
    await files.off_loop(unready.rename, image)


def _create_sparse_file(image: Path) -> None:
    size = min(_MAX_SIZE, max(_MIN_SIZE, int(shutil.disk_usage(image.parent).free * _MAX_SHARE)))
    with image.open("wb") as new:
        os.fchmod(new.fileno(), 0o600)
        new.truncate(size)


def _find_or_bind(image: Path) -> loop_devices.LoopDevice:
    """The loop device of the XFS: the one that is bound already, or a new one."""
    bound = next((loop for loop, file in loop_devices.find_in(image.parent) if file == image), None)
    return bound or loop_devices.bind(image)


def _copy(old: int, new: int) -> None:
    """Copy everything except holes."""
    end, at = os.fstat(old).st_size, 0
    os.ftruncate(new, end)
    while at < end:
        try:
            start = os.lseek(old, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole follows
            return
        at = os.lseek(old, start, os.SEEK_HOLE)
        _copy_range(old, new, start, at - start)


def _copy_range(old: int, new: int, offset: int, count: int) -> None:
    while count:
        done = os.copy_file_range(old, new, count, offset, offset)
        if not done:
            return
        offset, count = offset + done, count - done
