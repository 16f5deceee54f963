"""Snapshots: EC2 has no client token for them, so names decide."""

from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from hyperpod_ebs.model import errors
from hyperpod_ebs.model.sizes import GiB
from hyperpod_ebs.model.volume import Snapshot, SnapshotSpec, SnapshotState
from hyperpod_ebs.volumes.snapshot import chosen

SPEC = SnapshotSpec(name="snapshot-1", volume_id="vol-1")


def taken(id_: str, day: int, *, of: str = "vol-1", state: str = "completed") -> Snapshot:
    """A snapshot of that day."""
    began = datetime(2026, 1, day, tzinfo=UTC)
    return Snapshot(id=id_, volume_id=of, size=GiB(1), state=SnapshotState(state), started=began)


class Choice(NamedTuple):
    """What carries the name, and which of it counts."""

    id: str
    there: tuple[Snapshot, ...]
    chosen: str | None


@pytest.mark.parametrize(
    "case",
    [
        Choice("none", (), None),
        Choice("one", (taken("snap-1", 1),), "snap-1"),
        Choice("one that is not ready", (taken("snap-1", 1, state="pending"),), "snap-1"),
        Choice("the oldest of two", (taken("snap-1", 2), taken("snap-2", 1)), "snap-2"),
        Choice("not one that failed", (taken("snap-1", 2), taken("snap-2", 1, state="error")), "snap-1"),
        Choice("only one that failed", (taken("snap-1", 1, state="error"),), None),
    ],
    ids=lambda case: case.id,
)
def test_the_oldest_good_one_of_a_name_counts(case: Choice) -> None:
    """CSI: a repeat returns the same snapshot, also where two calls raced."""
    found = chosen(SPEC, case.there)

    assert (found and found.id) == case.chosen


def test_a_name_that_a_snapshot_of_another_volume_has_is_a_conflict() -> None:
    """CSI: ALREADY_EXISTS."""
    with pytest.raises(errors.Conflict, match=r"snap-1 is of volume vol-2, not vol-1"):
        chosen(SPEC, (taken("snap-1", 1, of="vol-2"),))
