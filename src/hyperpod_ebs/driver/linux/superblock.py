"""The superblocks of ext4 and XFS, read without another program.

ext4: kernel Documentation/filesystems/ext4/super.rst, little-endian, at byte 1024.
XFS: struct xfs_dsb in the kernel's fs/xfs/libxfs/xfs_format.h, big-endian, at byte 0.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

SIZE: Final = 4096
"""Bytes from the start of the device that hold either superblock."""

_EXT: Final = 1024
_EXT_SIZE: Final = 1024
_EXT_BACKUP_SIZE: Final = 512
_EXT_MAGIC: Final = 0xEF53
_EXT_VALID, _EXT_ERROR = 1, 2
_EXT_HAS_JOURNAL: Final = 0x4
_EXT_64BIT: Final = 0x80
_EXT_BIGALLOC: Final = 0x200
_EXT_ONLY_EXT4: Final = 0x2C0
"""Incompatible features that only ext4 has and mkfs.ext4 sets: extents, 64bit, flex_bg."""

_EXT_BLOCK: Final = 1024
_EXT_LARGEST_SHIFT: Final = 6
_EXT_GROUP_NUMBERS: Final = 2**16

_XFS_MAGIC: Final = b"XFSB"


@dataclass(frozen=True, slots=True)
class Ext:
    """A superblock of the ext2, ext3, ext4 family."""

    size: int
    """Bytes."""
    damaged: bool
    """Whether it records errors, or was not unmounted cleanly and has no journal to replay."""
    bigalloc: bool
    """Whether it allocates clusters of blocks."""
    last_mounted: str
    """Where it was mounted last; `linux.marker` keeps a text of its own there."""

    @classmethod
    def read(cls, start: bytes) -> Self | None:
        """The superblock in the first `SIZE` bytes of a device; None if there is none."""
        block = start[_EXT : _EXT + _EXT_SIZE]
        if len(block) < _EXT_SIZE or _u16(block, 56) != _EXT_MAGIC or _u32(block, 24) > _EXT_LARGEST_SHIFT:
            return None
        state, compatible, incompatible = _u16(block, 58), _u32(block, 92), _u32(block, 96)
        high = _u32(block, 336) if incompatible & _EXT_64BIT else 0
        blocks = _u32(block, 4) | high << 32
        left_open = not state & _EXT_VALID and not compatible & _EXT_HAS_JOURNAL
        return cls(
            size=blocks * (_EXT_BLOCK << _u32(block, 24)),
            damaged=bool(state & _EXT_ERROR) or left_open,
            bigalloc=bool(_u32(block, 100) & _EXT_BIGALLOC),
            last_mounted=block[136:200].partition(b"\0")[0].decode(errors="replace"),
        )


@dataclass(frozen=True, slots=True)
class ExtBackup:
    """A backup superblock of the ext2, ext3, ext4 family, at the start of a block group other than the first."""

    kind: str
    block_size: int
    """Bytes."""
    group_size: int
    """Bytes of a block group."""
    position: int
    """Bytes from the start of the filesystem, as far as it says: it counts groups only up to 65,535."""

    def filesystem_start(self, offset: int) -> int:
        """Where on the device the filesystem begins whose backup superblock this is, at `offset`."""
        return (offset - self.position) % (_EXT_GROUP_NUMBERS * self.group_size)

    @classmethod
    def read(cls, sector: bytes) -> Self | None:
        """The backup superblock whose first 512 bytes are `sector`; None if there is none."""
        if len(sector) < _EXT_BACKUP_SIZE or _u16(sector, 56) != _EXT_MAGIC or _u32(sector, 24) > _EXT_LARGEST_SHIFT:
            return None
        group, blocks_per_group = _u16(sector, 90), _u32(sector, 32)
        if not group or not blocks_per_group:
            return None
        compatible, incompatible = _u32(sector, 92), _u32(sector, 96)
        older = "ext3" if compatible & _EXT_HAS_JOURNAL else "ext2"
        block_size = _EXT_BLOCK << _u32(sector, 24)
        return cls(
            kind="ext4" if incompatible & _EXT_ONLY_EXT4 else older,
            block_size=block_size,
            group_size=blocks_per_group * block_size,
            position=(_u32(sector, 20) + group * blocks_per_group) * block_size,
        )


@dataclass(frozen=True, slots=True)
class Xfs:
    """A superblock of XFS."""

    size: int
    """Bytes."""
    in_progress: bool
    """Whether mkfs or xfs_copy has not finished: the kernel refuses to mount such a filesystem."""

    @classmethod
    def read(cls, start: bytes) -> Self | None:
        """The superblock in the first `SIZE` bytes of a device; None if there is none."""
        if len(start) < SIZE or start[:4] != _XFS_MAGIC:
            return None
        block_size, blocks = struct.unpack_from(">IQ", start, 4)
        return cls(
            size=block_size * blocks,
            in_progress=bool(start[126]),
        )


def _u16(block: bytes, offset: int) -> int:
    return int.from_bytes(block[offset : offset + 2], "little")


def _u32(block: bytes, offset: int) -> int:
    return int.from_bytes(block[offset : offset + 4], "little")
