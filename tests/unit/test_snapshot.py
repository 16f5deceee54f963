"""Snapshots: EC2 has no client token for them, so names decide."""

from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Snapshot, SnapshotSpec, SnapshotState
from hyperpod_ebs.driver.volumes.snapshot import LAG, chosen, take
from tests.support.scripted_cloud import ScriptedCloud
from tests.support.virtual_time import now, run

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


@pytest.mark.requirement("csi.create-snapshot.idempotent")
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


@pytest.mark.requirement("csi.create-snapshot.conflict")
def test_a_name_that_a_snapshot_of_another_volume_has_is_a_conflict() -> None:
    """CSI: ALREADY_EXISTS."""
    with pytest.raises(errors.Conflict, match=r"snap-1 is of volume vol-2, not vol-1"):
        chosen(SPEC, (taken("snap-1", 1, of="vol-2"),))


class Losing(ScriptedCloud):
    """A cloud that loses the answer to a snapshot, and finds what it made by its name only later."""

    async def create_snapshot(self, _: SnapshotSpec) -> Snapshot:
        """No answer."""
        self.calls["create_snapshot"] += 1
        raise errors.OutcomeUnknown("no answer")

    async def snapshots_named(self, _: str) -> tuple[Snapshot, ...]:
        """What is found by now."""
        return self.snapshots if now() > LAG / 2 else ()


@pytest.mark.requirement("csi.create-snapshot.idempotent")
def test_a_snapshot_whose_answer_was_lost_is_found_by_its_name() -> None:
    """EC2: without a client token a caller that came back too soon would have a second one."""
    made, void = Losing(snapshots=(taken("snap-1", 1),)), Losing()

    found = run(take(made.cloud, SPEC))

    assert found.id == "snap-1"
    with pytest.raises(errors.OutcomeUnknown):
        run(take(void.cloud, SPEC))
    assert made.calls["create_snapshot"] == void.calls["create_snapshot"] == 1
