"""The emulator's records: one flat, frozen value for each resource.

The fields are JSON values, so that the store needs no schema. Instants are seconds since the
epoch. A fact that another record implies is not stored twice: a volume is in use because it
has an attachment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Tags = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """An EBS volume; its data is in the backing file with the same id."""

    id: str
    zone: str
    size_gib: int
    kind: str
    """gp3, io2, ..."""

    iops: int | None = None
    throughput_mib: int | None = None
    encrypted: bool = False
    key: str | None = None
    """ARN of the KMS key."""

    data_key: str = field(default="", repr=False)
    """The data key, encrypted under the KMS key, in base64."""

    data_key_id: str = ""
    """The DataEncryptionKeyId, which the volume shares with its snapshots."""

    snapshot: str | None = None
    """The snapshot that the volume was created from."""

    initialization_rate_mib: int | None = None
    multi_attach: bool = False
    state: str = "creating"
    """creating, available or deleting; a volume with attachments is shown as in-use."""

    cluster: str = ""
    """The id of the HyperPod cluster whose storage configuration created the volume; empty for any other volume."""

    latest_snapshot: float = 0.0
    """The instant of the latest CreateSnapshot; 0 before the first."""

    created: float = 0.0
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """The attachment of a volume to an instance, at any stage."""

    volume: str
    instance: str
    device: str
    """The requested or chosen device name: /dev/xvdb."""

    unit: int
    """The N of the device nvmeN on the node; 0 for the root volume, which has no device here."""

    state: str = "attaching"
    """attaching, attached, detaching or busy."""

    since: float = 0.0
    delete_on_termination: bool = False
    is_xen: bool = False
    """Whether the instance is a Xen instance, which shows its volumes as xvd disks, without NVMe."""

    @property
    def id(self) -> str:
        """The ids of the volume and the instance; a volume is attached to an instance at most once."""
        return attachment_id(self.volume, self.instance)


def attachment_id(volume: str, instance: str) -> str:
    """The id of the attachment of a volume to an instance."""
    return f"{volume}/{instance}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Modification:
    """The latest modification of a volume, as DescribeVolumesModifications shows it."""

    id: str
    """The volume's id."""

    state: str = "modifying"
    started: float
    ended: float | None = None
    original: Mapping[str, int | str | bool | None]
    """Size, VolumeType, Iops, Throughput and MultiAttachEnabled before the modification."""

    target: Mapping[str, int | str | bool | None]
    """The same members after the modification."""

    earlier: tuple[float, ...] = ()
    """The starts of earlier modifications within the period of the rate limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot of a volume; its data is in the backing file with the same id."""

    id: str
    volume: str
    size_gib: int
    stored_bytes: int
    """The bytes that the backing file takes on disk."""

    description: str = ""
    encrypted: bool = False
    key: str | None = None
    data_key: str = field(default="", repr=False)
    """The data key, encrypted under the KMS key, in base64."""

    data_key_id: str = ""
    """The DataEncryptionKeyId, which the snapshot shares with its volume."""

    data_key_owner: str = ""
    """The id in the encryption context of the data key: that of the volume, or of a copied snapshot itself."""

    state: str = "pending"
    """pending or completed; error for a copy whose keys cannot be used."""

    state_message: str = ""
    """The reason of the state error."""

    started: float
    completed: float | None = None
    ripe: float = 0.0
    """The instant at which the snapshot will be completed; its progress is computed from this."""

    shared_with: tuple[str, ...] = ()
    """The accounts that may create volumes from the snapshot; `all` for everyone."""

    completion_minutes: int | None = None
    """The requested duration of a copy; None for a copy without one, and for a snapshot of a volume."""

    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An EC2 instance in the customer's account, or a node of a HyperPod cluster."""

    id: str
    kind: str
    """The instance type; a HyperPod node has it without the prefix `ml.`."""

    zone: str
    image: str = ""
    """The id of the AMI."""

    state: str = "pending"
    launched: float = 0.0
    address: str = ""
    """Private IPv4."""

    mac: str = ""
    cluster: str = ""
    """The id of the node's HyperPod cluster; empty for an EC2 instance."""

    group: str = ""
    """The node's instance group in its cluster."""

    reservation: str = ""
    launch_index: int = 0
    """The instance's position among those of its reservation, from 0."""

    key: str = ""
    """The name of the key pair."""

    security_groups: tuple[str, ...] = ()
    profile: str = ""
    """ARN of the instance profile; empty without one."""

    token: str = ""
    """The client token of the request that started the instance."""

    ebs_optimized: bool = False
    state_reason: str = ""
    """The code of EC2's StateReason for a state other than pending and running."""

    metadata_tokens: str = "required"
    """Whether requests for metadata need a session token: optional or required."""

    metadata_hop_limit: int = 2
    """How many hops a session token travels on its way from the metadata service, from 1 to 64."""

    metadata_endpoint: str = "enabled"
    """Whether the instance has metadata: enabled or disabled."""

    tags: Tags = field(default_factory=dict)

    @property
    def has_devices(self) -> bool:
        """Whether the machine shows its volumes as devices; one that is stopped, or stops, does not."""
        return self.state not in {"stopping", "stopped"}

    @property
    def is_alive(self) -> bool:
        """Whether the instance has not terminated; it may still start, or be about to end."""
        return self.state != "terminated"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGroup:
    """A group of nodes of the same type in a HyperPod cluster."""

    name: str
    kind: str
    """The instance type as SageMaker writes it: ml.m5.large."""

    count: int
    role: str
    restricted: bool = False
    """Whether it is a Restricted Instance Group, whose nodes accept no volumes."""

    settings: Mapping[str, object] = field(default_factory=dict)
    """The other members of the group's specification, as the caller gave them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A HyperPod cluster."""

    id: str
    name: str
    state: str = "Creating"
    created: float
    eks: str | None = None
    """The ARN of the EKS cluster that orchestrates this cluster; None for Slurm."""

    groups: tuple[Mapping[str, object], ...] = ()
    """The fields of each `InstanceGroup`."""

    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    node_recovery: str = "Automatic"
    node_provisioning: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    """The other members of CreateCluster and UpdateCluster, as the caller gave them."""

    tags: Tags = field(default_factory=dict)

    def instance_groups(self) -> list[InstanceGroup]:
        """The instance groups as values."""
        return [InstanceGroup(**group) for group in self.groups]  # type: ignore[arg-type] # its own fields, stored


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterEvent:
    """An event of a HyperPod cluster."""

    id: str
    """A UUID."""

    cluster: str
    """The id of the HyperPod cluster."""

    group: str = ""
    """The name of the instance group; empty for an event of the whole cluster."""

    node: str = ""
    """The instance's id; empty for an event of the cluster or a group."""

    description: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EksCluster:
    """An EKS cluster, which has no control plane here."""

    id: str
    state: str = "CREATING"
    created: float
    role: str
    version: str
    subnets: tuple[str, ...] = ()
    unique_id: str = ""
    """32 hex digits in the names of the cluster's endpoint and token issuer."""

    given: Mapping[str, Any] = field(default_factory=dict)  # Any: members of EKS's shapes
    """The parameters of CreateCluster that have no field here."""

    authority: str = ""
    """PEM, the certificate of the certificate authority."""

    authority_key: str = field(default="", repr=False)
    """PEM, PKCS #8; no answer and no log has it."""

    client_token: str = ""
    """The client token of the request that created it; the same request may be sent again."""

    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A used client token: the same request gets the same resources again, a different request is an error."""

    id: str
    """The operation, the scope and the token itself."""

    terms: str
    """The token's request as canonical JSON."""

    made: tuple[str, ...]
    """The ids of the resources that the request created."""

    used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A pending state change."""

    id: str
    """The subject: the id of a volume, attachment, snapshot, instance or cluster, or a name such as eks/NAME."""

    step: str
    """The step's name in `Clock.register`: volume available, attached, ..."""

    at: float
    """When the step is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An entry of the history: a resource entered a state."""

    id: str
    """The entry's number as text; later entries have greater numbers."""

    subject: str
    state: str
    at: float
