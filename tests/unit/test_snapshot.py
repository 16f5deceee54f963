"""Snapshots: EC2 has no client token for them, so the driver finds them by name."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Snapshot, SnapshotSpec, SnapshotState
from hyperpod_ebs.driver.volumes.snapshot import matching_snapshot, take_snapshot
from tests.support.scripted_cloud import ScriptedCloud
from tests.support.virtual_time import now, run

SPEC = SnapshotSpec(name="snapshot-1", volume_id="vol-1")


def a_snapshot(id_: str, day: int, *, of: str = "vol-1", state: str = "completed") -> Snapshot:
    """A snapshot that started on this day of January 2026."""
    began = datetime(2026, 1, day, tzinfo=UTC)
    return Snapshot(id=id_, volume_id=of, size=GiB(1), state=SnapshotState(state), started=began)


class Choice(NamedTuple):
    """The snapshots with the name, and which of them counts."""

    id: str
    existing: tuple[Snapshot, ...]
    chosen: str | None


@pytest.mark.requirement("csi.create-snapshot.idempotent")
@pytest.mark.parametrize(
    "case",
    [
        Choice("none", (), None),
        Choice("a single one", (a_snapshot("snap-1", 1),), "snap-1"),
        Choice("one that is not ready", (a_snapshot("snap-1", 1, state="pending"),), "snap-1"),
        Choice("the oldest of two", (a_snapshot("snap-1", 2), a_snapshot("snap-2", 1)), "snap-2"),
        Choice("not one that failed", (a_snapshot("snap-1", 2), a_snapshot("snap-2", 1, state="error")), "snap-1"),
    ],
    ids=lambda case: case.id,
)
def test_the_oldest_snapshot_with_the_name_that_did_not_fail_counts(case: Choice) -> None:
    """CSI spec, CreateSnapshot: the call is idempotent, also if two calls raced."""
    found = matching_snapshot(SPEC, case.existing)

    assert (found and found.id) == case.chosen


@pytest.mark.requirement("create-snapshot.failed-stays")
def test_a_failed_snapshot_is_an_error_that_stays_and_no_other_is_taken() -> None:
    """external-snapshotter keeps the first id that it receives (snapshot_controller.go, newStatus.SnapshotHandle)."""
    failed = replace(a_snapshot("snap-1", 1, state="error"), message="the key is disabled")
    scripted = ScriptedCloud(snapshots=(failed,))

    for _ in range(3):
        with pytest.raises(errors.NotReady, match=r"snap-1\) of volume vol-1 failed: the key is disabled; delete"):
            run(take_snapshot(scripted.cloud, SPEC))

    assert set(scripted.calls) == {"find_snapshots_named"}
    with pytest.raises(errors.Conflict):
        matching_snapshot(SPEC, (a_snapshot("snap-1", 1, of="vol-2", state="error"),))


@pytest.mark.requirement("csi.create-snapshot.conflict")
def test_a_name_that_a_snapshot_of_another_volume_has_is_a_conflict() -> None:
    """CSI spec, CreateSnapshot: "Snapshot already exists but is incompatible"."""
    with pytest.raises(errors.Conflict, match=r"snap-1 is of volume vol-2, not vol-1"):
        matching_snapshot(SPEC, (a_snapshot("snap-1", 1, of="vol-2"),))


class LossyCloud(ScriptedCloud):
    """A cloud that loses the answer to CreateSnapshot, and finds the new snapshot by its name only later."""

    async def create_snapshot(self, _: SnapshotSpec) -> Snapshot:
        """Fail as if no answer had come."""
        self.calls["create_snapshot"] += 1
        raise errors.OutcomeUnknown("no answer")

    async def find_snapshots_named(self, _: str) -> tuple[Snapshot, ...]:
        """Answer `snapshots`, once EC2 would find them."""
        return self.snapshots if now() > 0.5 else ()


@pytest.mark.requirement("csi.create-snapshot.idempotent")
def test_a_snapshot_whose_answer_was_lost_is_found_by_its_name() -> None:
    """EC2 has no client token for snapshots, so a caller that retried too soon would create a second one."""
    made, void = LossyCloud(snapshots=(a_snapshot("snap-1", 1),)), LossyCloud()

    found = run(take_snapshot(made.cloud, SPEC))

    assert found.id == "snap-1"
    with pytest.raises(errors.OutcomeUnknown):
        run(take_snapshot(void.cloud, SPEC))
    assert made.calls["create_snapshot"] == void.calls["create_snapshot"] == 1
