"""The state of a path at which a volume is staged or published: what it is, and what is mounted there."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hyperpod_ebs.driver.model.disk import DeviceNumber


class PathKind(StrEnum):
    """What a path leads to, in words for messages."""

    ABSENT = "nothing"
    DIRECTORY = "a directory"
    FILE = "a file"
    OTHER = "something that is neither a file nor a directory"
    UNKNOWN = "something that does not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountEntry:
    """A line of the kernel's mount table."""

    id: int
    parent: int
    number: DeviceNumber
    root: str
    """The part of the filesystem that is mounted: `/`, or a path inside it."""
    mount_point: Path
    options: frozenset[str]
    """The options of this mount: `ro`, `noexec`."""
    filesystem: str
    source: str
    super_options: frozenset[str]
    """The options of the filesystem, which all its mounts share."""

    @property
    def is_removed(self) -> bool:
        """Whether the mounted file or directory was removed from its filesystem (the kernel's fs/d_path.c)."""
        return self.root.endswith("//deleted")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathState:
    """A path below the node's root directory, with symbolic links resolved, at one moment."""

    path: Path
    kind: PathKind = PathKind.ABSENT
    mounts: tuple[MountEntry, ...] = ()
    """What is mounted at the path; the last entry is on top."""
    device_node: DeviceNumber | None = None
    """The device's number, if the path is a device node."""
    broken: str = ""
    """Why the mount at the path does not work; empty if it works."""
    siblings: tuple[Path, ...] = ()
    """The other paths below the node's root directory at which the top mount's device is mounted."""

    @property
    def top(self) -> MountEntry | None:
        """The mount that a process sees at the path."""
        return self.mounts[-1] if self.mounts else None

    @property
    def is_removed_node(self) -> bool:
        """Whether a device node is mounted that its directory no longer has, because its device was removed."""
        return self.device_node is not None and self.top is not None and self.top.is_removed

    @property
    def number(self) -> DeviceNumber | None:
        """The number of the device behind the path: of the device node, or of the mounted filesystem.

        None for a removed device's node, whose number the kernel may have given to another device.
        """
        if self.is_removed_node:
            return None
        return self.device_node or (self.top.number if self.top else None)
