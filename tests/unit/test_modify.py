"""Growing and modifying volumes: what the driver requests, what it joins, and what its errors say."""

import asyncio
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.modification import earliest_retry, leads_to, missing_change
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.tags import TagChanges
from hyperpod_ebs.driver.model.volume import Change
from hyperpod_ebs.driver.volumes.modify import MOST_SIZES
from tests.support.scripted_cloud import ID, ScriptedCloud, a_modification, a_volume, open_modifier
from tests.support.virtual_time import now, run

TWO = SizeRange(GiB(2))


def expand(scripted: ScriptedCloud, size: SizeRange = TWO) -> tuple[GiB, float]:
    """Expand the volume; its size and the time at which that was usable."""

    async def act() -> tuple[GiB, float]:
        async with open_modifier(scripted) as modifier:
            return await modifier.expand_volume(ID, size), now()

    return run(act())


def fail_to_expand(scripted: ScriptedCloud, size: SizeRange = TWO) -> errors.Error:
    """Expand the volume; the error with which that failed."""

    async def act() -> errors.Error:
        async with open_modifier(scripted) as modifier:
            with pytest.raises(errors.Error) as refusal:
                await modifier.expand_volume(ID, size)
            return refusal.value

    return run(act())


def modify(scripted: ScriptedCloud, **change: Any) -> None:
    """Modify the volume."""

    async def act() -> None:
        async with open_modifier(scripted) as modifier:
            await modifier.modify_volume(ID, Change(**change))

    run(act())


def refusing(*refusals: errors.Error, **terms: Any) -> ScriptedCloud:
    """A cloud with a volume of 1 GiB, whose first answers to a modification are these refusals."""
    scripted = ScriptedCloud(shows=lambda _: a_volume(), **terms)
    scripted.refusals["modify_volume"] = list(refusals)
    return scripted


def test_a_new_size_is_usable_in_state_optimizing() -> None:
    """EBS user guide, volume modifications: the optimization may take hours, and the size is usable before."""
    scripted = refusing(modified=lambda at: a_modification("optimizing" if at > 6 else "modifying", size=GiB(2)))

    size, took = expand(scripted)

    assert size == 2
    assert 6 < took < 10
    assert scripted.calls["modify_volume"] == 1


@pytest.mark.requirement("csi.expand-volume.idempotent")
def test_a_volume_that_is_large_enough_is_not_modified() -> None:
    """CSI spec, ControllerExpandVolume: the call is idempotent, and does not shrink a volume."""
    scripted = ScriptedCloud(shows=lambda _: a_volume(gib=4))

    size, _ = expand(scripted)

    assert size == 4
    assert scripted.calls["modify_volume"] == 0


def test_expansion_waits_although_ec2_shows_the_new_size_already() -> None:
    """Only the latest modification says whether the new size is usable."""
    scripted = ScriptedCloud(
        shows=lambda _: a_volume(gib=2),
        modified=lambda at: a_modification("completed" if at > 4 else "modifying", size=GiB(2)),
    )

    assert expand(scripted)[1] > 4


@pytest.mark.requirement("csi.expand-volume.idempotent")
def test_a_size_that_is_known_to_be_usable_costs_one_look() -> None:
    """Volumes do not shrink, so a size that was usable once is usable."""
    scripted = ScriptedCloud(shows=lambda _: a_volume(gib=2))

    async def act() -> list[GiB]:
        async with open_modifier(scripted) as modifier:
            return [await modifier.expand_volume(ID, TWO) for _ in range(3)]

    assert run(act()) == [2, 2, 2]
    assert scripted.calls == {"describe_volume": 3, "describe_modification": 1}


def test_the_driver_remembers_the_usable_sizes_of_a_limited_number_of_volumes() -> None:
    scripted = ScriptedCloud(shows=lambda _: a_volume(gib=2))

    async def act() -> None:
        async with open_modifier(scripted) as modifier:
            for number in range(MOST_SIZES + 1):
                await modifier.expand_volume(f"vol-{number:017x}", TWO)
            scripted.calls.clear()
            for number in (1, 0):
                await modifier.expand_volume(f"vol-{number:017x}", TWO)

    run(act())

    assert scripted.calls == {"describe_volume": 2, "describe_modification": 1}


def test_a_size_that_ec2_shows_is_not_usable_because_a_smaller_one_was() -> None:
    """aws-ebs-csi-driver, pull request 552: EC2 may show the new size while the modification is pending."""
    scripted = ScriptedCloud(
        shows=lambda at: a_volume(gib=3 if at > 10 else 2),
        modified=lambda at: a_modification("completed" if at > 40 else "modifying", size=GiB(3)) if at > 10 else None,
    )

    async def act() -> tuple[GiB, float]:
        async with open_modifier(scripted) as modifier:
            await modifier.expand_volume(ID, TWO)
            await asyncio.sleep(20)
            return await modifier.expand_volume(ID, TWO), now()

    size, usable_at = run(act())

    assert size == 3
    assert usable_at > 40


def test_expansion_joins_a_running_modification_to_the_same_size() -> None:
    """The caller may retry after its deadline, while the first call's modification is running."""
    scripted = refusing(
        errors.Busy("modifying"),
        modified=lambda at: a_modification("completed" if at > 4 else "modifying", size=GiB(2)),
    )

    size, took = expand(scripted)

    assert size == 2
    assert took > 4


class Refusal(NamedTuple):
    """AWS's refusal of an expansion, and the error of the call."""

    id: str
    refusal: errors.Error
    becomes: type[errors.Error]


@pytest.mark.parametrize(
    "case",
    [
        Refusal("another modification", errors.Busy("modifying"), errors.Busy),
        Refusal("a quota", errors.QuotaReached("full"), errors.OutOfRange),
        Refusal("a full zone", errors.ZoneFull("full"), errors.Unavailable),
        Refusal("a size above the type's maximum", errors.InvalidRequest("too large"), errors.OutOfRange),
        Refusal("the volume's state", errors.NotReady("creating"), errors.Unavailable),
        Refusal("its key", errors.KeyUnusable("disabled"), errors.Unavailable),
        Refusal("too often", errors.RateLimited("wait"), errors.RateLimited),
        Refusal("another request", errors.Conflict("differs"), errors.Unavailable),
        Refusal("permission", errors.Denied("no"), errors.Denied),
    ],
    ids=lambda case: case.id,
)
def test_no_expansion_fails_with_an_error_after_which_the_resizer_stops(case: Refusal) -> None:
    """The external-resizer stops after FAILED_PRECONDITION while a pod uses the claim.

    After RESOURCE_EXHAUSTED it never tries another size.
    """
    scripted = refusing(case.refusal, modified=lambda _: a_modification("modifying", iops=4000))

    refusal = fail_to_expand(scripted)

    assert type(refusal) is case.becomes
    assert not isinstance(refusal, errors.Refused | errors.NoRoom)


@pytest.mark.requirement("csi.expand-volume.out-of-range")
def test_expansion_of_a_volume_above_the_limit_is_out_of_range() -> None:
    """CSI spec, ControllerExpandVolume: "Unsupported capacity_range"."""
    refusal = fail_to_expand(ScriptedCloud(shows=lambda _: a_volume(gib=4)), SizeRange(GiB(1), 2**30))

    assert isinstance(refusal, errors.OutOfRange)
    assert "4 GiB" in str(refusal)


@pytest.mark.requirement("csi.expand-volume.missing")
def test_expansion_fails_with_not_found_only_if_ec2_does_not_show_the_volume_repeatedly() -> None:
    """The external-resizer ends an expansion for good after NOT_FOUND."""
    late = ScriptedCloud(shows=lambda at: a_volume(gib=2) if at > 0.4 else None)

    size, _ = expand(late)

    assert size == 2
    assert isinstance(fail_to_expand(ScriptedCloud()), errors.VolumeNotFound)


def test_a_failed_modification_fails_the_call_with_a_retryable_error_and_the_reason() -> None:
    """EC2 API reference, VolumeModification: state `failed`, and a status message."""
    scripted = refusing(modified=lambda _: a_modification("failed", message="no capacity", size=GiB(2)))

    refusal = fail_to_expand(scripted)

    assert type(refusal) is errors.Unavailable
    assert "no capacity" in str(refusal)


@pytest.mark.requirement("csi.modify-volume.idempotent", "csi.modify-volume.only-named")
def test_only_properties_that_differ_are_requested() -> None:
    """EC2 allows only a few modifications of a volume per day."""
    scripted = refusing()

    modify(scripted, type="gp3", iops=3000, throughput=125)

    assert scripted.calls["modify_volume"] == 0
    assert missing_change(Change(type="gp3", iops=4000), a_volume()) == Change(iops=4000)


def test_a_change_of_tags_alone_does_not_ask_for_modifications() -> None:
    scripted = refusing()

    async def act() -> None:
        async with open_modifier(scripted) as modifier:
            await modifier.modify_volume(ID, Change(), TagChanges(put={"owner": "a"}))

    run(act())

    assert scripted.calls == {"describe_volume": 1, "tag_volume": 1}


@pytest.mark.requirement("csi.modify-volume.last-change")
def test_a_volume_that_a_running_modification_takes_elsewhere_is_not_yet_as_wanted() -> None:
    """The class changed back while its change was running, and EC2 shows the old values until the end."""
    scripted = refusing(modified=lambda _: a_modification("modifying", iops=4000))

    with pytest.raises(errors.Busy, match="another modification"):
        modify(scripted, iops=3000)

    assert scripted.calls["modify_volume"] == 0


def test_a_new_type_is_requested_together_with_all_wanted_properties() -> None:
    """EC2 resets the IOPS of a volume to the default of its new type."""
    change = Change(type="io2", iops=3000)

    assert missing_change(change, a_volume()) == change
    assert missing_change(change, a_volume(type="io2")) == Change()


def test_a_modification_fails_with_the_error_of_ec2s_refusal() -> None:
    """The external-resizer needs INVALID_ARGUMENT for a wrong value, and another code for a quota."""
    with pytest.raises(errors.InvalidRequest):
        modify(refusing(errors.InvalidRequest("too high")), iops=100_000)
    with pytest.raises(errors.QuotaReached):
        modify(refusing(errors.QuotaReached("full")), iops=4000)


def test_the_error_for_too_many_modifications_has_the_earliest_time_for_a_retry() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    last = a_modification("completed", size=GiB(1))
    last = type(last)(volume_id=ID, state=last.state, target=last.target, started=began)

    assert earliest_retry(last, "Wait at least 6 hours between modifications") == began + timedelta(hours=6)
    assert earliest_retry(last, "can be modified again after 2026-01-02T03:04:05Z.") == datetime(
        2026, 1, 2, 3, 4, 5, tzinfo=UTC
    )
    assert earliest_retry(last, "later") is None
    scripted = refusing(errors.RateLimited("after 2026-01-02T03:04:05Z"))
    assert "try again after 2026-01-02T03:04:05Z" in str(fail_to_expand(scripted))


changes = st.builds(
    Change,
    size=st.none() | st.integers(1, 5).map(GiB),
    type=st.none() | st.sampled_from(["gp3", "io2"]),
    iops=st.none() | st.sampled_from([3000, 4000]),
    throughput=st.none() | st.sampled_from([125, 250]),
)


@given(changes)
def test_the_missing_change_never_shrinks_the_volume_and_leads_to_the_wanted_change(change: Change) -> None:
    """EC2 cannot shrink a volume."""
    volume = a_volume(gib=3)

    missing = missing_change(change, volume)

    requested = a_modification("modifying", **{field.name: getattr(missing, field.name) for field in fields(Change)})
    assert missing.size is None or missing.size > volume.size
    assert leads_to(requested, missing)
    assert missing_change(missing, volume) == missing
