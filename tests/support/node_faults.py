"""Faults of a node, each planted on a node with real loop devices, and with disks in a directory built like sysfs."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from aiohttp import web

from hyperpod_ebs.access.doctor.node_checks.machine import EBS, LOCAL, Machine
from hyperpod_ebs.driver.linux.mkfs import PROGRAMS
from hyperpod_ebs.kit import command
from tests.support.device_links import volume_link
from tests.support.doctor_faults import Fault
from tests.support.loop_device_node import OTHER, VOLUME, LoopNode
from tests.support.waiting import wait_until

DRIVER: Final = "ebs.csi.aws.com"
PROGRAM_NAMES: Final = (
    "blkid", "e2fsck", "mkfs.ext4", "mkfs.xfs", "mount", "resize2fs", "umount", "xfs_growfs", "xfs_repair"
)  # fmt: skip
EBS_VOLUME: Final = "vol-0aaaaaaaaaaaaaaaa"


@dataclass
class NodeSite:
    """A healthy HyperPod node: two disks of the embedded machine, a mounted volume, and the driver's sockets."""

    node: LoopNode
    stack: AsyncExitStack
    machine: Machine
    attached: list[str] = field(default_factory=lambda: [VOLUME])
    """The volumes that Kubernetes counts as attached to the node."""

    clock_ahead: timedelta = timedelta()
    """How far AWS's clock is ahead of this machine's."""

    address: str = ""

    @classmethod
    @asynccontextmanager
    async def create(cls, directory: Path) -> AsyncGenerator[Self]:
        """Create the node; at the end its mounts and loop devices are removed."""
        async with LoopNode.create(directory) as node, AsyncExitStack() as stack:
            machine = Machine(
                kubelet=directory / "kubelet",
                devices=directory / "dev",
                sysfs=directory / "sys",
                group_mount=directory / "sagemaker",
                release="6.1.0",
                programs=str(directory / "bin"),
            )
            site = cls(node=node, stack=stack, machine=machine)
            site._write_sysfs()
            site._install_programs()
            site._open_sockets()
            await site._serve_clock()
            await site.mount_volume()
            yield site

    @property
    def staging(self) -> Path:
        """Where kubelet has the volume staged."""
        return self.machine.kubelet / "plugins" / "kubernetes.io" / "csi" / DRIVER / "hash" / "globalmount"

    async def mount_volume(self) -> None:
        """Attach a volume, make an ext4 on it, and mount it as kubelet's staging directory."""
        await self.node.attach(size=2**25)
        device = str(self.node.link())
        await command.run([*PROGRAMS["ext4"], device])
        self.staging.mkdir(parents=True)
        record = {"driverName": DRIVER, "volumeHandle": VOLUME}
        (self.staging.parent / "vol_data.json").write_text(json.dumps(record))
        await command.run(["mount", device, str(self.staging)])

    def disk(self, name: str) -> Path:
        """The directory of a disk in sysfs."""
        return self.machine.sysfs / "block" / name

    def add_holder(self, disk: str, mapper: str, title: str, uuid: str) -> None:
        """Add a device mapper on top of a disk."""
        (self.disk(disk) / "holders").mkdir(exist_ok=True)
        (self.disk(disk) / "holders" / mapper).touch()
        directory = self.disk(mapper) / "dm"
        directory.mkdir(parents=True, exist_ok=True)
        (self.disk(mapper) / "dev").write_text("253:0\n")
        for file, content in (("name", title), ("uuid", uuid), ("suspended", "0")):
            (directory / file).write_text(f"{content}\n")

    def add_disk(self, name: str, model: str, serial: str) -> None:
        """Add a disk to sysfs and to the device directory."""
        (self.disk(name) / "device").mkdir(parents=True)
        (self.disk(name) / "dev").write_text("259:0\n")
        (self.disk(name) / "device" / "model").write_text(f"{model:40}\n")
        (self.disk(name) / "device" / "serial").write_text(f"{serial}\n")
        (self.machine.devices / name).touch()

    def _write_sysfs(self) -> None:
        sysfs = self.machine.sysfs
        (sysfs / "module" / "nvme_core" / "parameters").mkdir(parents=True)
        (sysfs / "module" / "nvme_core" / "parameters" / "io_timeout").write_text("4294967295\n")
        for name in ("dev", "fs"):  # loop devices are real
            (sysfs / name).symlink_to(f"/sys/{name}")
        self.add_disk("nvme8n1", EBS, EBS_VOLUME.replace("-", ""))
        volume_link(self.machine.devices, EBS_VOLUME).symlink_to("../../nvme8n1")
        for name in ("nvme9n1", "nvme10n1"):
            self.add_disk(name, LOCAL, f"AWS{name}")
            self.add_holder(name, "dm-0", "vg.01-lv_ephemeral", "LVM-abc")

    def _install_programs(self) -> None:
        directory = Path(str(self.machine.programs))
        directory.mkdir()
        for name in PROGRAM_NAMES:
            (directory / name).touch(mode=0o755)

    def _open_sockets(self) -> None:
        for directory, name in (("plugins_registry", f"{DRIVER}-reg.sock"), (f"plugins/{DRIVER}", "csi.sock")):
            (self.machine.kubelet / directory).mkdir(parents=True)
            listener = self.stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(self.machine.kubelet / directory / name))
            listener.listen()

    async def _serve_clock(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            del request
            moment = datetime.now(UTC) + self.clock_ahead
            return web.Response(headers={"Date": f"{moment:%a, %d %b %Y %H:%M:%S} GMT"}, status=403)

        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"


async def change_clock(site: NodeSite) -> None:
    """The machine's clock is ten minutes behind."""
    site.clock_ahead = timedelta(minutes=10)


async def use_old_kernel(site: NodeSite) -> None:
    """The kernel of Amazon Linux 2 by default."""
    site.machine = replace(site.machine, release="4.14.336-253.554.amzn2.x86_64")


async def remove_program(site: NodeSite) -> None:
    """No mkfs.xfs is installed."""
    (Path(str(site.machine.programs)) / "mkfs.xfs").unlink()


async def remove_registration(site: NodeSite) -> None:
    """The socket that kubelet looks for is absent."""
    (site.machine.kubelet / "plugins_registry" / f"{DRIVER}-reg.sock").unlink()


async def leave_stale_socket(site: NodeSite) -> None:
    """The driver was killed, and its socket is still there."""
    path = site.machine.kubelet / "plugins" / DRIVER / "csi.sock"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(path))


async def take_by_multipath(site: NodeSite) -> None:
    """Multipathd has taken the EBS disk."""
    site.add_holder("nvme8n1", "dm-1", "mpatha", "mpath-nvme.1d0f")


async def remove_device_node(site: NodeSite) -> None:
    """The device directory lacks the disk."""
    volume_link(site.machine.devices, EBS_VOLUME).unlink()
    (site.machine.devices / "nvme8n1").unlink()


async def remove_link(site: NodeSite) -> None:
    """Udev has made no link."""
    volume_link(site.machine.devices, EBS_VOLUME).unlink()


async def mislead_link(site: NodeSite) -> None:
    """The link of the EBS disk leads to a local disk."""
    volume_link(site.machine.devices, EBS_VOLUME).unlink()
    volume_link(site.machine.devices, EBS_VOLUME).symlink_to("../../nvme9n1")


async def shorten_timeout(site: NodeSite) -> None:
    """The NVMe timeout is the kernel's default."""
    (site.machine.sysfs / "module" / "nvme_core" / "parameters" / "io_timeout").write_text("30\n")


async def share_local_disk(site: NodeSite) -> None:
    """TopoLVM has made a volume on a local disk."""
    site.add_holder("nvme9n1", "dm-1", "myvg1-data", "LVM-def")


async def partition_local_disk(site: NodeSite) -> None:
    """A local disk has a partition."""
    (site.disk("nvme9n1") / "nvme9n1p1").mkdir()
    (site.disk("nvme9n1") / "nvme9n1p1" / "partition").write_text("1\n")


async def drop_local_disk(site: NodeSite) -> None:
    """A local disk is not in the volume group."""
    (site.disk("nvme9n1") / "holders" / "dm-0").unlink()


async def suspend_group(site: NodeSite) -> None:
    """The logical volume is suspended."""
    (site.disk("dm-0") / "dm" / "suspended").write_text("1\n")


async def fail_group(site: NodeSite) -> None:
    """The group's filesystem is read-only, as after an I/O error."""
    await site.node.attach(OTHER, size=2**25)
    device = str(site.node.link(OTHER))
    await command.run([*PROGRAMS["ext4"], device])
    site.machine.group_mount.mkdir()
    await command.run(["mount", "-o", "ro", device, str(site.machine.group_mount)])
    await command.run(["mount", "-o", "remount,bind,rw", str(site.machine.group_mount)])


async def write_protect_volume(site: NodeSite) -> None:
    """The kernel refuses writes to the volume's device."""
    await site.node.write_protect()


async def make_volume_read_only(site: NodeSite) -> None:
    """The volume's filesystem has stopped writing, and its mount still allows writes."""
    await command.run(["mount", "-o", "remount,ro", str(site.staging)])
    await command.run(["mount", "-o", "remount,bind,rw", str(site.staging)])


async def pull_volume_out(site: NodeSite) -> None:
    """The volume's device has no data any more, as after a forced detach."""
    os.truncate(site.node.image(), 0)
    loop = site.node.loops[VOLUME]
    await command.run(["losetup", "-c", str(loop)])


async def freeze_volume(site: NodeSite) -> None:
    """The volume's filesystem does not answer writes."""
    staging = str(site.staging)
    await command.run(["fsfreeze", "--freeze", staging])
    site.stack.push_async_callback(_thaw, staging)


async def _thaw(staging: str) -> None:
    """Thaw the filesystem, and wait until the loop has collected the process that the doctor left to wait for it."""
    await command.run(["fsfreeze", "--unfreeze", staging])

    async def is_collected() -> bool:
        return not any(thread.name.startswith("asyncio-waitpid") for thread in threading.enumerate())

    await wait_until(is_collected)


async def forget_attachment(site: NodeSite) -> None:
    """Kubernetes has no VolumeAttachment for the mounted volume."""
    site.attached.clear()
    await asyncio.sleep(0)


FAULTS: Final[tuple[Fault[NodeSite], ...]] = (
    Fault("a clock that is wrong", change_clock, "clock", "clock", "behind AWS's"),
    Fault("an old kernel", use_old_kernel, "kernel", "kernel", "4.14.336", "may fail"),
    Fault("a missing program", remove_program, "programs", "programs", "mkfs.xfs"),
    Fault("no registration socket", remove_registration, "sockets", "-reg.sock", "No such file"),
    Fault("a socket without a driver", leave_stale_socket, "sockets", "csi.sock", "refused"),
    Fault("multipath on an EBS disk", take_by_multipath, "multipath", "disk nvme8n1", "mpatha"),
    Fault("an EBS disk without device node", remove_device_node, "device names", "disk nvme8n1", "no device node"),
    Fault("an EBS disk without a link", remove_link, "device names", "disk nvme8n1", "has not made", "may fail"),
    Fault("a link to another disk", mislead_link, "device names", "disk nvme8n1", "leads to nvme9n1"),
    Fault("a short NVMe timeout", shorten_timeout, "NVMe timeout", "io_timeout", "30 seconds", "may fail"),
    Fault("another program on a local disk", share_local_disk, "local volume group", "nvme9n1", "myvg1-data"),
    Fault("a partition on a local disk", partition_local_disk, "local volume group", "nvme9n1", "nvme9n1p1"),
    Fault("an incomplete volume group", drop_local_disk, "local volume group", "nvme9n1", "vg.01", "may fail"),
    Fault("a suspended volume group", suspend_group, "local volume group", "vg.01-lv_ephemeral", "suspended"),
    Fault("a read-only volume group", fail_group, "local volume group", "vg.01", "is read-only"),
    Fault("a write-protected volume", write_protect_volume, "filesystems", "globalmount", "write-protects"),
    Fault("a read-only filesystem", make_volume_read_only, "filesystems", "globalmount", "refuses writes"),
    Fault("a filesystem that does not answer", freeze_volume, "filesystems", "globalmount", "no answer"),
    Fault("a volume that was pulled out", pull_volume_out, "filesystems", "globalmount", "removed"),
    Fault("a mount without attachment", forget_attachment, "forgotten mounts", VOLUME, "no VolumeAttachment"),
)
