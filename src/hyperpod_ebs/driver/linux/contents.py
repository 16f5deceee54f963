"""Find out what is on a device: the answer allows or forbids mkfs.

    blkid       the driver's own reading                contents
    ----------  --------------------------------------  ----------
    nothing     zeros everywhere                        Blank
    nothing     this volume's mkfs marker               Unfinished
    nothing     a copy of metadata                      Remains
    nothing     anything else                           Foreign
    xfs         XFS in progress, and the mkfs marker    Unfinished
    ext4, xfs   the same filesystem, complete           Filesystem
    anything    anything else                           Foreign

Both must agree before anything is written. blkid alone is not enough: its exit code is the same for a blank device
and for a device that it could not read, and it detects neither raw data nor a filesystem that has lost its start. So
the driver also reads every place where blkid looks, every place where a copy of metadata can be, and a sample of the
whole device (`linux.probe_offsets`), and expects zeros. blkid and the driver look at the locked device
(`linux.device_lock`) at the same time and independently of each other.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.driver.linux import blkid, device_lock, device_use, marker, superblock, system_errors
from hyperpod_ebs.driver.linux.blank_proof import DEADLINE, find_data
from hyperpod_ebs.driver.linux.metadata_copies import Block, recognised_copies
from hyperpod_ebs.driver.linux.superblock import Ext, Xfs
from hyperpod_ebs.driver.model.disk import Blank, Contents, Device, Filesystem, Foreign, Remains, Unfinished
from hyperpod_ebs.kit import files

_NAMED_COPIES: Final = 3
"""An error has room for so many."""

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
            data = await find_data(device) if reading.data is None else reading.data
            contents = contents_without_signature(data, reading.marker_block, volume_id)
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
        marked_growing=isinstance(found, Ext) and found.last_mounted == marker.GROWING,
        can_grow_unmounted=not (isinstance(found, Ext) and found.bigalloc),
        in_use=in_use,
    )


def contents_without_signature(data: Sequence[Block], marker_block: bytes, volume_id: str) -> Contents:
    """The contents of a device on which blkid recognises nothing, according to its data and its marker.

    Args:
        data: The blocks that are not zero, of those that were read.
        marker_block: The block where the marker of an unfinished mkfs would be.
        volume_id: The volume whose device it is.
    """
    owner = marker.decode(marker_block)
    if owner == volume_id:
        return Unfinished()
    if owner is not None:
        return Foreign(f"an unfinished filesystem of volume {owner}")
    if not data:
        return Blank()
    if copies := recognised_copies(data):
        repair = copies[0].repair if len(copies) == 1 else ""
        return Remains(copies=" and ".join(str(copy) for copy in copies[:_NAMED_COPIES]), repair=repair)
    return Foreign(f"unrecognised data at byte {data[0].first_byte}")


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
    data: Sequence[Block] | None
    """Where the device is not zero; None if a superblock explains the device, since this takes many reads."""


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
        in_use=await files.off_loop(device_use.is_held, device.path, about=device.path),
        start=start,
        marker_block=await files.read_direct(device.path, offset=marker.offset(device.size), deadline=DEADLINE),
        data=None if Ext.read(start) or Xfs.read(start) else await find_data(device),
    )
