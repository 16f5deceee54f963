"""The directory of the backing files, where possible on a filesystem that shares blocks between files.

A snapshot is then a clone, which takes milliseconds and is an exact point in time. If the
state directory's filesystem cannot clone files, the emulator mounts an XFS in a sparse file.
Without root or mkfs.xfs, it copies the files, which is slow and not an exact point in time
while a node writes.
"""

import asyncio
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.disks import file_copy, holders, loop_devices, mountinfo
from hyperpod_ebs.emulator.disks.file_copy import CopyMethod
from hyperpod_ebs.kit import command, files

_MAX_SHARE: Final = 0.9
"""Fraction of the host's free space that the XFS may fill; the rest is a reserve."""

_MIN_SIZE: Final = 1 << 30
_MAX_SIZE: Final = 1 << 40
"""Limits of the size of the XFS in bytes; its file is sparse and takes only the space that is used."""

_MKFS: Final = ("mkfs.xfs", "-q", "-m", "reflink=1", "-d", "cowextsize=256", "-l", "size=64m")
"""The command with extents of 1 MiB for copy-on-write: random writes then do not fragment a file with a snapshot."""

_DEADLINE: Final = 120.0

PATIENCE: Final = 5.0
"""Seconds to wait for other users of the XFS: the kernel frees a loop device in it a moment after its last close."""

_RETRY: Final = 0.1


@dataclass(frozen=True, slots=True)
class Pool:
    """The directory of the backing files, ready for use."""

    path: Path
    copy_method: CopyMethod

    @classmethod
    async def open(cls, state: Path) -> "Pool":
        """Open the pool of the state directory, or create it.

        A mount that a dead process left is used again; if its filesystem has failed, it is unmounted first.

        Raises:
            PoolUnusable: Another filesystem is mounted in its place, or the filesystem failed and is in use.
            CommandFailed: The XFS cannot be created or mounted.
        """
        path, image = state / "disks", _xfs_image(state)
        copy_method = await files.off_loop(_prepare_directory, path, image)
        if copy_method is not CopyMethod.XFS:
            return cls(path, copy_method)
        if not await files.off_loop(image.exists):
            await _create_xfs(image)
        if not await _is_mounted(path, image):
            loop = await files.off_loop(_find_or_bind, image, deadline=_DEADLINE)
            # Without -w, mount(8) mounts a write-protected device read-only and exits with 0.
            mount = ["mount", "-w", "-t", "xfs", "-o", "noatime,discard", str(loop.path), str(path)]
            await command.run(mount, deadline=_DEADLINE)
        return cls(path, copy_method)


class PoolUnusable(Exception):  # noqa: N818 - named for what happened
    """The mount in the place of the pool cannot be used or replaced."""


async def close(state: Path) -> list[str]:
    """Unmount the XFS of `state` and free its loop device, after waiting some seconds for other users of it.

    Returns:
        A sentence about each user that has not left; an empty list if the pool is closed.
    """
    path, image = state / "disks", _xfs_image(state)
    until = time.monotonic() + PATIENCE
    try:
        while not await _unmount_and_free(path, image):
            users = await files.off_loop(_describe_volumes, path)  # a volume in use may stay so for hours
            if not users and time.monotonic() > until:
                users = await files.off_loop(_describe_processes, image)
            if users:
                return [f"{path} cannot be unmounted and freed: {user}" for user in users]
            await asyncio.sleep(_RETRY)
    except PoolUnusable as reason:
        return [str(reason)]
    return []


def _describe_volumes(path: Path) -> list[str]:
    """A phrase for each loop device with a backing file in `path`."""
    return [f"{loop.path} of {file.stem} is in use" for loop, file in loop_devices.find_in(path)]


def _describe_processes(image: Path) -> list[str]:
    """A phrase for each process that uses the XFS in `image`."""
    found = [phrase for loop in _loops(image) for phrase in holders.describe_holders(loop.device)]
    return found or ["its user cannot be seen from here"]


async def _unmount_and_free(path: Path, image: Path) -> bool:
    """Unmount the XFS and free its loop device; return False if one of them is in use.

    Raises:
        PoolUnusable: Another filesystem is mounted there.
    """
    if await files.off_loop(_find_mount, path, image):
        try:
            await command.run(["umount", str(path)], deadline=_DEADLINE)
        except command.CommandFailed:
            return False
    return await files.off_loop(lambda: all(loop.free(image) for loop in _loops(image)))


async def _is_mounted(path: Path, image: Path) -> bool:
    """Whether the XFS in `image` is mounted at `path` and accepts writes; one that has failed is unmounted.

    Raises:
        PoolUnusable: Another filesystem is mounted there, or the XFS has failed and is in use.
    """
    if not await files.off_loop(_find_mount, path, image):
        return False
    if await files.off_loop(_accepts_writes, path, deadline=_DEADLINE):
        return True
    if users := await close(image.parent):
        raise PoolUnusable("\n".join([f"the filesystem in {image} has failed and cannot be mounted again:", *users]))
    return False


def _find_mount(path: Path, image: Path) -> mountinfo.Mount | None:
    """The mount of the XFS in `image` at `path`; None if nothing is mounted there.

    Raises:
        PoolUnusable: Another filesystem is mounted there.
    """
    mounted = mountinfo.find(path)
    if mounted and mounted.device not in {loop.device for loop in _loops(image)}:
        raise PoolUnusable(f"{path} is a mount of device {mounted.device}, not of {image}: unmount it first")
    return mounted


def _loops(image: Path) -> list[loop_devices.LoopDevice]:
    """The loop devices that are bound to `image`."""
    return [loop for loop, file in loop_devices.find_in(image.parent) if file == image]


def _accepts_writes(path: Path) -> bool:
    """Whether a file can be written to disk in `path`: an XFS that shut down after an error stays mounted."""
    try:
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"probe")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError:
        return False
    return True


def _xfs_image(state: Path) -> Path:
    return state / "pool.xfs"


def _prepare_directory(path: Path, image: Path) -> CopyMethod:
    """Create the directory `path`; return how files in it can be copied. An existing XFS is always used."""
    if mountinfo.find(path) is None:  # the root of a failed filesystem does not answer
        path.mkdir(mode=0o700, exist_ok=True)
    if image.exists():
        return CopyMethod.XFS
    if file_copy.can_clone(path):
        return CopyMethod.HOST
    return CopyMethod.XFS if loop_devices.usable() and shutil.which("mkfs.xfs") else CopyMethod.COPY


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
    return next(iter(_loops(image)), None) or loop_devices.bind(image)
