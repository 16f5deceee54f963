"""Volumes, attachments, snapshots and modifications: plain values, without I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Node
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange

_VOLUME: Final = re.compile(r"vol-[0-9a-f]{8}(?:[0-9a-f]{9})?")
_SNAPSHOT: Final = re.compile(r"snap-[0-9a-f]{8}(?:[0-9a-f]{9})?")
_BY_ID: Final = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_"


class VolumeState(StrEnum):
    """EC2's states of a volume (EC2 API reference, Volume, State)."""

    CREATING = "creating"
    AVAILABLE = "available"
    IN_USE = "in-use"
    DELETING = "deleting"
    DELETED = "deleted"
    ERROR = "error"


class AttachState(StrEnum):
    """EC2's states of an attachment (EC2 API reference, VolumeAttachment, State)."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"
    DETACHED = "detached"
    BUSY = "busy"
    """A detachment waits because the volume is still mounted on the node."""


class ModificationState(StrEnum):
    """EC2's states of a modification. The new size is usable from `optimizing` on."""

    MODIFYING = "modifying"
    OPTIMIZING = "optimizing"
    COMPLETED = "completed"
    FAILED = "failed"


class SnapshotState(StrEnum):
    """EC2's states of a snapshot."""

    PENDING = "pending"
    COMPLETED = "completed"
    ERROR = "error"
    RECOVERABLE = "recoverable"
    RECOVERING = "recovering"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """The attachment of a volume to a node, or to a resource of another AWS service."""

    state: AttachState
    node: Node | None
    """None for a resource of a service other than EC2 and HyperPod."""
    holder: str
    """The node's id or the resource, for messages."""
    since: datetime | None = None
    device: str = ""
    """The device name on an EC2 instance, `/dev/xvdba`; empty on a HyperPod node, for which EC2 shows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume as EC2 describes it."""

    id: str
    size: GiB
    zone: str
    state: VolumeState
    type: str
    iops: int | None = None
    throughput: int | None = None
    """MiB/s."""
    encrypted: bool = False
    kms_key_id: str | None = None
    snapshot_id: str | None = None
    attachments: tuple[Attachment, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """The volume that a CreateVolume request asks for."""

    name: str
    size: SizeRange
    zone: str
    zone_chosen_by_driver: bool = False
    """Whether the request names no zone. An existing volume of the same name then satisfies it in any zone."""
    other_zones: frozenset[str] = frozenset()
    """The other zones that the request allows. An existing volume of the same name satisfies it there, too."""
    type: str
    iops: int | None = None
    throughput: int | None = None
    """MiB/s."""
    encrypted: bool = False
    kms_key_id: str | None = None
    snapshot_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot as EC2 describes it."""

    id: str
    volume_id: str
    size: GiB
    state: SnapshotState
    started: datetime
    message: str = ""
    """Why the snapshot failed, if AWS says so."""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_ready(self) -> bool:
        """Whether a volume can be created from the snapshot now."""
        return self.state is SnapshotState.COMPLETED


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSpec:
    """The snapshot that a CreateSnapshot request asks for."""

    name: str
    volume_id: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a modification changes; None leaves a property as it is."""

    size: GiB | None = None
    type: str | None = None
    iops: int | None = None
    throughput: int | None = None
    """MiB/s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modification:
    """The latest modification of a volume, as EC2 describes it."""

    volume_id: str
    state: ModificationState
    target: Change
    message: str = ""
    started: datetime | None = None


def parse_volume_id(text: str) -> str:
    """Check that `text` has the form of a volume id, and return it.

    Raises:
        InvalidRequest: It is empty.
        VolumeNotFound: No volume can have this id.
    """
    if not text:
        raise errors.InvalidRequest("the volume id is empty")
    if not _VOLUME.fullmatch(text):
        raise errors.VolumeNotFound(f"no volume can have the id {text!r}: volume ids are vol-<8 or 17 hex digits>")
    return text


def parse_snapshot_id(text: str) -> str:
    """Check that `text` has the form of a snapshot id, and return it.

    Raises:
        InvalidRequest: It is empty.
        SnapshotNotFound: No snapshot can have this id.
    """
    if not text:
        raise errors.InvalidRequest("the snapshot id is empty")
    if not _SNAPSHOT.fullmatch(text):
        raise errors.SnapshotNotFound(
            f"no snapshot can have the id {text!r}: snapshot ids are snap-<8 or 17 hex digits>"
        )
    return text


def nvme_serial(volume_id: str) -> str:
    """The serial number of a volume's NVMe device: the volume id without the dash."""
    return volume_id.replace("-", "", 1)


def udev_link(volume_id: str) -> str:
    """The stable link to a volume's device that udev creates on a Nitro instance."""
    return _BY_ID + nvme_serial(volume_id)
