"""What a node knows of a volume's device: which it is, what is on it, how full it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_SLACK: Final = 2**24
"""Bytes at a device's end that a filesystem may leave over: ext4 uses no last group that is mostly tables."""


@dataclass(frozen=True, slots=True, order=True)
class DeviceNumber:
    """The kernel's name for a device, the same whatever path leads to it."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The number that sysfs and the mount table write as `259:3`."""
        major, _, minor = text.strip().partition(":")
        return cls(int(major), int(minor))

    @property
    def is_anonymous(self) -> bool:
        """Whether no block device is behind it: tmpfs, overlay, devtmpfs."""
        return self.major == 0

    def __str__(self) -> str:
        return f"{self.major}:{self.minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A volume's block device, proved to be that volume's."""

    path: Path
    number: DeviceNumber
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Blank:
    """Read, and proved to hold nothing: the only thing that is ever formatted, but for `Unfinished`."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What an mkfs of ours left when it was cut off: no filesystem yet, and no one's data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """A complete filesystem."""

    kind: str
    size: int
    """Bytes, as its superblock says."""
    damaged: bool = False
    """Its superblock says that it has errors, or that it was left open without a journal."""
    marked_unfinished: bool = False
    """Our note that it was being made still stands, and has to go before it is used."""
    marked_growing: bool = False
    """Our note that it was being grown still stands: a repair may do what that needs."""
    in_use: bool = False
    """It is mounted, or open for another program's own use."""

    def is_smaller_than(self, device: Device) -> bool:
        """Whether the device has room that the filesystem does not use."""
        return device.size - self.size > _SLACK


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something that is neither blank nor a filesystem we can vouch for. Never written to."""

    what: str


Contents = Blank | Unfinished | Filesystem | Foreign


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much of something there is; None where that has no meaning."""

    total: int
    used: int | None = None
    available: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a volume is. A raw block volume has only a total, and no inodes."""

    bytes: Amount
    inodes: Amount | None = None
