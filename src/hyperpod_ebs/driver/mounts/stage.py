"""Stages a volume: its device found, formatted where it is blank, and mounted once for the node.

on the device               wanted            next
--------------------------  ----------------  ------------------------------
blank, or unfinished mkfs   writing           Format
blank, or unfinished mkfs   reading only      refused
the filesystem, sound       either            Ready
the filesystem, damaged     writing           Repair
the filesystem, too small   writing           Repair where it grows unmounted
the filesystem, held        either            Ready
anything else               either            refused

A raw block volume is staged when its device is there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import Block, Capability, Mount
from hyperpod_ebs.driver.model.disk import Blank, Contents, Device, Filesystem, Foreign, Unfinished
from hyperpod_ebs.driver.model.formatting import PLAIN, Formatting
from hyperpod_ebs.driver.model.path_state import PathState
from hyperpod_ebs.driver.mounts import options, unmount
from hyperpod_ebs.driver.mounts.host import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """What a NodeStageVolume call asks for."""

    volume_id: str
    target: Path
    capability: Capability
    device: str = ""
    """The name that the controller published, a hint only."""
    formatting: Formatting = PLAIN
    """How to make the filesystem, where there is none."""


@dataclass(frozen=True, slots=True)
class Format:
    """Make the filesystem."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Repair it, and grow it, before it is mounted."""

    found: Filesystem
    grow: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """Mount it as it is."""


Step = Format | Repair | Ready


async def stage(host: Host, wanted: Staging) -> None:
    """Mount the volume as wanted; success where it already is.

    Raises:
        InvalidRequest: The path is not one of this node's.
        DeviceNotReady: The device did not come in time.
        Conflict: Something else is mounted there, or the volume on other terms.
        NotReady: The device holds something other than the wanted filesystem.
    """
    place = await host.place(wanted.target)
    device = await host.device(wanted.volume_id, wanted.device)
    match wanted.capability.access:
        case Block():
            return
        case Mount() as access:
            if not await _standing(host, wanted, access, device, place):
                await _mount(host, wanted, access, device, place.path)
        case _:
            assert_never(wanted.capability.access)


async def unstage(host: Host, volume_id: str, target: Path) -> None:
    """Unmount the volume from its staging path; success where it is not mounted.

    Raises:
        NotReady: What is mounted there is somebody else's.
        InUse: It is still published, or a process uses it.
    """
    place = await host.place(target)
    # Asked by the volume too: its mount here may be gone while a pod still has it, and a success frees the volume.
    if others := {*place.siblings, *await host.uses(volume_id)} - {place.path}:
        points = ", ".join(str(point) for point in sorted(others))
        raise errors.InUse(f"volume {volume_id} is still mounted at {points}; unpublish it there first")
    await unmount.unmount_and_remove(host, volume_id, target)


def preparation(contents: Contents, wanted: Staging, device: Device, *, grows_mounted: bool) -> Step:
    """What has to be done to the device before it is mounted.

    Raises:
        NotReady: Nothing may be done to it.
    """
    capability = wanted.capability
    filesystem = capability.access.filesystem if isinstance(capability.access, Mount) else ""
    reading = "ro" in options.for_staging(capability, Mount(filesystem, _flags(capability)))
    holder = f"device {device.path} of volume {wanted.volume_id}"
    match contents:
        case Blank() | Unfinished():
            if reading:
                raise errors.NotReady(
                    f"{holder} holds no filesystem, and is wanted for reading only; write to it first"
                )
            return Format()
        case Foreign(what):
            raise errors.NotReady(
                f"{holder} holds {what}, not {filesystem}; it is left as it is: wipe it or use it as it is"
            )
        case Filesystem() if contents.kind != filesystem:
            raise errors.NotReady(
                f"{holder} holds {contents.kind}, not {filesystem}; ask for what is there, or wipe it"
            )
        case Filesystem():
            grow = contents.is_smaller_than(device) and not grows_mounted
            wants = grow or contents.damaged or contents.marked_unfinished or contents.marked_growing
            return Repair(contents, grow) if wants and not contents.in_use and not reading else Ready()
        case _:
            assert_never(contents)


async def _standing(host: Host, wanted: Staging, access: Mount, device: Device, place: PathState) -> bool:
    """Whether the volume is mounted there as wanted; what is dead there is taken away.

    Raises:
        Conflict: Something else is mounted there, or the volume on other terms.
    """
    if place.top is None:
        return False
    if place.broken or (place.number == device.number and options.turned_read_only(place.top)):
        await unmount.unmount_all(host, wanted.volume_id, place)
        return False
    described = f"{place.path} is a mount of {place.top.source} (device {place.top.number})"
    if place.number != device.number or place.top.root != "/":
        raise errors.Conflict(
            f"{described}, not of volume {wanted.volume_id} (device {device.number}); unstage it first"
        )
    if place.top.filesystem != access.filesystem:
        raise errors.Conflict(f"{described} as {place.top.filesystem}, not {access.filesystem}; unstage it first")
    if unlike := list(options.differences(options.for_staging(wanted.capability, access), place.top)):
        raise errors.Conflict(f"{described}, but it {', '.join(unlike)}; unstage it first")
    return True


async def _mount(host: Host, wanted: Staging, access: Mount, device: Device, target: Path) -> None:
    contents = await host.contents(device, wanted.volume_id)
    grows_mounted = await host.grows_mounted(access.filesystem)
    match preparation(contents, wanted, device, grows_mounted=grows_mounted):
        case Format():
            wanted.formatting.check(access.filesystem)
            await host.format(device, wanted.volume_id, access.filesystem, wanted.formatting)
        case Repair(found, grow):
            await host.repair(device, wanted.volume_id, found, grow=grow)
        case Ready():
            pass
    given = options.for_staging(wanted.capability, access)
    await host.mount(device, target, access.filesystem, given)
    if isinstance(contents, Filesystem) and contents.is_smaller_than(device) and grows_mounted and "ro" not in given:
        await _grow_or_undo(host, device, target)


async def _grow_or_undo(host: Host, device: Device, target: Path) -> None:
    try:
        await host.grow(device, await host.place(target))
    except BaseException as error:
        # kubelet never unstages what failed with a final code: the mount would leak.
        try:
            await host.unmount(target)
        except errors.Error as stays:
            raise errors.Unavailable(f"{error}; and what was mounted stays: {stays}") from error
        raise


def _flags(capability: Capability) -> tuple[str, ...]:
    return capability.access.flags if isinstance(capability.access, Mount) else ()
