"""Repairs filesystems and makes them as large as their devices.

ext4 grows best while mounted: the kernel does it in moments and journals it. That needs
CAP_SYS_RESOURCE; where the node process has it not, staging grows it before the mount,
which costs the full check that resize2fs demands. XFS grows only while mounted, without
that capability. A resize2fs that is cut off leaves a note of ours (`linux.marker`), by
which the next staging knows that e2fsck may repair what it left, and grows it again.
"""

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import marker, superblock, system_errors
from hyperpod_ebs.driver.linux.superblock import Ext
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device, Filesystem
from hyperpod_ebs.driver.model.path_state import MountEntry, PathState
from hyperpod_ebs.kit import command, files
from hyperpod_ebs.kit.command import CommandFailed

CHECK_DEADLINE: Final = 6 * 3600.0
"""Seconds. A full check reads all inode tables, of 16 TiB for hours."""

RESIZE_DEADLINE: Final = 3600.0

_REPAIRED: Final = frozenset({0, 1})
"""e2fsck's exit codes for "clean" and "repaired"."""

_CAP_SYS_RESOURCE: Final = 24
_STATUS: Final = Path("/proc/self/status")

# XFS_IOC_FSGEOMETRY_V1: _IOR('X', 100, struct xfs_fsop_geom_v1), from the kernel's xfs_fs.h.
_XFS_GEOMETRY: Final = 0x80705864
_XFS_GEOMETRY_SIZE: Final = 0x70
_XFS_BLOCKS: Final = 32


async def repair(device: Device, volume_id: str, found: Filesystem, lock: int, *, grow: bool) -> None:
    """Repair the filesystem, which is not mounted, and make it as large as `device` with `grow`.

    `lock` is the device's open file, see `linux.device_lock`.

    Raises:
        NotReady: The repair needs a person's decisions.
        Unavailable: It did not end in time, or somebody holds the device.
    """
    with system_errors.translate(f"repairing {found.kind} on {device.path} of volume {volume_id}"):
        if found.marked_unfinished:
            await files.off_loop(marker.remove, device.path, device.size, volume_id, about=device.path)
        if found.kind == "ext4" and (found.damaged or found.marked_growing or grow):
            await command.run(
                ["e2fsck", _how(found, grow=grow), str(device.path)],
                ok=_REPAIRED,
                deadline=CHECK_DEADLINE,
                keep=[lock],
            )
        if grow:
            await files.off_loop(marker.begin_resize, device.path, device.size, volume_id, about=device.path)
            await command.run(["resize2fs", str(device.path)], deadline=RESIZE_DEADLINE, keep=[lock])
        if grow or found.marked_growing:
            await files.off_loop(marker.remove, device.path, device.size, volume_id, about=device.path)


async def grow(device: Device, place: PathState, mounted: MountEntry) -> None:
    """Make the filesystem mounted at `place` as large as `device`; no program runs when it is.

    Raises:
        Unavailable: The kernel would not let it grow, or did not answer.
    """
    doing = f"growing {mounted.filesystem} at {place.path} to the {device.size} bytes of {device.path}"
    with system_errors.translate(doing):
        size = await files.off_loop(size_of, device, place.path, mounted.filesystem, about=place.path)
        if not Filesystem(kind=mounted.filesystem, size=size).is_smaller_than(device):
            return
        tool = ["xfs_growfs", str(place.path)] if mounted.filesystem == "xfs" else ["resize2fs", str(device.path)]
        try:
            await command.run(tool, deadline=RESIZE_DEADLINE)
        except CommandFailed as error:
            # Whatever it is, growing may go well later, and kubelet never tries again after a refusal.
            raise errors.Unavailable(f"{doing}: {error}{_advice(error)}") from error


def size_of(device: Device, path: Path, filesystem: str) -> int:
    """Bytes of a mounted filesystem as the kernel has it now. Blocks: run it off the loop."""
    if filesystem == "xfs":
        return _xfs_size(path)
    # ext4 keeps its superblock in the device's page cache: an ordinary read sees the newest.
    with device.path.open("rb", buffering=0) as start:
        seen = Ext.read(start.read(superblock.SIZE))
    return seen.size if seen else 0


def may_grow_mounted(filesystem: str) -> bool:
    """Whether the kernel lets this process grow such a filesystem while it is mounted. Blocks: run it off the loop."""
    if filesystem == "xfs":
        return True
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    return bool(int(fields["CapEff"], 16) >> _CAP_SYS_RESOURCE & 1)


def _how(found: Filesystem, *, grow: bool) -> str:
    """-p repairs what needs no decision, -y everything; -f checks even what looks clean, as resize2fs demands."""
    if found.marked_growing:
        return "-fy"
    return "-fp" if grow else "-p"


def _xfs_size(path: Path) -> int:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(handle, _XFS_GEOMETRY, bytes(_XFS_GEOMETRY_SIZE))
    finally:
        os.close(handle)
    block_size: int = struct.unpack_from("=I", answer)[0]
    blocks: int = struct.unpack_from("=Q", answer, _XFS_BLOCKS)[0]
    return block_size * blocks


def _advice(error: CommandFailed) -> str:
    if "ermission denied" not in error.said:
        return ""
    return (
        "; the node process lacks CAP_SYS_RESOURCE, which ext4 wants for this: give it, "
        "or stop the pod, and the volume grows when it is staged again"
    )
