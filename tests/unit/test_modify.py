"""Growing and changing volumes: what is asked for, joined, or said when it cannot be."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.volume import Change
from hyperpod_ebs.driver.volumes.modify import brings, earliest, expand, missing, modify
from hyperpod_ebs.driver.volumes.watch import Watcher
from tests.support.scripted_cloud import ID, ScriptedCloud, a_modification, a_volume
from tests.support.virtual_time import now, run

TWO = SizeRange(GiB(2))


def grown(paper: ScriptedCloud, size: SizeRange = TWO) -> tuple[GiB, float]:
    """The size, and when it could be used."""

    async def act() -> tuple[GiB, float]:
        async with Watcher(paper.cloud) as watcher:
            return await expand(paper.cloud, watcher, ID, size), now()

    return run(act())


def not_grown(paper: ScriptedCloud, size: SizeRange = TWO) -> errors.Error:
    """What is said instead."""

    async def act() -> errors.Error:
        async with Watcher(paper.cloud) as watcher:
            with pytest.raises(errors.Error) as refusal:
                await expand(paper.cloud, watcher, ID, size)
            return refusal.value

    return run(act())


def modified(paper: ScriptedCloud, **change: Any) -> None:
    """Have it changed."""

    async def act() -> None:
        async with Watcher(paper.cloud) as watcher:
            await modify(paper.cloud, watcher, ID, Change(**change))

    run(act())


def refusing(*refusals: errors.Error, **terms: Any) -> ScriptedCloud:
    """A cloud with a volume of 1 GiB, that refuses so at first."""
    paper = ScriptedCloud(shows=lambda _: a_volume(), **terms)
    paper.refusals["modify_volume"] = list(refusals)
    return paper


def test_a_size_can_be_used_from_optimizing_on() -> None:
    """EC2: the rest may take hours."""
    paper = refusing(modified=lambda at: a_modification("optimizing" if at > 6 else "modifying", size=GiB(2)))

    size, took = grown(paper)

    assert size == 2
    assert 6 < took < 10
    assert paper.calls["modify_volume"] == 1


@pytest.mark.requirement("csi.expand-volume.idempotent")
def test_a_volume_that_is_large_enough_is_left_alone() -> None:
    """CSI: an expansion never makes it smaller, and a repeat succeeds."""
    paper = ScriptedCloud(shows=lambda _: a_volume(gib=4))

    size, _ = grown(paper)

    assert size == 4
    assert paper.calls["modify_volume"] == 0


def test_a_size_that_ec2_shows_before_it_can_be_used_is_waited_for() -> None:
    """Upstream: the latest modification says whether it is still under way."""
    paper = ScriptedCloud(
        shows=lambda _: a_volume(gib=2),
        modified=lambda at: a_modification("completed" if at > 4 else "modifying", size=GiB(2)),
    )

    assert grown(paper)[1] > 4


def test_a_modification_under_way_to_the_same_size_is_joined() -> None:
    """Ours: a call that was cut off and comes again."""
    paper = refusing(
        errors.Busy("modifying"),
        modified=lambda at: a_modification("completed" if at > 4 else "modifying", size=GiB(2)),
    )

    size, took = grown(paper)

    assert size == 2
    assert took > 4


class Growth(NamedTuple):
    """What AWS says to an expansion, and what is made of it."""

    id: str
    said: errors.Error
    becomes: type[errors.Error]


@pytest.mark.parametrize(
    "case",
    [
        Growth("another modification", errors.Busy("modifying"), errors.Busy),
        Growth("a quota", errors.QuotaReached("full"), errors.OutOfRange),
        Growth("more than the type has", errors.InvalidRequest("too large"), errors.OutOfRange),
        Growth("the volume's state", errors.NotReady("creating"), errors.Unavailable),
        Growth("its key", errors.KeyUnusable("disabled"), errors.Unavailable),
        Growth("too often", errors.RateLimited("wait"), errors.RateLimited),
        Growth("permission", errors.Denied("no"), errors.Denied),
    ],
    ids=lambda case: case.id,
)
def test_an_expansion_is_never_refused_so_that_the_resizer_stops(case: Growth) -> None:
    """Resizer: FAILED_PRECONDITION freezes growth, RESOURCE_EXHAUSTED pins the size (what-callers-do)."""
    paper = refusing(case.said, modified=lambda _: a_modification("modifying", iops=4000))

    refusal = not_grown(paper)

    assert type(refusal) is case.becomes
    assert not isinstance(refusal, errors.Refused | errors.NoRoom)


@pytest.mark.requirement("csi.expand-volume.out-of-range")
def test_a_volume_over_the_limit_cannot_shrink() -> None:
    """CSI: OUT_OF_RANGE with both values."""
    refusal = not_grown(ScriptedCloud(shows=lambda _: a_volume(gib=4)), SizeRange(GiB(1), 2**30))

    assert isinstance(refusal, errors.OutOfRange)
    assert "4 GiB" in str(refusal)


@pytest.mark.requirement("csi.expand-volume.missing")
def test_a_volume_is_not_found_only_when_it_stays_so() -> None:
    """Resizer: NOT_FOUND ends the expansion for good."""
    late = ScriptedCloud(shows=lambda at: a_volume(gib=2) if at > 0.4 else None)

    size, _ = grown(late)

    assert size == 2
    assert isinstance(not_grown(ScriptedCloud()), errors.VolumeNotFound)


def test_a_modification_that_fails_is_to_be_asked_for_again() -> None:
    """EC2: failed, with its reason."""
    paper = refusing(modified=lambda _: a_modification("failed", message="no capacity", size=GiB(2)))

    refusal = not_grown(paper)

    assert type(refusal) is errors.Unavailable
    assert "no capacity" in str(refusal)


@pytest.mark.requirement("csi.modify-volume.idempotent", "csi.modify-volume.only-named")
def test_only_what_differs_is_asked_for() -> None:
    """AWS: a volume can be modified a few times a day; nothing is spent on what is so."""
    paper = refusing()

    modified(paper, type="gp3", iops=3000, throughput=125)

    assert paper.calls["modify_volume"] == 0
    assert missing(Change(type="gp3", iops=4000), a_volume()) == Change(iops=4000)


def test_another_type_is_asked_for_with_all_that_is_wanted_of_it() -> None:
    """EC2: a new type brings its own default of IOPS, so that what is so now need not stay so."""
    change = Change(type="io2", iops=3000)

    assert missing(change, a_volume()) == change
    assert missing(change, a_volume(type="io2")) == Change()


def test_a_change_is_refused_as_ec2_refuses_it() -> None:
    """Resizer: INVALID_ARGUMENT for a range or ratio, FAILED_PRECONDITION for a quota."""
    with pytest.raises(errors.InvalidRequest):
        modified(refusing(errors.InvalidRequest("too high")), iops=100_000)
    with pytest.raises(errors.QuotaReached):
        modified(refusing(errors.QuotaReached("full")), iops=4000)


def test_the_rate_limit_says_when_it_ends() -> None:
    """Ours: the next step in the message."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    last = a_modification("completed", size=GiB(1))
    last = type(last)(volume_id=ID, state=last.state, target=last.target, started=began)

    assert earliest(last, "Wait at least 6 hours between modifications") == began + timedelta(hours=6)
    assert earliest(last, "can be modified again after 2026-01-02T03:04:05Z.") == datetime(
        2026, 1, 2, 3, 4, 5, tzinfo=UTC
    )
    assert earliest(last, "later") is None
    paper = refusing(errors.RateLimited("after 2026-01-02T03:04:05Z"))
    assert "earliest at 2026-01-02T03:04:05Z" in str(not_grown(paper))


changes = st.builds(
    Change,
    size=st.none() | st.integers(1, 5).map(GiB),
    type=st.none() | st.sampled_from(["gp3", "io2"]),
    iops=st.none() | st.sampled_from([3000, 4000]),
    throughput=st.none() | st.sampled_from([125, 250]),
)


@given(changes)
def test_what_is_missing_is_never_smaller_and_brings_what_was_asked(change: Change) -> None:
    """Ours: volumes do not shrink, and a modification to what is missing is one to what was asked."""
    volume = a_volume(gib=3)

    lacking = missing(change, volume)

    assert lacking.size is None or lacking.size > volume.size
    assert brings(a_modification("modifying", size=lacking.size, type=lacking.type, iops=lacking.iops,
                                 throughput=lacking.throughput), lacking)  # fmt: skip
    assert missing(lacking, volume) == lacking
