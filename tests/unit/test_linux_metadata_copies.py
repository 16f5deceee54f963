import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.linux.metadata_copies import MAGICS, Block, Magic, recognised_copies

KIB, MIB = 2**10, 2**20
EXTENTS, JOURNAL = 0x40, 0x4


def ext_backup(*, group: int, shift: int = 2, per_group: int = 32768, incompatible: int = EXTENTS) -> bytes:
    """A backup superblock, as it begins a block of a device."""
    block = bytearray(4096)
    struct.pack_into("<I", block, 20, 1 if shift == 0 else 0)
    struct.pack_into("<II", block, 24, shift, shift)
    struct.pack_into("<I", block, 32, per_group)
    struct.pack_into("<H", block, 56, 0xEF53)
    struct.pack_into("<H", block, 90, group & 0xFFFF)
    struct.pack_into("<II", block, 92, JOURNAL, incompatible)
    return bytes(block)


@given(group=st.integers(1, 2**20).filter(lambda group: group & 0xFFFF != 0))
def test_a_backup_superblock_is_named_with_the_command_that_restores_from_it(group: int) -> None:
    """e2fsck(8), -b and -B. A superblock counts groups only up to 65,535."""
    block = group * 32768

    (copy,) = recognised_copies([Block(block * 4096, ext_backup(group=group))])

    assert str(copy) == f"a backup superblock of ext4 in block {block} (byte {block * 4096})"
    assert copy.repair == f"e2fsck -b {block} -B 4096"


def test_a_backup_superblock_in_a_block_of_one_kibibyte_is_found_inside_the_block_read() -> None:
    """With such blocks the filesystem's first group begins in block 1."""
    data = bytes(KIB) + ext_backup(group=1, shift=0, per_group=8192, incompatible=0)[: 3 * KIB]

    (copy,) = recognised_copies([Block(8192 * KIB, data)])

    assert str(copy) == f"a backup superblock of ext3 in block 8193 (byte {8193 * KIB})"
    assert copy.repair == "e2fsck -b 8193 -B 1024"


def test_a_backup_superblock_in_a_partition_has_no_command_for_the_whole_device() -> None:
    """e2fsck would count the blocks from the start of the device."""
    (copy,) = recognised_copies([Block(MIB + 128 * MIB, ext_backup(group=1))])

    assert str(copy).endswith(f"at byte {129 * MIB}, in a partition that begins at byte {MIB}")
    assert not copy.repair


@pytest.mark.parametrize("magic", MAGICS, ids=lambda magic: f"{magic.kind} {magic.value.hex()}")
@given(sector=st.integers(0, 7))
def test_each_magic_number_is_found_in_each_sector(magic: Magic, sector: int) -> None:
    data = (bytes(sector * 512 + magic.at) + magic.value).ljust(4096, b"\0")

    (copy,) = recognised_copies([Block(MIB, data)])

    assert (copy.kind, copy.repair) == (magic.kind, magic.repair)
    assert copy.where == f"at byte {MIB + sector * 512}"


def test_the_magic_numbers_are_where_their_formats_have_them() -> None:
    """The definitions of the formats: most begin with their magic number."""
    later = {magic.kind: magic.at for magic in MAGICS if magic.at}

    assert later == {
        "a superblock of btrfs": 64,
        "LVM metadata": 4,
        "a superblock of bcachefs": 24,
        "a backup boot sector of NTFS": 3,
    }


@given(st.binary(min_size=1, max_size=4096))
def test_no_bytes_make_the_recognition_fail(data: bytes) -> None:
    """The last block of a device may be short."""
    recognised_copies([Block(0, data)])


@given(at=st.integers(0, 4095))
def test_a_block_knows_its_first_byte_that_is_not_zero(at: int) -> None:
    assert Block(MIB, bytes(at) + b"\1" * (4096 - at)).first_byte == MIB + at
