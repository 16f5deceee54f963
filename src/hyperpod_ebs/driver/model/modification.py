"""Decisions about modifications: what a volume lacks, what a modification leads to, when EC2 accepts the next one."""

import re
from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hyperpod_ebs.driver.model import iops
from hyperpod_ebs.driver.model.volume import Change, Modification, Volume

WINDOW: Final = 2.0
"""Seconds that a growth or a change of class waits for the other one, unless a flag says otherwise.

A claim that changes in both ways makes the resizer patch the claim twice at once. One patch conflicts, and the resizer
tries again after its --retry-interval-start, by default 1 s (kubernetes-csi/external-resizer, issue 458).
"""

OLD_INTERVAL: Final = timedelta(hours=6)
"""The time that some accounts still have to leave between two modifications of a volume."""

_TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def overlaps(change: Change, other: Change) -> bool:
    """Whether both changes set the same property, so that one request cannot have both."""
    return bool(_named_values(change).keys() & _named_values(other).keys())


def requested_change(parts: Iterable[Change], volume: Volume) -> Change:
    """What one request asks of EC2 so that `volume` gets all `parts`, which do not overlap.

    A growth also raises the IOPS if the volume's tags ask for that, by the rule of the type that the volume is to have.
    IOPS that a part names win: a class that is set now has a number for this volume, and the tags have the ratio from
    the volume's creation.
    """
    wanted = Change(**{name: value for part in parts for name, value in _named_values(part).items()})
    if wanted.size is not None and wanted.size > volume.size and wanted.iops is None:
        grown_iops = iops.after_growth(wanted.type or volume.type, volume.tags, wanted.size)
        wanted = replace(wanted, iops=grown_iops)
    return missing_change(wanted, volume)


def missing_change(change: Change, volume: Volume) -> Change:
    """The part of `change` that `volume` does not show; a volume that is larger than the wanted size needs no growth.

    A new type changes the other properties to its defaults, so that all wanted properties are then part of it.
    """
    wishes = _named_values(change)
    size = wishes.pop("size", None)
    changes_type = wishes.get("type", volume.type) != volume.type
    missing = {name: wish for name, wish in wishes.items() if changes_type or wish != getattr(volume, name)}
    return Change(size=size if size is not None and size > volume.size else None, **missing)


def leads_to(modification: Modification, change: Change) -> bool:
    """Whether the volume is as `change` wants it once `modification` is complete."""
    for field in fields(Change):
        wish, target = getattr(change, field.name), getattr(modification.target, field.name)
        if wish is not None and (target is None or (target < wish if field.name == "size" else target != wish)):
            return False
    return True


def leads_elsewhere(modification: Modification, change: Change) -> bool:
    """Whether `modification` gives the volume another value than `change` wants."""
    names = [field.name for field in fields(Change) if getattr(modification.target, field.name) is not None]
    return not leads_to(modification, Change(**{name: getattr(change, name) for name in names}))


def earliest_retry(modification: Modification | None, refusal: str) -> datetime | None:
    """When EC2 accepts the next modification, as far as its refusal and the latest modification say."""
    if match := _TIMESTAMP.search(refusal):
        return datetime.fromisoformat(match[0]).replace(tzinfo=UTC)
    if "6 hours" in refusal and modification is not None and modification.started is not None:
        return modification.started + OLD_INTERVAL
    return None


def _named_values(change: Change) -> dict[str, Any]:  # each property has a type of its own
    """The values that the change sets, by property."""
    values = {field.name: getattr(change, field.name) for field in fields(Change)}
    return {name: value for name, value in values.items() if value is not None}
