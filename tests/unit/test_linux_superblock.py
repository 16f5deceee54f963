import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.linux.superblock import SIZE, Ext, ExtBackup, Xfs

VALID, ERROR = 1, 2
JOURNAL, WIDE = 0x4, 0x80


def ext(*, blocks: int = 2**20, shift: int = 2, state: int = VALID, compatible: int = JOURNAL) -> bytes:
    block = bytearray(1024)
    struct.pack_into("<I", block, 4, blocks & 0xFFFFFFFF)
    struct.pack_into("<I", block, 24, shift)
    struct.pack_into("<HH", block, 56, 0xEF53, state)
    struct.pack_into("<II", block, 92, compatible, WIDE)
    struct.pack_into("<I", block, 336, blocks >> 32)
    return bytes(1024) + bytes(block) + bytes(SIZE - 2048)


@given(blocks=st.integers(1, 2**48), shift=st.integers(0, 6))
def test_ext4_has_the_size_that_its_superblock_says(blocks: int, shift: int) -> None:
    """Kernel, Documentation/filesystems/ext4/super.rst: s_blocks_count_lo and _hi, and s_log_block_size."""
    seen = Ext.read(ext(blocks=blocks, shift=shift))

    assert seen is not None
    assert seen.size == blocks * (1024 << shift)


def test_ext4_is_damaged_if_its_superblock_has_errors_or_it_was_left_open_without_a_journal() -> None:
    """A mount replays the journal of a filesystem that was left open, so no check is needed then."""
    states = {
        (VALID, JOURNAL): False,
        (0, JOURNAL): False,
        (VALID | ERROR, JOURNAL): True,
        (VALID, 0): False,
        (0, 0): True,
    }

    for (state, compatible), damaged in states.items():
        seen = Ext.read(ext(state=state, compatible=compatible))
        assert seen is not None
        assert seen.damaged is damaged


@given(blocks=st.integers(1, 2**52), size_log=st.integers(9, 16), in_progress=st.booleans())
def test_xfs_has_the_size_that_its_superblock_says(blocks: int, size_log: int, *, in_progress: bool) -> None:
    """Kernel, fs/xfs/libxfs/xfs_format.h, struct xfs_dsb."""
    block = bytearray(SIZE)
    struct.pack_into(">4sIQ", block, 0, b"XFSB", 1 << size_log, blocks)
    block[126] = in_progress

    assert Xfs.read(bytes(block)) == Xfs(size=blocks << size_log, in_progress=in_progress)


@given(st.binary(max_size=SIZE) | st.binary(max_size=SIZE).map(lambda rest: (b"XFSB" + rest).ljust(SIZE, b"\1")))
def test_no_bytes_on_a_device_make_the_readers_fail(start: bytes) -> None:
    """Users and other programs write to devices too."""
    Ext.read(start)
    Xfs.read(start)


@pytest.mark.parametrize(
    ("compatible", "incompatible", "kind"),
    [
        (0, 0x2, "ext2"),
        (JOURNAL, 0x2, "ext3"),
        (JOURNAL, 0x13F, "ext3"),
        (JOURNAL, 0x40, "ext4"),
        (JOURNAL, 0x80, "ext4"),
        (0, 0x200, "ext4"),
    ],
    ids=["neither", "a journal", "features of ext3", "extents", "64bit", "flex_bg"],
)
def test_the_kind_of_a_lost_filesystem_follows_from_its_features(compatible: int, incompatible: int, kind: str) -> None:
    """Kernel, Documentation/filesystems/ext4/super.rst, s_feature_incompat."""
    sector = bytearray(512)
    struct.pack_into("<I", sector, 32, 32768)
    struct.pack_into("<H", sector, 56, 0xEF53)
    struct.pack_into("<H", sector, 90, 1)
    struct.pack_into("<II", sector, 92, compatible, incompatible)

    seen = ExtBackup.read(bytes(sector))

    assert seen is not None
    assert seen.kind == kind
