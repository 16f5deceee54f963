"""Creating: what becomes of a volume that AWS takes back, shows late, or made in an earlier call."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Snapshot, SnapshotState, Volume, VolumeSpec
from hyperpod_ebs.driver.volumes.cloud import TokenSpent
from hyperpod_ebs.driver.volumes.provision import APPEARS, PATIENCE, differences, provision, remove, zone
from hyperpod_ebs.driver.volumes.tokens import tokens
from hyperpod_ebs.driver.volumes.watch import Watcher
from tests.support.scripted_cloud import ID, ScriptedCloud, a_spec, a_volume
from tests.support.virtual_time import now, run


def provisioned(paper: ScriptedCloud, spec: VolumeSpec | None = None) -> tuple[Volume, float]:
    """The volume, and when it was there."""

    async def act() -> tuple[Volume, float]:
        async with Watcher(paper.cloud) as watcher:
            return await provision(paper.cloud, watcher, spec or a_spec()), now()

    return run(act())


def refused(paper: ScriptedCloud, spec: VolumeSpec | None = None) -> errors.Error:
    """What is said instead."""

    async def act() -> errors.Error:
        async with Watcher(paper.cloud) as watcher:
            with pytest.raises(errors.Error) as refusal:
                await provision(paper.cloud, watcher, spec or a_spec())
            return refusal.value

    return run(act())


def test_a_volume_that_is_there_at_once_costs_one_call() -> None:
    """Ours: the state in the answer is used."""
    paper = ScriptedCloud(created=a_volume())

    volume, _ = provisioned(paper)

    assert volume.id == ID
    assert paper.calls.total() == 1


def test_a_volume_is_waited_for() -> None:
    """CSI: what is answered can be used."""
    paper = ScriptedCloud(shows=lambda at: a_volume("available" if at > 5 else "creating"))

    volume, took = provisioned(paper)

    assert volume.state == "available"
    assert 5 < took < 7


def test_a_volume_that_ec2_shows_late_and_then_for_a_moment_not_at_all_is_waited_for() -> None:
    """EC2: what a call made is seen later, and a replica that lags may have lost it again."""

    def shows(at: float) -> Volume | None:
        if at < 4 or 6 < at < 7.5:
            return None
        return a_volume("available" if at > 9 else "creating")

    volume, _ = provisioned(ScriptedCloud(shows=shows))

    assert volume.state == "available"


class Taken(NamedTuple):
    """How AWS takes a volume back, and what is said of it."""

    id: str
    shows: Callable[[float], Volume | None]
    spec: VolumeSpec
    error: type[errors.Error]
    says: str


ENCRYPTED = a_spec(encrypted=True, kms_key_id="key-1")
TAKEN = [
    Taken(
        "seen, then gone", lambda at: a_volume("creating") if at < 4 else None, ENCRYPTED, errors.KeyUnusable, "key-1"
    ),
    Taken("never seen", lambda _: None, ENCRYPTED, errors.KeyUnusable, "vanished"),
    Taken("gone without a key", lambda _: None, a_spec(), errors.NotReady, "vanished"),
    Taken("in state error", lambda _: a_volume("error"), a_spec(), errors.NotReady, "error"),
    Taken("deleted by somebody", lambda _: a_volume("deleting"), a_spec(), errors.NotReady, "deleting"),
]


@pytest.mark.parametrize("case", TAKEN, ids=lambda case: case.id)
def test_a_volume_that_aws_takes_back_is_a_refusal_that_says_why(case: Taken) -> None:
    """EC2: an encrypted volume whose key it may not use is accepted, and then vanishes without a word."""
    refusal = refused(ScriptedCloud(shows=case.shows), case.spec)

    assert type(refusal) is case.error
    assert case.says in str(refusal)


@pytest.mark.requirement("create.outcome-unknown")
def test_a_volume_in_error_is_removed_before_anything_final_is_said() -> None:
    """Provisioner: after a final code nobody would ever delete it."""
    paper = ScriptedCloud(shows=lambda _: a_volume("error"))
    stuck = ScriptedCloud(shows=lambda _: a_volume("error"))
    stuck.refusals["delete_volume"] = [errors.Denied("no")]

    final, not_final = refused(paper), refused(stuck)

    assert isinstance(final, errors.NotReady)
    assert paper.calls["delete_volume"] == 1
    assert isinstance(not_final, errors.OutcomeUnknown)


@pytest.mark.requirement("create.outcome-unknown")
def test_a_volume_that_stays_creating_is_never_called_void() -> None:
    """Provisioner: until it is proved that nothing exists, only codes that make it ask again."""
    paper = ScriptedCloud(shows=lambda _: a_volume("creating"))

    async def act() -> float:
        async with Watcher(paper.cloud) as watcher:
            with pytest.raises(errors.OutcomeUnknown):
                await provision(paper.cloud, watcher, a_spec())
            return now()

    assert run(act()) == pytest.approx(PATIENCE)


@pytest.mark.requirement("create.outcome-unknown")
def test_absence_is_believed_only_after_a_while() -> None:
    """EC2: a volume may be shown seconds after it was acknowledged."""
    paper = ScriptedCloud(shows=lambda at: None if at < APPEARS - 3 else a_volume())

    volume, _ = provisioned(paper)

    assert volume.state == "available"


@pytest.mark.requirement("calls.same-answer", "csi.create-volume.idempotent")
def test_a_spent_token_leads_to_the_volume_that_an_earlier_call_made() -> None:
    """CSI: a repeat returns the same volume, also when another process made it with a later token."""
    paper = ScriptedCloud(named=(a_volume(),))
    paper.refusals["create_volume"] = [TokenSpent()]

    volume, _ = provisioned(paper)

    assert volume.id == ID
    assert paper.calls["create_volume"] == 1


def test_a_volume_whose_zone_nobody_asked_for_is_adopted_wherever_it_is() -> None:
    """Ours: a zone that comes or goes between a call and its repeat must not turn the repeat away."""
    paper = ScriptedCloud(named=(replace(a_volume(), zone="us-west-2b"),))
    paper.refusals["create_volume"] = [TokenSpent()]

    volume, _ = provisioned(paper, replace(a_spec(), zone="us-west-2a", zone_chosen_by_driver=True))

    assert (volume.id, volume.zone) == (ID, "us-west-2b")


def test_a_spent_token_of_a_volume_that_is_gone_is_followed_by_the_next() -> None:
    """EC2: the token of a volume that vanished answers IdempotentParameterMismatch for hours."""
    paper = ScriptedCloud(created=a_volume(), named=(a_volume("deleting"),))
    paper.refusals["create_volume"] = [TokenSpent(), TokenSpent()]

    provisioned(paper)

    assert paper.tokens == [token for token, _ in zip(tokens("pvc-1"), range(3), strict=False)]


def test_tokens_come_to_an_end() -> None:
    """Ours: nothing is tried for ever."""
    paper = ScriptedCloud()
    paper.refusals["create_volume"] = [TokenSpent() for _ in tokens("pvc-1")]

    assert isinstance(refused(paper), errors.NotReady)


@pytest.mark.requirement("csi.create-volume.conflict")
def test_a_name_that_a_different_volume_has_is_a_conflict_with_both_values() -> None:
    """CSI: ALREADY_EXISTS."""
    paper = ScriptedCloud(named=(a_volume(gib=3),))
    paper.refusals["create_volume"] = [TokenSpent()]

    refusal = refused(paper, a_spec(gib=5))

    assert isinstance(refusal, errors.Conflict)
    assert "its size is 3 GiB, not 5 GiB" in str(refusal)


@pytest.mark.requirement("csi.create-volume.idempotent")
def test_a_repeat_accepts_a_volume_that_has_grown_but_not_over_its_limit() -> None:
    """CSI: the capacity range is what has to hold."""
    grown = a_volume(gib=4)

    volume, _ = provisioned(ScriptedCloud(created=grown))
    refusal = refused(ScriptedCloud(created=grown), a_spec(limit=2**31))

    assert volume.size == 4
    assert isinstance(refusal, errors.Conflict)


class Final(NamedTuple):
    """A refusal after which the provisioner forgets the name."""

    id: str
    error: errors.Error


@pytest.mark.requirement("calls.same-answer")
@pytest.mark.parametrize(
    "case",
    [
        Final("quota", errors.QuotaReached("full")),
        Final("zone", errors.ZoneFull("full")),
        Final("permission", errors.Denied("no")),
        Final("terms", errors.InvalidRequest("no")),
    ],
    ids=lambda case: case.id,
)
def test_a_refusal_is_passed_on_only_when_no_earlier_call_made_the_volume(case: Final) -> None:
    """EC2: at the quota a repeat with the same token is refused, though its volume is there."""
    there, void, unknown = ScriptedCloud(named=(a_volume(),)), ScriptedCloud(), ScriptedCloud()
    for paper in (there, void, unknown):
        paper.refusals["create_volume"] = [case.error]
    unknown.refusals["volumes_named"] = [errors.Throttled("slower")]

    volume, _ = provisioned(there)

    assert volume.id == ID
    assert refused(void) is case.error
    assert isinstance(refused(unknown), errors.OutcomeUnknown)


@pytest.mark.requirement("csi.create-volume.capacity")
def test_a_volume_smaller_than_its_snapshot_is_out_of_range() -> None:
    """CSI: OUT_OF_RANGE, which EC2 has no code for."""
    source = Snapshot(id="snap-1", volume_id=ID, size=GiB(8), state=SnapshotState.COMPLETED, started=datetime.now(UTC))
    paper, other = ScriptedCloud(source=source), ScriptedCloud(source=source)
    for one in (paper, other):
        one.refusals["create_volume"] = [errors.InvalidRequest("no")]

    small, wrong = refused(paper, a_spec(snapshot_id="snap-1")), refused(other, a_spec(gib=9, snapshot_id="snap-1"))

    assert isinstance(small, errors.OutOfRange)
    assert "8 GiB" in str(small)
    assert not isinstance(wrong, errors.OutOfRange)


class Differs(NamedTuple):
    """What is asked, what is there, and whether it will do."""

    id: str
    wanted: dict[str, Any]
    there: dict[str, Any]
    says: list[str]


ARN = "arn:aws:kms:us-west-2:123456789012:key/key-1"


@pytest.mark.parametrize(
    "case",
    [
        Differs("the same", {}, {}, []),
        Differs("another zone", {}, {"zone": "us-west-2b"}, ["its zone is us-west-2b, not us-west-2a"]),
        Differs("another type", {}, {"type": "io2"}, ["its type is io2, not gp3"]),
        Differs("iops that were not asked for", {}, {"iops": 9000}, []),
        Differs("other iops", {"iops": 4000}, {}, ["its iops is 3000, not 4000"]),
        Differs("another source", {"snapshot_id": "snap-1"}, {}, ["its source snapshot is none, not snap-1"]),
        Differs("encrypted by the account's default", {}, {"encrypted": True}, []),
        Differs("not encrypted", {"encrypted": True}, {}, ["its encrypted is False, not True"]),
        Differs("its key by id", {"kms_key_id": "key-1"}, {"kms_key_id": ARN}, []),
        Differs("its key by alias", {"kms_key_id": "alias/mine"}, {"kms_key_id": ARN}, []),
        Differs("another key", {"kms_key_id": "key-2"}, {"kms_key_id": ARN}, [f"its key is {ARN}, not key-2"]),
    ],
    ids=lambda case: case.id,
)
def test_a_volume_is_compared_in_what_was_asked_for(case: Differs) -> None:
    """CSI: a repeat is the same when what it asks for is there."""
    assert list(differences(a_spec(**case.wanted), a_volume(**case.there))) == case.says


@pytest.mark.requirement("csi.delete-volume.idempotent")
def test_what_is_gone_or_going_is_removed() -> None:
    """CSI: DeleteVolume of what is absent succeeds; of what is in use it does not."""
    gone, going, used = ScriptedCloud(), ScriptedCloud(shows=lambda _: a_volume("deleting")), ScriptedCloud()
    gone.refusals["delete_volume"] = [errors.VolumeNotFound("gone")]
    going.refusals["delete_volume"] = [errors.NotReady("deleting")]
    used.refusals["delete_volume"] = [errors.InUse("attached")]

    run(remove(gone.cloud, ID))
    run(remove(going.cloud, ID))
    with pytest.raises(errors.InUse):
        run(remove(used.cloud, ID))


def test_zones_are_spread_by_name_and_stay_when_another_comes_or_goes() -> None:
    """Ours: a repeat has to ask for the zone of the first call, or its token would make a second volume."""

    class Zoned(ScriptedCloud):
        usable: tuple[str, ...] = ("a", "b", "c")

        async def zones(self) -> tuple[str, ...]:
            return self.usable

    paper = Zoned()
    names = [f"pvc-{number}" for number in range(300)]

    three = [run(zone(paper.cloud, name, None)) for name in names]
    paper.usable = ("a", "b")
    two = [run(zone(paper.cloud, name, None)) for name in names]

    assert all(70 < three.count(one) < 130 for one in "abc")
    assert all(before == after for before, after in zip(three, two, strict=True) if before != "c")
    assert run(zone(paper.cloud, "pvc-1", "z")) == "z"
