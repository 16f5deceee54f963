from pathlib import Path

from hyperpod_ebs.driver.linux import writable
from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry

DEVICE = DeviceNumber(259, 3)


def entry(point: str, options: str, *, number: DeviceNumber = DEVICE) -> MountEntry:
    return MountEntry(
        id=1,
        parent=0,
        number=number,
        root="/",
        mount_point=Path(point),
        options=frozenset(options.split(",")),
        filesystem="ext4",
        source="/dev/nvme1n1",
        super_options=frozenset({"rw", "emergency_ro"}),
    )


def test_the_mount_that_is_asked_allows_writes() -> None:
    """mount(2), MS_BIND: a read-only bind mount refuses writes although its filesystem accepts them."""
    table = [
        entry("/a", "rw,relatime"),
        entry("/reader", "ro,relatime"),
        entry("/pod", "rw,noatime"),
        entry("/other", "rw", number=DeviceNumber(259, 4)),
    ]

    assert writable.writable_mount_points(table, Path("/pod"), DEVICE) == [Path("/pod"), Path("/a")]
    assert writable.writable_mount_points(table, Path("/reader"), DEVICE) == [Path("/a"), Path("/pod")]


def test_no_mount_is_asked_if_all_are_read_only() -> None:
    assert writable.writable_mount_points([entry("/a", "ro"), entry("/b", "ro")], Path("/a"), DEVICE) == []
