"""Topology: the segments that nodes report and that CreateVolume requests name."""

from collections.abc import Iterable, Mapping
from typing import Final

from hyperpod_ebs.driver.model import errors

ZONE: Final = "topology.kubernetes.io/zone"
"""The zone's key on volumes and nodes."""

OLD_ZONE: Final = "topology.ebs.csi.aws.com/zone"
"""The zone's key on volumes that old drivers created; nodes report it too, so that pods can use these volumes."""

OUTPOST: Final = "topology.ebs.csi.aws.com/outpost-id"
"""The key with which upstream's nodes on an Outpost ask for volumes there."""

OS: Final = "kubernetes.io/os"
"""The operating system's key on nodes; it does not restrict where a volume can be."""

Segments = Mapping[str, str]


def node_segments(zone: str) -> dict[str, str]:
    """The segments of a node in `zone`, the same as upstream's."""
    return {ZONE: zone, OLD_ZONE: zone, OS: "linux"}


def volume_segments(zone: str) -> dict[str, str]:
    """The segments of a volume in `zone`."""
    return {ZONE: zone}


def requested_zone(requisite: Iterable[Segments], preferred: Iterable[Segments]) -> str | None:
    """The zone to create a volume in: the first preferred one, otherwise the first requisite one; None for any.

    Raises:
        InvalidRequest: There are terms, and none of them names a zone, or the chosen one names an Outpost.
    """
    terms = [*preferred, *requisite]
    for segments in terms:
        if zone := segments.get(ZONE) or segments.get(OLD_ZONE):
            if outpost := segments.get(OUTPOST):
                raise errors.InvalidRequest(
                    f"cannot create a volume on Outpost {outpost}: this driver supports no Outposts; remove the key "
                    f"{OUTPOST} from the StorageClass's allowedTopologies and from the nodes"
                )
            return zone
    if terms:
        keys = ", ".join(sorted({key for term in terms for key in term})) or "nothing"
        raise errors.InvalidRequest(
            f"the accessibility requirements name no zone: their keys are {keys}; use the key {ZONE} in the "
            "StorageClass's allowedTopologies"
        )
    return None


def allowed_zones(requisite: Iterable[Segments], preferred: Iterable[Segments]) -> frozenset[str]:
    """The zones that a request allows, without those of Outposts; empty if it names none."""
    terms = [segments for segments in (*requisite, *preferred) if OUTPOST not in segments]
    return frozenset(zone for segments in terms if (zone := segments.get(ZONE) or segments.get(OLD_ZONE)))
