"""Release a volume on the node, so that it can be detached: unmount it, undo its line in fstab, prove its device free.

Everything that keeps the volume busy is looked for before anything is changed, and named. The line in fstab is removed
last: until then it says which volume belongs to the directory, and a call after a kill finishes the release.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hyperpod_ebs.access.console import note
from hyperpod_ebs.access.volume.node import fstab, fstab_file, kernel_users, processes
from hyperpod_ebs.access.volume.node.machine import Machine, before_any_change
from hyperpod_ebs.access.volume.node.progress import report_if_slow
from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device
from hyperpod_ebs.driver.model.path_state import PathKind, PathState
from hyperpod_ebs.driver.mounts.unmount import unmount_all
from hyperpod_ebs.kit.files import off_loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is to be released."""

    volume_id: str
    """Empty if nothing identifies it: its device was removed, or nothing is mounted at the directory."""
    device: Device | None
    points: Sequence[Path]
    """Where it is mounted in this mount namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What was done, or in a dry run what would be done; the device is free."""

    volume_id: str
    device: Path | None
    directory: Path | None
    """Where the volume was unmounted; None if it was mounted nowhere."""
    fstab_line: str
    """The line that was removed from fstab; empty if there was none."""


async def find(machine: Machine, volume_or_directory: str | Path) -> Found:
    """Find the volume and its mounts.

    Raises:
        InvalidRequest: The directory is not a mount of an EBS volume.
    """
    if isinstance(volume_or_directory, Path):
        return await _find_by_directory(machine, volume_or_directory)
    return await _find_volume(machine, volume_or_directory)


async def release(machine: Machine, found: Found, *, dry_run: bool) -> Released:
    """Unmount the volume and prove that nothing on the node uses its device; succeed if that is so already.

    Raises:
        PreconditionFails: Something uses the volume, and nothing was changed; the message names it.
        InUse: Something has used it since, or still uses its device after the unmount.
        Unavailable: The device does not answer, or its data is still being written.
    """
    with before_any_change():
        await machine.refuse_kubernetes_volume(found.volume_id, found.device)
        state = await _refuse_users(machine, found)
    line = fstab.line_of_volume(await off_loop(fstab_file.read), found.volume_id) if found.volume_id else None
    if not dry_run:
        if state:
            await _unmount(machine, found, state)
        if found.device:
            await _wait_until_free(machine, found.volume_id, found.device)
        if line:
            await _remove_line(found.volume_id)
    return Released(
        volume_id=found.volume_id,
        device=found.device.path if found.device else None,
        directory=state.path if state else None,
        fstab_line=line.text.strip() if line else "",
    )


async def _find_volume(machine: Machine, volume_id: str) -> Found:
    if device := await machine.find_device(volume_id):
        return Found(volume_id=volume_id, device=device, points=await machine.host.find_mounts(volume_id))
    if not machine.options.device_name and await off_loop(machine.has_xen_disks):
        raise errors.InvalidRequest(
            f"no disk of this node is known as volume {volume_id}, because the disks of a Xen instance have no serial "
            "number; repeat the command with --device-name and the name of the attachment, such as /dev/sdf"
        )
    # The mount of a removed device: only the line in fstab says where it was.
    line = fstab.line_of_volume(await off_loop(fstab_file.read), volume_id)
    points = [Path(line.directory)] if line and await _is_dead(machine, Path(line.directory)) else []
    return Found(volume_id=volume_id, device=None, points=points)


async def _is_dead(machine: Machine, directory: Path) -> bool:
    state = await machine.host.inspect_path(directory)
    return state.top is not None and bool(state.broken)


async def _find_by_directory(machine: Machine, directory: Path) -> Found:
    """Find the volume that is mounted at a directory, here or in another mount namespace, or was by fstab."""
    state = await machine.host.inspect_path(directory)
    line = fstab.line_for_directory(await off_loop(fstab_file.read), directory)
    by_fstab = line.volume_id if line else ""
    if state.top is None:
        elsewhere = await off_loop(processes.find_numbers_mounted_elsewhere, directory, deadline=processes.DEADLINE)
        ids = {await off_loop(machine.devices.volume_id_of, number) for number in elsewhere}
        volume_id = next(iter(sorted(ids - {""})), by_fstab)
        if not volume_id:
            await off_loop(_refuse_subdirectory, machine, state)
        return await _find_volume(machine, volume_id) if volume_id else Found(volume_id="", device=None, points=[])
    volume_id = await off_loop(machine.devices.volume_id_of, state.top.number) or by_fstab
    if volume_id and not state.broken:
        found = await _find_volume(machine, volume_id)
        if directory in found.points:
            return found
    if state.broken:
        return Found(volume_id=volume_id, device=None, points=[directory])
    raise errors.InvalidRequest(
        f"{directory} is a mount of {state.top.source}, which is not known as an EBS volume; name the volume instead, "
        "on a Xen instance with --device-name, or unmount it with umount(8)"
    )


def _refuse_subdirectory(machine: Machine, state: PathState) -> None:
    """Accept a directory that is not on a volume.

    Raises:
        InvalidRequest: It is absent, or is a directory of a mounted volume.
    """
    if state.kind is PathKind.ABSENT:
        raise errors.InvalidRequest(
            f"{state.path} does not exist; give the directory of the volume, or its id, such as vol-0123456789abcdef0"
        )
    for mount in mountinfo.read():
        if mount.mount_point in state.path.parents and (volume_id := machine.devices.volume_id_of(mount.number)):
            raise errors.InvalidRequest(
                f"{state.path} is a directory of volume {volume_id}, which is mounted at {mount.mount_point}; release "
                f"{mount.mount_point}"
            )


async def _refuse_users(machine: Machine, found: Found) -> PathState | None:
    """The path from which the volume is to be unmounted, if nothing else uses it; None if it is mounted nowhere.

    Raises:
        InUse: Something uses the volume.
    """
    name = found.volume_id or "the volume"
    if len(found.points) > 1:
        points = ", ".join(map(str, found.points))
        raise errors.InUse(
            f"volume {name} is mounted at several places: {points}; unmount all but one of them with umount(8), then "
            "repeat the command"
        )
    if found.device and (names := await off_loop(machine.devices.holders, found.device.number)):
        raise errors.InUse(
            f'volume {name} is in use by {", ".join(names)} on top of it; remove that first (see "lsblk")'
        )
    if found.device and (partitions := await off_loop(machine.devices.partitions, found.device.number)):
        mounts = await off_loop(kernel_users.mounted_partitions, partitions)
        if mounts:
            raise errors.InUse(f"volume {name} is in use: {', '.join(mounts)}; unmount that with umount(8) first")
    if not found.points:
        return None
    state = await machine.host.inspect_path(found.points[0])
    if others := await off_loop(kernel_users.find, state.path):
        raise errors.InUse(f"volume {name} at {state.path} is in use: {', '.join(others)}; end that first")
    await _refuse_processes(state, name)
    return state


async def _refuse_processes(state: PathState, name: str) -> None:
    if state.top is None:
        return
    with report_if_slow("looking for processes that use the volume"):
        uses = await off_loop(processes.find_uses, state.top.number, deadline=processes.DEADLINE)
    if uses:
        raise errors.InUse(
            f"volume {name} at {state.path} is in use by {processes.listing(uses)}; end these processes, or let them "
            "close their files and leave its directories, then repeat the command"
        )


async def _unmount(machine: Machine, found: Found, state: PathState) -> None:
    """Write the data back and unmount.

    Raises:
        InUse: A process has opened a file since it was looked for.
    """
    try:
        with report_if_slow(f"writing the data of {state.path} and unmounting it"):
            await unmount_all(machine.host, found.volume_id, state)
    except errors.InUse:
        await _refuse_processes(state, found.volume_id or "the volume")
        raise


async def _wait_until_free(machine: Machine, volume_id: str, device: Device) -> None:
    """Return when nothing on the node uses the device.

    Raises:
        InUse: It is still mounted in another mount namespace.
        Unavailable: Something else uses it.
    """
    try:
        with report_if_slow(f"waiting until {device.path} is free"):
            await machine.host.wait_until_free(volume_id, machine.options.device_name)
    except errors.Unavailable as error:
        others = await off_loop(processes.find_other_mounts, device.number, deadline=processes.DEADLINE)
        if not others:
            raise
        raise errors.InUse(
            f"volume {volume_id} is unmounted here, but still mounted at {processes.listing(others)}; end that process "
            f'or unmount it there with "nsenter --mount --target {others[0].pid} umount {others[0].mount_point}", then '
            "repeat the command"
        ) from error


async def _remove_line(volume_id: str) -> None:
    changed = await off_loop(fstab_file.rewrite, partial(fstab.without_lines, volume_id=volume_id))
    if changed and not await fstab_file.reload_systemd():
        note(f"systemd has not read the new {fstab.PATH}; run `systemctl daemon-reload`")
