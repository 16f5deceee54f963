"""What the driver reads of a Kubernetes node: its labels, taints and provider id."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.node_identity import PartialIdentity

ZONE: Final = "topology.kubernetes.io/zone"
INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"
INTERFACES: Final = "sagemaker.amazonaws.com/num-eni-attachments"
VOLUMES: Final = "sagemaker.amazonaws.com/num-block-device-mappings"
"""SageMaker's count of the volumes that a HyperPod node has besides its root volume."""

DRIVER: Final = "ebs.csi.aws.com"
"""The driver's name. It is the upstream driver's, so that this driver takes over its volumes and classes."""

STARTUP_TAINT: Final = f"{DRIVER}/agent-not-ready"
"""The start-up taint, which keeps pods off a new node until its driver can serve them."""

_DISRUPTION_TAINTS: Final = frozenset(
    {
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/out-of-service",
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
    }
)
"""Taints of a node that is being drained or removed: by an administrator or by an autoscaler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A node's taint with all its fields: the patch that removes a taint has to match each of them."""

    key: str
    effect: str
    value: str = ""
    added: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesNode:
    """What the driver reads of a node."""

    name: str
    provider_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    """In Kubernetes' order: the patch that removes a taint names its position."""
    cordoned: bool = False
    """Whether the node is unschedulable. Kubernetes adds the taint for it a moment later."""

    @property
    def has_startup_taint(self) -> bool:
        """Whether the node still has the start-up taint, with any effect."""
        return any(taint.key == STARTUP_TAINT for taint in self.taints)

    @property
    def is_leaving(self) -> bool:
        """Whether the node is being drained or removed."""
        return self.cordoned or any(taint.key in _DISRUPTION_TAINTS for taint in self.taints)

    def identity(self) -> PartialIdentity:
        """The node's identity according to Kubernetes.

        Raises:
            Refused: The node has no label for its zone, or its provider id is missing or unusable.
        """
        if not self.labels.get(ZONE):
            raise errors.Refused(
                f"node {self.name} has no label {ZONE}, which the cluster's cloud provider integration sets"
            )
        try:
            id_ = nodes.parse_provider_id(self.provider_id)
        except errors.NodeNotFound as error:
            raise errors.Refused(f"node {self.name} has an unusable providerID: {error}") from error
        volumes = _parse_count(self.labels.get(VOLUMES))
        return PartialIdentity(
            id=id_,
            zone=self.labels[ZONE],
            instance_type=self.labels.get(INSTANCE_TYPE),
            interfaces=_parse_count(self.labels.get(INTERFACES)) or None,  # every node has one: 0 means not counted
            other_volumes=None if volumes is None else volumes + 1,  # the root volume
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CsiNodeEntry:
    """The driver's entry in the node's CSINode, which kubelet adds when it registers the driver."""

    attach_limit: int | None
    """How many volumes the scheduler may assign to the node; None if the number is not limited."""


def _parse_count(text: str | None) -> int | None:
    """Parse a label's value; None if the label is absent or its value is not a number."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
