"""Where volumes can be: the segments that nodes report and provisioning takes."""

from collections.abc import Iterable, Mapping
from typing import Final

from hyperpod_ebs.driver.model import errors

ZONE: Final = "topology.kubernetes.io/zone"
"""The key that volumes and nodes carry."""

OLD_ZONE: Final = "topology.ebs.csi.aws.com/zone"
"""What volumes made long ago carry; nodes report it too, so that those still find a node."""

OS: Final = "kubernetes.io/os"
"""Reported by nodes, of no meaning for where a volume is."""

Segments = Mapping[str, str]


def node_segments(zone: str) -> dict[str, str]:
    """The segments that a node in `zone` reports, upstream's set."""
    return {ZONE: zone, OLD_ZONE: zone, OS: "linux"}


def volume_segments(zone: str) -> dict[str, str]:
    """The segments that a volume in `zone` carries."""
    return {ZONE: zone}


def requested_zone(requisite: Iterable[Segments], preferred: Iterable[Segments]) -> str | None:
    """The zone to create in: the first preferred, else the first requisite; None when nothing is asked.

    Raises:
        InvalidRequest: Terms are given, and none of them names a zone.
    """
    terms = [*preferred, *requisite]
    for segments in terms:
        if zone := segments.get(ZONE) or segments.get(OLD_ZONE):
            return zone
    if terms:
        raise errors.InvalidRequest(
            f"no term of the accessibility requirements names {ZONE}: "
            f"they name {', '.join(sorted({key for term in terms for key in term})) or 'nothing'}"
        )
    return None
