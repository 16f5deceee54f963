"""Publishes a staged volume to a pod: a bind mount of its directory, or of its device node.

A read-only raw block volume has a read-only bind mount for the record; that the device
is not written to is up to the container runtime, which gives out the device's permissions.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Block, Capability, Mount
from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry, PathState
from hyperpod_ebs.driver.mounts import options, unmount
from hyperpod_ebs.driver.mounts.host import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """What a NodePublishVolume call asks for."""

    volume_id: str
    staging: Path
    target: Path
    capability: Capability
    read_only: bool = False
    device: str = ""
    """The name that the controller published, a hint only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """The bind mount that makes the volume appear at its target."""

    source: Path
    number: DeviceNumber
    root: str | None
    """The part of the filesystem that is shown; None for a device node."""
    options: tuple[str, ...]


async def publish(host: Host, wanted: Publishing) -> None:
    """Show the volume at its target path as wanted; success where it already is.

    Raises:
        InvalidRequest: A path is not one of this node's.
        Conflict: Something else is mounted there, or the volume on other terms.
        NotReady: The volume is not staged.
        InUse: It may be at one place only, and is at another.
    """
    place = await host.place(wanted.target)
    bind = await _bind(host, wanted)
    if place.broken:
        place = await unmount.unmount_all(host, wanted.volume_id, place)
    if not standing(place, bind):
        if wanted.capability.mode is AccessMode.SINGLE_NODE_SINGLE_WRITER:
            await _refuse_second(host, wanted.volume_id, bind)
        await host.bind(bind.source, place.path, bind.options)


async def unpublish(host: Host, volume_id: str, target: Path) -> None:
    """Take the volume off its target path, and the path with it; success where it is not there.

    Raises:
        NotReady: What is mounted there is somebody else's.
        InUse: A process still uses it.
    """
    await unmount.unmount_and_remove(host, volume_id, target)


def standing(place: PathState, bind: Bind) -> bool:
    """Whether the bind mount is there already.

    Raises:
        Conflict: Something else is, or it is on other terms.
    """
    if place.top is None:
        return False
    described = f"{place.path} is a mount of {place.top.source} (device {place.number})"
    if place.number != bind.number or (bind.root is not None and place.top.root != bind.root):
        raise errors.Conflict(f"{described}, not of {bind.source} (device {bind.number}); unpublish it first")
    if unlike := list(options.differences_of_bind(bind.options, place.top)):
        raise errors.Conflict(f"{described}, but it {', '.join(unlike)}; unpublish it first")
    return True


async def _refuse_second(host: Host, volume_id: str, bind: Bind) -> None:
    # CSI spec, NodePublishVolume: FAILED_PRECONDITION for a second target of a volume with a single writer.
    if others := await host.shown_at(bind.source):
        raise errors.InUse(
            f"volume {volume_id} is published at {', '.join(map(str, others))}, and its access mode "
            f"{AccessMode.SINGLE_NODE_SINGLE_WRITER} allows one place; unpublish it there first"
        )


async def _bind(host: Host, wanted: Publishing) -> Bind:
    match wanted.capability.access:
        case Block():
            device = await host.device(wanted.volume_id, wanted.device)
            ro = wanted.read_only or wanted.capability.read_only
            return Bind(source=device.path, number=device.number, root=None, options=("ro",) if ro else ())
        case Mount() as access:
            path, staged = await _staged(host, wanted)
            given = options.for_publishing(wanted.capability, access, read_only=wanted.read_only, staged=staged)
            return Bind(source=path, number=staged.number, root=staged.root, options=given)
        case _:
            assert_never(wanted.capability.access)


async def _staged(host: Host, wanted: Publishing) -> tuple[Path, MountEntry]:
    """The path that the volume is staged at, and its mount.

    Raises:
        NotReady: It is not staged there, or what is there is dead or somebody else's.
    """
    place = await host.place(wanted.staging)
    if place.top is None:
        raise errors.NotReady(
            f"volume {wanted.volume_id} is not staged at {wanted.staging}; NodeStageVolume comes first"
        )
    if place.broken:
        raise errors.NotReady(
            f"the mount of volume {wanted.volume_id} at {place.path} is dead: {place.broken}; stage it again"
        )
    await unmount.refuse_foreign_mount(host, wanted.volume_id, place)
    return place.path, place.top
