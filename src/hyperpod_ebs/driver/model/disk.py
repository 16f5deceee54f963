"""What the node process knows of a volume's device: which one it is, what is on it, and how full it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_UNUSED_END: Final = 2**24
"""Bytes at a device's end that a filesystem may leave unused: ext4 skips a last group that would be mostly tables."""


@dataclass(frozen=True, slots=True, order=True)
class DeviceNumber:
    """The kernel's number of a device, which is the same for every path to it."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a number in the form of sysfs and of the mount table, `259:3`."""
        major, _, minor = text.strip().partition(":")
        return cls(int(major), int(minor))

    @property
    def is_anonymous(self) -> bool:
        """Whether the number belongs to a filesystem without a block device: tmpfs, overlay, devtmpfs."""
        return self.major == 0

    def __str__(self) -> str:
        return f"{self.major}:{self.minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A block device that was proved to be a volume's."""

    path: Path
    number: DeviceNumber
    size: int
    """Bytes."""
    write_protected: bool = False
    """Whether the kernel refuses writes to it."""
    can_discard: bool = False
    """Whether it takes discards (TRIM); if not, the kernel drops the mount option `discard`."""


@dataclass(frozen=True, slots=True)
class Blank:
    """The device was read and holds nothing. The driver formats only blank and unfinished devices."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The device holds what an interrupted mkfs of the driver left: no filesystem yet, and no data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """The device holds a complete filesystem."""

    kind: str
    size: int
    """Bytes, according to its superblock."""
    damaged: bool = False
    """Whether its superblock reports errors, or no clean unmount of a filesystem without a journal."""
    marked_unfinished: bool = False
    """Whether the driver's marker of a running mkfs is still there; it must be removed before use."""
    marked_growing: bool = False
    """Whether the driver's marker of a running resize is still there; a repair may then do what the resize needs."""
    can_grow_unmounted: bool = True
    """Whether it can grow while it is not mounted; an ext4 with bigalloc cannot. XFS never needs it."""
    in_use: bool = False
    """Whether it is mounted, or open for the exclusive use of another program."""

    def is_smaller_than(self, device: Device) -> bool:
        """Whether the device has space that the filesystem does not use."""
        return device.size - self.size > _UNUSED_END


@dataclass(frozen=True, slots=True)
class Foreign:
    """The device holds something that the driver does not know. The driver never writes to such a device."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """The device has no readable filesystem, but copies of metadata. The driver never writes to such a device."""

    copies: str
    """What was found, and where."""
    repair: str = ""
    """The command that repairs the device from a copy, without the device's path; empty if there is no single one."""


Contents = Blank | Unfinished | Filesystem | Foreign | Remains


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much of something there is; None where that has no meaning."""

    total: int
    used: int | None = None
    available: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a volume is. A raw block volume has only a total number of bytes, and no inodes."""

    bytes: Amount
    inodes: Amount | None = None
