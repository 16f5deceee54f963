"""Nodes: an instance of a HyperPod cluster, or a plain EC2 instance.

A CSI node id is parsed here, once; all other code distinguishes the two with `match`.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from hyperpod_ebs.driver.model import errors

_INSTANCE: Final = r"i-[0-9a-f]{8}(?:[0-9a-f]{9})?"
_HYPERPOD: Final = re.compile(rf"hyperpod-(?P<cluster>[a-z0-9]{{12}})-(?P<instance>{_INSTANCE})")
_EC2: Final = re.compile(_INSTANCE)
# EC2 shows the attachment of a HyperPod node only as this resource: the cluster's ARN, a dash, the instance id.
_RESOURCE: Final = re.compile(
    rf"arn:[^:]+:sagemaker:[^:]*:[0-9]*:cluster/(?P<cluster>[a-z0-9]{{12}})-(?P<instance>{_INSTANCE})"
)


@dataclass(frozen=True, slots=True)
class HyperPodNode:
    """A node of a HyperPod cluster: `hyperpod-<cluster id>-<instance id>`."""

    cluster: str
    instance: str

    @classmethod
    def from_resource(cls, resource: str) -> Self | None:
        """The node in an attachment's `AssociatedResource`; None if the resource belongs to another AWS service."""
        match = _RESOURCE.fullmatch(resource)
        return cls(match["cluster"], match["instance"]) if match else None

    def __str__(self) -> str:
        return f"hyperpod-{self.cluster}-{self.instance}"


@dataclass(frozen=True, slots=True)
class Ec2Node:
    """A plain EC2 instance: `i-<hex>`."""

    instance: str

    def __str__(self) -> str:
        return self.instance


Node = HyperPodNode | Ec2Node


def parse(node_id: str) -> Node:
    """Parse a CSI node id.

    Raises:
        NodeNotFound: No node can have this id.
    """
    if match := _HYPERPOD.fullmatch(node_id):
        return HyperPodNode(match["cluster"], match["instance"])
    if _EC2.fullmatch(node_id):
        return Ec2Node(node_id)
    raise errors.NodeNotFound(
        f"no node can have the id {node_id!r}: node ids are i-<hex> or hyperpod-<cluster id>-i-<hex>"
    )


def parse_provider_id(provider_id: str) -> Node:
    """Parse Kubernetes' `spec.providerID`, which ends with the CSI node id.

    A plain instance has `aws:///<zone>/i-<hex>`, and a HyperPod node
    `aws:///<zone id>/sagemaker/cluster/hyperpod-<cluster id>-i-<hex>`.

    Raises:
        NodeNotFound: The node is of another kind, such as Fargate or hybrid, or belongs to another cloud.
    """
    scheme, separator, path = provider_id.partition("://")
    if scheme != "aws" or not separator:
        raise errors.NodeNotFound(f"provider id {provider_id!r} does not begin with aws://")
    return parse(path.rpartition("/")[2])
