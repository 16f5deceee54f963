"""A volume's device is found by reliable evidence, and no other device is accepted as the volume's."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperpod_ebs.driver.linux.devices import MODEL, Absent, Devices
from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.driver.model.volume import nvme_serial, udev_link
from tests.support.device_links import volume_link
from tests.support.loop_device_node import GIB, OTHER, VOLUME, LoopNode

pytestmark = pytest.mark.root

BLOCK_NODE = 0o060600
INSTANCE_STORE = "Amazon EC2 NVMe Instance Storage"
# A number that no device has, so that a mistake in a test opens nothing.
DISK, ANOTHER_DISK = DeviceNumber(4000, 1), DeviceNumber(4000, 2)


@dataclass(frozen=True)
class Machine:
    """A machine that is only files: a sysfs and a device directory."""

    sysfs: Path
    dev: Path

    def add_disk(
        self, name: str, number: DeviceNumber = DISK, *, serial: str = "", model: str = MODEL, hidden: bool = False
    ) -> None:
        """Add a disk, as the kernel and udev show it; a hidden disk has no device node."""
        entry = self.sysfs / "devices" / name
        (entry / "device").mkdir(parents=True)
        (entry / "size").write_text(f"{GIB // 512}\n")
        (entry / "hidden").write_text(f"{hidden:d}\n")
        if serial:
            (entry / "device" / "serial").write_text(f"{serial}\n")
            (entry / "device" / "model").write_text(f"{model.ljust(40)}\n")
        (self.sysfs / "block" / name).symlink_to(entry)
        if hidden:
            return
        (self.sysfs / "dev" / "block" / str(number)).symlink_to(entry)
        os.mknod(self.dev / name, BLOCK_NODE, os.makedev(number.major, number.minor))

    def add_link(self, volume_id: str, name: str, *, variant: str = "") -> None:
        """Add a by-id link."""
        volume_link(self.dev, volume_id, variant=variant).symlink_to(f"../../{name}")

    @property
    def devices(self) -> Devices:
        """The finder of this machine's devices."""
        return Devices(self.dev, self.sysfs)

    @property
    def host(self) -> LinuxHost:
        """The host of this machine, without patience."""
        return LinuxHost(devices=self.dev, sysfs=self.sysfs, root=self.dev, patience=0)


@pytest.fixture(name="machine")
def create_machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "sys", tmp_path / "dev")
    (machine.sysfs / "block").mkdir(parents=True)
    (machine.sysfs / "dev" / "block").mkdir(parents=True)
    (machine.dev / "disk" / "by-id").mkdir(parents=True)
    return machine


def test_a_serial_number_in_sysfs_is_enough(machine: Machine) -> None:
    """EC2, NVMe on Linux: the serial number is the volume's id without its dash; udev's link may be late."""
    machine.add_disk("nvme0n1", DeviceNumber(4000, 0), serial=nvme_serial(OTHER))
    machine.add_disk("nvme1n1", serial=nvme_serial(VOLUME))

    found = machine.devices.find(VOLUME)

    assert (found.path, found.number, found.size) == (machine.dev / "nvme1n1", DISK, GIB)


def test_the_disk_of_nvme_multipath_is_found_and_not_one_of_its_hidden_paths(machine: Machine) -> None:
    """Linux, Documentation/admin-guide/nvme-multipath.rst: each path to a disk is a hidden disk of its own."""
    machine.add_disk("nvme1c1n1", serial=nvme_serial(VOLUME), hidden=True)
    machine.add_disk("nvme1n1", serial=nvme_serial(VOLUME))

    assert machine.devices.find(VOLUME).path == machine.dev / "nvme1n1"


@pytest.mark.parametrize("variant", ["", "_1", "-ns-1"])
def test_a_by_id_link_is_enough(machine: Machine, variant: str) -> None:
    """The udev rules differ between versions; a loop device of an emulated node has only its link."""
    machine.add_disk("loop7")
    machine.add_link(VOLUME, "loop7", variant=variant)

    assert machine.devices.find(VOLUME).number == DISK


def test_a_stale_link_does_not_hide_the_device_that_sysfs_knows(machine: Machine) -> None:
    """aws-ebs-csi-driver fails if the published name is another volume's."""
    machine.add_disk("nvme1n1", DeviceNumber(4000, 9), serial=nvme_serial(OTHER))
    machine.add_disk("nvme2n1", serial=nvme_serial(VOLUME))
    machine.add_link(VOLUME, "nvme1n1")

    assert machine.devices.find(VOLUME, "/dev/nvme1n1").number == DISK


@pytest.mark.requirement("data.own-device-only")
async def test_a_link_to_another_volumes_device_is_refused_with_both_serials(machine: Machine) -> None:
    """The rules of udev may correct the link later, so the error is retryable."""
    machine.add_disk("nvme1n1", serial=nvme_serial(OTHER))
    machine.add_link(VOLUME, "nvme1n1")

    with pytest.raises(errors.DeviceNotReady, match=f"{nvme_serial(OTHER)}, not {nvme_serial(VOLUME)}"):
        await machine.host.find_device(VOLUME, udev_link(VOLUME))


@pytest.mark.requirement("data.own-device-only")
async def test_a_disk_of_another_kind_is_never_accepted(machine: Machine) -> None:
    """Instance store, LVM, a virtual disk: not even if a link or a published name leads to it."""
    machine.add_disk("nvme3n1", serial=nvme_serial(VOLUME), model=INSTANCE_STORE)
    machine.add_disk("dm-0", DeviceNumber(4000, 2))
    machine.add_disk("vda", DeviceNumber(4000, 3))
    machine.add_disk("loop0", DeviceNumber(4000, 4))
    machine.add_link(VOLUME, "dm-0")
    machine.add_link(VOLUME, "vda", variant="_1")

    for published in ("", "/dev/loop0", "/dev/dm-0", "/dev/vda", "/dev/nvme3n1"):
        with pytest.raises(errors.DeviceNotReady):
            await machine.host.find_device(VOLUME, published)


def test_a_xen_disk_is_accepted_by_its_published_name_alone(machine: Machine) -> None:
    """Xen instances, which came before Nitro, show no serial number."""
    machine.add_disk("xvdba")

    assert machine.devices.find(VOLUME, "/dev/xvdba").number == DISK


def test_a_xen_disk_is_found_under_linuxs_form_of_its_device_name(machine: Machine) -> None:
    """EC2 user guide, Device names for volumes on Linux instances: the disk of /dev/sdf may be named /dev/xvdf."""
    machine.add_disk("xvdf")

    assert machine.devices.find(VOLUME, "/dev/sdf").number == DISK


def test_a_xen_disk_is_found_again_without_its_name_until_another_volume_has_that_name(machine: Machine) -> None:
    """NodeUnstageVolume and NodeExpandVolume get no device name; EC2 gives a free name to the next volume."""
    machine.add_disk("xvdba")
    devices = machine.devices

    devices.find(VOLUME, "/dev/xvdba")
    assert devices.find(VOLUME).number == DISK
    devices.find(OTHER, "/dev/xvdba")
    assert devices.find(OTHER).number == DISK
    with pytest.raises(Absent):
        devices.find(VOLUME)


def test_a_xen_disk_that_was_attached_again_is_found_under_its_last_name(machine: Machine) -> None:
    """EC2 may give the volume another name."""
    machine.add_disk("xvdba")
    machine.add_disk("xvdbb", ANOTHER_DISK)
    devices = machine.devices

    devices.find(VOLUME, "/dev/xvdbb")
    devices.find(VOLUME, "/dev/xvdba")

    assert devices.find(VOLUME).number == DISK


@pytest.mark.requirement("data.own-device-only")
async def test_a_link_that_leads_out_of_the_nodes_directory_is_not_followed(machine: Machine, tmp_path: Path) -> None:
    """An emulated node must see only its own devices."""
    machine.add_disk("loop7")
    (machine.dev / "loop7").rename(tmp_path / "loop7")
    (machine.dev / "loop7").symlink_to(tmp_path / "loop7")
    machine.add_link(VOLUME, "loop7")

    with pytest.raises(errors.DeviceNotReady, match="leads out of"):
        await machine.host.find_device(VOLUME)


async def test_the_error_for_an_absent_device_names_the_places_that_were_searched(machine: Machine) -> None:
    """A late device is UNAVAILABLE, so kubelet tries again."""
    with pytest.raises(errors.DeviceNotReady) as late:
        await machine.host.find_device(VOLUME, "/dev/xvdba")

    for name in ("sysfs", f"nvme-Amazon_Elastic_Block_Store_{nvme_serial(VOLUME)}", str(machine.dev / "xvdba")):
        assert name in str(late.value)


@pytest.mark.parametrize("volume_id", ["", "vol-1\0", "../../nvme1n1"])
def test_an_id_that_no_volume_can_have_leads_to_no_path(machine: Machine, volume_id: str) -> None:
    """csi-sanity unstages volumes with odd ids, and a path built from such an id could lead anywhere."""
    machine.add_disk("nvme1n1", serial=nvme_serial(VOLUME))

    with pytest.raises(Absent, match="no volume has the id"):
        machine.devices.find(volume_id)


def test_a_device_is_the_volumes_or_another_volumes_or_unknown(machine: Machine) -> None:
    """Another volume's mount is never unmounted; nothing identifies a removed device any more."""
    for minor, name in enumerate(["nvme1n1", "nvme2n1", "loop1", "loop2", "vda"]):
        machine.add_disk(
            name, DeviceNumber(4000, minor), serial={0: nvme_serial(VOLUME), 1: nvme_serial(OTHER)}.get(minor, "")
        )
    machine.add_link(VOLUME, "loop1")

    answers = [machine.devices.is_device_of(VOLUME, DeviceNumber(4000, minor)) for minor in range(6)]

    assert answers == [True, False, True, None, False, None]
    assert machine.devices.is_device_of(VOLUME, DeviceNumber(0, 40)) is False


@pytest.mark.requirement("data.own-device-only")
async def test_a_path_that_leads_to_another_device_than_the_volumes_is_not_opened_for_use(
    machine: Machine, node: LoopNode
) -> None:
    """The kernel gives a removed disk's name to the next disk; the serial number in sysfs still looks right."""
    machine.add_disk("nvme1n1", serial=nvme_serial(VOLUME))
    (machine.dev / "nvme1n1").unlink()
    os.mknod(machine.dev / "nvme1n1", BLOCK_NODE, (await node.attach(OTHER)).stat().st_rdev)
    device = Device(path=machine.dev / "nvme1n1", number=DISK, size=GIB)

    with pytest.raises(errors.Unavailable, match=f"no longer the device of volume {VOLUME}"):
        await machine.host.format(device, VOLUME, "ext4")

    with node.image(OTHER).open("rb") as image:
        assert not any(image.read(4096))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[LoopNode]:
    async with LoopNode.create(tmp_path / "node") as running:
        yield running


async def test_an_emulated_nodes_device_is_a_loop_device_by_its_link(node: LoopNode) -> None:
    """This test uses the real sysfs and a real loop device."""
    loop = await node.attach()

    device = await node.host.find_device(VOLUME, udev_link(VOLUME))

    assert device.size == GIB
    assert os.makedev(device.number.major, device.number.minor) == loop.stat().st_rdev


async def test_the_error_for_a_late_size_names_both_sizes(node: LoopNode) -> None:
    """The kubelet never retries an expansion after FAILED_PRECONDITION, so the error is UNAVAILABLE."""
    await node.attach()

    with pytest.raises(errors.DeviceNotReady, match=f"has {GIB} bytes, not {2 * GIB}"):
        await node.host.find_device(VOLUME, size=2 * GIB)
