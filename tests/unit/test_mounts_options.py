from pathlib import Path

import pytest

from hyperpod_ebs.driver.model.capability import AccessMode, Capability, Mount
from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry
from hyperpod_ebs.driver.mounts import options

READER = AccessMode.SINGLE_NODE_READER_ONLY
WRITER = AccessMode.SINGLE_NODE_WRITER


def mount_entry(shown: str = "rw,relatime", of_filesystem: str = "rw") -> MountEntry:
    return MountEntry(
        id=2,
        parent=1,
        number=DeviceNumber(259, 3),
        root="/",
        mount_point=Path("/k"),
        options=frozenset(shown.split(",")),
        filesystem="ext4",
        source="/dev/nvme1n1",
        super_options=frozenset(of_filesystem.split(",")),
    )


def test_xfs_can_be_mounted_next_to_the_volume_it_was_restored_from() -> None:
    """xfs(5), nouuid: without it the kernel refuses a second filesystem with the same UUID."""
    access = Mount("xfs", ("noatime",))

    assert options.for_staging(Capability(access, WRITER), access) == ("noatime", "nouuid")


@pytest.mark.requirement("csi.node-publish.read-only")
def test_a_reader_gets_a_read_only_mount() -> None:
    """CSI spec, VolumeCapability.AccessMode: SINGLE_NODE_READER_ONLY."""
    access = Mount("ext4", ("ro",))

    assert options.for_staging(Capability(access, READER), access) == ("ro",)
    assert options.for_publishing(Capability(Mount(), READER), Mount(), read_only=False, staged=mount_entry()) == (
        "ro",
    )


def test_a_bind_mount_keeps_the_options_of_its_staged_mount() -> None:
    """mount(2), MS_REMOUNT | MS_BIND: a remount of a bind mount replaces all its options."""
    access = Mount("ext4", ("noexec", "data=ordered"))
    staged = mount_entry("rw,nosuid,relatime")

    given = options.for_publishing(Capability(access, WRITER), access, read_only=True, staged=staged)

    assert given == ("noexec", "nosuid", "ro")


@pytest.mark.requirement("csi.stage-volume.conflict")
def test_options_that_the_kernel_shows_are_compared_both_ways() -> None:
    """CSI spec, NodeStageVolume: a repeat with an incompatible capability is ALREADY_EXISTS."""
    assert list(options.differences(["discard", "noatime"], mount_entry("rw,noatime", "rw,discard"))) == []
    assert list(options.differences(["discard"], mount_entry())) == ["is not discard"]
    assert list(options.differences([], mount_entry("ro,relatime", "ro"))) == ["is ro"]


def test_an_option_is_known_by_its_other_name() -> None:
    """ext4(5), norecovery/noload: the kernel shows noload as norecovery."""
    assert list(options.differences(["noload"], mount_entry(of_filesystem="rw,norecovery"))) == []


def test_options_that_the_kernel_does_not_always_show_are_not_compared() -> None:
    """A repeated call must not fail because of a difference that may not exist."""
    assert list(options.differences(["data=ordered", "inode64", "defaults"], mount_entry())) == []
