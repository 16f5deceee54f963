"""A Kubernetes node, as far as the driver reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.node_identity import PartialIdentity

ZONE: Final = "topology.kubernetes.io/zone"
INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"
INTERFACES: Final = "sagemaker.amazonaws.com/num-eni-attachments"
VOLUMES: Final = "sagemaker.amazonaws.com/num-block-device-mappings"
"""Volumes that a HyperPod node has besides its root: SageMaker's own count."""

DRIVER: Final = "ebs.csi.aws.com"
"""The driver's name: the upstream driver's, so that its volumes and classes are ours too."""

NOT_READY: Final = f"{DRIVER}/agent-not-ready"
"""A taint that keeps pods off a new node until its driver can serve them."""

_LEAVING: Final = frozenset(
    {
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/out-of-service",
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
    }
)
"""Taints of a node that is on its way out: by a drain, by hand, by either autoscaler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """One of a node's taints, whole: what is removed is compared with it."""

    key: str
    effect: str
    value: str = ""
    added: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesNode:
    """What is read of a node."""

    name: str
    provider_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    """In their order, by which one is named when it is removed."""
    cordoned: bool = False
    """Whether no pod is to be placed on it; the taint that says so comes a moment later."""

    @property
    def has_startup_taint(self) -> bool:
        """Whether it still carries our start-up taint, with whatever effect."""
        return any(taint.key == NOT_READY for taint in self.taints)

    @property
    def leaving(self) -> bool:
        """Whether its pods are being moved elsewhere."""
        return self.cordoned or any(taint.key in _LEAVING for taint in self.taints)

    def identity(self) -> PartialIdentity:
        """Who the node is by this.

        Raises:
            Refused: Its provider id or the label of its zone is absent, or is none that can be used.
        """
        if not self.labels.get(ZONE):
            raise errors.Refused(f"node {self.name} has no label {ZONE}, which the cluster's cloud integration sets")
        try:
            id_ = nodes.parse_provider_id(self.provider_id)
        except errors.NodeNotFound as error:
            raise errors.Refused(f"node {self.name} has a providerID that leads to no instance: {error}") from error
        volumes = _count(self.labels.get(VOLUMES))
        return PartialIdentity(
            id=id_,
            zone=self.labels[ZONE],
            instance_type=self.labels.get(INSTANCE_TYPE),
            interfaces=_count(self.labels.get(INTERFACES)) or None,  # no node has none: a 0 is nobody's count
            volumes=None if volumes is None else volumes + 1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CsiNodeEntry:
    """Our driver's entry in the node's CSINode: kubelet has taken it."""

    volumes: int | None
    """How many volumes the scheduler may give the node; None where no limit is set."""


def _count(text: str | None) -> int | None:
    """The number that a label holds; None where it holds none."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
