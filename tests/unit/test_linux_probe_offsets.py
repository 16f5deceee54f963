"""The places that the driver reads before a device counts as blank."""

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperpod_ebs.driver.linux.probe_offsets import probe_offsets

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
BLOCK = 4096
MOST_READS = 3200

sizes = st.integers(MIB // BLOCK, 64 * TIB // BLOCK).map(lambda blocks: blocks * BLOCK)


@given(size=sizes)
@example(size=64 * TIB)
def test_the_number_of_reads_is_bounded(size: int) -> None:
    """EBS answers a small read in about a millisecond; the largest volume has 64 TiB."""
    offsets = probe_offsets(size)

    assert len(offsets) <= MOST_READS
    assert offsets == sorted(set(offsets))
    assert all(offset % BLOCK == 0 and BLOCK <= offset <= size - BLOCK for offset in offsets)


@pytest.mark.parametrize(("size", "count"), [(4 * GIB, 333), (100 * GIB, 805), (2 * TIB, 2238), (16 * TIB, 2940)])
def test_the_number_of_reads_is_known(size: int, count: int) -> None:
    """Decision 0005: the time of the proof depends on it."""
    assert len(probe_offsets(size)) == count


def test_the_second_block_is_read_if_a_copy_can_be_there() -> None:
    """Blkid reads the first block; of a device of 128 KiB, an XFS with 32 groups has its second group in the second."""
    assert probe_offsets(32 * BLOCK)[0] == BLOCK


@given(size=sizes, start=st.floats(0, 1))
def test_each_long_run_of_data_meets_a_read(size: int, start: float) -> None:
    """Data without a format has no copies: a sample finds it."""
    begin = int(MIB + start * (size - MIB))
    end = begin + begin // 8 + 2 * BLOCK

    assert end > size or any(begin <= offset < end for offset in probe_offsets(size))


@given(size=sizes)
def test_no_two_reads_are_far_apart(size: int) -> None:
    """Data without a format that is longer than the gap between two reads meets a read at any place."""
    places = [0, *probe_offsets(size), size]

    assert max(end - begin for begin, end in pairwise(places)) <= max(128 * MIB, size // 128) + BLOCK


def test_the_sample_meets_all_parts_of_groups_and_stripes() -> None:
    """Data in the same part of each group would escape a sample with even steps."""
    size, group = TIB, 128 * MIB

    parts = {offset % group * 16 // group for offset in probe_offsets(size) if offset > size // 2}

    assert parts == set(range(16))


class Geometry(NamedTuple):
    """A filesystem, and the places of some of its copies."""

    id: str
    size: int
    copies: list[int]


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry("ext4, blocks of 1 KiB", 10 * GIB, [n * KIB for n in (8193, 24577, 40961, 57345, 401409, 663553)]),
        Geometry("ext4, blocks of 2 KiB", 64 * GIB, [n * 2 * KIB for n in (16384, 49152, 81920, 802816, 1327104)]),
        Geometry("ext4", 100 * GIB, [n * 4 * KIB for n in (32768, 98304, 163840, 229376, 294912, 819200)]),
        Geometry("ext4, blocks of 8 KiB", TIB, [n * 8 * KIB for n in (65528, 196584, 327640, 458696, 3210872)]),
        Geometry("ext4, blocks of 64 KiB", TIB, [n * 64 * KIB for n in (65528, 196584, 327640, 458696, 3210872)]),
        Geometry("ext4, clusters of 64 KiB", TIB, [n * 4 * KIB for n in (524288, 1572864, 2621440, 3670016)]),
        Geometry("ext4, clusters of 64 KiB, blocks of 16 KiB", TIB, [n * 16 * KIB for n in (262112, 786336, 1310560)]),
        Geometry("ext4, sparse_super2", 64 * GIB, [n * 4 * KIB for n in (32768, 16744448)]),
        Geometry("ext4, sparse_super2, blocks of 1 KiB", 65 * GIB, [n * KIB for n in (8193, 68149249)]),
        Geometry("ext4 in the first partition", 100 * GIB, [MIB + n * 4 * KIB for n in (32768, 98304)]),
        Geometry("xfs", 100 * GIB, [n * 6553600 * 4 * KIB for n in (1, 2, 3)]),
        Geometry("xfs, 300 MiB", 300 * MIB, [n * 19200 * 4 * KIB for n in (1, 2, 3)]),
        Geometry("xfs that was 10 GiB", 400 * GIB, [655360 * 4 * KIB]),
        Geometry("xfs that was 9 GiB", 10 * GIB, [9 * 256 * MIB]),
        Geometry("xfs that was 1900 GiB", 2 * TIB, [1900 * 256 * MIB]),
        Geometry("xfs that was 2000 GiB", 16 * TIB, [500 * GIB]),
        Geometry("xfs of 5 TiB", 5 * TIB, [n * 268435455 * 4 * KIB for n in (1, 2, 3)]),
        Geometry("xfs made on 96 CPUs", 2 * TIB, [2 * TIB // BLOCK // 96 * BLOCK]),
        Geometry("xfs made on 192 CPUs, groups of 4 GiB", 501 * GIB, [501 * GIB // BLOCK // 125 * BLOCK]),
        Geometry("btrfs", TIB, [64 * MIB, 256 * GIB]),
        Geometry("xfs that was 1021 GiB", 16 * TIB, [1021 * 256 * MIB]),
        Geometry("xfs that was 4092 GiB", 16 * TIB, [1023 * GIB]),
        Geometry("ext4, the largest groups", 64 * TIB, [65528 * 512 * MIB]),
        Geometry("ext4, sparse_super2, a last group that is too small", 65 * GIB + MIB, [519 * 128 * MIB]),
        Geometry("ext4 in the first partition, blocks of 1 KiB", 10 * GIB, [MIB + n * KIB for n in (401409, 663553)]),
        Geometry("ext4 in the first partition, blocks of 64 KiB", TIB, [MIB + 65528 * 64 * KIB]),
        Geometry("btrfs in the first partition", TIB, [65 * MIB, 256 * GIB + MIB]),
        Geometry("ceph bluestore", 2 * TIB, [GIB, 10 * GIB, 100 * GIB, 1000 * GIB]),
        Geometry("bcachefs, buckets of 128 KiB", 10 * GIB + 7 * BLOCK, [10 * GIB - MIB]),
        Geometry("bcachefs, buckets of 16 MiB", 10 * GIB + 7 * BLOCK, [10 * GIB - 16 * MIB]),
        Geometry("ocfs2", 2 * TIB, [GIB, 4 * GIB, 16 * GIB, 64 * GIB, 256 * GIB, TIB]),
    ],
    ids=lambda geometry: geometry.id,
)
def test_copies_of_metadata_are_read(geometry: Geometry) -> None:
    """The blocks that mke2fs and mkfs.xfs report, and the other formats' definitions."""
    read = set(probe_offsets(geometry.size))

    assert {copy // BLOCK * BLOCK for copy in geometry.copies} <= read


@pytest.mark.parametrize("count", [2, 3, 4, 8, 16, 32])
@pytest.mark.parametrize("block", [512, KIB, 4 * KIB, 64 * KIB])
def test_the_groups_of_an_xfs_of_any_size_are_read(count: int, block: int) -> None:
    """mkfs.xfs(8), agcount: 4 by default, up to 32 on a striped device, fewer on a small one."""
    size = 100_003 * BLOCK
    group = -(-(size // block) // count) * block

    read = set(probe_offsets(size))

    assert {place // BLOCK * BLOCK for place in (group, group * (count // 2), group * (count - 1))} <= read


@pytest.mark.parametrize(
    "cpus", [*range(2, 65), 72, 80, 96, 112, 128, 144, 160, 192, 224, 256, 384, 448], ids="{} CPUs".format
)
def test_the_groups_of_an_xfs_made_on_many_cpus_are_read(cpus: int) -> None:
    """Version 6.8 of xfsprogs, mkfs/xfs_mkfs.c: one group for each CPU on a device that does not rotate."""
    blocks = 1_900_000_003

    group = blocks // cpus * BLOCK

    assert {group, 2 * group} <= set(probe_offsets(blocks * BLOCK))
