"""A growth and a change of attributes that arrive together: one request to EC2, and an answer for each caller."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple

import pytest

from hyperpod_ebs.driver.model import errors, iops
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.model.modification import WINDOW
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.tags import TagChanges
from hyperpod_ebs.driver.model.volume import Change, Modification, Volume
from hyperpod_ebs.driver.volumes.governor import Governor
from hyperpod_ebs.driver.volumes.modify import Modifier
from hyperpod_ebs.driver.volumes.pace import FIRST_POLL_AGE
from hyperpod_ebs.kit import operations
from tests.support.scripted_cloud import ID, ScriptedCloud, a_modification, a_volume, open_modifier
from tests.support.virtual_time import now, run

TWO: Final = SizeRange(GiB(2))
SIZE: Final = Change(size=GiB(2))
FAST: Final = Change(iops=4000)
BOTH: Final = replace(SIZE, iops=4000)


@dataclass(frozen=True)
class Answers:
    """What the callers got."""

    growth: object
    change: object
    grown_at: float = 0.0


def script(*refusals: errors.Error, volume: Volume | None = None, **terms: Any) -> ScriptedCloud:
    """A cloud with a volume of 1 GiB, whose first answers to a modification are these refusals.

    Modifications are usable after 30 seconds.
    """
    shown = volume or a_volume()
    terms = {"modified": lambda at: a_modification("optimizing" if at > 30 else "modifying")} | terms
    scripted = ScriptedCloud(shows=lambda _: shown, **terms)
    scripted.refusals["modify_volume"] = list(refusals)
    return scripted


async def answer_of(call: Awaitable[object]) -> object:
    """The result of a call, or its error."""
    try:
        return await call
    except (errors.Error, operations.Busy) as error:
        return error


async def call_both(
    modifier: Modifier, *, gap: float = 0.0, attributes: Change = FAST, tags: TagChanges | None = None
) -> Answers:
    """Change the volume, and grow it `gap` seconds later; the answers."""
    grown_at = 0.0

    async def grow() -> object:
        nonlocal grown_at
        await asyncio.sleep(gap)
        answer = await answer_of(modifier.expand_volume(ID, TWO))
        grown_at = now()
        return answer

    async with asyncio.TaskGroup() as group:
        change = group.create_task(answer_of(modifier.modify_volume(ID, attributes, tags or TagChanges())))
        growth = group.create_task(grow())
    return Answers(growth.result(), change.result(), grown_at)


def change_and_grow(scripted: ScriptedCloud, **terms: Any) -> Answers:
    """Change and grow the volume of this cloud; the answers."""

    async def act() -> Answers:
        async with open_modifier(scripted) as modifier:
            return await call_both(modifier, **terms)

    return run(act())


@pytest.mark.requirement("csi.modify-volume.together")
@pytest.mark.parametrize("gap", [0.0, WINDOW - 0.1], ids=["at once", "within the window"])
def test_a_growth_and_a_change_of_attributes_are_one_modification(gap: float) -> None:
    """EC2 API reference, ModifyVolume: a volume can be modified four times in 24 hours."""
    scripted = script()

    answers = change_and_grow(scripted, gap=gap)

    assert scripted.changes == [BOTH]
    assert (answers.growth, answers.change) == (2, None)


def test_a_request_with_both_parts_does_not_wait_for_the_end_of_the_window() -> None:
    scripted = script()

    async def act() -> Answers:
        async with open_modifier(scripted, window=3600.0) as modifier:
            return await call_both(modifier)

    answers = run(act())

    assert scripted.changes == [BOTH]
    assert answers.grown_at < 100


def test_a_request_that_could_not_be_sent_gets_no_more_parts() -> None:
    """Its callers have got the error, and may not ask for the same again."""
    scripted = script(unsent=[errors.Unavailable("no credentials")])

    async def act() -> tuple[object, object]:
        async with open_modifier(scripted) as modifier:
            change = await answer_of(modifier.modify_volume(ID, FAST))
            return change, await modifier.expand_volume(ID, TWO)

    change, growth = run(act())

    assert isinstance(change, errors.Unavailable)
    assert growth == 2
    assert scripted.changes == [SIZE]


@pytest.mark.requirement("csi.modify-volume.together")
def test_a_change_joins_a_request_that_waits_for_its_turn() -> None:
    """A request that is not sent yet can have more parts."""
    scripted = script(turn=20.0)

    answers = change_and_grow(scripted, gap=WINDOW + 10)

    assert scripted.changes == [BOTH]
    assert (answers.growth, answers.change) == (2, None)


def test_a_growth_is_refused_while_ec2_has_not_answered_an_earlier_request_and_succeeds_when_repeated() -> None:
    """EC2 accepts one modification of a volume at a time."""
    scripted = script(delay=20.0)

    async def act() -> tuple[Answers, GiB]:
        async with open_modifier(scripted) as modifier:
            return await call_both(modifier, gap=WINDOW + 10), await modifier.expand_volume(ID, TWO)

    answers, size = run(act())

    assert isinstance(answers.growth, operations.Busy)
    assert answers.change is None
    assert size == 2
    assert scripted.changes == [FAST, SIZE]


def test_a_growth_after_a_refused_request_is_a_request_of_its_own() -> None:
    scripted = script(errors.InvalidRequest("too high"))

    answers = change_and_grow(scripted, gap=WINDOW + 10)

    assert scripted.changes == [FAST, SIZE]
    assert answers.growth == 2
    assert isinstance(answers.change, errors.InvalidRequest)


class Refused(NamedTuple):
    """EC2's refusals of a request for both, and of the requests that follow."""

    id: str
    refusals: tuple[errors.Error, ...]
    requests: tuple[Change, ...]
    growth: object
    change: object


@pytest.mark.requirement("csi.modify-volume.own-answer")
@pytest.mark.parametrize(
    "case",
    [
        Refused("a wrong class", (errors.InvalidRequest("iops"),), (BOTH, SIZE), 2, errors.InvalidRequest),
        Refused("a quota for the class", (errors.QuotaReached("iops"),), (BOTH, SIZE), 2, errors.QuotaReached),
        Refused("a denied class", (errors.Denied("iops"),), (BOTH, SIZE), 2, errors.Denied),
        Refused("an unknown code", (errors.CloudError("New", "iops"),), (BOTH, SIZE), 2, errors.CloudError),
        Refused(
            "a quota for the size",
            (errors.QuotaReached("size"), errors.QuotaReached("size")),
            (BOTH, SIZE, FAST),
            errors.OutOfRange,
            None,
        ),
        Refused(
            "both",
            (errors.InvalidRequest("both"), errors.QuotaReached("size"), errors.InvalidRequest("iops")),
            (BOTH, SIZE, FAST),
            errors.OutOfRange,
            errors.InvalidRequest,
        ),
        Refused("no answer", (errors.Unavailable("timeout"),), (BOTH,), errors.Unavailable, errors.Unavailable),
        Refused(
            "no answer for the size",
            (errors.InvalidRequest("iops"), errors.Unavailable("timeout")),
            (BOTH, SIZE),
            errors.Unavailable,
            errors.Unavailable,
        ),
        Refused(
            "too often for the size",
            (errors.InvalidRequest("iops"), errors.RateLimited("later")),
            (BOTH, SIZE),
            errors.RateLimited,
            errors.RateLimited,
        ),
        Refused("too often", (errors.RateLimited("later"),), (BOTH,), errors.RateLimited, errors.RateLimited),
    ],
    ids=lambda case: case.id,
)
def test_each_caller_gets_the_refusal_of_its_own_part(case: Refused) -> None:
    """A class that EC2 refuses does not keep a volume from growing, nor the other way round."""
    scripted = script(*case.refusals)

    answers = change_and_grow(scripted)

    assert scripted.changes == list(case.requests)
    for answer, expected in ((answers.growth, case.growth), (answers.change, case.change)):
        assert type(answer) is expected if isinstance(expected, type) else answer == expected


@pytest.mark.requirement("csi.modify-volume.together")
def test_both_callers_join_the_modification_that_a_killed_process_requested_for_them() -> None:
    """EC2 shows the old values until the modification is usable, and refuses another one."""
    scripted = script(
        errors.Busy("modifying"),
        modified=lambda at: a_modification("optimizing" if at > 30 else "modifying", size=GiB(2), iops=4000),
    )

    answers = change_and_grow(scripted)

    assert (answers.growth, answers.change) == (2, None)


def test_a_caller_whose_part_the_running_modification_lacks_has_to_wait() -> None:
    scripted = script(
        errors.Busy("modifying"),
        modified=lambda at: a_modification("optimizing" if at > 30 else "modifying", size=GiB(2)),
    )

    answers = change_and_grow(scripted)

    assert answers.growth == 2
    assert isinstance(answers.change, errors.Busy)


def test_a_growth_joins_a_larger_one_whose_iops_are_those_of_a_class() -> None:
    """The growth asks for the size, and the IOPS only follow."""
    tags = {iops.PER_GIB_TAG: "3000", iops.GROW_TAG: "true"}
    running = a_modification("modifying", size=GiB(3), iops=4000)
    scripted = script(
        errors.Busy("modifying"),
        volume=a_volume(tags=tags),
        modified=lambda at: replace(running, state=a_modification("optimizing").state) if at > 30 else running,
    )

    async def act() -> GiB:
        async with open_modifier(scripted) as modifier:
            return await modifier.expand_volume(ID, TWO)

    assert run(act()) == 3


def test_the_end_of_one_call_does_not_end_the_other() -> None:
    """The first call opens the window, and its caller leaves."""
    scripted = script()

    async def act() -> object:
        async with open_modifier(scripted) as modifier, asyncio.TaskGroup() as group:
            first = group.create_task(modifier.modify_volume(ID, FAST))
            await asyncio.sleep(0.1)
            second = group.create_task(modifier.expand_volume(ID, TWO))
            await asyncio.sleep(0)
            first.cancel()
            return await second

    assert run(act()) == 2
    assert scripted.changes == [BOTH]


def test_changes_of_tags_do_not_delay_a_growth() -> None:
    """Tags are requests of their own, and EC2 may throttle them."""
    scripted = script(tagging=300.0)

    answers = change_and_grow(scripted, tags=TagChanges(put={"owner": "a"}))

    assert answers.growth == 2
    assert answers.grown_at < 100
    assert scripted.changes == [SIZE, FAST]


class GovernedCloud(ScriptedCloud):
    """A cloud whose requests to modify a volume take their turn at a governor."""

    async def modify_volume(self, _: str, change: Callable[[], Change]) -> Modification:
        """Send the request when its turn has come."""
        request = Request("ModifyVolume", ID, f"modify volume {ID}")
        return await Governor().call(request, partial(super().modify_volume, ID, change))


def test_the_age_of_a_modification_counts_from_its_request_and_not_from_ec2s_answer() -> None:
    """Otherwise the pace takes it for younger than it is, and polls late."""
    answer_after, polls = 60.0, list[float]()

    def latest_modification(at: float) -> Modification:
        polls.append(at)
        return a_modification("optimizing")

    scripted = GovernedCloud(shows=lambda _: a_volume(), modified=latest_modification, delay=answer_after)

    async def act() -> float:
        async with open_modifier(scripted) as modifier:
            began = now()
            await modifier.expand_volume(ID, TWO)
            return began + WINDOW + answer_after

    answered_at = run(act())

    assert answered_at <= polls[0] < answered_at + FIRST_POLL_AGE


def test_two_sizes_at_once_conflict() -> None:
    """A request has one size."""
    scripted = script()

    async def act() -> list[object]:
        async with open_modifier(scripted) as modifier, asyncio.TaskGroup() as group:
            calls = [group.create_task(answer_of(modifier.expand_volume(ID, SizeRange(GiB(size))))) for size in (2, 3)]
        return [call.result() for call in calls]

    first, second = run(act())

    assert first == 2
    assert isinstance(second, errors.Busy)
    assert scripted.changes == [SIZE]
