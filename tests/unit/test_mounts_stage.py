import re
from pathlib import Path
from typing import NamedTuple

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Capability, Mount
from hyperpod_ebs.driver.model.disk import Blank, Contents, Device, DeviceNumber, Filesystem, Foreign, Unfinished
from hyperpod_ebs.driver.mounts import stage
from hyperpod_ebs.driver.mounts.stage import Format, Ready, Repair, Staging, Step

GIB = 2**30
DEVICE = Device(path=Path("/dev/nvme1n1"), number=DeviceNumber(259, 3), size=4 * GIB)
SOUND = Filesystem(kind="ext4", size=4 * GIB)
SMALL = Filesystem(kind="ext4", size=2 * GIB)
DAMAGED = Filesystem(kind="ext4", size=4 * GIB, damaged=True)


def wanted(*flags: str, mode: AccessMode = AccessMode.SINGLE_NODE_WRITER) -> Staging:
    return Staging(
        volume_id="vol-0123456789abcdef0", target=Path("/k"), capability=Capability(Mount("ext4", flags), mode)
    )


class Case(NamedTuple):
    """A row of the table."""

    id: str
    contents: Contents
    wanted: Staging
    step: Step | type[errors.Error]
    grows_mounted: bool = True


READING = wanted("ro")


@pytest.mark.parametrize(
    "case",
    [
        Case("blank is formatted", Blank(), wanted(), Format()),
        Case("an unfinished mkfs begins again", Unfinished(), wanted(), Format()),
        Case("blank is not written to for a reader", Blank(), READING, errors.NotReady),
        Case("unfinished is not written to for a reader", Unfinished(), READING, errors.NotReady),
        Case(
            "a mode may forbid writing too",
            Blank(),
            wanted(mode=AccessMode.SINGLE_NODE_READER_ONLY),
            errors.NotReady,
        ),
        Case("sound is mounted as it is", SOUND, wanted(), Ready()),
        Case("sound needs no capability", SOUND, wanted(), Ready(), grows_mounted=False),
        Case("damaged is mended", DAMAGED, wanted(), Repair(DAMAGED, grow=False)),
        Case("damaged is left to a reader", DAMAGED, READING, Ready()),
        Case("small grows after the mount", SMALL, wanted(), Ready()),
        Case(
            "small grows before the mount where it must", SMALL, wanted(), Repair(SMALL, grow=True), grows_mounted=False
        ),
        Case("small is left to a reader", SMALL, READING, Ready(), grows_mounted=False),
        Case(
            "what is held is not touched",
            Filesystem(kind="ext4", size=GIB, damaged=True, in_use=True),
            wanted(),
            Ready(),
            grows_mounted=False,
        ),
        Case("another filesystem is refused", Filesystem(kind="xfs", size=GIB), wanted(), errors.NotReady),
        Case("anything else is refused", Foreign("swap"), wanted(), errors.NotReady),
    ],
    ids=lambda case: case.id,
)
def test_what_is_on_the_device_decides_what_is_done(case: Case) -> None:
    """Ours: the table in the module's docstring."""
    if isinstance(case.step, type):
        with pytest.raises(case.step, match=re.escape("device /dev/nvme1n1 of volume vol-0123456789abcdef0")):
            stage.preparation(case.contents, case.wanted, DEVICE, grows_mounted=case.grows_mounted)
        return
    assert stage.preparation(case.contents, case.wanted, DEVICE, grows_mounted=case.grows_mounted) == case.step


def test_a_note_that_still_stands_is_taken_away_first() -> None:
    """Ours: else a superblock that is lost one day would look like an mkfs that was cut off."""
    found = Filesystem(kind="ext4", size=4 * GIB, marked_unfinished=True)

    assert stage.preparation(found, wanted(), DEVICE, grows_mounted=True) == Repair(found, grow=False)


def test_a_growth_that_was_cut_off_is_mended_first() -> None:
    """Ours: also where a mounted filesystem may grow, and by itself goes on to."""
    found = Filesystem(kind="ext4", size=2 * GIB, marked_growing=True)

    assert stage.preparation(found, wanted(), DEVICE, grows_mounted=True) == Repair(found, grow=False)


def test_a_refusal_names_what_is_there_and_what_was_wanted() -> None:
    """Ours: the operator should not have to look."""
    with pytest.raises(errors.NotReady, match="holds crypto_LUKS, not ext4"):
        stage.preparation(Foreign("crypto_LUKS"), wanted(), DEVICE, grows_mounted=True)
