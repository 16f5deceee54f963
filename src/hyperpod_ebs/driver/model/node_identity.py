"""The identity of the node that this process runs on, merged from several sources, field by field.

For each field the first source that has it counts, with one exception: an id that names a
HyperPod cluster takes precedence over one that does not. EC2's instance metadata describes a
HyperPod node as a plain instance, to which no volume can be attached.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.driver.model import limits, nodes
from hyperpod_ebs.driver.model.limits import NOTHING_PUBLISHED, PublishedSlots

_EC2_VOLUMES: Final = 1
"""A plain EC2 instance has its root volume."""

_HYPERPOD_VOLUMES: Final = 2
"""A HyperPod node has a root volume and a secondary volume, which holds what containers write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialIdentity:
    """What one source knows of the node; None for what it does not know."""

    id: nodes.Node | None = None
    zone: str | None = None
    instance_type: str | None = None
    interfaces: int | None = None
    """Network interfaces, including the first."""
    other_volumes: int | None = None
    """EBS volumes of the node that are not the driver's, including the root volume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachLimitSettings:
    """What the operator sets about the attach limit; None for what follows from the instance type."""

    limit: int | None = None
    """The limit, for any instance type."""
    reserved: int | None = None
    """Attach slots of the instance type that are not for the driver's volumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """The node's identity as CSI's NodeGetInfo returns it."""

    id: str
    zone: str
    instance_type: str
    """Empty if no source has it."""
    attach_limit: int
    """How many volumes the node can have; 0 for any number, which only the operator can set."""


def merged_identity(
    sources: Sequence[PartialIdentity], settings: AttachLimitSettings, published: PublishedSlots = NOTHING_PUBLISHED
) -> NodeIdentity | None:
    """The node's identity from all sources, in order of precedence; None if no source has its id or zone."""
    ids = [source.id for source in sources if source.id is not None]
    id_ = next((id_ for id_ in ids if isinstance(id_, nodes.HyperPodNode)), next(iter(ids), None))
    zone = next((source.zone for source in sources if source.zone), None)
    if id_ is None or zone is None:
        return None
    instance_type = next((source.instance_type for source in sources if source.instance_type), "")
    limit = _attach_limit(id_, instance_type, sources, settings, published)
    return NodeIdentity(id=str(id_), zone=zone, instance_type=instance_type, attach_limit=limit)


def missing_fields(sources: Sequence[PartialIdentity]) -> list[str]:
    """The necessary fields that no source has."""
    known = {"id": any(source.id for source in sources), "zone": any(source.zone for source in sources)}
    return [name for name, is_known in known.items() if not is_known]


def _attach_limit(
    id_: nodes.Node,
    instance_type: str,
    sources: Sequence[PartialIdentity],
    settings: AttachLimitSettings,
    published: PublishedSlots,
) -> int:
    """How many of the driver's volumes the node can have."""
    if settings.limit is not None:
        return settings.limit
    usual = _HYPERPOD_VOLUMES if isinstance(id_, nodes.HyperPodNode) else _EC2_VOLUMES
    others = next((source.other_volumes for source in sources if source.other_volumes is not None), usual)
    interfaces = next((source.interfaces for source in sources if source.interfaces is not None), 1)
    reserved = others if settings.reserved is None else settings.reserved
    return limits.attach_limit(instance_type, reserved=reserved, interfaces=interfaces, published=published)
