import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.linux import blkid, contents, marker
from hyperpod_ebs.driver.linux.superblock import SIZE
from hyperpod_ebs.driver.model.disk import Blank, Contents, Filesystem, Foreign, Unfinished

VOLUME = "vol-0123456789abcdef0"
OTHER = "vol-0fedcba9876543210"
EMPTY = bytes(4096)
NOTE = marker.encode(VOLUME)


def ext4() -> bytes:
    block = bytearray(SIZE)
    struct.pack_into("<I", block, 1024 + 4, 2**18)
    struct.pack_into("<I", block, 1024 + 24, 2)
    struct.pack_into("<HH", block, 1024 + 56, 0xEF53, 1)
    return bytes(block)


def xfs(*, in_progress: bool) -> bytes:
    block = bytearray(SIZE)
    struct.pack_into(">4sIQ", block, 0, b"XFSB", 4096, 2**18)
    block[126] = in_progress
    return bytes(block)


class Found(NamedTuple):
    """What is seen on a device, and what it is."""

    id: str
    start: bytes
    tags: dict[str, str]
    note: bytes
    answer: Contents


@pytest.mark.parametrize(
    "found",
    [
        Found("ext4", ext4(), {"TYPE": "ext4"}, EMPTY, Filesystem(kind="ext4", size=2**30)),
        Found(
            "ext4 with our note",
            ext4(),
            {"TYPE": "ext4"},
            NOTE,
            Filesystem(kind="ext4", size=2**30, marked_unfinished=True),
        ),
        Found(
            "ext4 that was growing",
            ext4(),
            {"TYPE": "ext4"},
            marker.encode(VOLUME, marker.GROWING),
            Filesystem(kind="ext4", size=2**30, marked_growing=True),
        ),
        Found("xfs", xfs(in_progress=False), {"TYPE": "xfs"}, EMPTY, Filesystem(kind="xfs", size=2**30)),
        Found("our xfs in progress", xfs(in_progress=True), {"TYPE": "xfs"}, NOTE, Unfinished()),
        Found(
            "somebody's xfs in progress",
            xfs(in_progress=True),
            {"TYPE": "xfs"},
            EMPTY,
            Foreign("an xfs that somebody else was making or copying, and did not finish"),
        ),
        Found("ext4 that we cannot read", EMPTY, {"TYPE": "ext4"}, EMPTY, Foreign("ext4")),
        Found("another kind over ext4", ext4(), {"TYPE": "LVM2_member"}, EMPTY, Foreign("LVM2_member")),
        Found("only partitions", EMPTY, {"PTTYPE": "gpt"}, EMPTY, Foreign("a partition table (gpt)")),
        Found(
            "ext4 and partitions",
            ext4(),
            {"TYPE": "ext4", "PTTYPE": "dos"},
            EMPTY,
            Foreign("ext4 and a partition table (dos)"),
        ),
        Found("a tag of no kind", EMPTY, {"USAGE": "other"}, EMPTY, Foreign("USAGE=other")),
    ],
    ids=lambda found: found.id,
)
def test_what_blkid_and_the_superblock_say_together(found: Found) -> None:
    """Ours: both must agree, else it is somebody's."""
    assert contents.recognised(found.start, found.tags, volume_id=VOLUME, note=found.note) == found.answer


@pytest.mark.requirement("data.format-only-blank")
@given(
    start=st.sampled_from([EMPTY, ext4(), xfs(in_progress=True), xfs(in_progress=False)]),
    tags=st.dictionaries(st.sampled_from(["TYPE", "PTTYPE", "USAGE", "LABEL"]), st.text(), min_size=1),
)
def test_whatever_blkid_recognises_is_never_blank(start: bytes, tags: dict[str, str]) -> None:
    """Ours: a kind that a later blkid learns is refused by its name alone."""
    answer = contents.recognised(start, tags, volume_id=VOLUME)

    assert isinstance(answer, Filesystem | Foreign)
    if tags.get("TYPE") not in {"ext4", "xfs"}:
        assert isinstance(answer, Foreign)


@pytest.mark.requirement("data.format-only-blank")
@given(window=st.integers(0, 4), at=st.integers(0, 4095), byte=st.integers(1, 255))
def test_a_single_byte_where_blkid_looks_makes_a_device_not_blank(window: int, at: int, byte: int) -> None:
    """Ours: raw data has no signature, and is somebody's all the same."""
    windows = [bytearray(4096) for _ in range(5)]
    windows[window][at] = byte

    answer = contents.unexplained([bytes(one) for one in windows], EMPTY, VOLUME)

    assert isinstance(answer, Foreign)


def test_zeros_everywhere_are_blank() -> None:
    """Ours."""
    assert contents.unexplained([EMPTY] * 5, EMPTY, VOLUME) == Blank()


def test_only_the_volumes_own_note_lets_mkfs_begin_again() -> None:
    """Ours: a restored snapshot of a volume that was being formatted is not the volume."""
    data = [b"\1" * 4096]

    assert contents.unexplained(data, NOTE, VOLUME) == Unfinished()
    assert isinstance(contents.unexplained(data, marker.encode(VOLUME, marker.GROWING), VOLUME), Foreign)
    assert contents.unexplained(data, marker.encode(OTHER), VOLUME) == Foreign(
        f"the beginnings of a filesystem of volume {OTHER}"
    )


@given(st.binary(max_size=4096))
def test_no_other_block_is_a_note(block: bytes) -> None:
    """Ours."""
    assert marker.decode(block) is None
    assert marker.decode(NOTE[:-1] + b"\1") is None


def test_a_device_of_which_blkid_says_only_its_name_has_no_tags() -> None:
    """The export format of blkid: the device's own name says nothing about what is on it."""
    assert blkid.read("DEVNAME=/dev/x\n") is None
    assert blkid.read("\nDEVNAME=/dev/x\nTYPE=swap\n") == {"TYPE": "swap"}
