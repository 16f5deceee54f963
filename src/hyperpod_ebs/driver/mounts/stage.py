"""Stage a volume: find its device, format the device if it is blank, and mount it once for the node.

on the device               wanted            next
--------------------------  ----------------  --------------------------------
write protection            read and write    refuse
blank, or unfinished mkfs   read and write    Format
blank, or unfinished mkfs   read only         refuse
the filesystem, sound       either            Ready
the filesystem, damaged     read and write    Repair
the filesystem, too small   read and write    Repair if it must grow unmounted
the filesystem, in use      either            Ready
anything else               either            refuse

Staging a raw block volume means that its device exists.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, assert_never

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import Block, Capability, Mount
from hyperpod_ebs.driver.model.disk import Blank, Contents, Device, Filesystem, Foreign, Remains, Unfinished
from hyperpod_ebs.driver.model.formatting import PLAIN, Formatting
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.model.path_state import MountEntry, PathState
from hyperpod_ebs.driver.mounts import health, options, protection, unmount
from hyperpod_ebs.driver.mounts.host import Host

_KEEPS_SIZE: Final = "filesystem cannot grow and keeps its size"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """What a NodeStageVolume call asks for."""

    volume_id: str
    target: Path
    capability: Capability
    device: str = ""
    """The device name that the controller published, a hint only."""
    formatting: Formatting = PLAIN
    """How to make the filesystem, if there is none."""


@dataclass(frozen=True, slots=True)
class Format:
    """Make the filesystem."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Repair the filesystem and, with `grow`, make it as large as its device, before it is mounted."""

    found: Filesystem
    grow: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """Mount the filesystem as it is."""


Step = Format | Repair | Ready


async def stage(host: Host, wanted: Staging) -> None:
    """Mount the volume at its staging path, after formatting a blank device; succeed if it is mounted as wanted.

    Raises:
        InvalidRequest: The path is outside this node's root directory.
        DeviceNotReady: The device did not appear in time.
        Conflict: Something else is mounted there, or the volume with other options.
        InUse: The volume is published as a raw block volume.
        NotReady: The device holds something other than the wanted filesystem.
        Unavailable: The mounted filesystem failed, and cannot be repaired while it is used.
    """
    state = await host.inspect_path(wanted.target)
    device = await host.find_device(wanted.volume_id, wanted.device)
    match wanted.capability.access:
        case Block():
            if state.top:
                raise errors.Conflict(
                    f"{state.path} is a mount of {state.top.source} (device {state.number}), but volume "
                    f"{wanted.volume_id} is wanted as a raw block volume; unstage it first"
                )
        case Mount() as access:
            working = await _unmount_if_failed(host, wanted.volume_id, device, state)
            if working.top:
                _check_mount(wanted, access, device, working, working.top)
                given = options.for_staging(wanted.capability, access)
                _check_options(given, device, working.top, await host.read_options(working.top))
            else:
                await _prepare_and_mount(host, wanted, access, device, state)
        case _:
            assert_never(wanted.capability.access)


async def unstage(host: Host, volume_id: str, target: Path) -> None:
    """Unmount the volume from its staging path; succeed when nothing on the node uses its device any more.

    Raises:
        NotReady: Something other than the volume is mounted there.
        InUse: The volume is mounted elsewhere too, or a process uses the mount.
        Unavailable: The kernel still writes the volume's data, or something else uses its device.
    """
    state = await host.inspect_path(target)
    source = state.top.source if state.top else ""
    # Nothing but its name identifies a Xen disk. The host remembers it for the next call, which finds nothing mounted.
    await host.find_attached_device(volume_id, source)
    # Unmount first: a volume that was staged at two paths could otherwise be unstaged from neither.
    unmounted = await unmount.unmount_all(host, volume_id, state)
    # The path's own siblings are not enough: its mount may be gone while a pod still has the volume,
    # and a success here lets the controller detach it.
    if others := {*state.siblings, *await host.find_mounts(volume_id)} - {state.path}:
        points = ", ".join(str(point) for point in sorted(others))
        raise errors.InUse(
            f"volume {volume_id} is still mounted at {points}; end the pods that use it there, or unstage it there"
        )
    # Remove the directory first: the kernel then drops the copies of its mount in other mount namespaces, such as those
    # of containers that were started while the volume was staged (Linux, mount_namespaces(7)).
    await host.remove_empty(unmounted.path)
    await host.wait_until_free(volume_id, source)
    if not state.top:
        await protection.lift_protection(host, volume_id)


def preparation(contents: Contents, wanted: Staging, device: Device, *, can_grow_mounted: bool) -> Step:
    """What must be done to the device before it is mounted.

    Raises:
        NotReady: The device must not be mounted.
    """
    access = wanted.capability.access if isinstance(wanted.capability.access, Mount) else Mount("")
    filesystem = access.filesystem
    reading = options.for_staging(wanted.capability, access).read_only
    if device.write_protected and not reading:
        raise errors.NotReady(protection.write_protected(wanted.volume_id, device))
    holder = f"device {device.path} of volume {wanted.volume_id}"
    match contents:
        case Blank() | Unfinished():
            if reading:
                raise errors.NotReady(
                    f"{holder} holds no filesystem, but the volume is wanted read-only; mount it for writing once first"
                )
            return Format()
        case Foreign(what):
            raise errors.NotReady(
                f"{holder} holds {what}, not {filesystem}; the driver does not overwrite it: wipe the device if its "
                "data is not needed"
            )
        case Remains(copies=copies, repair=repair):
            tool = f'"{repair} {device.path}"' if repair else "the tools for what it holds"
            raise errors.NotReady(
                f"{holder} has no readable filesystem, but holds {copies}; the driver does not format it: take a "
                f"snapshot of the volume, then recover it with {tool}, or, if its data is not needed, wipe it with "
                f'"blkdiscard --zeroout {device.path}"'
            )
        case Filesystem() if contents.kind != filesystem:
            raise errors.NotReady(
                f"{holder} holds {contents.kind}, not {filesystem}; set fsType to {contents.kind}, or wipe the "
                "device if its data is not needed"
            )
        case Filesystem():
            grow = contents.is_smaller_than(device) and not can_grow_mounted and contents.can_grow_unmounted
            needs_repair = grow or contents.damaged or contents.marked_unfinished or contents.marked_growing
            return Repair(contents, grow) if needs_repair and not contents.in_use and not reading else Ready()
        case _:
            assert_never(contents)


async def _unmount_if_failed(host: Host, volume_id: str, device: Device, state: PathState) -> PathState:
    """Unmount the volume if its mount is dead or refuses writes, so that it is checked; return the path's new state.

    Raises:
        Unavailable: The filesystem is still mounted elsewhere or in use. A check needs it unmounted, and another mount
            would only be one more of the failed filesystem.
    """
    is_own = state.number == device.number
    reason = state.broken or (await host.find_write_refusal(state) if is_own else "")
    if not state.top or not reason:
        return state
    described = health.refusal(volume_id, state, reason)
    if is_own and (others := {*state.siblings, *await host.find_mounts(volume_id)} - {state.path}):
        raise errors.Unavailable(f"{described}; it is used at {', '.join(map(str, sorted(others)))}")
    try:
        unmounted = await unmount.unmount_all(host, volume_id, state)
    except errors.InUse as busy:
        raise errors.Unavailable(f"{described}; {busy}") from busy
    if is_own:
        # The kernel may still have the filesystem, and would mount it again without a check.
        await host.wait_until_free(volume_id)
    return unmounted


def _check_mount(wanted: Staging, access: Mount, device: Device, state: PathState, top: MountEntry) -> None:
    """Accept the mount if it is the volume's.

    Raises:
        Conflict: Something else is mounted there.
    """
    described = f"{state.path} is a mount of {top.source} (device {state.number})"
    if state.number != device.number or top.root != "/":
        raise errors.Conflict(
            f"{described}, not of volume {wanted.volume_id} (device {device.number}); unstage it first"
        )
    if top.filesystem != access.filesystem:
        raise errors.Conflict(f"{described} as {top.filesystem}, not {access.filesystem}; unstage it first")


def _check_options(wanted: MountOptions, device: Device, top: MountEntry, in_force: frozenset[str]) -> None:
    """Accept the mount of the device if its options are as wanted; `in_force` has all options of the filesystem.

    Raises:
        Conflict: One of them differs.
    """
    if differences := list(options.differences(wanted, device, top, in_force)):
        raise errors.Conflict(
            f"{top.mount_point} is a mount of {top.source} (device {top.number}) with other options: "
            f"it {', '.join(differences)}; unstage it first"
        )


async def _prepare_and_mount(host: Host, wanted: Staging, access: Mount, device: Device, before: PathState) -> None:
    """Format or repair the device if that is necessary, mount it, and grow its filesystem to the device's size.

    If the volume was mounted `before`, its filesystem has failed, and is repaired even if it recorded no error.
    """
    await protection.refuse_raw_use(host, wanted.volume_id, device)
    contents = await host.read_contents(device, wanted.volume_id)
    if before.top and isinstance(contents, Filesystem):
        contents = replace(contents, damaged=True)
    can_grow_mounted = await host.can_grow_mounted(access.filesystem)
    match preparation(contents, wanted, device, can_grow_mounted=can_grow_mounted):
        case Format():
            wanted.formatting.check(access.filesystem)
            await host.format(device, wanted.volume_id, access.filesystem, wanted.formatting)
        case Repair(found, grow=True):
            await _grow_unmounted(host, wanted.volume_id, device, found)
        case Repair(found):
            await host.repair(device, wanted.volume_id, found, grow=False)
        case Ready():
            pass
    given = options.for_staging(wanted.capability, access)
    await host.mount(device, wanted.volume_id, before.path, access.filesystem, given)
    if not given.read_only:
        await _verify_or_unmount(host, wanted.volume_id, before.path)
        small = contents if isinstance(contents, Filesystem) and contents.is_smaller_than(device) else None
        if small and (can_grow_mounted or not small.can_grow_unmounted):
            await _grow_mounted(host, wanted.volume_id, device, before.path)


async def _grow_unmounted(host: Host, volume_id: str, device: Device, found: Filesystem) -> None:
    """Repair and grow the filesystem; if it cannot grow, leave it sound and in its old size.

    Raises:
        NotReady: The repair needs a person's decisions.
    """
    try:
        await host.repair(device, volume_id, found, grow=True)
    except errors.Error as error:
        left = await host.read_contents(device, volume_id)
        if not isinstance(left, Filesystem):
            raise
        log.warning(_KEEPS_SIZE, volume=volume_id, why=str(error))
        if found.damaged or left.damaged or left.marked_growing:
            await host.repair(device, volume_id, replace(left, damaged=True), grow=False)


async def _grow_mounted(host: Host, volume_id: str, device: Device, target: Path) -> None:
    """Grow the mounted filesystem to the size of its device; if it cannot grow, it keeps its size."""
    try:
        await host.grow(device, await host.inspect_path(target))
    except errors.Error as error:
        log.warning(_KEEPS_SIZE, volume=volume_id, why=str(error))


async def _verify_or_unmount(host: Host, volume_id: str, target: Path) -> None:
    """Check that the new mount accepts writes, and unmount it if it does not."""
    try:
        state = await host.inspect_path(target)
        # The kernel has one filesystem for all mounts of a device: a failed one stays while any mount of it does.
        await health.refuse_failed_filesystem(host, volume_id, state, writing=True)
    except BaseException as error:
        # kubelet never unstages after a final error, so the mount would leak (Kubernetes, csi_client.go, isFinalError).
        try:
            await host.unmount(target)
        except errors.Error as stuck:
            raise errors.Unavailable(f"{error}; the volume stays mounted at {target}: {stuck}") from error
        raise
