"""What the preconditions of an attachment or detachment are decided from: plain values, and why one is not known."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hyperpod_ebs.access.aws.clusters import Cluster
from hyperpod_ebs.access.aws.keys import KmsKey
from hyperpod_ebs.access.aws.permissions import Verdict
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder
from hyperpod_ebs.driver.model.nodes import Node

DETACHED: Final = "detached"


@dataclass(frozen=True, slots=True)
class Unread:
    """A fact that could not be read."""

    reason: str


@dataclass(frozen=True, slots=True)
class Absent:
    """An object that does not exist."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The node that a command is about."""

    node: Node
    cluster_arn: str
    """Empty for an EC2 instance."""

    cluster: Cluster | Unread | Absent | None
    """None for an EC2 instance."""

    @property
    def cluster_name(self) -> str:
        """The name of the cluster, or else its ARN."""
        return self.cluster.name if isinstance(self.cluster, Cluster) and self.cluster.name else self.cluster_arn


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A node as its service describes it."""

    status: str
    type: str
    zone: str
    zone_id: str
    group: str = ""
    """The instance group of a HyperPod node."""

    interfaces: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known about a volume, a node and the caller."""

    account: str
    """The caller's account."""

    volume_id: str
    volume: EbsVolume | Unread
    target: Target
    machine: Machine | Unread | Absent
    attached: int | Unread
    """Volumes that the node has, the root volume of an EC2 instance included."""

    key: KmsKey | Unread | Absent | None = None
    """The key of the volume; None if the volume is not encrypted."""

    permissions: Sequence[Verdict] = field(default_factory=tuple)
    managed_by: str = ""
    """By what it is known that Kubernetes manages the volume; empty if nothing shows it."""

    unread_kubernetes: str = ""
    """Why the API server could not be asked; empty if it was."""

    @property
    def holder_here(self) -> Holder | None:
        """The attachment of the volume to the node; None without one."""
        if isinstance(self.volume, Unread):
            return None
        here = (each for each in self.volume.holders if each.node == self.target.node and each.state != DETACHED)
        return next(here, None)

    def with_manager(self, managed_by: str, unread: str) -> "Facts":
        """The facts with what Kubernetes and the tags say."""
        return replace(self, managed_by=managed_by, unread_kubernetes=unread)
