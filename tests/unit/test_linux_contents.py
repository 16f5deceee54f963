import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.linux import blkid, contents, marker
from hyperpod_ebs.driver.linux.metadata_copies import Block
from hyperpod_ebs.driver.linux.superblock import SIZE
from hyperpod_ebs.driver.model.disk import Blank, Contents, Filesystem, Foreign, Remains, Unfinished

VOLUME = "vol-0123456789abcdef0"
OTHER = "vol-0fedcba9876543210"
EMPTY = bytes(4096)
MARKER = marker.encode(VOLUME)


def ext4(*, last_mounted: str = "", bigalloc: bool = False) -> bytes:
    block = bytearray(SIZE)
    struct.pack_into("<I", block, 1024 + 4, 2**18)
    struct.pack_into("<I", block, 1024 + 24, 2)
    struct.pack_into("<HH", block, 1024 + 56, 0xEF53, 1)
    struct.pack_into("<I", block, 1024 + 100, 0x200 * bigalloc)
    struct.pack_into("64s", block, 1024 + 136, last_mounted.encode())
    return bytes(block)


def xfs(*, in_progress: bool) -> bytes:
    block = bytearray(SIZE)
    struct.pack_into(">4sIQ", block, 0, b"XFSB", 4096, 2**18)
    block[126] = in_progress
    return bytes(block)


class Case(NamedTuple):
    """What blkid and the driver read from a device, and the contents that follow."""

    id: str
    start: bytes
    tags: dict[str, str]
    marker_block: bytes
    contents: Contents


@pytest.mark.parametrize(
    "case",
    [
        Case("ext4", ext4(), {"TYPE": "ext4"}, EMPTY, Filesystem(kind="ext4", size=2**30)),
        Case(
            "ext4 with the mkfs marker",
            ext4(),
            {"TYPE": "ext4"},
            MARKER,
            Filesystem(kind="ext4", size=2**30, marked_unfinished=True),
        ),
        Case(
            "ext4 with the resize marker",
            ext4(last_mounted=marker.GROWING),
            {"TYPE": "ext4"},
            EMPTY,
            Filesystem(kind="ext4", size=2**30, marked_growing=True),
        ),
        Case(
            "ext4 that cannot grow unmounted",
            ext4(bigalloc=True),
            {"TYPE": "ext4"},
            EMPTY,
            Filesystem(kind="ext4", size=2**30, can_grow_unmounted=False),
        ),
        Case("xfs", xfs(in_progress=False), {"TYPE": "xfs"}, EMPTY, Filesystem(kind="xfs", size=2**30)),
        Case("xfs in progress with the mkfs marker", xfs(in_progress=True), {"TYPE": "xfs"}, MARKER, Unfinished()),
        Case(
            "xfs in progress without a marker",
            xfs(in_progress=True),
            {"TYPE": "xfs"},
            EMPTY,
            Foreign("an unfinished xfs that another program was making or copying"),
        ),
        Case("ext4 with an unreadable superblock", EMPTY, {"TYPE": "ext4"}, EMPTY, Foreign("ext4")),
        Case("LVM over ext4", ext4(), {"TYPE": "LVM2_member"}, EMPTY, Foreign("LVM2_member")),
        Case("only a partition table", EMPTY, {"PTTYPE": "gpt"}, EMPTY, Foreign("a partition table (gpt)")),
        Case(
            "ext4 and a partition table",
            ext4(),
            {"TYPE": "ext4", "PTTYPE": "dos"},
            EMPTY,
            Foreign("ext4 and a partition table (dos)"),
        ),
        Case("a tag without a type", EMPTY, {"USAGE": "other"}, EMPTY, Foreign("USAGE=other")),
    ],
    ids=lambda case: case.id,
)
def test_a_filesystem_counts_only_if_blkid_and_the_superblock_agree(case: Case) -> None:
    """If they disagree, the device may hold another program's data."""
    answer = contents.contents_by_signature(case.start, case.tags, volume_id=VOLUME, marker_block=case.marker_block)

    assert answer == case.contents


@pytest.mark.requirement("data.format-only-blank")
@given(
    start=st.sampled_from([EMPTY, ext4(), xfs(in_progress=True), xfs(in_progress=False)]),
    tags=st.dictionaries(st.sampled_from(["TYPE", "PTTYPE", "USAGE", "LABEL"]), st.text(), min_size=1),
)
def test_a_device_on_which_blkid_recognises_anything_is_never_blank(start: bytes, tags: dict[str, str]) -> None:
    """A later blkid may report types that the driver does not know."""
    answer = contents.contents_by_signature(start, tags, volume_id=VOLUME)

    assert isinstance(answer, Filesystem | Foreign)
    if tags.get("TYPE") not in {"ext4", "xfs"}:
        assert isinstance(answer, Foreign)


@pytest.mark.requirement("data.format-only-blank")
@given(block=st.integers(0, 2**40), at=st.integers(0, 4095), byte=st.integers(1, 255))
def test_a_single_byte_makes_a_device_not_blank(block: int, at: int, byte: int) -> None:
    """Raw data has no signature, and mkfs would still destroy it."""
    data = Block(block * 4096, bytes(at) + bytes([byte]) + bytes(4095 - at))

    answer = contents.contents_without_signature([data], EMPTY, VOLUME)

    assert answer == Foreign(f"unrecognised data at byte {block * 4096 + at}")


def test_a_device_with_zeros_everywhere_is_blank() -> None:
    assert contents.contents_without_signature([], EMPTY, VOLUME) == Blank()


def test_only_the_volumes_own_marker_lets_mkfs_start_again() -> None:
    """A volume restored from a snapshot taken during mkfs has the marker of the snapshot's source."""
    data = [Block(0, b"\1" * 4096)]

    assert contents.contents_without_signature(data, MARKER, VOLUME) == Unfinished()
    assert contents.contents_without_signature(data, marker.encode(OTHER), VOLUME) == Foreign(
        f"an unfinished filesystem of volume {OTHER}"
    )


def test_copies_of_several_kinds_are_named_without_advice_for_one_of_them() -> None:
    """Volumes keep copies of what was on them before; a repair from those would destroy the newer filesystem."""
    xfs_copy, btrfs_copy = Block(25 * 2**30, b"XFSB".ljust(4096, b"\1")), Block(2**26, bytes(64) + b"_BHRfS_M")

    alone = contents.contents_without_signature([xfs_copy], EMPTY, VOLUME)
    both = contents.contents_without_signature([btrfs_copy, xfs_copy], EMPTY, VOLUME)

    assert alone == Remains(copies=f"a superblock of an XFS allocation group at byte {25 * 2**30}", repair="xfs_repair")
    assert both == Remains(
        copies=f"a superblock of btrfs at byte {2**26} and a superblock of an XFS allocation group at byte {25 * 2**30}"
    )


@given(st.binary(max_size=4096))
def test_no_other_block_is_a_marker(block: bytes) -> None:
    assert marker.decode(block) is None
    assert marker.decode(MARKER[:-1] + b"\1") is None


def test_the_device_name_alone_is_not_a_tag() -> None:
    """blkid(8), --output export: DEVNAME says nothing about what is on the device."""
    assert blkid.parse("DEVNAME=/dev/x\n") is None
    assert blkid.parse("\nDEVNAME=/dev/x\nTYPE=swap\n") == {"TYPE": "swap"}
