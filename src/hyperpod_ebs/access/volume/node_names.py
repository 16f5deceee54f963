"""The names by which a user may give a node: an instance id, a CSI node id, or the name of a Kubernetes node."""

import re
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.driver.model import errors

_NAME: Final = re.compile(
    r"(?:(?P<hyperpod>hyperpod-)(?:(?P<cluster>[a-z0-9]{12})-)?)?(?P<instance>i-[0-9a-f]{8}(?:[0-9a-f]{9})?)"
)

_DNS_NAME: Final = re.compile(r"ip-[0-9a-f-]+(?:\.[a-z0-9-]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeName:
    """What the name of a node says."""

    instance: str

    is_hyperpod: bool
    """Whether the name is one of a HyperPod node; other names may be, too."""

    cluster: str
    """The id of the HyperPod cluster; empty if the name does not contain it."""


def is_private_dns_name(name: str) -> bool:
    """Whether this is the name of an EC2 node in Kubernetes: the private DNS name of its instance."""
    return _DNS_NAME.fullmatch(name) is not None


def parse_node_name(name: str) -> NodeName:
    """Parse `i-<hex>`, `hyperpod-i-<hex>` or `hyperpod-<cluster id>-i-<hex>`.

    Raises:
        InvalidRequest: No node can have this name.
    """
    if match := _NAME.fullmatch(name.strip()):
        return NodeName(instance=match["instance"], is_hyperpod=bool(match["hyperpod"]), cluster=match["cluster"] or "")
    raise errors.InvalidRequest(
        f"no node can have the name {name!r}: give i-<hex>, hyperpod-i-<hex> or hyperpod-<cluster id>-i-<hex>"
    )
