"""Read the places of a device that must all be zero before the device counts as blank.

The reads bypass the page cache. Their number is bounded, see `linux.probe_offsets`. SEEK_DATA would save none of them,
because a block device reports all of itself as data.
"""

import asyncio
import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux.metadata_copies import Block
from hyperpod_ebs.driver.linux.probe_offsets import probe_offsets
from hyperpod_ebs.driver.model.disk import Device
from hyperpod_ebs.kit import files
from hyperpod_ebs.kit.files import BLOCK

DEADLINE: Final = 60.0
"""Seconds for one read. A volume that AWS still fills from a snapshot is slow."""

_WINDOWS: Final = (
    (0, 0x110000),  # most signatures, and VMFS_volume_member at 1 MiB
    (0x200000, BLOCK),  # VMFS, and a second header of LUKS2
    (0x400000, BLOCK),  # the last second header of LUKS2
    # LVM's second metadata area, Promise RAID, ZFS labels, RAID, the second GPT, NILFS2, and the driver's marker
    (-0x220000, 0x220000),
)
"""Where blkid looks, and more: offset, counted from the end if negative, and bytes."""

_PIECE: Final = 2**18
"""Bytes of a large read: EBS counts up to 256 KiB as one operation."""

_ZEROS: Final = bytes(_PIECE)

_LANES: Final = 4
"""Small reads at the same time: EBS answers one in about a millisecond, and some thousands in a second."""

_BATCH: Final = 128
_BATCH_DEADLINE: Final = 480.0
"""Small reads of a lane, and the seconds for them: an sc1 of 125 GiB without burst credits answers 1.5 in a second."""


async def find_data(device: Device) -> list[Block]:
    """Read all these places; the blocks that are not zero, in their order.

    Raises:
        OSError: One of them cannot be read.
        Unresponsive: The device does not answer.
    """
    places = [(offset, BLOCK) for offset in await files.off_loop(probe_offsets, device.size)]
    try:
        async with asyncio.TaskGroup() as group:
            windows = group.create_task(_read_in_batches(device.path, _windows(device.size)))
            lanes = [group.create_task(_read_in_batches(device.path, places[lane::_LANES])) for lane in range(_LANES)]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    found = {block.offset: block for task in (windows, *lanes) for block in task.result()}
    return [found[offset] for offset in sorted(found)]


async def _read_in_batches(path: Path, ranges: Sequence[tuple[int, int]]) -> list[Block]:
    found = []
    for start in range(0, len(ranges), _BATCH):
        batch = ranges[start : start + _BATCH]
        found += await files.off_loop(_read_data, path, batch, about=path, deadline=_BATCH_DEADLINE)
    return found


def _windows(size: int) -> list[tuple[int, int]]:
    """The windows on a device of `size` bytes, in pieces: offset, a multiple of `BLOCK`, and bytes."""
    pieces = []
    for offset, count in _WINDOWS:
        begin = offset if offset >= 0 else max(0, size + offset) // BLOCK * BLOCK
        end = min(begin + count, size) if offset >= 0 else size
        pieces += [(start, min(_PIECE, end - start)) for start in range(begin, end, _PIECE)]
    return pieces


def _read_data(path: Path, ranges: Sequence[tuple[int, int]]) -> list[Block]:
    """Read the ranges, each of which begins at a multiple of `BLOCK`; their blocks that are not zero."""
    found = []
    largest = max(count for _, count in ranges)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, largest) as buffer, memoryview(buffer) as view:  # O_DIRECT needs page-aligned memory
            for offset, count in ranges:
                if os.preadv(handle, [view[: -(-count // BLOCK) * BLOCK]], offset) < count:
                    raise OSError(errno.EIO, "a part of the device cannot be read")
                if (data := buffer[:count]) != _ZEROS[:count]:
                    found += _split(offset, data)
    finally:
        os.close(handle)
    return found


def _split(offset: int, data: bytes) -> list[Block]:
    """The blocks of `data` that are not zero; the last one may be shorter."""
    blocks = (Block(offset + start, data[start : start + BLOCK]) for start in range(0, len(data), BLOCK))
    return [block for block in blocks if any(block.data)]
