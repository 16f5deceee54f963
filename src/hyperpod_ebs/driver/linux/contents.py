"""Find out what is on a device: the answer allows or forbids mkfs.

    blkid       the driver's own reading                contents
    ----------  --------------------------------------  ----------
    nothing     zeros where blkid looks                 Blank
    nothing     this volume's mkfs marker               Unfinished
    nothing     anything else                           Foreign
    xfs         XFS in progress, and the mkfs marker    Unfinished
    ext4, xfs   the same filesystem, complete           Filesystem
    anything    anything else                           Foreign

Both must agree before anything is written. blkid alone is not enough: its exit code is the same for a blank device
and for a device that it could not read, and it does not detect raw data. So the driver also reads every place where
blkid looks, and expects zeros. Both look at the locked device (`linux.device_lock`) at the same time and
independently of each other.
"""

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import blkid, device_lock, marker, superblock, system_errors
from hyperpod_ebs.driver.linux.superblock import Ext, Xfs
from hyperpod_ebs.driver.model.disk import Blank, Contents, Device, Filesystem, Foreign, Unfinished
from hyperpod_ebs.kit import files

WINDOWS: Final = (
    (0, 0x110000),  # most signatures, and VMFS_volume_member at 1 MiB
    (0x200000, files.BLOCK),  # VMFS, and a second header of LUKS2
    (0x400000, files.BLOCK),  # the last second header of LUKS2
    (-0x182000, 2 * files.BLOCK),  # Promise RAID, 3087 sectors before the end
    (-0x90000, 0x90000),  # ZFS labels, RAID, the second GPT, NILFS2, and the driver's marker
)
"""Where blkid looks: offset, counted from the end if negative, and bytes."""

DEADLINE: Final = 60.0
"""Seconds for one read. A volume that AWS still fills from a snapshot is slow."""

_SUPERBLOCKS: Final[Mapping[str, type[Ext | Xfs]]] = {"ext4": Ext, "xfs": Xfs}


async def read_contents(device: Device, volume_id: str) -> Contents:
    """Find out what is on `device`.

    Raises:
        Unavailable: The device cannot be read, or another program uses it.
    """
    with system_errors.translate(f"read {device.path} of volume {volume_id}"):
        tags, reading = await _probe_and_read(device)
        contents = contents_by_signature(
            reading.start, tags, volume_id=volume_id, marker_block=reading.marker_block, in_use=reading.in_use
        )
        if contents is None:
            windows = reading.windows or await _read_windows(device)
            contents = contents_without_signature(windows, reading.marker_block, volume_id)
    if reading.in_use and not isinstance(contents, Filesystem):
        raise device_lock.device_in_use_error(device, volume_id)
    return contents


def contents_by_signature(
    start: bytes, tags: Mapping[str, str] | None, *, volume_id: str, marker_block: bytes = b"", in_use: bool = False
) -> Contents | None:
    """The contents according to blkid's tags and the superblock; None if blkid recognises nothing.

    Args:
        start: The first bytes of the device.
        tags: What blkid found on it.
        volume_id: The volume whose device it is.
        marker_block: The block where the marker of an unfinished mkfs would be.
        in_use: Whether another program uses the device.
    """
    if tags is None:
        return None
    kind = tags.get("TYPE", "")
    reader = _SUPERBLOCKS.get(kind)
    found = reader.read(start) if reader and "PTTYPE" not in tags else None
    if found is None:
        return Foreign(_description(tags))
    if isinstance(found, Xfs) and found.in_progress:
        if marker.decode(marker_block) == volume_id:
            return Unfinished()
        return Foreign("an unfinished xfs that another program was making or copying")
    return Filesystem(
        kind=kind,
        size=found.size,
        damaged=isinstance(found, Ext) and found.damaged,
        marked_unfinished=marker.decode(marker_block) == volume_id,
        marked_growing=marker.decode(marker_block, marker.GROWING) == volume_id,
        in_use=in_use,
    )


def contents_without_signature(windows: Sequence[bytes], marker_block: bytes, volume_id: str) -> Contents:
    """The contents of a device on which blkid recognises nothing, according to its bytes and its marker."""
    owner = marker.decode(marker_block)
    if owner == volume_id:
        return Unfinished()
    if owner is not None:
        return Foreign(f"an unfinished filesystem of volume {owner}")
    if all(window == bytes(len(window)) for window in windows):
        return Blank()
    return Foreign("unrecognised data")


def _description(tags: Mapping[str, str]) -> str:
    kind, table = tags.get("TYPE", ""), tags.get("PTTYPE", "")
    parts = [kind] if kind else []
    if table:
        parts.append(f"a partition table ({table})")
    return " and ".join(parts) or ", ".join(f"{name}={value}" for name, value in sorted(tags.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What the driver itself read from a device."""

    in_use: bool
    start: bytes
    marker_block: bytes
    windows: Sequence[bytes]
    """Empty if a superblock explains the device: these reads take long while AWS fills the volume from a snapshot."""


async def _probe_and_read(device: Device) -> tuple[Mapping[str, str] | None, _Reading]:
    """Run blkid and the driver's own reading at the same time.

    Raises:
        Exception: The first of the two that failed.
    """
    try:
        async with asyncio.TaskGroup() as both:
            tags = both.create_task(blkid.probe(device.path))
            reading = both.create_task(_read(device))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return tags.result(), reading.result()


async def _read(device: Device) -> _Reading:
    start = await files.read_direct(device.path, size=superblock.SIZE, deadline=DEADLINE)
    return _Reading(
        in_use=await files.off_loop(_is_in_use, device.path, about=device.path),
        start=start,
        marker_block=await files.read_direct(device.path, offset=marker.offset(device.size), deadline=DEADLINE),
        windows=() if Ext.read(start) or Xfs.read(start) else await _read_windows(device),
    )


async def _read_windows(device: Device) -> list[bytes]:
    """Read the places where blkid looks.

    Raises:
        OSError: One of them cannot be read.
    """
    size = device.size // files.BLOCK * files.BLOCK
    windows = []
    for offset, count in WINDOWS:
        begin = min(offset, size) if offset >= 0 else max(0, size + offset)
        wanted = min(count, size - begin)
        window = await files.read_direct(device.path, offset=begin, size=wanted, deadline=DEADLINE) if wanted else b""
        if len(window) < wanted:
            raise OSError(errno.EIO, "a part of the device cannot be read")
        windows.append(window)
    return windows


def _is_in_use(device: Path) -> bool:
    """Whether the device is mounted, or another program has opened it exclusively."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    return False
