"""What a path is, from what is mounted there."""

from pathlib import Path

import pytest

from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry, PathState

DISK, DEVTMPFS = DeviceNumber(259, 3), DeviceNumber(0, 5)
REMOVED = "/nvme1n1//deleted"


def state(*, root: str = "", number: DeviceNumber = DEVTMPFS, device_node: DeviceNumber | None = None) -> PathState:
    """A path, and with `root` a mount of that part of a filesystem."""
    entry = MountEntry(
        id=1,
        parent=0,
        number=number,
        root=root,
        mount_point=Path("/pod"),
        options=frozenset({"rw"}),
        filesystem="devtmpfs",
        source="devtmpfs",
        super_options=frozenset({"rw"}),
    )
    return PathState(path=Path("/pod"), mounts=(entry,) if root else (), device_node=device_node)


@pytest.mark.parametrize(
    ("found", "number"),
    [
        (state(root=REMOVED, device_node=DISK), None),
        (state(root="/nvme1n1", device_node=DISK), DISK),
        (state(device_node=DISK), DISK),
        (state(root="/data//deleted", number=DISK), DISK),
        (state(root="/", number=DISK), DISK),
        (state(), None),
    ],
    ids=[
        "a node of a removed device",
        "a mounted device node",
        "a device node",
        "a removed directory of a filesystem",
        "a filesystem",
        "nothing",
    ],
)
def test_the_number_behind_a_path_is_that_of_its_device_unless_the_device_was_removed(
    found: PathState, number: DeviceNumber | None
) -> None:
    """The kernel gives the number of a removed device to the next one; fs/d_path.c marks the mount of its node."""
    assert found.number == number
    assert found.is_removed_node == (found.device_node is not None and number is None)
