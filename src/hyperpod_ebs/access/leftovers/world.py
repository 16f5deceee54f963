"""What the judgement of leftovers looks at: the objects of AWS and of the Kubernetes cluster, at one time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hyperpod_ebs.access.aws.machines import MachineState
from hyperpod_ebs.access.aws.snapshots import EbsSnapshot
from hyperpod_ebs.access.aws.volumes import EbsVolume

Ids = frozenset[str]
"""The ids of volumes and snapshots that occur anywhere in an object: in its handle, its parameters, its annotations."""

_NONE: Ids = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistentVolume:
    """A PersistentVolume of any driver and in any phase."""

    name: str
    phase: str
    policy: str
    ids: Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A PersistentVolumeClaim."""

    namespace: str
    name: str
    uid: str
    volume_name: str
    """The PersistentVolume that it is bound to; empty while it waits for one."""

    ids: Ids = _NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageClass:
    """A StorageClass of the driver, or of Kubernetes' former built-in one."""

    name: str
    policy: str
    encrypted: bool
    """Whether it encrypts every volume."""

    ids: Ids = _NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotContent:
    """A VolumeSnapshotContent."""

    name: str
    snapshot_uid: str
    """The uid of its VolumeSnapshot, with which the snapshot's name ends."""

    policy: str
    ids: Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotClass:
    """A VolumeSnapshotClass of the driver."""

    name: str
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesNode:
    """A Node."""

    name: str
    instance: str
    """Empty if its provider id is not one of AWS."""

    ids: Ids
    """With those of the volumes that kubelet uses, and of those that are attached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesAttachment:
    """A VolumeAttachment of the driver."""

    name: str
    node: str
    volume_name: str
    """The name of its PersistentVolume; empty for a volume that a pod defines itself."""

    created: datetime
    ids: Ids = _NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """The objects of the Kubernetes cluster."""

    gaps: tuple[str, ...] = ()
    """Why objects could not be read; empty if all were read."""

    controllers: frozenset[str] = frozenset()
    """The cluster's name that each controller of the driver writes into tags; empty for a controller without one."""

    volumes: tuple[PersistentVolume, ...] = ()
    claims: tuple[Claim, ...] = ()
    classes: tuple[StorageClass, ...] = ()
    knows_snapshots: bool = True
    """Whether the cluster has the kinds of objects for snapshots."""

    contents: tuple[SnapshotContent, ...] = ()
    snapshot_classes: tuple[SnapshotClass, ...] = ()
    nodes: tuple[KubernetesNode, ...] = ()
    attachments: tuple[KubernetesAttachment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """AWS and Kubernetes at one time."""

    now: datetime
    region: str
    volumes: tuple[EbsVolume, ...] = ()
    snapshots: tuple[EbsSnapshot, ...] = ()
    machines: Mapping[str, MachineState] = field(default_factory=dict[str, MachineState])
    """By instance id; a machine whose state is not known is missing."""

    kubernetes: Kubernetes = field(default_factory=Kubernetes)
