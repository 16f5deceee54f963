"""Publish a staged volume to a pod: a bind mount of its directory, or of its device node.

A raw block volume that is published read-only is also write-protected, see `protection`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Block, Capability, Mount, mode_name
from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry, PathState
from hyperpod_ebs.driver.mounts import health, options, protection, unmount
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
    """The device name that the controller published, a hint only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """The bind mount that makes the volume appear at its target."""

    source: Path
    number: DeviceNumber
    root: str | None
    """The mounted part of the filesystem; None for a device node."""
    flags: frozenset[str]
    """The flags of the mount; for a device node only those that matter to it."""
    inherited: frozenset[str] = frozenset()
    """The flags that it has if it is given none."""
    device: Device | None = None
    """The device of a raw block volume."""


async def publish(host: Host, wanted: Publishing) -> None:
    """Bind-mount the volume at its target path, after unmounting a dead mount; succeed if it is there as wanted.

    Raises:
        InvalidRequest: A path is outside this node's root directory.
        Conflict: Something else is mounted there, or the volume with other options.
        NotReady: The volume is not staged.
        InUse: The access mode allows one target path, and the volume is published at another; or a raw block volume
            would have readers and writers on this node.
    """
    state = await host.inspect_path(wanted.target)
    bind = await _plan_bind(host, wanted)
    if state.broken:
        state = await unmount.unmount_all(host, wanted.volume_id, state)
    published, reading = is_published(state, bind), "ro" in bind.flags
    if published and not (bind.device and reading):
        return
    # CSI spec, NodePublishVolume: FAILED_PRECONDITION for a second target of a volume with a single writer.
    single = wanted.capability.mode is AccessMode.SINGLE_NODE_SINGLE_WRITER
    if single and not published and (others := await host.find_bind_mounts(bind.source)):
        raise errors.InUse(
            f"volume {wanted.volume_id} is published at {', '.join(map(str, others))}, and its access mode "
            f"{mode_name(wanted.capability.mode)} allows one target path; end the pod that uses it there"
        )
    if bind.device:
        await protection.prepare_device(host, wanted.volume_id, bind.device, state.path, reading=reading)
    if not published:
        given = sorted(bind.flags) if bind.flags != bind.inherited else []
        try:
            await host.bind_mount(bind.source, bind.number, state.path, given)
        except BaseException:
            if bind.device and reading:
                await protection.lift_protection(host, wanted.volume_id)
            raise


async def unpublish(host: Host, volume_id: str, target: Path) -> None:
    """Unmount the volume from its target path and remove the path; succeed if it is not there.

    Raises:
        NotReady: Something other than the volume is mounted there.
        InUse: A process still uses the mount.
    """
    state = await host.inspect_path(target)
    await unmount.unmount_and_remove(host, volume_id, target)
    # An earlier call may have been killed after it unmounted a raw block volume.
    if state.device_node or not state.top:
        await protection.lift_protection(host, volume_id)


def is_published(state: PathState, bind: Bind) -> bool:
    """Whether the bind mount is there already.

    Raises:
        Conflict: Something else is mounted there, or the volume with other options.
    """
    if state.top is None:
        return False
    described = f"{state.path} is a mount of {state.top.source} (device {state.number})"
    if state.number != bind.number or (bind.root is not None and state.top.root != bind.root):
        raise errors.Conflict(f"{described}, not of {bind.source} (device {bind.number}); unpublish it first")
    flags = options.flags_of_mount(state.top)
    # A device node's other flags are those of the directory with the devices, often nosuid and noexec.
    shown = flags if bind.root is not None else flags & {"ro"}
    if differences := list(options.differences_of_flags(bind.flags, shown)):
        raise errors.Conflict(f"{described} with other options: it {', '.join(differences)}; unpublish it first")
    return True


async def _plan_bind(host: Host, wanted: Publishing) -> Bind:
    match wanted.capability.access:
        case Block():
            device = await host.find_device(wanted.volume_id, wanted.device)
            ro = wanted.read_only or wanted.capability.read_only
            flags = frozenset({"ro"} if ro else ())
            return Bind(source=device.path, number=device.number, root=None, flags=flags, device=device)
        case Mount() as access:
            path, staged = await _find_staged_mount(host, wanted)
            flags = options.for_publishing(wanted.capability, access, read_only=wanted.read_only, staged=staged)
            inherited = options.flags_of_mount(staged)
            return Bind(source=path, number=staged.number, root=staged.root, flags=flags, inherited=inherited)
        case _:
            assert_never(wanted.capability.access)


async def _find_staged_mount(host: Host, wanted: Publishing) -> tuple[Path, MountEntry]:
    """Return the path where the volume is staged, and its mount.

    Raises:
        NotReady: The volume is not staged there, or the mount there is not the volume's.
        Unavailable: The mount there is dead, or its filesystem refuses writes or is mounted read-only but wanted for
            writing; see `health.refuse_failed_filesystem` for why this error is retryable.
    """
    state = await host.inspect_path(wanted.staging)
    if state.top is None:
        raise errors.NotReady(
            f"volume {wanted.volume_id} is not staged at {wanted.staging}; call NodeStageVolume first"
        )
    if state.broken:
        raise errors.Unavailable(
            f"the mount of volume {wanted.volume_id} at {state.path} is dead: {state.broken}; end the volume's pods on "
            "this node, so that kubelet stages it again"
        )
    await unmount.refuse_foreign_mount(host, wanted.volume_id, state)
    writing = not _is_reader(wanted, state.top)
    await health.refuse_failed_filesystem(host, wanted.volume_id, state, writing=writing)
    return state.path, state.top


def _is_reader(wanted: Publishing, staged: MountEntry) -> bool:
    """Whether the mount is wanted read-only, apart from what it inherits from the staged mount."""
    access, without_flags = wanted.capability.access, replace(staged, options=frozenset())
    return isinstance(access, Mount) and "ro" in options.for_publishing(
        wanted.capability, access, read_only=wanted.read_only, staged=without_flags
    )
