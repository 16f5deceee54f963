"""Repair of filesystems, and growth to the size of their devices.

An ext4 is best grown while it is mounted: the kernel takes moments and journals the change. That needs
CAP_SYS_RESOURCE. If the node process does not have it, staging grows the ext4 before the mount, which costs the full
check that resize2fs demands; an ext4 with bigalloc grows only while it is mounted. XFS grows only while it is mounted,
and without that capability. An interrupted resize2fs leaves a marker (`linux.marker`). The next staging finds the
marker, lets e2fsck repair the filesystem, and grows it again.
"""

import fcntl
import struct
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import marker, mountinfo, superblock, system_errors, writable
from hyperpod_ebs.driver.linux.superblock import Ext
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device, DeviceNumber, Filesystem
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

# From the kernel's fs/xfs/libxfs/xfs_fs.h: XFS_IOC_FSGEOMETRY_V1 with struct xfs_fsop_geom_v1, of which these are the
# places of blocksize, imaxpct and datablocks; XFS_IOC_FSGROWFSDATA with struct xfs_growfs_data.
_XFS_GEOMETRY: Final = 0x80705864
_XFS_GEOMETRY_FIELDS: Final = struct.Struct("=I24xIQ72x")
_XFS_GROW: Final = 0x4010586E
_XFS_GROW_FIELDS: Final = struct.Struct("=QI4x")


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


async def grow(device: Device, path: Path, root: Path, mounted: MountEntry) -> None:
    """Make the filesystem mounted at `path` below `root` as large as `device`; do nothing if it already is.

    If that mount is read-only, but another one is not, the filesystem grows through the other one.

    Raises:
        Unavailable: The kernel refused, or did not answer in time.
    """
    action = f"grow {mounted.filesystem} at {path} to the {device.size} bytes of {device.path}"
    with system_errors.translate(action):
        if mounted.filesystem == "xfs":
            about = f"the growth of {path}"
            await files.off_loop(_grow_xfs, device, path, root, about=about, deadline=RESIZE_DEADLINE)
            return
        size = await files.off_loop(_ext_size, device, about=device.path)
        if not Filesystem(kind=mounted.filesystem, size=size).is_smaller_than(device):
            return
        try:
            await command.run(["resize2fs", str(device.path)], deadline=RESIZE_DEADLINE)
        except CommandFailed as error:
            # Always a retryable error: growth may succeed later, and kubelet never retries after a final one.
            raise errors.Unavailable(f"cannot {action}: {error}{_advice(error)}") from error


async def _set_last_mount_point(device: Device, text: str, lock: int) -> None:
    await command.run(["tune2fs", "-M", text, str(device.path)], keep=[lock])


def _ext_size(device: Device) -> int:
    """Bytes of a mounted ext4, which keeps its superblock in the device's page cache: an ordinary read gets it."""
    with device.path.open("rb", buffering=0) as start:
        found = Ext.read(start.read(superblock.SIZE))
    return found.size if found else 0


def _grow_xfs(device: Device, path: Path, root: Path) -> None:
    """Grow the XFS on `device`, which is mounted at `path`.

    xfs_growfs(8) takes the path of a mount and resolves it again, so the kernel is asked here as xfs_growfs asks it.

    Raises:
        OSError: The kernel refused: EROFS if no mount is writable, EIO if the end of the device cannot be read.
    """
    with ExitStack() as opened:
        handle = _open_mount(opened, path, root, device.number)
        answer = fcntl.ioctl(handle, _XFS_GEOMETRY, bytes(_XFS_GEOMETRY_FIELDS.size))
        block_size, inode_share, blocks = _XFS_GEOMETRY_FIELDS.unpack(answer)
        if Filesystem(kind="xfs", size=block_size * blocks).is_smaller_than(device):
            fcntl.ioctl(handle, _XFS_GROW, _XFS_GROW_FIELDS.pack(device.size // block_size, inode_share))


def _open_mount(opened: ExitStack, path: Path, root: Path, number: DeviceNumber) -> int:
    """Open a writable mount of the filesystem that is mounted at `path`, or that mount itself if none is writable."""
    for point in writable.writable_mount_points(mountinfo.read(), path, number):
        with suppress(OSError):
            return opened.enter_context(writable.open_directory(point, root, number))
    return opened.enter_context(writable.open_directory(path, root, number))


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


def _advice(error: CommandFailed) -> str:
    if "ermission denied" not in error.output:
        return ""
    return (
        "; the node process lacks CAP_SYS_RESOURCE, which growing a mounted ext4 needs: add the capability, "
        "or restart the pod, and the volume grows when it is staged again"
    )
