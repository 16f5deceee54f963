"""What is on a device: the one answer that allows or forbids mkfs.

    blkid says  our reading says                        contents
    ----------  --------------------------------------  ----------
    nothing     zeros where blkid looks                 Blank
    nothing     our note that mkfs is under way         Unfinished
    nothing     anything else                           Foreign
    xfs         XFS in progress, and our note           Unfinished
    ext4, xfs   the same, complete                      Filesystem
    anything    anything else                           Foreign

Both must agree before anything is written. blkid alone is not enough: it exits the
same for a blank device and for one that it could not read, and it does not know raw
data. So every place where blkid looks has to read, and as zeros. The two are asked side
by side, on a device that is claimed (`linux.device_lock`), and know nothing of one another.
"""

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import blkid, marker, superblock, system_errors
from hyperpod_ebs.driver.linux.superblock import Ext, Xfs
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Blank, Contents, Device, Filesystem, Foreign, Unfinished
from hyperpod_ebs.kit import files

WINDOWS: Final = (
    (0, 0x110000),  # nearly all, VMFS at 1 MiB too
    (0x200000, files.BLOCK),  # VMFS, and a second header of LUKS2
    (0x400000, files.BLOCK),  # the last second header of LUKS2
    (-0x182000, 2 * files.BLOCK),  # Promise RAID, 3087 sectors before the end
    (-0x90000, 0x90000),  # ZFS's labels, RAID, the second GPT, NILFS2, and our note
)
"""Where blkid looks: offset, from the end where negative, and bytes."""

DEADLINE: Final = 60.0
"""Seconds for one read; a volume that is still filled from a snapshot is slow."""

_KINDS: Final[Mapping[str, type[Ext | Xfs]]] = {"ext4": Ext, "xfs": Xfs}


async def contents(device: Device, volume_id: str) -> Contents:
    """What is on `device`.

    Raises:
        Unavailable: It cannot be read, or another program holds it and is not done.
    """
    with system_errors.translate(f"reading {device.path} of volume {volume_id}"):
        tags, seen = await _both(device)
        answer = recognised(seen.start, tags, volume_id=volume_id, note=seen.note, held=seen.held)
        if answer is None:
            answer = unexplained(seen.windows or await _windows(device), seen.note, volume_id)
    if seen.held and not isinstance(answer, Filesystem):
        # An orphan of a killed predecessor holds it, or a process of another container.
        raise errors.Unavailable(
            f"{device.path} of volume {volume_id} is held by another program, perhaps by an mkfs; try again"
        )
    return answer


def recognised(
    start: bytes, tags: Mapping[str, str] | None, *, volume_id: str, note: bytes = b"", held: bool = False
) -> Contents | None:
    """What blkid's tags and the superblock say together; None where blkid recognises nothing.

    Args:
        start: The first bytes of the device.
        tags: What blkid found there.
        volume_id: Whose device it is.
        note: The block where a note of an unfinished mkfs would be.
        held: Whether somebody else uses the device.
    """
    if tags is None:
        return None
    kind = tags.get("TYPE", "")
    reader = _KINDS.get(kind)
    seen = reader.read(start) if reader and "PTTYPE" not in tags else None
    if seen is None:
        return Foreign(_named(tags))
    if isinstance(seen, Xfs) and seen.in_progress:
        if marker.decode(note) == volume_id:
            return Unfinished()
        return Foreign("an xfs that somebody else was making or copying, and did not finish")
    return Filesystem(
        kind=kind,
        size=seen.size,
        damaged=isinstance(seen, Ext) and seen.damaged,
        marked_unfinished=marker.decode(note) == volume_id,
        marked_growing=marker.decode(note, marker.GROWING) == volume_id,
        in_use=held,
    )


def unexplained(windows: Sequence[bytes], note: bytes, volume_id: str) -> Contents:
    """What a device is on which blkid recognises nothing, by the bytes where it looked, and our note."""
    owner = marker.decode(note)
    if owner == volume_id:
        return Unfinished()
    if owner is not None:
        return Foreign(f"the beginnings of a filesystem of volume {owner}")
    if all(window == bytes(len(window)) for window in windows):
        return Blank()
    return Foreign("data that no filesystem known here explains")


def _named(tags: Mapping[str, str]) -> str:
    kind, table = tags.get("TYPE", ""), tags.get("PTTYPE", "")
    named = [kind] if kind else []
    if table:
        named.append(f"a partition table ({table})")
    return " and ".join(named) or ", ".join(f"{name}={value}" for name, value in sorted(tags.items()))


def _aligned(size: int) -> int:
    return size // files.BLOCK * files.BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What our own reading of a device gave."""

    held: bool
    start: bytes
    note: bytes
    windows: Sequence[bytes]
    """None read where a superblock explains the device: each costs time on one still filled from a snapshot."""


async def _both(device: Device) -> tuple[Mapping[str, str] | None, _Seen]:
    """What blkid finds and what we read, side by side: neither waits for the other.

    Raises:
        Exception: Whatever failed first.
    """
    try:
        async with asyncio.TaskGroup() as both:
            tags = both.create_task(blkid.found(device.path))
            seen = both.create_task(_seen(device))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return tags.result(), seen.result()


async def _seen(device: Device) -> _Seen:
    start = await files.read_direct(device.path, size=superblock.SIZE, deadline=DEADLINE)
    return _Seen(
        held=await files.off_loop(_held, device.path, about=device.path),
        start=start,
        note=await files.read_direct(device.path, offset=marker.offset(device.size), deadline=DEADLINE),
        windows=() if Ext.read(start) or Xfs.read(start) else await _windows(device),
    )


async def _windows(device: Device) -> list[bytes]:
    """What stands where blkid looks.

    Raises:
        OSError: A part of it cannot be read.
    """
    size = _aligned(device.size)
    read = []
    for offset, count in WINDOWS:
        begin = min(offset, size) if offset >= 0 else max(0, size + offset)
        wanted = min(count, size - begin)
        window = await files.read_direct(device.path, offset=begin, size=wanted, deadline=DEADLINE) if wanted else b""
        if len(window) < wanted:
            raise OSError(errno.EIO, "a part of the device does not read")
        read.append(window)
    return read


def _held(device: Path) -> bool:
    """Whether somebody mounted the device, or has it open for their own use alone."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    return False
