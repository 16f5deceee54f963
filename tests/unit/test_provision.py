"""Creating volumes: AWS removes a volume again, shows it late, or has created it in an earlier call."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Snapshot, SnapshotState, Volume, VolumeSpec, VolumeState
from hyperpod_ebs.driver.volumes.cloud import TokenSpent
from hyperpod_ebs.driver.volumes.matching import differences
from hyperpod_ebs.driver.volumes.provision import (
    CreationSighting,
    choose_zone,
    client_tokens,
    delete_volume,
    provision_volume,
)
from hyperpod_ebs.driver.volumes.watch import Watcher
from tests.support.scripted_cloud import ID, ScriptedCloud, a_volume
from tests.support.virtual_time import now, run
from tests.support.volume_specs import a_spec


def succeed(scripted: ScriptedCloud, spec: VolumeSpec | None = None) -> tuple[Volume, float]:
    """Provision a volume; the volume and the time at which it was available."""

    async def act() -> tuple[Volume, float]:
        async with Watcher(scripted.cloud) as watcher:
            return await provision_volume(scripted.cloud, watcher, spec or a_spec()), now()

    return run(act())


def fail(scripted: ScriptedCloud, spec: VolumeSpec | None = None) -> errors.Error:
    """Provision a volume; the error with which that failed."""

    async def act() -> errors.Error:
        async with Watcher(scripted.cloud) as watcher:
            with pytest.raises(errors.Error) as refusal:
                await provision_volume(scripted.cloud, watcher, spec or a_spec())
            return refusal.value

    return run(act())


def test_a_volume_that_is_available_at_once_needs_a_search_and_a_create() -> None:
    scripted = ScriptedCloud(created=a_volume())

    volume, _ = succeed(scripted)

    assert volume.id == ID
    assert scripted.calls == {"find_volumes_named": 1, "create_volume": 1}


def test_creation_waits_until_the_volume_is_available() -> None:
    """CSI spec, CreateVolume: the call succeeds when the volume has been provisioned."""
    scripted = ScriptedCloud(shows=lambda at: a_volume("available" if at > 5 else "creating"))

    volume, took = succeed(scripted)

    assert volume.state == "available"
    assert 5 < took < 7


def test_creation_waits_for_a_volume_that_ec2_shows_late_and_misses_for_a_moment() -> None:
    """EC2 developer guide, eventual consistency: a replica may not show the volume yet."""

    def shows(at: float) -> Volume | None:
        if at < 4 or 6 < at < 7.5:
            return None
        return a_volume("available" if at > 9 else "creating")

    volume, _ = succeed(ScriptedCloud(shows=shows))

    assert volume.state == "available"


class Removal(NamedTuple):
    """How AWS removes a new volume, and the words in the error."""

    id: str
    shows: Callable[[float], Volume | None]
    spec: VolumeSpec
    error: type[errors.Error]
    says: str


ENCRYPTED = a_spec(encrypted=True, kms_key_id="key-1")
REMOVALS = [
    Removal(
        "seen, then gone", lambda at: a_volume("creating") if at < 4 else None, ENCRYPTED, errors.KeyUnusable, "key-1"
    ),
    Removal("never seen", lambda _: None, ENCRYPTED, errors.KeyUnusable, "vanished"),
    Removal("gone without a key", lambda _: None, a_spec(), errors.NotReady, "vanished"),
    Removal("in state error", lambda _: a_volume("error"), a_spec(), errors.NotReady, "error"),
    Removal("deleted by another user", lambda _: a_volume("deleting"), a_spec(), errors.NotReady, "deleting"),
]


@pytest.mark.parametrize("case", REMOVALS, ids=lambda case: case.id)
def test_a_volume_that_aws_removes_fails_the_call_with_the_reason(case: Removal) -> None:
    """EC2 acknowledges an encrypted volume whose key it may not use, and then removes it without a notice."""
    refusal = fail(ScriptedCloud(shows=case.shows), case.spec)

    assert type(refusal) is case.error
    assert case.says in str(refusal)


@pytest.mark.requirement("create.outcome-unknown")
def test_a_volume_in_state_error_is_deleted_before_the_call_fails_for_good() -> None:
    """After a final code the provisioner forgets the volume, so that it would stay for ever."""
    scripted = ScriptedCloud(shows=lambda _: a_volume("error"))
    stuck = ScriptedCloud(shows=lambda _: a_volume("error"))
    stuck.refusals["delete_volume"] = [errors.Denied("no")]

    final, not_final = fail(scripted), fail(stuck)

    assert isinstance(final, errors.NotReady)
    assert scripted.calls["delete_volume"] == 1
    assert isinstance(not_final, errors.OutcomeUnknown)


@pytest.mark.requirement("create.outcome-unknown")
def test_a_volume_that_stays_in_state_creating_fails_the_call_with_a_retryable_error() -> None:
    """After a final code the provisioner would forget a volume that exists."""
    scripted = ScriptedCloud(shows=lambda _: a_volume("creating"))

    async def act() -> float:
        async with Watcher(scripted.cloud) as watcher:
            with pytest.raises(errors.OutcomeUnknown):
                await provision_volume(scripted.cloud, watcher, a_spec())
            return now()

    assert run(act()) == pytest.approx(120)


@pytest.mark.requirement("create.outcome-unknown")
def test_a_volume_that_ec2_shows_after_some_seconds_is_not_taken_for_gone() -> None:
    """EC2 developer guide, eventual consistency."""
    scripted = ScriptedCloud(shows=lambda at: None if at < 12 else a_volume())

    volume, _ = succeed(scripted)

    assert volume.state == "available"


class LaggingCloud(ScriptedCloud):
    """A cloud that finds a volume by its name only after half a second."""

    async def find_volumes_named(self, _: str) -> tuple[Volume, ...]:
        """Answer `named`, once EC2 would find them."""
        found = await super().find_volumes_named(_)
        return found if now() > 0.5 else ()


@pytest.mark.requirement("absence.proved", "create.outcome-unknown")
@pytest.mark.parametrize("state", ["creating", "available"])
def test_a_volume_that_ec2_does_not_list_is_not_gone_while_it_knows_the_id(state: str) -> None:
    """Only the answer to a volume's id proves that the volume does not exist."""
    scripted = ScriptedCloud(shows=lambda _: a_volume(state), lists=lambda _: None)

    if state == "creating":
        assert isinstance(fail(scripted), errors.OutcomeUnknown)
    else:
        assert succeed(scripted)[0].id == ID


@pytest.mark.requirement("create.outcome-unknown")
def test_a_volume_whose_id_ec2_does_not_answer_for_is_not_gone() -> None:
    """After a final code the provisioner would forget a volume that exists."""
    for refusal in (errors.Denied("no"), errors.Throttled("slower")):
        scripted = ScriptedCloud()
        scripted.refusals["describe_volume"] = [refusal]

        assert isinstance(fail(scripted), errors.OutcomeUnknown)


@pytest.mark.requirement("calls.same-answer", "csi.create-volume.idempotent")
def test_a_spent_token_leads_to_the_volume_that_an_earlier_call_created() -> None:
    """CSI spec, CreateVolume: the call is idempotent, also if another process used a later token."""
    scripted = LaggingCloud(named=(a_volume(),))
    scripted.refusals["create_volume"] = [TokenSpent()]

    volume, _ = succeed(scripted)

    assert volume.id == ID
    assert scripted.calls["create_volume"] == 1


def test_a_volume_is_adopted_in_any_zone_if_the_caller_asked_for_none() -> None:
    """A zone that appears or disappears between a call and its repeat must not fail the repeat."""
    scripted = ScriptedCloud(named=(replace(a_volume(), zone="us-west-2b"),))
    scripted.refusals["create_volume"] = [TokenSpent()]

    volume, _ = succeed(scripted, replace(a_spec(), zone="us-west-2a", zone_chosen_by_driver=True))

    assert (volume.id, volume.zone) == (ID, "us-west-2b")


@pytest.mark.parametrize(
    ("sighting", "is_final"),
    [
        (CreationSighting(age=14.9), False),
        (CreationSighting(age=15.0), True),
        (CreationSighting(age=9.9, has_appeared=True, absent_since=7.0), False),
        (CreationSighting(age=10.0, has_appeared=True, absent_since=7.0), True),
    ],
    ids=["not shown yet", "never shown", "just hidden", "hidden for three seconds"],
)
def test_an_absent_volume_is_looked_for_by_its_id_after_a_while(sighting: CreationSighting, *, is_final: bool) -> None:
    """EC2 developer guide, eventual consistency: a volume can appear late, and disappear for a moment."""
    assert sighting.is_final is is_final


def test_the_next_token_follows_the_spent_token_of_a_volume_that_is_gone() -> None:
    """For hours, EC2 answers IdempotentParameterMismatch to the token of a volume that is gone."""
    scripted = ScriptedCloud(created=a_volume(), named=(a_volume("deleting"),))
    scripted.refusals["create_volume"] = [TokenSpent(), TokenSpent()]

    succeed(scripted)

    assert scripted.tokens == [token for token, _ in zip(client_tokens("pvc-1"), range(3), strict=False)]


def test_creation_gives_up_after_the_last_token() -> None:
    scripted = ScriptedCloud()
    scripted.refusals["create_volume"] = [TokenSpent() for _ in client_tokens("pvc-1")]

    assert isinstance(fail(scripted), errors.NotReady)


@pytest.mark.requirement("csi.create-volume.conflict")
def test_a_name_that_a_different_volume_has_is_a_conflict_that_names_both_values() -> None:
    """CSI spec, CreateVolume: "Volume already exists but is incompatible"."""
    scripted = ScriptedCloud(named=(a_volume(gib=3),))
    scripted.refusals["create_volume"] = [TokenSpent()]

    refusal = fail(scripted, a_spec(gib=5))

    assert isinstance(refusal, errors.Conflict)
    assert "its size is 3 GiB, not 5 GiB" in str(refusal)


@pytest.mark.requirement("csi.create-volume.conflict")
def test_the_error_for_a_lost_answer_comes_when_ec2_finds_the_name() -> None:
    """The caller may ask for the same name in another zone at once, where EC2 accepts the client token once more."""
    scripted = LaggingCloud(named=(a_volume(),))
    scripted.refusals["create_volume"] = [errors.OutcomeUnknown("no answer")]

    async def act() -> float:
        async with Watcher(scripted.cloud) as watcher:
            with pytest.raises(errors.OutcomeUnknown):
                await provision_volume(scripted.cloud, watcher, a_spec())
            return now()

    assert run(act()) > 0.5


@pytest.mark.requirement("csi.create-volume.idempotent")
def test_a_repeat_accepts_a_volume_that_has_grown_within_its_limit() -> None:
    """CSI spec, CreateVolume: the volume has to be compatible with the capacity range."""
    grown = a_volume(gib=4)

    volume, _ = succeed(ScriptedCloud(created=grown))
    refusal = fail(ScriptedCloud(created=grown), a_spec(limit=2**31))

    assert volume.size == 4
    assert isinstance(refusal, errors.Conflict)


class FinalRefusal(NamedTuple):
    """A refusal after which the provisioner forgets the name."""

    id: str
    error: errors.Error


@pytest.mark.requirement("calls.same-answer")
@pytest.mark.parametrize(
    "case",
    [
        FinalRefusal("quota", errors.QuotaReached("full")),
        FinalRefusal("zone", errors.ZoneFull("full")),
        FinalRefusal("permission", errors.Denied("no")),
        FinalRefusal("terms", errors.InvalidRequest("no")),
    ],
    ids=lambda case: case.id,
)
def test_a_refusal_is_passed_on_only_if_no_earlier_call_created_the_volume(case: FinalRefusal) -> None:
    """At the account's quota, EC2 refuses a repeat with the same token although its volume exists."""
    existing, absent, unknown = ScriptedCloud(named=(a_volume(),)), ScriptedCloud(), ScriptedCloud()
    for cloud in (existing, absent, unknown):
        cloud.refusals["create_volume"] = [case.error]
    unknown.refusals["find_volumes_named"] = [errors.Throttled("slower")]

    volume, _ = succeed(existing)

    assert volume.id == ID
    assert fail(absent) is case.error
    assert absent.calls["find_volumes_named"] >= 2, "EC2 may not have found the name at first"
    assert isinstance(fail(unknown), errors.OutcomeUnknown)


@pytest.mark.requirement("csi.create-volume.capacity")
def test_a_volume_smaller_than_its_snapshot_is_out_of_range() -> None:
    """CSI spec, CreateVolume: "Unsupported capacity_range"; EC2 has no code of its own for it."""
    source = Snapshot(id="snap-1", volume_id=ID, size=GiB(8), state=SnapshotState.COMPLETED, started=datetime.now(UTC))
    scripted, other = ScriptedCloud(source=source), ScriptedCloud(source=source)
    for cloud in (scripted, other):
        cloud.refusals["create_volume"] = [errors.InvalidRequest("no")]

    small, wrong = fail(scripted, a_spec(snapshot_id="snap-1")), fail(other, a_spec(gib=8, snapshot_id="snap-1"))

    assert isinstance(small, errors.OutOfRange)
    assert "8 GiB" in str(small)
    assert not isinstance(wrong, errors.OutOfRange)


@pytest.mark.requirement("csi.create-volume.capacity")
@pytest.mark.parametrize(
    ("kind", "gib", "is_possible"),
    [("st1", 124, False), ("st1", 125, True), ("gp3", 65_537, False), ("io1", 3, False), ("standard", 1024, True)],
)
def test_a_size_that_ec2_refuses_for_the_type_is_out_of_range(kind: str, gib: int, is_possible: bool) -> None:  # noqa: FBT001 - a case
    """CSI spec, CreateVolume: "Unsupported capacity_range"; EBS User Guide, "Amazon EBS volume types"."""
    scripted = ScriptedCloud()
    scripted.refusals["create_volume"] = [errors.InvalidRequest("no")]

    refusal = fail(scripted, a_spec(gib=gib, type=kind))

    assert isinstance(refusal, errors.OutOfRange) != is_possible
    assert "no" in str(refusal)


class Comparison(NamedTuple):
    """What the caller wants, what exists, and the differences."""

    id: str
    wanted: dict[str, Any]
    existing: dict[str, Any]
    says: list[str]


ARN = "arn:aws:kms:us-west-2:123456789012:key/key-1"


@pytest.mark.parametrize(
    "case",
    [
        Comparison("the same", {}, {}, []),
        Comparison("another zone", {}, {"zone": "us-west-2b"}, ["its zone is us-west-2b, not us-west-2a"]),
        Comparison("another type", {}, {"type": "io2"}, ["its type is io2, not gp3"]),
        Comparison("iops that were not asked for", {}, {"iops": 9000}, []),
        Comparison("other iops", {"iops": 4000}, {}, ["its number of IOPS is 3000, not 4000"]),
        Comparison("another source", {"snapshot_id": "snap-1"}, {}, ["its source snapshot is none, not snap-1"]),
        Comparison("encrypted by the account's default", {}, {"encrypted": True}, []),
        Comparison("not encrypted", {"encrypted": True}, {}, ["its encryption is off, not on"]),
        Comparison("its key by id", {"kms_key_id": "key-1"}, {"kms_key_id": ARN}, []),
        Comparison("its key by alias", {"kms_key_id": "alias/mine"}, {"kms_key_id": ARN}, []),
        Comparison("another key", {"kms_key_id": "key-2"}, {"kms_key_id": ARN}, [f"its key is {ARN}, not key-2"]),
    ],
    ids=lambda case: case.id,
)
def test_a_volume_is_compared_in_the_properties_that_the_caller_asked_for(case: Comparison) -> None:
    """CSI spec, CreateVolume: a repeat succeeds if the existing volume is compatible with it."""
    assert list(differences(a_spec(**case.wanted), a_volume(**case.existing))) == case.says


@pytest.mark.requirement("csi.delete-volume.idempotent")
def test_deletion_succeeds_for_a_volume_that_is_gone_or_deleting_and_fails_for_one_in_use() -> None:
    """CSI spec, DeleteVolume: the call is idempotent, and "Volume in use" is an error."""
    gone, deleting, attached = ScriptedCloud(), ScriptedCloud(shows=lambda _: a_volume("deleting")), ScriptedCloud()
    gone.refusals["delete_volume"] = [errors.VolumeNotFound("gone")]
    late = ScriptedCloud(shows=lambda at: a_volume("available" if at < 1 else "deleting"))
    late.refusals["delete_volume"] = [errors.NotReady("deleting")]
    deleting.refusals["delete_volume"] = [errors.NotReady("deleting")]
    attached.refusals["delete_volume"] = [errors.InUse("attached")]

    refused = ScriptedCloud(shows=lambda _: a_volume())
    refused.refusals["delete_volume"] = [errors.NotReady("no")]

    run(delete_volume(gone.cloud, ID))
    run(delete_volume(deleting.cloud, ID))
    run(delete_volume(late.cloud, ID))
    with pytest.raises(errors.InUse):
        run(delete_volume(attached.cloud, ID))
    with pytest.raises(errors.NotReady):
        run(delete_volume(refused.cloud, ID))


def test_a_refusal_to_delete_a_volume_that_stays_is_passed_on() -> None:
    """CSI spec, DeleteVolume: a success means that the volume is deleted."""
    scripted = ScriptedCloud(shows=lambda _: a_volume("creating"))
    scripted.refusals["delete_volume"] = [errors.NotReady("it is creating")]

    with pytest.raises(errors.NotReady, match="it is creating"):
        run(delete_volume(scripted.cloud, ID))


@pytest.mark.requirement("absence.proved")
def test_a_volume_that_aws_does_not_know_yet_is_deleted_once_it_does() -> None:
    """A volume that was created a moment ago would stay for ever."""
    scripted = ScriptedCloud(shows=lambda at: None if at < 1 else a_volume())
    scripted.refusals["delete_volume"] = [errors.VolumeNotFound("no such volume")]
    contradictory = ScriptedCloud(shows=lambda _: a_volume())
    contradictory.refusals["delete_volume"] = [errors.VolumeNotFound("no such volume")] * 9

    run(delete_volume(scripted.cloud, ID))

    assert scripted.calls["delete_volume"] == 2
    with pytest.raises(errors.Unavailable):
        run(delete_volume(contradictory.cloud, ID))


class ZonedCloud(ScriptedCloud):
    """A cloud with zones, which creates each volume where it is asked for."""

    usable: tuple[str, ...] = ("a", "b", "c")

    async def list_zones(self) -> tuple[str, ...]:
        """Answer `usable`."""
        return self.usable

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """Answer with a volume that is available at once."""
        return replace(await super().create_volume(spec, token), state=VolumeState.AVAILABLE, zone=spec.zone)


def test_zones_are_spread_by_name_and_stay_when_another_zone_disappears() -> None:
    """A repeat has to ask for the zone of the first call, or it would create a second volume."""
    scripted = ZonedCloud()
    names = [f"pvc-{number}" for number in range(300)]

    three = [run(choose_zone(scripted.cloud, name)) for name in names]
    scripted.usable = ("a", "b")
    two = [run(choose_zone(scripted.cloud, name)) for name in names]

    assert all(70 < three.count(zone) < 130 for zone in "abc")
    assert all(before == after for before, after in zip(three, two, strict=True) if before != "c")


def test_a_zone_is_chosen_only_if_the_caller_asked_for_none() -> None:
    """CSI spec, CreateVolume: the volume is accessible from the topology that the caller requires."""
    cloud = ZonedCloud()

    asked, _ = succeed(cloud, replace(a_spec(), zone="z"))
    chosen, _ = succeed(cloud, replace(a_spec(), zone=""))

    assert (asked.zone, chosen.zone) == ("z", run(choose_zone(cloud.cloud, "pvc-1")))
