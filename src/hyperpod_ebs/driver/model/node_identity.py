"""Who this node is: what several sources tell of it, put together field by field.

Of each field the first source that knows it is believed, but for one thing: an id that
names a HyperPod cluster beats one that does not, for instance metadata knows a HyperPod
node as the plain instance that it also is, and that one no attachment can be made to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.driver.model import limits, nodes

_ROOT: Final = 1
_ROOT_AND_SECONDARY: Final = 2
"""A HyperPod node comes with both; its second volume holds what containers write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialIdentity:
    """What one source tells of this node; None where it does not know."""

    id: nodes.Node | None = None
    zone: str | None = None
    instance_type: str | None = None
    interfaces: int | None = None
    """Network interfaces, the first included."""
    volumes: int | None = None
    """EBS volumes that it has anyway, none of them ours: its root included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachLimitSettings:
    """What the operator says of the volumes that the node takes; None leaves it to what is told."""

    limit: int | None = None
    """How many, whatever the instance type."""
    reserved: int | None = None
    """How many of the instance type's places are not for volumes of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """Who this node is."""

    id: str
    zone: str
    volumes: int
    """How many volumes it takes; 0 where that is not known."""


def merged_identity(told: Sequence[PartialIdentity], allowance: AttachLimitSettings) -> NodeIdentity | None:
    """This node by all that is told of it, what counts most first; None while its id or zone is not known."""
    ids = [one.id for one in told if one.id is not None]
    id_ = next((one for one in ids if isinstance(one, nodes.HyperPodNode)), next(iter(ids), None))
    zone = next((one.zone for one in told if one.zone), None)
    if id_ is None or zone is None:
        return None
    return NodeIdentity(id=str(id_), zone=zone, volumes=_volumes(id_, told, allowance))


def missing_fields(told: Sequence[PartialIdentity]) -> list[str]:
    """What has to be known of a node and is not told by any."""
    known = {"id": any(one.id for one in told), "zone": any(one.zone for one in told)}
    return [name for name, there in known.items() if not there]


def _volumes(id_: nodes.Node, told: Sequence[PartialIdentity], allowance: AttachLimitSettings) -> int:
    """How many volumes of ours the node takes."""
    if allowance.limit is not None:
        return allowance.limit
    instance_type = next((one.instance_type for one in told if one.instance_type), "")
    least = _ROOT_AND_SECONDARY if isinstance(id_, nodes.HyperPodNode) else _ROOT
    volumes = next((one.volumes for one in told if one.volumes is not None), least)
    interfaces = next((one.interfaces for one in told if one.interfaces is not None), 1)
    taken = volumes if allowance.reserved is None else allowance.reserved
    return limits.attach_limit(instance_type, taken=taken, interfaces=interfaces)
