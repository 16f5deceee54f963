"""How a volume is to be used: mounted or as a raw block device, by how many nodes, writable or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.mount_options import DEFAULTS, MountOptions

DEFAULT_FILESYSTEM: Final = "ext4"
FILESYSTEMS: Final = frozenset({"ext4", "xfs"})
"""The filesystems that this driver creates and mounts."""


class AccessMode(StrEnum):
    """CSI's access modes, by their names in the specification."""

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
"""The supported modes: those of a single node, because a volume is attached to one node at a time."""

KUBERNETES_NAMES: Final[Mapping[AccessMode, str]] = {
    AccessMode.SINGLE_NODE_WRITER: "ReadWriteOnce",
    AccessMode.SINGLE_NODE_MULTI_WRITER: "ReadWriteOnce",
    AccessMode.SINGLE_NODE_SINGLE_WRITER: "ReadWriteOncePod",
    AccessMode.MULTI_NODE_READER_ONLY: "ReadOnlyMany",
    AccessMode.MULTI_NODE_MULTI_WRITER: "ReadWriteMany",
}
"""The access modes as users write them in a claim; Kubernetes has no names for the others."""


@dataclass(frozen=True, slots=True)
class Block:
    """As a raw block device."""


@dataclass(frozen=True, slots=True)
class Mount:
    """As a mounted filesystem."""

    filesystem: str = DEFAULT_FILESYSTEM
    options: MountOptions = DEFAULTS


@dataclass(frozen=True, slots=True)
class Capability:
    """One way to use a volume."""

    access: Block | Mount
    mode: AccessMode

    @property
    def read_only(self) -> bool:
        """Whether the access mode itself forbids writing."""
        return self.mode is AccessMode.SINGLE_NODE_READER_ONLY


def mode_name(mode: AccessMode) -> str:
    """The access mode's name for messages: Kubernetes' name if there is one, otherwise CSI's."""
    return KUBERNETES_NAMES.get(mode, mode.value)


def unsupported_reason(capability: Capability) -> str | None:
    """Why the driver does not support the capability; None if it does."""
    if capability.mode not in ACCESS_MODES:
        return (
            f"access mode {mode_name(capability.mode)} is not supported: an EBS volume is attached to one node at a "
            "time; use ReadWriteOnce or ReadWriteOncePod"
        )
    if not isinstance(capability.access, Mount):
        return None
    if capability.access.filesystem not in FILESYSTEMS:
        return f"filesystem {capability.access.filesystem!r} is not supported; use {' or '.join(sorted(FILESYSTEMS))}"
    return capability.access.options.refusal or None


def check_capability(capability: Capability) -> None:
    """Check that the driver supports the capability.

    Raises:
        InvalidRequest: The driver does not support it; the message has the reason.
    """
    if reason := unsupported_reason(capability):
        raise errors.InvalidRequest(reason)
