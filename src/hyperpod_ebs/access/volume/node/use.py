"""Make a volume usable at a directory: find its device, make a filesystem if it is blank, mount it, keep it in fstab.

What is on the device decides, with the driver's own proof of a blank device (`driver.linux.contents`):

    contents                        read and write      read only
    ------------------------------  ------------------  ---------
    blank, or unfinished mkfs       make a filesystem   refuse
    ext4 or xfs, sound              mount it            mount it
    ext4 or xfs, damaged or marked  repair, mount it    mount it
    anything else                   refuse              refuse

A kill at any moment leaves something that the next call finishes: an unfinished mkfs has the driver's marker, a mounted
volume is accepted, and the line in fstab is written last and in one step.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, assert_never

from hyperpod_ebs.access.console import note
from hyperpod_ebs.access.volume.node import fstab, fstab_file, mount_directory, processes
from hyperpod_ebs.access.volume.node.machine import Machine, before_any_change
from hyperpod_ebs.access.volume.node.progress import report_if_slow
from hyperpod_ebs.access.volume.node.volume_source import VolumeSource, find_source
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import DEFAULT_FILESYSTEM, AccessMode, Capability, Mount
from hyperpod_ebs.driver.model.disk import Blank, Contents, Device, Filesystem, Foreign, Remains, Unfinished
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.model.path_state import PathState
from hyperpod_ebs.driver.mounts import options
from hyperpod_ebs.kit.files import off_loop

Kind = Literal["ext4", "xfs"]

_CAPABILITY: Final = Capability(Mount(), AccessMode.SINGLE_NODE_WRITER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the caller asks for."""

    volume_id: str
    directory: Path
    """With symbolic links resolved."""
    filesystem: Kind | None
    """The filesystem that the volume must have; None to take the one that it has."""
    options: MountOptions
    persist: bool

    def mount_options(self, kind: str) -> MountOptions:
        """All options of the mount."""
        return options.for_staging(_CAPABILITY, Mount(kind, self.options))


@dataclass(frozen=True, slots=True)
class MakeFilesystem:
    """Make a filesystem on the blank device."""

    kind: str


@dataclass(frozen=True, slots=True)
class MountFilesystem:
    """Mount the filesystem that the device has, after a repair if it needs one."""

    found: Filesystem
    repair: bool

    @property
    def kind(self) -> str:
        """ext4 or xfs."""
        return self.found.kind


Plan = MakeFilesystem | MountFilesystem


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """The volume, usable at the directory."""

    device: Path
    filesystem: str
    made_filesystem: bool
    was_mounted: bool
    persisted: bool


@dataclass(frozen=True, slots=True)
class Steps:
    """What a call would do; the steps of a dry run."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be done, once nothing forbids it."""

    device: Device
    kind: str
    """The filesystem."""
    plan: Plan | None
    """None if the volume is mounted at the directory already."""
    steps: tuple[str, ...]
    """The same in words."""


async def use(machine: Machine, wanted: Wanted, *, dry_run: bool) -> Mounted | Steps:
    """Mount the volume at the directory; succeed if it is mounted there already.

    Raises:
        PreconditionFails: Something forbids it, and nothing was changed.
        NotReady: A program or the kernel failed; the volume is not mounted.
        DeviceNotReady: The device did not appear in time.
        Unavailable: Another program has the device at this moment.
    """
    with before_any_change():
        decision = await _decide(machine, wanted)
    if dry_run:
        return Steps(decision.steps)
    if decision.plan:
        await _prepare(machine, wanted, decision.device, decision.plan)
        await _mount(machine, wanted, decision.device, decision.plan)
    elif wanted.persist and await _write_fstab(wanted, decision.kind, decision.device):
        await _reload_systemd()
    return Mounted(
        device=decision.device.path,
        filesystem=decision.kind,
        made_filesystem=isinstance(decision.plan, MakeFilesystem),
        was_mounted=decision.plan is None,
        persisted=wanted.persist,
    )


def plan_for(contents: Contents, wanted: Wanted, device: Device) -> Plan:
    """What must be done with the device, according to its contents.

    Raises:
        NotReady: The device must not be mounted.
    """
    holder = f"device {device.path} of volume {wanted.volume_id}"
    wipe = f'if its data is not needed, wipe it with "blkdiscard --zeroout {device.path}"'
    reading = wanted.options.read_only
    if device.write_protected and not reading:
        raise errors.NotReady(
            f'{holder} is write-protected; use --read-only, or allow writes with "blockdev --setrw {device.path}"'
        )
    match contents:
        case Blank() | Unfinished() if reading:
            raise errors.NotReady(f"{holder} holds no filesystem; repeat the command without --read-only to make one")
        case Blank() | Unfinished():
            return MakeFilesystem(wanted.filesystem or DEFAULT_FILESYSTEM)
        case Filesystem(kind=kind) if wanted.filesystem not in {None, kind}:
            raise errors.NotReady(
                f"{holder} holds {kind}, not {wanted.filesystem}; use --filesystem {kind}, or, {wipe}"
            )
        case Filesystem():
            needs_repair = contents.damaged or contents.marked_unfinished or contents.marked_growing
            return MountFilesystem(contents, repair=needs_repair and not reading)
        case Remains(copies=copies, repair=repair):
            tool = f'"{repair} {device.path}"' if repair else "the tools for what it holds"
            raise errors.NotReady(
                f"{holder} has no readable filesystem, but holds {copies}; take a snapshot of the volume, then recover "
                f"it with {tool}, or, {wipe}"
            )
        case Foreign(what) if "partition table" in what:
            raise errors.NotReady(
                f"{holder} holds {what}; this command mounts whole volumes only: mount the partition that you need "
                f"with mount(8), or, {wipe}"
            )
        case Foreign(what):
            raise errors.NotReady(
                f"{holder} holds {what}, which is neither ext4 nor xfs and is not overwritten; {wipe}"
            )
        case _:
            assert_never(contents)


async def _wait_for_device(machine: Machine, volume_id: str) -> Device:
    if found := await machine.find_device(volume_id):
        return found
    note(f"volume {volume_id} has no device on this node yet; waiting for it")
    with report_if_slow(f"waiting for the device of volume {volume_id}"):
        return await machine.host.find_device(volume_id, machine.options.device_name)


async def _decide(machine: Machine, wanted: Wanted) -> Decision:
    """Find out what is to be done.

    Raises:
        InUse: Kubernetes manages the volume, or it is mounted elsewhere.
        Conflict: Something else is mounted at the directory, or the volume with other options.
        NotReady: The device or the directory must not be mounted, or fstab cannot be changed.
        DeviceNotReady: The device did not appear in time.
        Unavailable: Another program has the device at this moment.
    """
    await machine.refuse_kubernetes_volume(wanted.volume_id, None)
    device = await _wait_for_device(machine, wanted.volume_id)
    await machine.refuse_kubernetes_volume(wanted.volume_id, device)
    state = await machine.host.inspect_path(wanted.directory)
    if state.top:
        kind = await _accept_mount(machine, wanted, device, state)
        return Decision(device=device, kind=kind, plan=None, steps=await _check_fstab(wanted, device, kind))
    await _refuse_other_users(machine, wanted, device)
    await _check_directory(machine, wanted.directory)
    with report_if_slow(f"reading what is on {device.path} of volume {wanted.volume_id}"):
        contents = await machine.host.read_contents(device, wanted.volume_id)
    plan = plan_for(contents, wanted, device)
    if isinstance(contents, Filesystem) and contents.in_use:
        await _refuse_used_filesystem(wanted.volume_id, device)
    steps = (*_first_steps(plan, wanted, device), *await _check_fstab(wanted, device, plan.kind))
    return Decision(device=device, kind=plan.kind, plan=plan, steps=steps)


async def _accept_mount(machine: Machine, wanted: Wanted, device: Device, state: PathState) -> str:
    """Accept that the volume is mounted at the directory already; its filesystem.

    Raises:
        Conflict: Something else is mounted there, or the volume with other options.
        NotReady: The filesystem does not work.
    """
    top = state.mounts[-1]
    described = f"{state.path} is a mount of {top.source} (device {state.number})"
    if state.number != device.number or top.root != "/":
        raise errors.Conflict(
            f"{described}, not of volume {wanted.volume_id} (device {device.number}); choose another directory, or "
            "unmount it first"
        )
    again = f"release it first with `hyperpod-ebs volume release {wanted.volume_id}`"
    if wanted.filesystem not in {None, top.filesystem}:
        raise errors.Conflict(f"{described} as {top.filesystem}, not {wanted.filesystem}; {again}")
    in_force = await machine.host.read_options(top)
    if found := list(options.differences(wanted.mount_options(top.filesystem), device, top, in_force)):
        raise errors.Conflict(f"{described} with other options: it {', '.join(found)}; {again}")
    await _check_usable(machine, wanted, again)
    return top.filesystem


async def _refuse_other_users(machine: Machine, wanted: Wanted, device: Device) -> None:
    """Accept the device if neither a mount, a partition nor another block device uses it.

    Raises:
        InUse: One of them does.
        NotReady: It has partitions.
        Unavailable: Another process has mounted it at the directory just now.
    """
    holder = f"device {device.path} of volume {wanted.volume_id}"
    points = await machine.host.find_mounts(wanted.volume_id)
    if wanted.directory in points:
        raise errors.Unavailable(f"{holder} has just been mounted at {wanted.directory} by another process; try again")
    if points:
        raise errors.InUse(
            f"volume {wanted.volume_id} is mounted at {', '.join(map(str, points))} already; release it there first "
            f"with `hyperpod-ebs volume release {wanted.volume_id}`"
        )
    if names := await off_loop(machine.devices.partitions, device.number):
        raise errors.NotReady(
            f"{holder} is divided into partitions ({', '.join(names)}); this command mounts whole volumes only: mount "
            "the partition that you need with mount(8)"
        )
    if names := await off_loop(machine.devices.holders, device.number):
        raise errors.InUse(f'{holder} is in use by {", ".join(names)} on top of it; remove that first (see "lsblk")')


async def _check_directory(machine: Machine, directory: Path) -> None:
    try:
        await off_loop(mount_directory.check, directory, about=directory)
    except errors.NotReady as error:
        if (await machine.host.inspect_path(directory)).top:
            raise errors.Unavailable(f"another process has just mounted something at {directory}; try again") from error
        raise


async def _refuse_used_filesystem(volume_id: str, device: Device) -> None:
    holder = f"device {device.path} of volume {volume_id}"
    if others := await off_loop(processes.find_other_mounts, device.number, deadline=processes.DEADLINE):
        raise errors.InUse(f"{holder} is mounted at {processes.listing(others)}; unmount it there first")
    raise errors.Unavailable(f"{holder} is in use by another program; try again")


async def _prepare(machine: Machine, wanted: Wanted, device: Device, plan: Plan) -> None:
    """Make or repair the filesystem."""
    volume_id = wanted.volume_id
    match plan:
        case MakeFilesystem(kind):
            note(f"making {kind} on {device.path} of volume {volume_id}, which is blank")
            with report_if_slow(f"making {kind} on {device.path}"):
                await machine.host.format(device, volume_id, kind)
        case MountFilesystem(found, repair=True):
            note(f"checking {found.kind} on {device.path} of volume {volume_id}")
            with report_if_slow(f"checking {found.kind} on {device.path}"):
                await machine.host.repair(device, volume_id, found, grow=False)
        case MountFilesystem():
            pass
        case _:
            assert_never(plan)


async def _mount(machine: Machine, wanted: Wanted, device: Device, plan: Plan) -> None:
    """Mount the volume, check it and write fstab; undo the mount if one of these fails."""
    directory = wanted.directory
    created, changed = await off_loop(mount_directory.create, directory, about=directory), False
    try:
        with report_if_slow(f"mounting {device.path} at {directory}"):
            await machine.host.mount(device, wanted.volume_id, directory, plan.kind, wanted.mount_options(plan.kind))
        try:
            await _check_usable(machine, wanted, "check it with the tools of the filesystem")
            if wanted.persist:
                changed = await _write_fstab(wanted, plan.kind, device)
        except BaseException:
            await machine.host.unmount(directory)
            raise
    except BaseException:
        if created:
            await off_loop(mount_directory.remove, directory, about=directory)
        raise
    if changed:
        await _reload_systemd()
    if isinstance(plan, MountFilesystem) and plan.found.is_smaller_than(device):
        grow = f"xfs_growfs {directory}" if plan.kind == "xfs" else f"resize2fs {device.path}"
        note(f'{plan.kind} is smaller than its device; make it as large with "{grow}"')


async def _check_usable(machine: Machine, wanted: Wanted, advice: str) -> None:
    """Check that the filesystem answers and, unless it is mounted read-only, accepts writes.

    Raises:
        NotReady: It does not.
    """
    state = await machine.host.inspect_path(wanted.directory)
    try:
        await off_loop(mount_directory.read, wanted.directory, about=wanted.directory)
        reason = state.broken or await machine.host.find_write_refusal(state)
    except OSError as error:
        reason = error.strerror or str(error)
    except errors.Unavailable as error:
        reason = str(error)
    if not reason and state.top and "ro" in state.top.options and not wanted.options.read_only:
        reason = "it is mounted read-only"
    if reason:
        raise errors.NotReady(
            f"the filesystem of volume {wanted.volume_id} at {wanted.directory} cannot be used: {reason}; {advice}"
        )


async def _check_fstab(wanted: Wanted, device: Device, kind: str) -> tuple[str, ...]:
    """Check that the line in fstab, if it is wanted, can be written and contradicts no other; the step in words.

    Raises:
        Conflict: It contradicts another line, or other devices have the same UUID.
        NotReady: The file cannot be written.
    """
    if not wanted.persist:
        return ()
    await off_loop(fstab_file.check_writable)
    source = await find_source(device)
    text = await off_loop(fstab_file.read)
    await off_loop(_refuse_contradiction, text, wanted, source)
    if source.namesakes:
        raise errors.Conflict(
            f"{', '.join(source.namesakes)} has the same UUID {source.uuid} as {device.path} of volume "
            f"{wanted.volume_id}, so that a line in {fstab.PATH} could mount either; give one of them a new UUID "
            '("tune2fs -U random" or "xfs_admin -U generate"), or repeat the command without --persist'
        )
    if _has_line_of_user(text, wanted, source):
        return ()
    line = _line(wanted, kind, source.uuid or "UUID-OF-THE-NEW-FILESYSTEM")
    return (f"add to {fstab.PATH}, unless it is there: {line}",)


def _refuse_contradiction(text: str, wanted: Wanted, source: VolumeSource) -> None:
    if other := fstab.contradiction(text, wanted.volume_id, wanted.directory, source.is_named_by):
        raise errors.Conflict(
            f"{fstab.PATH} has another line for {wanted.directory} or volume {wanted.volume_id}, {other}; remove that "
            "line, or repeat the command without --persist"
        )


def _has_line_of_user(text: str, wanted: Wanted, source: VolumeSource) -> bool:
    return fstab.has_foreign_line(text, wanted.volume_id, wanted.directory, source.is_named_by)


async def _write_fstab(wanted: Wanted, kind: str, device: Device) -> bool:
    """Write the line, unless another line mounts the volume at the directory; return whether the file changed."""
    source = await find_source(device)

    def change(text: str) -> str:
        _refuse_contradiction(text, wanted, source)
        if _has_line_of_user(text, wanted, source):
            return text
        return fstab.with_line(text, wanted.volume_id, _line(wanted, kind, source.uuid))

    return await off_loop(fstab_file.rewrite, change)


async def _reload_systemd() -> None:
    if not await fstab_file.reload_systemd():
        note(f"systemd has not read the new {fstab.PATH}; run `systemctl daemon-reload`")


def _line(wanted: Wanted, kind: str, uuid: str) -> str:
    return fstab.line_for(wanted.volume_id, uuid, wanted.directory, kind, wanted.mount_options(kind))


def _first_steps(plan: Plan, wanted: Wanted, device: Device) -> list[str]:
    steps = []
    if isinstance(plan, MakeFilesystem):
        steps.append(f"make {plan.kind} on {device.path}, which is blank")
    elif plan.repair:
        steps.append(f"check and repair {plan.kind} on {device.path}")
    return [*steps, f"mount {device.path} at {wanted.directory} with options {wanted.mount_options(plan.kind)}"]
