"""Looks at AWS are shared: few calls for many callers, and no caller gets an answer from before its question."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperpod_ebs.driver.aws.shared_looks import (
    FIRST_GATHERING,
    GATHERING,
    MAX_KEYS,
    MAX_PATIENCE,
    SharedLooks,
    TakeKeys,
)
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit.operations import Interruption, Operation, Operations, joined_wait
from tests.support.virtual_time import now, run


@dataclass(frozen=True, slots=True)
class Sent:
    """A call that was sent, with its keys."""

    at: float
    keys: frozenset[str]


@dataclass
class Kind:
    """Objects of one kind: a look shows the time at which its call was sent."""

    seconds: float = 0.2
    """How long a call takes once it is sent."""
    wait_after: float = 0.0
    """How long the callers have to wait after their look."""
    queued: float = 0.0
    """How long a call waits for its turn."""
    repeats: int = 0
    """How often AWS throttles a call."""
    unknown: Collection[str] = ()
    failure: Exception | None = None
    calls: list[Sent] = field(default_factory=list)
    ended: int = 0
    """How many calls have ended."""

    def __post_init__(self) -> None:
        self.looks = SharedLooks("describe things", self.describe, lambda: self.wait_after)

    async def describe(self, take_keys: TakeKeys) -> list[tuple[str, float]]:
        """Show all keys that are not unknown."""
        try:
            await asyncio.sleep(self.queued)
            for _ in range(self.repeats):
                await self._send(take_keys)
            call = await self._send(take_keys)
            if self.failure is not None:
                raise self.failure
            return [(key, call.at) for key in call.keys if key not in self.unknown]
        finally:
            self.ended += 1

    async def _send(self, take_keys: TakeKeys) -> Sent:
        call = Sent(now(), frozenset(take_keys()))
        self.calls.append(call)
        await asyncio.sleep(self.seconds)
        return call

    async def look(self, key: str, after: float = 0.0) -> list[float]:
        """Look at the key in a while."""
        await asyncio.sleep(after)
        return await self.looks.look(key, f"describe thing {key}")

    async def look_at_all(self, keys: Sequence[str]) -> list[list[float]]:
        """Look at all of these keys at once."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.look(key)) for key in keys]
        return [task.result() for task in tasks]


def things(count: int) -> list[str]:
    """The ids of this many objects."""
    return [f"thing-{number}" for number in range(count)]


def test_a_single_caller_does_not_wait_for_others() -> None:
    kind = Kind()

    async def act() -> float:
        await kind.look("thing-1")
        await kind.look("thing-1")
        return now()

    assert run(act()) == pytest.approx(2 * kind.seconds)


@pytest.mark.parametrize(("callers", "calls"), [(1, 1), (200, 1), (201, 2), (1000, 5)])
def test_callers_at_once_need_a_call_for_every_200_of_them(callers: int, calls: int) -> None:
    """EC2 API reference, Filter: at most 200 values."""
    kind = Kind()

    answers = run(kind.look_at_all(things(callers)))

    assert [len(answer) for answer in answers] == [1] * callers
    assert len(kind.calls) == calls
    assert max(len(call.keys) for call in kind.calls) <= MAX_KEYS


def test_callers_who_have_to_wait_afterwards_anyway_share_a_call_even_if_they_come_one_after_the_other() -> None:
    """Each of 500 volumes is looked up by its name, and then waits for its turn to be created."""
    kind = Kind(wait_after=20.0)

    async def act() -> list[float]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(kind.look(key, after=number / 5)) for number, key in enumerate(things(100))]
        return [task.result()[0] for task in tasks]

    answers = run(act())

    assert len(kind.calls) == 4
    assert max(answer - number / 5 for number, answer in enumerate(answers)) <= MAX_PATIENCE


def test_two_callers_of_one_object_share_an_answer() -> None:
    kind = Kind()

    answers = run(kind.look_at_all(things(250) * 4))

    assert answers == [[0.0]] * 1000
    assert len(kind.calls) == 2


@pytest.mark.parametrize("seconds", [0.01, 0.2, 60.0])
def test_callers_gather_while_a_call_runs_but_not_for_long(seconds: float) -> None:
    """A call that hangs must not delay the callers after it."""
    kind = Kind(seconds=seconds)

    async def act() -> list[float]:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(kind.look(f"thing-{number}", after=0.001 + number / 1000))
        return [call.at for call in kind.calls]

    assert run(act()) == pytest.approx([0.001, 0.007, 0.017, 0.038], abs=0.0015)


def test_calls_beside_running_ones_use_no_more_than_ec2_refills() -> None:
    """EC2 developer guide, "Request throttling": 20 calls of a describing action in a second."""
    kind = Kind()

    async def act() -> int:
        async with asyncio.TaskGroup() as group:
            for number in range(3000):
                group.create_task(kind.look(f"thing-{number}", after=number / 300))
        return len(kind.calls)

    assert 100 < run(act()) <= 10 * 20 + 4


def test_a_caller_after_a_pause_gathers_for_as_short_as_the_first() -> None:
    """What one burst has learned does not slow the next one."""
    kind = Kind(seconds=0.02)

    async def act() -> float:
        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(kind.look(f"thing-{number}", after=number / 1000))
        await asyncio.sleep(1.0)
        async with asyncio.TaskGroup() as group:
            group.create_task(kind.look("thing-0"))
            group.create_task(kind.look("thing-1", after=0.001))
        return kind.calls[-1].at - kind.calls[-2].at

    assert run(act()) == pytest.approx(0.001 + FIRST_GATHERING)


def test_callers_join_a_call_until_it_is_sent() -> None:
    """A call may wait for its turn, so that AWS does not throttle it."""
    kind = Kind(queued=10.0)

    async def act() -> list[list[float]]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(kind.look(f"thing-{number}", after=float(number))) for number in range(9)]
        return [task.result() for task in tasks]

    assert run(act()) == [[10.0]] * 9


def test_a_call_that_is_repeated_asks_for_the_same_objects() -> None:
    """The callers wait for its answer."""
    kind = Kind(seconds=1.0, repeats=2)

    async def act() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(kind.look(f"thing-{number}", after=0.5 * number))

    run(act())

    first, *others = kind.calls
    assert [call.keys for call in kind.calls if call.keys == first.keys] == [{"thing-0"}] * 3
    assert {key for call in others for key in call.keys} == {"thing-0", "thing-1", "thing-2"}


def test_an_object_that_aws_does_not_show_has_no_answer() -> None:
    kind = Kind(unknown={"thing-1"})

    assert run(kind.look_at_all(things(3))) == [[0.0], [], [0.0]]


@pytest.mark.requirement("looks.after-question")
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 4)), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.01, 0.2, 3.0]),
    st.sampled_from([0.0, 0.03, 1.0]),
)
@example([(0, 0), (0, 0), (1, 0)], 0.2, 0.0)
def test_an_answer_is_of_a_call_that_was_sent_after_the_question_and_soon(
    questions: list[tuple[int, int]], seconds: float, queued: float
) -> None:
    """EC2 answers with what was true when it was asked, or some time before."""
    kind = Kind(seconds=seconds, queued=queued)

    async def ask(at: int, key: int) -> tuple[float, float]:
        await asyncio.sleep(at / 1000)
        asked_at = now()
        (answered_at,) = await kind.look(f"thing-{key}")
        return asked_at, answered_at

    async def act() -> list[tuple[float, float]]:
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(ask(at, key)) for at, key in questions]
        assert kind.ended == len(kind.calls)
        return [look.result() for look in looks]

    for asked_at, answered_at in run(act()):
        assert asked_at <= answered_at <= asked_at + GATHERING + queued + 1e-9
    assert len(kind.calls) <= len(questions)


def test_an_error_is_the_same_for_all_callers_and_names_the_object_of_each() -> None:
    """An operator who reads that 200 objects cannot be described does not know which claim is stuck."""
    kind = Kind(failure=errors.Denied("cannot describe things: IAM says no", why="IAM says no"))

    async def error_for(key: str) -> errors.Denied:
        with pytest.raises(errors.Denied) as caught:
            await kind.look(key)
        return caught.value

    async def act() -> list[errors.Denied]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(error_for(key)) for key in things(2)]
        return [task.result() for task in tasks]

    raised = run(act())

    assert [str(error) for error in raised] == [f"cannot describe thing {key}: IAM says no" for key in things(2)]
    assert [error.why for error in raised] == ["IAM says no"] * 2
    assert len(kind.calls) == 1


def test_a_call_goes_on_until_its_last_caller_leaves() -> None:
    """A sidecar cancels a call when its deadline ends; other callers wait for the same answer."""
    kind = Kind(seconds=10.0)

    async def leave(key: str, after: float) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(after):
                await kind.look(key)

    async def act() -> list[float]:
        async with asyncio.TaskGroup() as group:
            group.create_task(leave("thing-1", 1.0))
            group.create_task(leave("thing-2", 2.0))
            staying = group.create_task(kind.look("thing-3"))
        async with asyncio.TaskGroup() as group:
            group.create_task(leave("thing-4", 1.0))
            group.create_task(leave("thing-5", 2.0))
        assert (now(), kind.ended) == (12.0, 2)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return staying.result()

    assert run(act()) == [0.0]
    assert run(Kind(seconds=1.0).look("thing-6")) == [0.0]


def test_an_operation_that_only_looks_gives_way_and_says_what_it_waits_for() -> None:
    """Decision 0037: an attach that no caller waits for gives way to a detach."""
    kind, attach, detach = Kind(queued=60.0), Operation("attach"), Operation("detach")

    async def act() -> str:
        async with Operations[str]() as operations:

            async def wait_for_attach() -> str:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(5.0):
                        await operations.run("vol-1", attach, lambda: kind.look("thing"), interruption=Interruption())
                return joined_wait()

            wait = await wait_for_attach()
            await operations.run("vol-1", detach, lambda: asyncio.sleep(0), preempts={"attach"})
        assert (now(), kind.ended) == (5.0, 1)
        return wait

    assert run(act()) == "the call to describe things waits for its turn"


def test_a_caller_after_the_last_one_left_gets_a_call_of_its_own() -> None:
    kind = Kind(queued=5.0)

    async def act() -> list[float]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await kind.look("thing-1")
        return await kind.look("thing-2")

    assert run(act()) == [6.0]
    assert [call.keys for call in kind.calls] == [{"thing-2"}]
