from pathlib import Path

import pytest

from hyperpod_ebs.driver.model.capability import AccessMode, Capability, Mount
from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.model.path_state import MountEntry
from hyperpod_ebs.driver.mounts import options

READER = AccessMode.SINGLE_NODE_READER_ONLY
WRITER = AccessMode.SINGLE_NODE_WRITER


def mount_entry(shown: str = "rw,relatime", of_filesystem: str = "rw", filesystem: str = "ext4") -> MountEntry:
    return MountEntry(
        id=2,
        parent=1,
        number=DeviceNumber(259, 3),
        root="/",
        mount_point=Path("/k"),
        options=frozenset(shown.split(",")),
        filesystem=filesystem,
        source="/dev/nvme1n1",
        super_options=frozenset(of_filesystem.split(",")),
    )


def differences(
    asked: str, mounted: MountEntry, *, defaults: str = "", filesystem: str = "ext4", can_discard: bool = True
) -> list[str]:
    access = Mount(filesystem, MountOptions.parse([asked]))
    device = Device(path=Path("/dev/nvme1n1"), number=mounted.number, size=2**30, can_discard=can_discard)
    in_force = mounted.super_options.union(defaults.split(","))
    return list(options.differences(options.for_staging(Capability(access, WRITER), access), device, mounted, in_force))


def flags_of_bind(asked: str, *, staged: str = "rw,relatime", read_only: bool = False) -> set[str]:
    access = Mount("ext4", MountOptions.parse([asked]))
    wanted = Capability(access, WRITER)
    return set(options.for_publishing(wanted, access, read_only=read_only, staged=mount_entry(staged)))


def test_xfs_can_be_mounted_next_to_the_volume_it_was_restored_from() -> None:
    """xfs(5), nouuid: without it the kernel refuses a second filesystem with the same UUID."""
    for asked in ("noatime", "noatime,nouuid"):
        access = Mount("xfs", MountOptions.parse([asked]))

        assert str(options.for_staging(Capability(access, WRITER), access)) == "noatime,nouuid"


@pytest.mark.requirement("csi.node-publish.read-only")
def test_a_reader_gets_a_read_only_mount() -> None:
    """CSI spec, VolumeCapability.AccessMode: SINGLE_NODE_READER_ONLY."""
    reader = Capability(Mount(), READER)

    assert options.for_staging(reader, Mount()).read_only
    assert "ro" in options.for_publishing(reader, Mount(), read_only=False, staged=mount_entry())


def test_a_bind_mount_keeps_the_flags_of_its_staged_mount() -> None:
    """mount(2), MS_REMOUNT | MS_BIND: a remount of a bind mount replaces all its flags."""
    staged = "rw,nosuid,noatime"

    assert flags_of_bind("noexec,data=ordered", staged=staged, read_only=True) == {"noexec", "nosuid", "noatime", "ro"}
    assert flags_of_bind("strictatime", staged=staged) == {"nosuid", "strictatime"}
    assert flags_of_bind("rw,suid", staged="ro,nosuid") == {"ro", "nosuid", "strictatime"}


@pytest.mark.requirement("csi.stage-volume.conflict")
def test_options_that_the_kernel_shows_are_compared_both_ways() -> None:
    """CSI spec, NodeStageVolume: a repeat with an incompatible capability is ALREADY_EXISTS."""
    assert differences("discard,noatime", mount_entry("rw,noatime", "rw,discard")) == []
    assert differences("discard", mount_entry()) == ["is not discard"]
    assert differences("", mount_entry("ro,relatime", "ro")) == ["is ro"]
    assert differences("", mount_entry("rw")) == ["is not relatime", "is strictatime"]
    assert differences("sync", mount_entry(of_filesystem="rw,lazytime")) == ["is not sync", "is lazytime"]
    assert differences("data=ordered", mount_entry(), defaults="data=journal") == ["is not data=ordered"]
    assert differences("", mount_entry(of_filesystem="rw,data=journal")) == ["is data=journal"]


@pytest.mark.requirement("csi.stage-volume.idempotent")
@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("noload", "rw,norecovery"),
        ("bsdgroups,barrier=0,auto_da_alloc=0", "rw,grpid,nobarrier,noauto_da_alloc"),
        ("nobarrier,barrier=2", "rw"),
        ("discard,nodiscard", "rw"),
        ("", "rw,nodiscard"),
        ("data=ordered,commit=0,errors=continue,usrquota", "rw,quota,usrquota,data=ordered,stripe=64"),
        ('context="a:b:c:s0:c2,c1"', 'rw,context="a:b:c:s0:c1,c2"'),
        ("context=a:b:c:s0", "rw,seclabel"),
    ],
)
def test_an_option_that_the_kernel_writes_in_another_way_is_no_difference(asked: str, shown: str) -> None:
    """ext4(5). A repeated call must not fail because of a difference that may not exist."""
    assert differences(asked, mount_entry(of_filesystem=shown)) == []


@pytest.mark.requirement("csi.stage-volume.idempotent")
def test_an_option_that_xfs_derives_from_another_is_no_difference() -> None:
    """fs/xfs/xfs_super.c: a mount with MS_SYNCHRONOUS gets wsync."""
    shown = mount_entry(of_filesystem="rw,sync,wsync,nouuid,inode64,logbufs=8,logbsize=32k,noquota", filesystem="xfs")

    assert differences("sync,logbsize=32768", shown, filesystem="xfs") == []
    assert differences("wsync", shown, filesystem="xfs") == ["is sync"]
    assert differences("sync,largeio", shown, filesystem="xfs") == ["is not largeio"]


@pytest.mark.requirement("csi.stage-volume.idempotent")
def test_discard_is_no_difference_on_a_device_without_trim() -> None:
    """The kernel drops it: fs/ext4/super.c and fs/xfs/xfs_super.c."""
    assert differences("discard", mount_entry(), defaults="nodiscard", can_discard=False) == []
    assert differences("", mount_entry(of_filesystem="rw,discard"), can_discard=False) == ["is discard"]


def test_an_option_that_is_in_force_by_default_is_no_difference() -> None:
    """tune2fs(8), -o: the mount table leaves out the options that the superblock has as defaults."""
    assert differences("discard,data=writeback", mount_entry(), defaults="discard,data=writeback") == []
    assert differences("nodiscard", mount_entry(), defaults="discard") == ["is not nodiscard"]
