"""What the emulated cloud remembers: one flat, frozen record for each thing.

A record has only fields that JSON can hold, so that the store needs no schema of
its own; instants are seconds since the epoch. What the API shows but another
record implies (a volume is in use because it has an attachment) is not kept twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Tags = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """An EBS volume; its bytes are an image of the same id."""

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

    snapshot: str | None = None
    """The snapshot that it was made from."""

    initialization_rate_mib: int | None = None
    multi_attach: bool = False
    state: str = "creating"
    """creating, available, deleting; in-use is for who has attachments."""

    created: float = 0.0
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A volume on an instance, or on its way there or back."""

    volume: str
    instance: str
    device: str
    """The name asked for or chosen: /dev/xvdb."""

    unit: int
    """The N of the node's nvmeN; 0 is the root volume, which has no device here."""

    state: str = "attaching"
    """attaching, attached, detaching, busy."""

    since: float = 0.0
    delete_on_termination: bool = False

    @property
    def id(self) -> str:
        """One attachment for each volume and instance."""
        return f"{self.volume}/{self.instance}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Modification:
    """The latest change of a volume, as DescribeVolumesModifications shows it."""

    id: str
    """The volume's id."""

    state: str = "modifying"
    started: float
    ended: float | None = None
    original: Mapping[str, int | str | bool | None]
    """Size, VolumeType, Iops, Throughput, MultiAttachEnabled before."""

    target: Mapping[str, int | str | bool | None]
    """The same, after."""

    earlier: tuple[float, ...] = ()
    """When earlier modifications of the volume started, as far as the rate rule looks back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A point in time of a volume; its bytes are an image of the same id."""

    id: str
    volume: str
    size_gib: int
    stored_bytes: int
    """Bytes that the image really holds."""

    description: str = ""
    encrypted: bool = False
    key: str | None = None
    state: str = "pending"
    started: float
    completed: float | None = None
    ripe: float = 0.0
    """When it is going to be completed: what its progress is counted from."""

    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A machine: an EC2 instance of the customer's, or a node of a HyperPod cluster."""

    id: str
    kind: str
    """The instance type; HyperPod's has no `ml.` here."""

    zone: str
    image: str = ""
    state: str = "pending"
    launched: float = 0.0
    address: str = ""
    """Private IPv4."""

    mac: str = ""
    cluster: str = ""
    """Id of the HyperPod cluster that owns it; an EC2 instance has none."""

    group: str = ""
    """Its instance group in the cluster."""

    reservation: str = ""
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGroup:
    """A group of equal nodes in a HyperPod cluster."""

    name: str
    kind: str
    """The instance type as SageMaker writes it: ml.m5.large."""

    count: int
    role: str
    restricted: bool = False
    """A Restricted Instance Group takes no volumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A HyperPod cluster."""

    id: str
    name: str
    state: str = "Creating"
    created: float
    eks: str | None = None
    """ARN of the EKS cluster that orchestrates it; None for Slurm."""

    groups: tuple[Mapping[str, str | int | bool], ...] = ()
    """The fields of each `InstanceGroup`."""

    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    node_recovery: str = "Automatic"
    node_provisioning: str | None = None
    tags: Tags = field(default_factory=dict)

    def instance_groups(self) -> list[InstanceGroup]:
        """The groups, as values."""
        return [InstanceGroup(**group) for group in self.groups]  # type: ignore[arg-type] # its own fields, stored


@dataclass(frozen=True, slots=True, kw_only=True)
class EksCluster:
    """An EKS cluster, by its name: a control plane that nobody runs."""

    id: str
    state: str = "CREATING"
    created: float
    role: str
    version: str
    subnets: tuple[str, ...] = ()
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A client token that was used: a repeat gets the same thing, other terms are refused."""

    id: str
    """Operation, scope and the token itself."""

    terms: str
    """The request that it came with, as canonical JSON."""

    made: tuple[str, ...]
    """Ids of what the request made."""

    used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A change of state that is going to happen."""

    id: str
    """Whose: the id of a volume, attachment, snapshot, ..."""

    step: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something came into a state: what a time line is drawn from."""

    id: str
    """A number that grows."""

    subject: str
    state: str
    at: float
