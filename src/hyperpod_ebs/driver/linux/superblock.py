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
_EXT_MAGIC: Final = 0xEF53
_EXT_VALID, _EXT_ERROR = 1, 2
_EXT_HAS_JOURNAL: Final = 0x4
_EXT_64BIT: Final = 0x80
_EXT_BLOCK: Final = 1024
_EXT_LARGEST_SHIFT: Final = 6

_XFS_MAGIC: Final = b"XFSB"


@dataclass(frozen=True, slots=True)
class Ext:
    """A superblock of the ext2, ext3, ext4 family."""

    size: int
    """Bytes."""
    damaged: bool
    """Whether it records errors, or was not unmounted cleanly and has no journal to replay."""

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
