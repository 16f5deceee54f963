"""A volume's device is found by what cannot lie, and nothing else is taken for it."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperpod_ebs.driver.linux.devices import MODEL, Absent, Devices
from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.volume import nvme_serial, udev_link
from tests.support.loop_device_node import GIB, OTHER, VOLUME, LoopNode

pytestmark = pytest.mark.root

BLOCK_NODE = 0o060600
INSTANCE_STORE = "Amazon EC2 NVMe Instance Storage"
# Numbers that no driver has: a mistake in a test opens nothing.
DISK = DeviceNumber(4000, 1)


@dataclass(frozen=True)
class Machine:
    """A sysfs and a device directory made of files."""

    sysfs: Path
    dev: Path

    def disk(self, name: str, number: DeviceNumber = DISK, *, serial: str = "", model: str = MODEL) -> None:
        """Have a disk, as the kernel and udev show it."""
        entry = self.sysfs / "devices" / name
        (entry / "device").mkdir(parents=True)
        (entry / "size").write_text(f"{GIB // 512}\n")
        if serial:
            (entry / "device" / "serial").write_text(f"{serial}\n")
            (entry / "device" / "model").write_text(f"{model.ljust(40)}\n")
        (self.sysfs / "block" / name).symlink_to(entry)
        (self.sysfs / "dev" / "block" / str(number)).symlink_to(entry)
        os.mknod(self.dev / name, BLOCK_NODE, os.makedev(number.major, number.minor))

    def link(self, volume_id: str, name: str, *, variant: str = "") -> None:
        """Have a by-id link."""
        link = self.dev / "disk" / "by-id" / f"nvme-Amazon_Elastic_Block_Store_{nvme_serial(volume_id)}{variant}"
        link.symlink_to(f"../../{name}")

    @property
    def devices(self) -> Devices:
        """What finds devices on it."""
        return Devices(self.dev, self.sysfs)

    @property
    def host(self) -> LinuxHost:
        """What waits for devices on it, and not long."""
        return LinuxHost(devices=self.dev, sysfs=self.sysfs, root=self.dev, patience=0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "sys", tmp_path / "dev")
    (made.sysfs / "block").mkdir(parents=True)
    (made.sysfs / "dev" / "block").mkdir(parents=True)
    (made.dev / "disk" / "by-id").mkdir(parents=True)
    return made


def test_a_serial_number_in_sysfs_is_enough(machine: Machine) -> None:
    """Nitro: the NVMe serial is the volume's id without its dash; udev may be late."""
    machine.disk("nvme0n1", DeviceNumber(4000, 0), serial=nvme_serial(OTHER))
    machine.disk("nvme1n1", serial=nvme_serial(VOLUME))

    found = machine.devices.find(VOLUME)

    assert (found.path, found.number, found.size) == (machine.dev / "nvme1n1", DISK, GIB)


@pytest.mark.parametrize("variant", ["", "_1", "-ns-1"])
def test_a_link_by_id_leads_there_too(machine: Machine, variant: str) -> None:
    """Udev's rules of different ages; a loop device of an emulated node has nothing but its link."""
    machine.disk("loop7")
    machine.link(VOLUME, "loop7", variant=variant)

    assert machine.devices.find(VOLUME).number == DISK


def test_a_stale_link_does_not_hide_the_device_that_sysfs_knows(machine: Machine) -> None:
    """Upstream ends with an error where a published name belongs to another volume."""
    machine.disk("nvme1n1", DeviceNumber(4000, 9), serial=nvme_serial(OTHER))
    machine.disk("nvme2n1", serial=nvme_serial(VOLUME))
    machine.link(VOLUME, "nvme1n1")

    assert machine.devices.find(VOLUME, "/dev/nvme1n1").number == DISK


@pytest.mark.requirement("data.own-device-only")
async def test_a_link_to_another_volumes_device_is_refused_with_both_serials(machine: Machine) -> None:
    """Ours: never the wrong device; udev may put it right, so the call is tried again."""
    machine.disk("nvme1n1", serial=nvme_serial(OTHER))
    machine.link(VOLUME, "nvme1n1")

    with pytest.raises(errors.DeviceNotReady, match=f"{nvme_serial(OTHER)}, not {nvme_serial(VOLUME)}"):
        await machine.host.device(VOLUME, udev_link(VOLUME))


@pytest.mark.requirement("data.own-device-only")
async def test_a_disk_of_another_kind_is_never_taken(machine: Machine) -> None:
    """Instance store, LVM, a virtual disk: whatever a link or a published name says."""
    machine.disk("nvme3n1", serial=nvme_serial(VOLUME), model=INSTANCE_STORE)
    machine.disk("dm-0", DeviceNumber(4000, 2))
    machine.disk("vda", DeviceNumber(4000, 3))
    machine.disk("loop0", DeviceNumber(4000, 4))
    machine.link(VOLUME, "dm-0")
    machine.link(VOLUME, "vda", variant="_1")

    for published in ("", "/dev/loop0", "/dev/dm-0", "/dev/vda", "/dev/nvme3n1"):
        with pytest.raises(errors.DeviceNotReady):
            await machine.host.device(VOLUME, published)


def test_a_xen_disk_is_taken_by_its_published_name_alone(machine: Machine) -> None:
    """Instances before Nitro show no serial number."""
    machine.disk("xvdba")

    assert machine.devices.find(VOLUME, "/dev/xvdba").number == DISK


@pytest.mark.requirement("data.own-device-only")
async def test_a_link_that_leads_out_of_the_nodes_directory_is_not_followed(machine: Machine, tmp_path: Path) -> None:
    """Ours: an emulated node sees its own devices only."""
    machine.disk("loop7")
    (machine.dev / "loop7").rename(tmp_path / "loop7")
    (machine.dev / "loop7").symlink_to(tmp_path / "loop7")
    machine.link(VOLUME, "loop7")

    with pytest.raises(errors.DeviceNotReady, match="leads out of"):
        await machine.host.device(VOLUME)


async def test_a_device_that_does_not_come_is_named_with_where_it_was_looked_for(machine: Machine) -> None:
    """kubelet: a late device is UNAVAILABLE, and tried again."""
    with pytest.raises(errors.DeviceNotReady) as late:
        await machine.host.device(VOLUME, "/dev/xvdba")

    for name in ("sysfs", f"nvme-Amazon_Elastic_Block_Store_{nvme_serial(VOLUME)}", str(machine.dev / "xvdba")):
        assert name in str(late.value)


@pytest.mark.parametrize("odd", ["", "vol-1\0", "../../nvme1n1"])
def test_an_id_that_no_volume_has_leads_to_no_path(machine: Machine, odd: str) -> None:
    """csi-sanity unstages volumes of odd ids, and a name made of one may lead anywhere."""
    machine.disk("nvme1n1", serial=nvme_serial(VOLUME))

    with pytest.raises(Absent, match="no volume has the id"):
        machine.devices.find(odd)


def test_whose_a_device_is_can_be_told_or_not(machine: Machine) -> None:
    """Ours: what is somebody else's is not unmounted; what died cannot say whose it was."""
    for minor, name in enumerate(["nvme1n1", "nvme2n1", "loop1", "loop2", "vda"]):
        machine.disk(
            name, DeviceNumber(4000, minor), serial={0: nvme_serial(VOLUME), 1: nvme_serial(OTHER)}.get(minor, "")
        )
    machine.link(VOLUME, "loop1")

    answers = [machine.devices.belongs(VOLUME, DeviceNumber(4000, minor)) for minor in range(6)]

    assert answers == [True, False, True, None, False, None]
    assert machine.devices.belongs(VOLUME, DeviceNumber(0, 40)) is False


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[LoopNode]:
    async with LoopNode.running(tmp_path / "node") as running:
        yield running


async def test_an_emulated_nodes_device_is_a_loop_device_by_its_link(node: LoopNode) -> None:
    """Ours: the real sysfs, a real device."""
    loop = await node.attach()

    device = await node.host.device(VOLUME, udev_link(VOLUME))

    assert device.size == GIB
    assert os.makedev(device.number.major, device.number.minor) == loop.stat().st_rdev


async def test_a_size_that_does_not_come_is_named_with_the_size_that_is(node: LoopNode) -> None:
    """kubelet, expand: never FAILED_PRECONDITION."""
    await node.attach()

    with pytest.raises(errors.DeviceNotReady, match=f"has {GIB} bytes, not {2 * GIB}"):
        await node.host.device(VOLUME, size=2 * GIB)
