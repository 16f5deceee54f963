"""Decisions about modifications: what a volume lacks, what a modification leads to, when EC2 accepts the next one."""

import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Final

from hyperpod_ebs.driver.model.volume import Change, Modification, Volume

OLD_INTERVAL: Final = timedelta(hours=6)
"""The time that some accounts still have to leave between two modifications of a volume."""

_TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def missing_change(change: Change, volume: Volume) -> Change:
    """The part of `change` that `volume` does not show; a volume that is larger than the wanted size needs no growth.

    A new type changes the other properties to its defaults, so that all wanted properties are then part of it.
    """
    wishes = {field.name: getattr(change, field.name) for field in fields(Change)}
    size = wishes.pop("size")
    changes_type = wishes["type"] not in {None, volume.type}
    missing = {
        name: wish
        for name, wish in wishes.items()
        if wish is not None and (changes_type or wish != getattr(volume, name))
    }
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
