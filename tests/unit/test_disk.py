from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model.disk import Device, DeviceNumber, Filesystem

MIB, GIB = 2**20, 2**30


def device(size: int) -> Device:
    return Device(path=Path("/dev/nvme1n1"), number=DeviceNumber(259, 3), size=size)


@given(size=st.integers(1, 64 * 2**40), unused=st.integers(0, 16 * MIB))
def test_a_filesystem_that_leaves_up_to_16_mib_unused_needs_no_growth(size: int, unused: int) -> None:
    """mke2fs makes no last group that would hold mostly tables, so a growth would change nothing."""
    assert not Filesystem(kind="ext4", size=size).is_smaller_than(device(size + unused))


@given(size=st.integers(1, 64 * 2**40), unused=st.integers(16 * MIB + 1, GIB))
def test_a_filesystem_that_leaves_more_unused_is_grown(size: int, unused: int) -> None:
    """The smallest growth of an EBS volume is one GiB."""
    assert Filesystem(kind="xfs", size=size).is_smaller_than(device(size + unused))


def test_a_filesystem_that_is_larger_than_its_device_is_not_grown() -> None:
    """A volume restored from a damaged copy."""
    assert not Filesystem(kind="xfs", size=2 * GIB).is_smaller_than(device(GIB))


def test_a_device_number_without_a_device_is_anonymous() -> None:
    """Kernel, Documentation/admin-guide/devices.txt: major 0 is for unnamed devices."""
    assert DeviceNumber.parse("0:45\n").is_anonymous
    assert DeviceNumber.parse("259:3") == DeviceNumber(259, 3)
    assert not DeviceNumber.parse("259:3").is_anonymous
    assert str(DeviceNumber(259, 3)) == "259:3"
