"""A marker on the device that records that this driver's mkfs or resize2fs is in progress.

mkfs.ext4 writes its superblock last, so a killed mkfs.ext4 leaves bytes that no signature explains, exactly as a
user's raw data would look. mkfs.xfs writes a superblock that says "in progress", as a running xfs_copy does. So before
mkfs the driver writes a marker with the volume's id to a block near the device's end, and clears that block after
mkfs. A marker without a complete filesystem proves that nothing was ever stored, and that mkfs may start again.

A killed resize2fs leaves a superblock with errors and an invalid resize inode. e2fsck can repair them without loss, but
does not with -p, its unattended mode. So before resize2fs the driver writes a text to the superblock, where the kernel
keeps the last mount point. The text says that the repair is safe. It moves with a snapshot to volumes of any id and
size, and the kernel overwrites it.
"""

import errno
import mmap
import os
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux.superblock import Ext, Xfs
from hyperpod_ebs.kit.files import BLOCK

DISTANCE: Final = 0x30000
"""Bytes from the marker to the device's end: mkfs.xfs clears the last 128 KiB, mkfs.ext4 the last 64."""

GROWING: Final = "hyperpod-ebs is growing this filesystem"
"""The last mount point of an ext4 during resize2fs: at most 63 bytes."""


def encode(volume_id: str) -> bytes:
    """The block of the marker."""
    return f"hyperpod-ebs is making a filesystem on {volume_id}\n".encode().ljust(BLOCK, b"\0")


def decode(block: bytes) -> str | None:
    """The id of the volume that `block` is a marker of; None if it is not a marker."""
    volume_id = block.rstrip(b"\0").decode("ascii", errors="replace").rpartition(" ")[2].removesuffix("\n")
    return volume_id if volume_id and block == encode(volume_id) else None


def offset(size: int) -> int:
    """The marker's position on a device of `size` bytes."""
    return size // BLOCK * BLOCK - DISTANCE


def begin_mkfs(device: Path, size: int, volume_id: str) -> None:
    """Write the mkfs marker, then clear the first block, so that mkfs finds no old superblock.

    Blocks: run it off the loop.

    Raises:
        OSError: The device is in use by another program, cannot be written, or is no longer blank.
    """
    handle = _open_exclusively(device)
    try:
        # An orphaned mkfs may have finished after the driver read the device and before it locked the device,
        # and mkfs.ext4 overwrites without asking.
        start = _read(handle, 0)
        xfs = Xfs.read(start)
        has_marker = decode(_read(handle, offset(size))) == volume_id
        if Ext.read(start) or (xfs and not xfs.in_progress) or (start != bytes(BLOCK) and not has_marker):
            raise OSError(errno.EEXIST, "another program has just written to the device")
        _write(handle, encode(volume_id), offset(size))
        os.fsync(handle)
        if start != bytes(BLOCK):
            _write(handle, bytes(BLOCK), 0)
            os.fsync(handle)
    finally:
        os.close(handle)


def remove(device: Path, size: int, volume_id: str) -> None:
    """Clear the marker's block if it still holds a marker. Blocks: run it off the loop.

    Raises:
        OSError: The device is in use by another program, or cannot be written.
    """
    handle = _open_exclusively(device)
    try:
        if _read(handle, offset(size)) == encode(volume_id):
            # No fsync: if a crash brings the marker back, the next staging removes it.
            _write(handle, bytes(BLOCK), offset(size))
    finally:
        os.close(handle)


def _open_exclusively(device: Path) -> int:
    """Open the device so that nothing can mount it or run mkfs on it: O_EXCL is an exclusive claim in the kernel."""
    return os.open(device, os.O_RDWR | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC)


def _read(handle: int, at: int) -> bytes:
    with mmap.mmap(-1, BLOCK) as buffer:  # O_DIRECT needs page-aligned memory
        count = os.preadv(handle, [buffer], at)
        return buffer[:count]


def _write(handle: int, block: bytes, at: int) -> None:
    with mmap.mmap(-1, BLOCK) as buffer:  # as above
        buffer[:] = block
        if os.pwritev(handle, [buffer], at) != BLOCK:
            raise OSError(f"only a part of the block at byte {at} was written")
