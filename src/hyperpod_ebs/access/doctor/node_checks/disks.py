"""Checks of a node's disks: multipath, names of devices, the NVMe timeout, and the local disks of a HyperPod node."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.access.doctor.node_checks.machine import (
    EBS,
    GROUP,
    LOCAL,
    Machine,
    Storage,
    call,
    read_line,
    read_storage,
)
from hyperpod_ebs.driver.model.path_state import MountEntry
from hyperpod_ebs.kit import command

LONGEST_TIMEOUT: Final = 4_294_967_295
"""The NVMe timeout that AWS recommends for EBS (EBS User Guide, "NVMe I/O operation timeout")."""

_MULTIPATH: Final = "mpath-"
_LINK: Final = "nvme-Amazon_Elastic_Block_Store_"
_ANSWER_TIME: Final = 3.0

_REPAIR: Final = (
    "1. uninstall any other driver for local disks first; 2. only then replace the node (`aws sagemaker "
    "batch-replace-cluster-nodes`), about three at a time; 3. look at the new node again"
)


def multipath_findings(storage: Storage) -> Iterator[Finding]:
    """EBS disks that multipath has taken."""
    for disk in storage.disks_of_model(EBS):
        for mapper in (storage.mappers[name] for name in disk.holders if name in storage.mappers):
            if mapper.uuid.startswith(_MULTIPATH):
                yield fails(
                    f"disk {disk.name}",
                    f"multipath has taken the EBS disk with the serial number {disk.serial} as {mapper.title}",
                    "The driver cannot lock, format or mount the volume: the device is busy",
                    'add `blacklist { device { vendor "NVME" product "Amazon Elastic Block Store" } }` to '
                    f"/etc/multipath.conf, then `systemctl restart multipathd` and `multipath -f {mapper.title}`",
                )


def link_findings(storage: Storage, links: Mapping[str, str], nodes: frozenset[str]) -> Iterator[Finding]:
    """EBS disks without their device node or by-id link, and links that lead to another disk.

    Args:
        storage: The machine's disks.
        links: The kernel's name of the device behind each link in `disk/by-id`; empty for a link that leads nowhere.
        nodes: The names in the device directory.
    """
    for disk in storage.disks_of_model(EBS):
        if disk.name not in nodes:
            yield fails(
                f"disk {disk.name}",
                f"the device directory has no device node for the EBS disk with the serial number {disk.serial}",
                "The driver does not find the volume",
                "mount the node's /dev into the pod, or start udev on the node",
            )
            continue
        expected = f"{_LINK}{disk.serial}"
        if (target := links.get(expected)) is None:
            yield may_fail(
                f"disk {disk.name}",
                f"udev has not made the link disk/by-id/{expected}",
                "Programs that find volumes by this link do not find it; the driver uses the serial number",
                "install udev's rules for NVMe disks (60-persistent-storage.rules of systemd), then run "
                "`udevadm trigger --subsystem-match=block`",
            )
        elif target != disk.name:
            yield fails(
                f"disk {disk.name}",
                f"the link disk/by-id/{expected} leads to {target or 'no device'}",
                "Programs that follow the link use another volume's disk, or none",
                "run `udevadm trigger --subsystem-match=block --action=change`",
            )


def timeout_findings(storage: Storage, timeout: str) -> Iterator[Finding]:
    """An NVMe timeout after which the kernel gives up on a slow EBS volume; `timeout` is empty if it is not known."""
    if storage.disks_of_model(EBS) and timeout.isdecimal() and int(timeout) < LONGEST_TIMEOUT:
        yield may_fail(
            "kernel parameter nvme_core.io_timeout",
            f"it is {timeout} seconds, and AWS recommends {LONGEST_TIMEOUT} for EBS volumes",
            "If a volume does not answer for that time, the kernel reports I/O errors and the filesystem stops",
            f"add nvme_core.io_timeout={LONGEST_TIMEOUT} to the kernel's command line, and restart the node",
        )


def group_findings(storage: Storage, mounted: MountEntry | None, answer: str) -> Iterator[Finding]:
    """What is wrong with the volume group that the HyperPod AMI makes of all local disks.

    Args:
        storage: The machine's disks.
        mounted: The mount of the volume group, if this process sees it.
        answer: Why the filesystem does not answer; empty if it does.
    """
    group = {name for name, mapper in storage.mappers.items() if mapper.is_of_group}
    if not group:
        return
    for disk in storage.disks_of_model(LOCAL):
        numbers = {disk.number, *disk.partition_numbers}
        others = [storage.mappers[name].title for name in disk.holders if name in storage.mappers and name not in group]
        points = [str(mount.mount_point) for mount in storage.mounts if str(mount.number) in numbers]
        if others or points or disk.partitions:
            users = ", ".join([*others, *points, *disk.partitions])
            yield fails(
                f"local disk {disk.name}",
                f"another program than the HyperPod AMI uses it: {users}; all local disks belong to {GROUP}",
                "The volume group is corrupted: NVMe I/O errors, failed mounts, damage that survives reboots",
                _REPAIR,
            )
        elif not group & set(disk.holders):
            yield may_fail(
                f"local disk {disk.name}",
                f"it does not belong to the volume group {GROUP}, as the other local disks do",
                "The volume group is smaller than it should be, or was damaged",
                f"look at `vgs {GROUP}` and `dmesg`; replace the node if the group is not complete",
            )
    for mapper in (storage.mappers[name] for name in sorted(group)):
        if mapper.suspended:
            yield fails(
                f"logical volume {mapper.title}",
                "the device mapper has suspended it",
                "Every program that touches it hangs",
                f"see `dmsetup info {mapper.title}`; replace the node if it stays suspended",
            )
    if mounted and (answer or ("ro" in mounted.super_options and "ro" not in mounted.options)):
        yield fails(
            f"volume group {GROUP}",
            f"its filesystem at {mounted.mount_point} " + (f"does not work: {answer}" if answer else "is read-only"),
            "Containers and programs that use the local storage fail",
            _REPAIR,
        )


def checks(machine: Machine) -> tuple[Check, ...]:
    """The checks of this machine's disks."""

    def storage_check(name: str, promise: str, find: Callable[[Storage], Iterator[Finding]]) -> Check:
        async def run(context: Context) -> AsyncIterator[Finding]:
            del context
            for finding in find(await read_storage(machine)):
                yield finding

        return Check(name=name, promise=promise, run=run)

    async def check_links(context: Context) -> AsyncIterator[Finding]:
        del context
        storage = await read_storage(machine)
        links, names = await call(_read_links, machine.devices)
        for finding in link_findings(storage, links, names):
            yield finding

    async def check_timeout(context: Context) -> AsyncIterator[Finding]:
        del context
        storage = await read_storage(machine)
        path = machine.sysfs / "module" / "nvme_core" / "parameters" / "io_timeout"
        for finding in timeout_findings(storage, await call(read_line, path)):
            yield finding

    async def check_group(context: Context) -> AsyncIterator[Finding]:
        del context
        storage = await read_storage(machine)
        mounted = next((mount for mount in reversed(storage.mounts) if mount.mount_point == machine.group_mount), None)
        answer = await _find_failure(machine.group_mount) if mounted else ""
        for finding in group_findings(storage, mounted, answer):
            yield finding

    return (
        storage_check("multipath", "multipath has taken no EBS disk", multipath_findings),
        Check(name="device names", promise="each EBS disk has its device node and its link", run=check_links),
        Check(name="NVMe timeout", promise="the kernel waits for EBS as long as AWS recommends", run=check_timeout),
        Check(name="local volume group", promise=f"{GROUP} is sound, or the node has none", run=check_group),
    )


def _read_links(devices: Path) -> tuple[Mapping[str, str], frozenset[str]]:
    """Read where the links in `disk/by-id` lead, and the names in the device directory."""
    directory = devices / "disk" / "by-id"
    links = list(directory.iterdir()) if directory.is_dir() else []
    targets = {link.name: os.path.realpath(link) for link in links}
    found = {name: Path(target).name if Path(target).exists() else "" for name, target in targets.items()}
    return found, frozenset(entry.name for entry in devices.iterdir())


async def _find_failure(path: Path) -> str:
    """Find out whether the filesystem mounted at `path` answers; why it does not, else an empty text.

    A program asks, and is left behind if it is stuck: the kernel would not let this process exit.
    """
    try:
        await command.run(["stat", "--file-system", str(path)], deadline=_ANSWER_TIME)
    except command.CommandFailed as failure:
        return str(failure)
    return ""
