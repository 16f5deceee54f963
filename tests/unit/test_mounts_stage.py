import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Capability, Mount
from hyperpod_ebs.driver.model.disk import (
    Blank,
    Contents,
    Device,
    DeviceNumber,
    Filesystem,
    Foreign,
    Remains,
    Unfinished,
)
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.mounts import stage
from hyperpod_ebs.driver.mounts.stage import Format, Ready, Repair, Staging, Step

GIB = 2**30
DEVICE = Device(path=Path("/dev/nvme1n1"), number=DeviceNumber(259, 3), size=4 * GIB)
PROTECTED = replace(DEVICE, write_protected=True)
SOUND = Filesystem(kind="ext4", size=4 * GIB)
SMALL = Filesystem(kind="ext4", size=2 * GIB)
BIGALLOC = Filesystem(kind="ext4", size=2 * GIB, can_grow_unmounted=False)
DAMAGED = Filesystem(kind="ext4", size=4 * GIB, damaged=True)


def staging(*flags: str, mode: AccessMode = AccessMode.SINGLE_NODE_WRITER) -> Staging:
    return Staging(
        volume_id="vol-0123456789abcdef0",
        target=Path("/k"),
        capability=Capability(Mount("ext4", MountOptions.parse(flags)), mode),
    )


class Case(NamedTuple):
    """A row of the table."""

    id: str
    contents: Contents
    wanted: Staging
    step: Step | type[errors.Error]
    can_grow_mounted: bool = True
    device: Device = DEVICE


READING = staging("ro")


@pytest.mark.parametrize(
    "case",
    [
        Case("blank is formatted", Blank(), staging(), Format()),
        Case("an unfinished mkfs starts again", Unfinished(), staging(), Format()),
        Case("a reader does not format a blank device", Blank(), READING, errors.NotReady),
        Case("a reader does not format an unfinished device", Unfinished(), READING, errors.NotReady),
        Case(
            "a read-only access mode does not format a blank device",
            Blank(),
            staging(mode=AccessMode.SINGLE_NODE_READER_ONLY),
            errors.NotReady,
        ),
        Case("a sound filesystem is mounted as it is", SOUND, staging(), Ready()),
        Case("a sound filesystem needs no CAP_SYS_RESOURCE", SOUND, staging(), Ready(), can_grow_mounted=False),
        Case("a damaged filesystem is repaired", DAMAGED, staging(), Repair(DAMAGED, grow=False)),
        Case("a reader gets a damaged filesystem as it is", DAMAGED, READING, Ready()),
        Case("a small filesystem grows after the mount", SMALL, staging(), Ready()),
        Case(
            "a small filesystem grows before the mount if it must",
            SMALL,
            staging(),
            Repair(SMALL, grow=True),
            can_grow_mounted=False,
        ),
        Case(
            "a small filesystem that cannot grow unmounted is mounted as it is",
            BIGALLOC,
            staging(),
            Ready(),
            can_grow_mounted=False,
        ),
        Case("a reader gets a small filesystem as it is", SMALL, READING, Ready(), can_grow_mounted=False),
        Case(
            "a filesystem in use is not touched",
            Filesystem(kind="ext4", size=GIB, damaged=True, in_use=True),
            staging(),
            Ready(),
            can_grow_mounted=False,
        ),
        Case("another filesystem is refused", Filesystem(kind="xfs", size=GIB), staging(), errors.NotReady),
        Case("a write-protected device is not formatted", Blank(), staging(), errors.NotReady, device=PROTECTED),
        Case("a write-protected device is refused", SOUND, staging(), errors.NotReady, device=PROTECTED),
        Case("a reader gets a write-protected device", SOUND, READING, Ready(), device=PROTECTED),
        Case("anything else is refused", Foreign("swap"), staging(), errors.NotReady),
        Case("a device with only copies of metadata is refused", Remains(copies="a copy"), staging(), errors.NotReady),
        Case("a reader of only copies of metadata is refused", Remains(copies="a copy"), READING, errors.NotReady),
    ],
    ids=lambda case: case.id,
)
def test_the_contents_of_the_device_decide_the_next_step(case: Case) -> None:
    """The table in the docstring of driver/mounts/stage.py."""
    if isinstance(case.step, type):
        with pytest.raises(case.step, match=re.escape("device /dev/nvme1n1 of volume vol-0123456789abcdef0")):
            stage.preparation(case.contents, case.wanted, case.device, can_grow_mounted=case.can_grow_mounted)
        return
    assert (
        stage.preparation(case.contents, case.wanted, case.device, can_grow_mounted=case.can_grow_mounted) == case.step
    )


def test_a_leftover_mkfs_marker_is_removed_before_the_mount() -> None:
    """If the superblock were lost later, the volume would look like an interrupted mkfs and be formatted."""
    found = Filesystem(kind="ext4", size=4 * GIB, marked_unfinished=True)

    assert stage.preparation(found, staging(), DEVICE, can_grow_mounted=True) == Repair(found, grow=False)


def test_an_interrupted_growth_is_repaired_before_the_mount() -> None:
    """Even if the process may grow a mounted filesystem."""
    found = Filesystem(kind="ext4", size=2 * GIB, marked_growing=True)

    assert stage.preparation(found, staging(), DEVICE, can_grow_mounted=True) == Repair(found, grow=False)


def test_a_refusal_names_what_is_there_and_what_was_wanted() -> None:
    """The operator then need not look at the device."""
    with pytest.raises(errors.NotReady, match="holds crypto_LUKS, not ext4"):
        stage.preparation(Foreign("crypto_LUKS"), staging(), DEVICE, can_grow_mounted=True)


def test_a_refusal_of_a_damaged_filesystem_says_how_to_recover_it_and_how_to_give_it_up() -> None:
    """kubernetes/kubernetes#140376: a volume with only a lost superblock was formatted."""
    found = Remains(copies="a backup superblock of ext4 in block 32768", repair="e2fsck -b 32768 -B 4096")

    with pytest.raises(errors.NotReady) as refusal:
        stage.preparation(found, staging(), DEVICE, can_grow_mounted=True)

    message = str(refusal.value)
    assert "holds a backup superblock of ext4 in block 32768" in message
    assert '"e2fsck -b 32768 -B 4096 /dev/nvme1n1"' in message
    assert '"blkdiscard --zeroout /dev/nvme1n1"' in message
