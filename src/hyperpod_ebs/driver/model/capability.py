"""How a volume will be used: mounted or raw, by how many, for writing or not."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hyperpod_ebs.driver.model import errors

DEFAULT_FILESYSTEM: Final = "ext4"
FILESYSTEMS: Final = frozenset({"ext4", "xfs"})
"""What this driver formats and mounts."""


class AccessMode(StrEnum):
    """CSI's access modes, by their names there."""

    UNKNOWN = "UNKNOWN"
    SINGLE_NODE_WRITER = "SINGLE_NODE_WRITER"
    SINGLE_NODE_READER_ONLY = "SINGLE_NODE_READER_ONLY"
    MULTI_NODE_READER_ONLY = "MULTI_NODE_READER_ONLY"
    MULTI_NODE_SINGLE_WRITER = "MULTI_NODE_SINGLE_WRITER"
    MULTI_NODE_MULTI_WRITER = "MULTI_NODE_MULTI_WRITER"
    SINGLE_NODE_SINGLE_WRITER = "SINGLE_NODE_SINGLE_WRITER"
    SINGLE_NODE_MULTI_WRITER = "SINGLE_NODE_MULTI_WRITER"


ACCESS_MODES: Final = frozenset(
    {
        AccessMode.SINGLE_NODE_WRITER,
        AccessMode.SINGLE_NODE_SINGLE_WRITER,
        AccessMode.SINGLE_NODE_MULTI_WRITER,
        AccessMode.SINGLE_NODE_READER_ONLY,
    }
)
"""One node at a time: what a volume that is attached once can give."""


@dataclass(frozen=True, slots=True)
class Block:
    """The device itself."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A filesystem on it."""

    filesystem: str = DEFAULT_FILESYSTEM
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capability:
    """One way in which a volume will be used."""

    access: Block | Mount
    mode: AccessMode

    @property
    def read_only(self) -> bool:
        """Whether the mode itself forbids writing."""
        return self.mode is AccessMode.SINGLE_NODE_READER_ONLY


def unsupported_reason(capability: Capability) -> str | None:
    """Why a volume of ours cannot be used so; None when it can."""
    if capability.mode not in ACCESS_MODES:
        return f"access mode {capability.mode} is not offered: an EBS volume is attached to one node at a time"
    if isinstance(capability.access, Mount) and capability.access.filesystem not in FILESYSTEMS:
        return (
            f"filesystem {capability.access.filesystem!r} is not offered; take one of {', '.join(sorted(FILESYSTEMS))}"
        )
    return None


def check(capability: Capability) -> None:
    """Accept what can be had.

    Raises:
        InvalidRequest: It cannot; the text says why.
    """
    if reason := unsupported_reason(capability):
        raise errors.InvalidRequest(reason)
