"""A note on the device itself that an mkfs or a resize2fs of ours is under way.

mkfs.ext4 writes its superblock last, so one that is killed leaves bytes that no
signature explains: the same as somebody's raw data would look. mkfs.xfs writes one that
says that it is in progress, as an xfs_copy under way does. So before mkfs a block near the
device's end gets a note with the volume's id, and loses it after. Whoever finds the note
and no complete filesystem knows that nothing was ever stored, and may begin again.

A resize2fs that is killed leaves a superblock with errors and an invalid resize inode, which
e2fsck repairs without loss, but not unasked (-p). A note of another wording, in the room that
the filesystem is to get, says that it may.
"""

import errno
import mmap
import os
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux.superblock import Ext, Xfs
from hyperpod_ebs.kit.files import BLOCK

PLACE: Final = 0x30000
"""Bytes before the end: mkfs.xfs clears the last 128 KiB, mkfs.ext4 the last 64."""

MAKING: Final = "making a filesystem on"
GROWING: Final = "growing the filesystem of"


def encode(volume_id: str, work: str = MAKING) -> bytes:
    """The block that says so."""
    return f"hyperpod-ebs is {work} {volume_id}\n".encode().ljust(BLOCK, b"\0")


def decode(block: bytes, work: str = MAKING) -> str | None:
    """The volume whose note `block` is, if it is one."""
    volume_id = block.rstrip(b"\0").decode("ascii", errors="replace").rpartition(" ")[2].removesuffix("\n")
    return volume_id if volume_id and block == encode(volume_id, work) else None


def offset(size: int) -> int:
    """Where the note stands on a device of `size` bytes."""
    return size // BLOCK * BLOCK - PLACE


def begin_mkfs(device: Path, size: int, volume_id: str) -> None:
    """Write the note, then clear the first block, so that mkfs finds no superblock to stumble over.

    Blocks: run it off the loop.

    Raises:
        OSError: The device is held by somebody else, cannot be written, or is not blank by now.
    """
    handle = _open_exclusively(device)
    try:
        # An orphaned mkfs may have ended between our look at the device and our claim to it,
        # and mkfs.ext4 asks nobody whether it may overwrite what it finds.
        start = _read(handle, 0)
        xfs = Xfs.read(start)
        ours = decode(_read(handle, offset(size))) == volume_id
        if Ext.read(start) or (xfs and not xfs.in_progress) or (start != bytes(BLOCK) and not ours):
            raise OSError(errno.EEXIST, "something was written there just now")
        _write(handle, encode(volume_id), offset(size))
        os.fsync(handle)
        if start != bytes(BLOCK):
            _write(handle, bytes(BLOCK), 0)
            os.fsync(handle)
    finally:
        os.close(handle)


def begin_resize(device: Path, size: int, volume_id: str) -> None:
    """Write the note beyond a filesystem that is to grow. Blocks: run it off the loop.

    Raises:
        OSError: The device is held by somebody else, or cannot be written.
    """
    handle = _open_exclusively(device)
    try:
        _write(handle, encode(volume_id, GROWING), offset(size))
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(device: Path, size: int, volume_id: str) -> None:
    """Take the note away, where it still stands. Blocks: run it off the loop.

    Raises:
        OSError: The device is held by somebody else, or cannot be written.
    """
    handle = _open_exclusively(device)
    try:
        if _read(handle, offset(size)) in {encode(volume_id), encode(volume_id, GROWING)}:
            # No fsync: a note that comes back is taken away by the next staging.
            _write(handle, bytes(BLOCK), offset(size))
    finally:
        os.close(handle)


def _open_exclusively(device: Path) -> int:
    """A handle that no mount and no mkfs can be beside: O_EXCL on a block device is the kernel's claim."""
    return os.open(device, os.O_RDWR | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC)


def _read(handle: int, at: int) -> bytes:
    with mmap.mmap(-1, BLOCK) as buffer:  # O_DIRECT wants page-aligned memory
        count = os.preadv(handle, [buffer], at)
        return buffer[:count]


def _write(handle: int, block: bytes, at: int) -> None:
    with mmap.mmap(-1, BLOCK) as buffer:  # as above
        buffer[:] = block
        if os.pwritev(handle, [buffer], at) != BLOCK:
            raise OSError(f"only part of the block at {at} was written")
