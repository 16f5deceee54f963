"""Checks of the filesystems below kubelet's directory, and of mounts that Kubernetes has forgotten."""

import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context, Missing
from hyperpod_ebs.access.doctor.findings import Finding, fails
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import name_of
from hyperpod_ebs.access.doctor.node_checks import filesystem_probe
from hyperpod_ebs.access.doctor.node_checks.machine import Machine, Storage, call, read_storage
from hyperpod_ebs.driver.model.capability import FILESYSTEMS
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.driver.model.path_state import MountEntry
from hyperpod_ebs.kit import command
from hyperpod_ebs.kit.files import off_loop

_CHILD_TIME: Final = 12.0
"""Seconds for judging all filesystems."""

_MOST_BYTES: Final = 2**24
"""Bytes of findings that are read."""

_ATTACHMENTS: Final = "/apis/storage.k8s.io/v1/volumeattachments"


def volume_mounts(storage: Storage, kubelet: Path) -> list[MountEntry]:
    """A mount of each volume below kubelet's directory; its staging mount, if it has one."""
    found: dict[str, MountEntry] = {}
    for mount in storage.mounts:
        if mount.filesystem in FILESYSTEMS and mount.mount_point.is_relative_to(kubelet) and mount.root == "/":
            known = found.get(str(mount.number))
            if known is None or (mount.mount_point.name == "globalmount" != known.mount_point.name):
                found[str(mount.number)] = mount
    return list(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedVolume:
    """A directory in which kubelet keeps a staged volume."""

    directory: Path
    handle: str
    """The volume's id."""

    is_mounted: bool


def attachment_name(handle: str, node: str) -> str:
    """The name of the VolumeAttachment of a volume to a node (Kubernetes, csi_attacher.go, getAttachmentName)."""
    return f"csi-{hashlib.sha256(f'{handle}{DRIVER}{node}'.encode()).hexdigest()}"


def forgotten_volumes(staged: Iterable[StagedVolume], node: str, attachments: frozenset[str]) -> Iterator[Finding]:
    """Staged volumes that Kubernetes does not count as attached to this node.

    Args:
        staged: The volumes that kubelet has staged.
        node: The node's name.
        attachments: The names of the VolumeAttachments to the node.
    """
    for volume in staged:
        if attachment_name(volume.handle, node) in attachments or not volume.is_mounted:
            continue
        yield fails(
            f"volume {volume.handle}",
            f"it is mounted at {volume.directory / 'globalmount'}, and has no VolumeAttachment to this node, {node}",
            "The volume is detached while it is mounted, or never; its data may be lost when it is written elsewhere",
            f"if no pod on this node uses it, `umount {volume.directory / 'globalmount'}`",
        )


def checks(machine: Machine) -> tuple[Check, ...]:
    """The checks of this machine's filesystems."""

    async def check_filesystems(context: Context) -> AsyncIterator[Finding]:
        del context
        storage = await read_storage(machine)
        points = [str(mount.mount_point) for mount in volume_mounts(storage, machine.kubelet)]
        for finding in await _judge_in_child(machine, points) if points else ():
            yield finding

    async def check_forgotten(context: Context) -> AsyncIterator[Finding]:
        storage = await read_storage(machine)
        points = frozenset(mount.mount_point for mount in storage.mounts)
        staged = await call(_read_staged, machine.kubelet, points)
        if not staged:
            return
        items = await context.objects(_ATTACHMENTS)
        names = frozenset(name_of(item) for item in items if item.get("spec", {}).get("nodeName") == machine.name)
        for finding in forgotten_volumes(staged, machine.name, names):
            yield finding

    return (
        Check(name="filesystems", promise="all mounted volumes answer and accept writes", run=check_filesystems),
        Check(name="forgotten mounts", promise="each mounted volume is attached to this node", run=check_forgotten),
    )


async def _judge_in_child(machine: Machine, points: Sequence[str]) -> list[Finding]:
    """Let a child process judge the filesystems at these paths; see `filesystem_probe`.

    Raises:
        Missing: The child process has failed.
    """
    memory = os.memfd_create("findings", os.MFD_CLOEXEC)
    settings = (f"/proc/self/fd/{memory}", machine.kubelet, machine.devices, machine.sysfs)
    argv = [sys.executable, "-m", filesystem_probe.__name__, *map(str, settings), *points]
    try:
        with suppress(command.CommandTimedOut):  # a thread of it still waits, and its findings are written
            await command.run(argv, deadline=_CHILD_TIME, keep=[memory])
        content = await off_loop(os.pread, memory, _MOST_BYTES, 0)
    except command.CommandFailed as failure:
        raise Missing("filesystems", str(failure)) from failure
    finally:
        os.close(memory)
    if not content:
        raise Missing("filesystems", f"a child process did not judge them within {_CHILD_TIME:g} s")
    return [Finding(**fields) for fields in json.loads(content)]


def _read_staged(kubelet: Path, points: frozenset[Path]) -> list[StagedVolume]:
    """Read kubelet's records of the volumes of this driver that it has staged."""
    staged = list[StagedVolume]()
    for record in sorted((kubelet / "plugins" / "kubernetes.io" / "csi" / DRIVER).glob("*/vol_data.json")):
        try:
            data = json.loads(record.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(data, dict) and data.get("driverName") == DRIVER:
            staged.append(
                StagedVolume(
                    directory=record.parent,
                    handle=str(data.get("volumeHandle")),
                    is_mounted=record.parent / "globalmount" in points,
                )
            )
    return staged
