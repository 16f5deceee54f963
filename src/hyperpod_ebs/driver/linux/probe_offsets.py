"""Where to read a device, besides the places where blkid looks, before the device counts as blank.

A device whose first megabytes are lost still has data, and most formats keep copies of their metadata for that case.
The driver reads each place where such a copy can be, and a sample of the whole device for data without a format. The
number of places is bounded: about 330 at 4 GiB, 810 at 100 GiB, 2,940 at 16 TiB (decision 0005).
"""

from collections.abc import Iterator
from typing import Final

from hyperpod_ebs.kit.files import BLOCK

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30
TIB: Final = 2**40

_EXT_BLOCK_SIZES: Final = tuple(KIB << shift for shift in range(7))
_EXT_CLUSTER_SIZES: Final = tuple(KIB << shift for shift in range(20))
_EXT_MOST_CLUSTERS: Final = 2**16 - 8
"""The most clusters in a block group: EXT2_MAX_CLUSTERS_PER_GROUP of e2fsprogs."""

_EXT_BACKUP_BASES: Final = (3, 5, 7)
"""With sparse_super, the groups with a backup are 1 and the powers of these; without it, these have one too."""

_FIRST_PARTITION: Final = MIB
"""Where fdisk and its like begin the first partition, and LVM the first logical volume."""

_XFS_BLOCK_SIZES: Final = tuple(512 << shift for shift in range(8))
_XFS_GROUP_COUNTS: Final = (2, 3, 4, 8, 16, 32)
_XFS_SMALLEST_CONCURRENT_GROUP: Final = 4 * GIB
_CPU_COUNTS: Final = (*range(2, 65), 72, 80, 96, 112, 128, 144, 160, 192, 224, 256, 384, 448)

_SINGLE_COPIES: Final = (
    64 * MIB,  # btrfs, second superblock
    256 * GIB,  # btrfs, third superblock
    _FIRST_PARTITION + 64 * MIB,
    _FIRST_PARTITION + 256 * GIB,
    *(GIB << 2 * power for power in range(6)),  # OCFS2, backup superblocks
    *(GIB * 10**power for power in range(4)),  # Ceph BlueStore, labels
)

_BCACHEFS_BUCKETS: Final = tuple(KIB << shift for shift in range(7, 15))
"""The last superblock of bcachefs is in the last bucket that begins a mebibyte or more before the end."""

_SAMPLES_PER_DOUBLING: Final = 16
_UNIFORM_SAMPLES: Final = 256
_FINEST_SAMPLE: Final = 64 * MIB
_GOLDEN_RATIO: Final = 0.6180339887498949


def probe_offsets(size: int) -> list[int]:
    """The offsets of the blocks to read on a device of `size` bytes: ascending multiples of `files.BLOCK`."""
    bcachefs = ((size - MIB) // bucket * bucket for bucket in _BCACHEFS_BUCKETS)
    places = {*_ext_backups(size), *_xfs_groups(size), *_SINGLE_COPIES, *bcachefs, *_samples(size)}
    blocks = {place // BLOCK * BLOCK for place in places}
    return sorted(block for block in blocks if BLOCK <= block <= size - BLOCK)


def _ext_backups(size: int) -> Iterator[int]:
    """The backup superblocks of ext2, ext3 and ext4, with each block size and with each cluster size of bigalloc.

    Kernel, Documentation/filesystems/ext4/blockgroup.rst and bigalloc.rst. meta_bg moves only the descriptors.
    """
    geometries = {
        # The superblock of a filesystem with clusters of 1 KiB is in block 1, so all of its groups begin 1 KiB later.
        (cluster if cluster == KIB else 0, min(8 * block, _EXT_MOST_CLUSTERS) * cluster)
        for block in _EXT_BLOCK_SIZES
        for cluster in _EXT_CLUSTER_SIZES
        if cluster >= block
    }
    for first, group in geometries:
        count = -(-(size - first) // group)
        yield from (first + number * group for number in _backup_groups(count))
    for block in _EXT_BLOCK_SIZES:  # in a partition, whose end is unknown
        first, group = block if block == KIB else 0, min(8 * block, _EXT_MOST_CLUSTERS) * block
        count = -(-(size - first) // group)
        yield from (_FIRST_PARTITION + first + number * group for number in _backup_groups(count))


def _backup_groups(count: int) -> Iterator[int]:
    """The numbers of the groups with a backup superblock, of `count` groups."""
    yield 1
    for base in _EXT_BACKUP_BASES:
        power = base
        while power < count:
            yield power
            power *= base
    # sparse_super2: the last group, or the one before it if the last was too small to be made.
    yield from (number for number in (count - 2, count - 1) if number > 0)


def _xfs_groups(size: int) -> Iterator[int]:
    """The beginnings of allocation groups of XFS, each of which has a superblock.

    mkfs.xfs cuts a device into 4 groups, or, from 4 TiB, into groups of 1 TiB less a block. Since 6.8 it makes a group
    for each CPU, none smaller than 4 GiB, if the device does not rotate. Growth adds groups of the same size, so a
    volume that once had S GiB has groups at the multiples of S * 256 MiB.
    """
    for count in _XFS_GROUP_COUNTS:
        for block in _XFS_BLOCK_SIZES:
            group = -(-(size // block) // count) * block
            yield from (group, group * (count // 2), group * (count - 1))
    most = size // _XFS_SMALLEST_CONCURRENT_GROUP
    for count in {*_CPU_COUNTS, most}:
        if 1 < count <= most:
            group = size // BLOCK // count * BLOCK
            yield from (group, 2 * group)
    for block in _XFS_BLOCK_SIZES:
        yield from (number * (TIB - block) for number in (1, 2, 3))
    yield from range(256 * MIB, min(size // 4, 256 * GIB), 256 * MIB)
    yield from range(GIB, min(size // 4, TIB), GIB)


def _samples(size: int) -> Iterator[int]:
    """A sample of the whole device for data without a format, denser towards the start, where most data begins.

    It hits each run of data that is longer than an eighth of its distance to the start, or than twice the pitch.
    """
    octave = MIB
    while octave < size:
        yield from range(octave, min(2 * octave, size), octave // _SAMPLES_PER_DOUBLING)
        octave *= 2
    pitch = max(_FINEST_SAMPLE, size // _UNIFORM_SAMPLES)
    # Uneven steps, so that the sample does not meet only the same part of every group or stripe.
    yield from (int((number + number * _GOLDEN_RATIO % 1) * pitch) for number in range(-(-size // pitch)))
