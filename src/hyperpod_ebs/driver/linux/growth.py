"""Repair of filesystems, and growth to the size of their devices.

An ext4 is best grown while it is mounted: the kernel takes moments and journals the change. That needs
CAP_SYS_RESOURCE. If the node process does not have it, staging grows the ext4 before the mount, which costs the full
check that resize2fs demands; an ext4 with bigalloc grows only while it is mounted. XFS grows only while it is mounted,
and without that capability. An interrupted resize2fs leaves a marker (`linux.marker`). The next staging finds the
marker, lets e2fsck repair the filesystem, and grows it again.
"""

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import marker, mountinfo, superblock, system_errors
from hyperpod_ebs.driver.linux.superblock import Ext
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device, Filesystem
from hyperpod_ebs.driver.model.path_state import MountEntry
from hyperpod_ebs.kit import command, files
from hyperpod_ebs.kit.command import CommandFailed

CHECK_DEADLINE: Final = 6 * 3600.0
"""Seconds. A full check reads all inode tables, which takes hours at 16 TiB."""

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
    """Repair the unmounted filesystem and, with `grow`, make it as large as `device`.

    `lock` is the device's locked descriptor, see `linux.device_lock`.

    Raises:
        NotReady: The repair needs a person's decisions, or the growth failed.
        Unavailable: A program did not end in time, or another program uses the device.
    """
    action = "grow" if grow else "repair"
    with system_errors.translate(f"{action} {found.kind} on {device.path} of volume {volume_id}"):
        if found.marked_unfinished:
            await files.off_loop(marker.remove, device.path, device.size, volume_id, about=device.path)
        if found.kind == "ext4" and (found.damaged or found.marked_growing or grow):
            check = ["e2fsck", _e2fsck_mode(found, grow=grow), str(device.path)]
            await command.run(check, ok=_REPAIRED, deadline=CHECK_DEADLINE, keep=[lock])
        if grow:
            await _set_last_mount_point(device, marker.GROWING, lock)
            await command.run(["resize2fs", str(device.path)], deadline=RESIZE_DEADLINE, keep=[lock])
        if grow or found.marked_growing:
            await _set_last_mount_point(device, "", lock)


async def grow(device: Device, path: Path, mounted: MountEntry) -> None:
    """Make the filesystem mounted at `path` as large as `device`; run no program if it already is.

    If that mount is read-only, but another one is not, the filesystem grows through the other one.

    Raises:
        Unavailable: The kernel refused, or did not answer in time.
    """
    action = f"grow {mounted.filesystem} at {path} to the {device.size} bytes of {device.path}"
    with system_errors.translate(action):
        size = await files.off_loop(mounted_size, device, path, mounted.filesystem, about=path)
        if not Filesystem(kind=mounted.filesystem, size=size).is_smaller_than(device):
            return
        writable = await files.off_loop(_writable_mount_point, path, mounted)
        tool = ["xfs_growfs", str(writable)] if mounted.filesystem == "xfs" else ["resize2fs", str(device.path)]
        try:
            await command.run(tool, deadline=RESIZE_DEADLINE)
        except CommandFailed as error:
            # Always a retryable error: growth may succeed later, and kubelet never retries after a final one.
            raise errors.Unavailable(f"cannot {action}: {error}{_advice(error)}") from error


async def _set_last_mount_point(device: Device, text: str, lock: int) -> None:
    await command.run(["tune2fs", "-M", text, str(device.path)], keep=[lock])


def mounted_size(device: Device, path: Path, filesystem: str) -> int:
    """Bytes of a mounted filesystem, according to the kernel. Blocks: run it off the loop."""
    if filesystem == "xfs":
        return _xfs_size(path)
    # ext4 keeps its superblock in the device's page cache, so an ordinary read gets the newest one.
    with device.path.open("rb", buffering=0) as start:
        found = Ext.read(start.read(superblock.SIZE))
    return found.size if found else 0


def _writable_mount_point(path: Path, mounted: MountEntry) -> Path:
    """Where the filesystem that is mounted at `path` is mounted for writing; `path` if nowhere."""
    if "ro" not in mounted.options:
        return path
    others = (mount for mount in mountinfo.read() if mount.number == mounted.number and "ro" not in mount.options)
    return next((mount.mount_point for mount in others), path)


def can_grow_mounted(filesystem: str) -> bool:
    """Whether the kernel lets this process grow such a filesystem while it is mounted. Blocks: run it off the loop."""
    if filesystem == "xfs":
        return True
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    return bool(int(fields["CapEff"], 16) >> _CAP_SYS_RESOURCE & 1)


def _e2fsck_mode(found: Filesystem, *, grow: bool) -> str:
    """The flags of e2fsck: -p repairs what is safe, -y everything; -f also checks a clean filesystem, for resize2fs."""
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
    if "ermission denied" not in error.output:
        return ""
    return (
        "; the node process lacks CAP_SYS_RESOURCE, which growing a mounted ext4 needs: add the capability, "
        "or restart the pod, and the volume grows when it is staged again"
    )
