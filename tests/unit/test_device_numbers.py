"""Which volume a device number belongs to, and which partitions it has, according to sysfs."""

from pathlib import Path

import pytest

from hyperpod_ebs.driver.linux.devices import Devices
from hyperpod_ebs.driver.model.disk import DeviceNumber

NUMBER = DeviceNumber(259, 3)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The entry of an NVMe disk with two partitions, without a serial number, in a sysfs."""
    disk = tmp_path / "devices" / "nvme1n1"
    for partition in ("nvme1n1p1", "nvme1n1p128"):
        (disk / partition).mkdir(parents=True)
        (disk / partition / "partition").touch()
    (disk / "device").mkdir()
    entry = tmp_path / "dev" / "block" / str(NUMBER)
    entry.parent.mkdir(parents=True)
    entry.symlink_to(disk)
    return disk


def test_the_partitions_of_a_disk_are_found(tmp_path: Path, disk: Path) -> None:
    assert Devices(tmp_path, tmp_path).partitions(NUMBER) == [entry.name for entry in sorted(disk.glob("nvme*"))]


@pytest.mark.parametrize(
    ("serial", "volume_id"),
    [
        ("vol0123456789abcdef0", "vol-0123456789abcdef0"),
        ("vol01234567", "vol-01234567"),
        ("AWS1234567890ABCDEF0", ""),  # an instance store
        ("", ""),
    ],
)
def test_the_serial_number_of_an_nvme_disk_names_the_volume(
    tmp_path: Path, disk: Path, serial: str, volume_id: str
) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html."""
    (disk / "device" / "serial").write_text(f"{serial}\n")

    assert Devices(tmp_path, tmp_path).volume_id_of(NUMBER) == volume_id


def test_a_filesystem_without_a_device_is_no_volume(tmp_path: Path) -> None:
    assert not Devices(tmp_path, tmp_path).volume_id_of(DeviceNumber(0, 40))
