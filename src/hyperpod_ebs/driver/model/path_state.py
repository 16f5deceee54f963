"""A path that a volume is staged or published at, and what is mounted there."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from hyperpod_ebs.driver.model.disk import DeviceNumber


class PathKind(StrEnum):
    """What a path leads to."""

    ABSENT = "nothing"
    DIRECTORY = "a directory"
    FILE = "a file"
    OTHER = "something that is neither a file nor a directory"
    UNKNOWN = "something that does not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountEntry:
    """One line of the kernel's mount table."""

    id: int
    parent: int
    number: DeviceNumber
    root: str
    """Which part of the filesystem is mounted: `/`, or a path inside it."""
    mount_point: Path
    options: frozenset[str]
    """Those of this mount alone: `ro`, `noexec`."""
    filesystem: str
    source: str
    super_options: frozenset[str]
    """Those of the filesystem, shared by all its mounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathState:
    """A path below the node's root directory, its symbolic links resolved, as found at one moment."""

    path: Path
    kind: PathKind = PathKind.ABSENT
    mounts: tuple[MountEntry, ...] = ()
    """What is mounted at it, the top one last."""
    device_node: DeviceNumber | None = None
    """The device behind it, where the path is a device node."""
    broken: str = ""
    """Why it cannot be used, where what is mounted is dead; empty where it answers."""
    siblings: tuple[Path, ...] = field(default=())
    """Where else below the node's root directory the top mount's device is mounted."""

    @property
    def top(self) -> MountEntry | None:
        """What a look at the path meets first."""
        return self.mounts[-1] if self.mounts else None

    @property
    def number(self) -> DeviceNumber | None:
        """The device that is behind the path: of the device node itself, else of the filesystem mounted."""
        return self.device_node or (self.top.number if self.top else None)
