"""The watcher describes all volumes together, wakes each waiter on its own, and leaves none hanging."""

import asyncio
from collections.abc import Collection, Mapping
from itertools import pairwise

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.model.volume import Volume, VolumeState
from hyperpod_ebs.driver.volumes.cloud import PartlyRead
from hyperpod_ebs.driver.volumes.governor import Governor
from hyperpod_ebs.driver.volumes.pace import Transition
from hyperpod_ebs.driver.volumes.watch import Poller, Watcher
from tests.support.scripted_cloud import ScriptedCloud, a_volume
from tests.support.virtual_time import now, run


def is_available(volume: Volume | None) -> bool:
    """The condition of the waiters in these tests."""
    return volume is not None and volume.state is VolumeState.AVAILABLE


def available_after_two_seconds(at: float) -> Volume:
    """The volume that EC2 shows at a time."""
    return a_volume("available" if at >= 2 else "creating")


async def wait(watcher: Poller[Volume] | Watcher, volume_id: str = "vol-1", patience: float = 60) -> float:
    """Wait until a volume is available; the time at which the wait was over."""
    wait_for_volume = watcher.wait_for_volume if isinstance(watcher, Watcher) else watcher.wait_until
    await wait_for_volume(volume_id, Transition.CREATE, is_available, patience=patience)
    return now()


def test_a_waiter_wakes_within_half_a_second_of_its_state() -> None:

    async def act() -> float:
        async with Watcher(ScriptedCloud(shows=available_after_two_seconds).cloud) as watcher:
            return await wait(watcher)

    assert 2 <= run(act()) < 2.5


def test_waiters_share_calls_of_at_most_200_ids_and_wake_one_by_one() -> None:
    """EC2 API reference, DescribeVolumes: a request has up to 200 filter values; an unknown value fails no others."""
    batches: list[int] = []

    async def describe(ids: Collection[str]) -> Mapping[str, Volume]:
        batches.append(len(ids))
        return {id_: a_volume() for id_ in ids if int(id_) < now() * 100}

    async def act() -> list[float]:
        poller = Poller(describe)
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poller.run())
            async with asyncio.TaskGroup() as waiters:
                tasks = [waiters.create_task(wait(poller, str(number))) for number in range(450)]
            polling.cancel()
        return [task.result() for task in tasks]

    ends = run(act())

    assert max(batches) == 200
    assert len(batches) < 60
    assert len(set(ends)) > 2
    assert all(number / 100 <= end < number / 100 + 3 for number, end in enumerate(ends))


def test_a_call_describes_the_volumes_that_are_most_probably_ready() -> None:
    """A call has room for 200 volumes. Of 300, those whose requests are older come first."""
    old_and_new: list[tuple[int, int]] = []

    async def describe(ids: Collection[str]) -> Mapping[str, Volume]:
        old = sum(id_.startswith("vol-old") for id_ in ids)
        old_and_new.append((old, len(ids) - old))
        return {id_: available_after_two_seconds(now()) for id_ in ids}

    async def act() -> None:
        poller = Poller(describe)
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poller.run())
            async with asyncio.TaskGroup() as waiters:
                for number in range(200):
                    waiters.create_task(wait(poller, f"vol-old-{number}"))
                await asyncio.sleep(0.5)
                for number in range(100):
                    waiters.create_task(wait(poller, f"vol-new-{number}"))
            polling.cancel()

    run(act())

    assert [new for _, new in old_and_new[:3]] == [0, 0, 0]
    assert sum(new for _, new in old_and_new) >= 100


@pytest.mark.parametrize("rate", [1.0, 20.0])
def test_polls_keep_within_a_quarter_of_the_rate_that_the_account_has(rate: float) -> None:
    """EC2 developer guide, request throttling: users of an account share its limits."""
    polls: list[float] = []

    async def describe(ids: Collection[str]) -> Mapping[str, Volume]:
        polls.append(now())
        return {id_: a_volume("available" if now() >= int(id_) / 5 else "creating") for id_ in ids}

    async def act() -> None:
        poller = Poller(describe, rate=lambda: rate)
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poller.run())
            async with asyncio.TaskGroup() as waiters:
                for number in range(100):
                    waiters.create_task(wait(poller, str(number)))
            polling.cancel()

    run(act())

    assert all(later - earlier >= 4 / rate - 1e-6 for earlier, later in pairwise(polls))
    assert len(polls) > 4


def test_the_age_of_a_transition_counts_from_its_request_and_not_from_aws_answer() -> None:
    """AWS may answer a second after it has carried out a request, and a call may wait for minutes before it is sent."""
    polls: list[float] = []

    async def describe(_: Collection[str]) -> Mapping[str, Volume]:
        polls.append(now())
        return {"vol-1": a_volume("creating")}

    async def act() -> float:
        governor = Governor()
        poller = Poller(describe)
        answered_at = 0.0
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poller.run())
            for _ in range(2):  # the first poll for a kind of transition comes early in any case
                polls.clear()
                await governor.call(Request("CreateVolume", "pvc-1", "create volume pvc-1"), lambda: asyncio.sleep(1))
                answered_at = now()
                with pytest.raises(TimeoutError):
                    await wait(poller, patience=10)
            polling.cancel()
        return answered_at

    answered_at = run(act())

    assert answered_at <= polls[0] < answered_at + 0.1


@pytest.mark.requirement("waits.end")
def test_failed_polls_slow_the_pace_and_fail_no_waiter() -> None:
    """AWS throttles calls, and connections break."""
    scripted = ScriptedCloud(shows=available_after_two_seconds)
    scripted.refusals["describe_volumes"] = [
        errors.Throttled("slower"),
        errors.Unavailable("no answer"),
        errors.CloudError("X", ""),
    ]

    async def act() -> float:
        async with Watcher(scripted.cloud) as watcher:
            return await wait(watcher)

    assert 2 <= run(act()) < 8
    assert scripted.calls["describe_volumes"] < 8


@pytest.mark.requirement("waits.end")
def test_a_denied_poll_fails_its_waiters_at_once_and_does_not_slow_the_next() -> None:
    """Waiting does not give a permission, and the sidecars retry; the event is the same each time."""
    texts: set[str] = set()
    scripted = ScriptedCloud(shows=available_after_two_seconds)
    scripted.refusals["describe_volumes"] = [
        errors.Denied(f"cannot describe {count} volumes: no", why="ec2:DescribeVolumes on * is denied")
        for count in range(5)
    ]

    async def act() -> float:
        async with Watcher(scripted.cloud) as watcher:
            for _ in range(5):
                with pytest.raises(errors.Denied) as denied:
                    await wait(watcher)
                texts.add(str(denied.value))
            assert now() < 2
            return await wait(watcher)

    assert 2 <= run(act()) < 4
    assert texts == {"cannot wait for volume vol-1: ec2:DescribeVolumes on * is denied"}


@pytest.mark.requirement("waits.end")
def test_a_wait_ends_after_its_patience_and_causes_no_calls_then() -> None:
    scripted = ScriptedCloud(shows=lambda _: a_volume("creating"))

    async def act() -> tuple[float, int, int]:
        async with Watcher(scripted.cloud) as watcher:
            with pytest.raises(TimeoutError):
                await wait(watcher, patience=30)
            ended, calls = now(), scripted.calls["describe_volumes"]
            await asyncio.sleep(600)
            return ended, calls, scripted.calls["describe_volumes"]

    ended, before, after = run(act())

    assert ended == pytest.approx(30)
    assert before == after


def test_a_cancelled_waiter_does_not_disturb_the_others() -> None:
    scripted = ScriptedCloud(shows=available_after_two_seconds)

    async def act() -> float:
        async with Watcher(scripted.cloud) as watcher, asyncio.TaskGroup() as group:
            cancelled = group.create_task(wait(watcher, "vol-1"))
            other = group.create_task(wait(watcher, "vol-2"))
            await asyncio.sleep(1)
            cancelled.cancel()
            return await other

    assert 2 <= run(act()) < 3


def test_a_waiter_cancelled_during_a_poll_does_not_stop_the_watcher() -> None:
    """The caller of a waiting operation may leave at any moment."""
    begun, answered = asyncio.Event(), asyncio.Event()

    async def describe(ids: Collection[str]) -> Mapping[str, Volume]:
        begun.set()
        await answered.wait()
        return dict.fromkeys(ids, a_volume())

    async def act() -> float:
        poller = Poller(describe)
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poller.run())
            cancelled, other = (group.create_task(wait(poller, id_)) for id_ in ("vol-1", "vol-2"))
            await begun.wait()
            cancelled.cancel()
            answered.set()
            try:
                return await other + await wait(poller, "vol-3")
            finally:
                polling.cancel()

    assert run(act()) < 60


@pytest.mark.requirement("waits.end")
def test_a_waiter_cancelled_while_the_watcher_stops_does_not_leave_the_others_hanging() -> None:
    """Callers leave while the process stops."""

    async def act() -> None:
        poller = Poller(ScriptedCloud(shows=lambda _: a_volume("creating")).cloud.describe_volumes)

        async def wait_in_vain() -> None:
            with pytest.raises(errors.Unavailable, match="stopping"):
                await wait(poller, "vol-2")

        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poller.run())
            cancelled = group.create_task(wait(poller))
            group.create_task(wait_in_vain())
            await asyncio.sleep(1)
            polling.cancel()
            cancelled.cancel()

    run(act())


@pytest.mark.requirement("waits.end")
def test_waiting_after_the_watcher_has_stopped_fails_at_once() -> None:
    """A call that arrives while the process stops must not hang."""

    async def act() -> None:
        async with Watcher(ScriptedCloud(shows=available_after_two_seconds).cloud) as watcher:
            await wait(watcher)
        async with asyncio.timeout(1):
            with pytest.raises(errors.Unavailable, match="stopping"):
                await wait(watcher)

    run(act())


def test_a_poll_that_began_before_a_wait_does_not_end_that_wait() -> None:
    """Its answer may show what was true before the waiter's request to AWS."""
    begun, answered = asyncio.Event(), asyncio.Event()

    async def describe(ids: Collection[str]) -> Mapping[str, Volume]:
        if begun.is_set():
            return dict.fromkeys(ids, available_after_two_seconds(now()))
        begun.set()
        await answered.wait()
        return dict.fromkeys(ids, a_volume("available"))

    async def act() -> float:
        poller = Poller(describe)
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poller.run())
            first = group.create_task(wait(poller))
            await begun.wait()
            late = group.create_task(wait(poller))
            await asyncio.sleep(0)
            answered.set()
            await first
            try:
                return await late
            finally:
                polling.cancel()

    assert run(act()) >= 2


def test_an_unreadable_volume_delays_only_its_own_waiter() -> None:
    """A new word in AWS's answer must not hide the other volumes, and is not the absence of a volume."""

    async def describe(ids: Collection[str]) -> Mapping[str, Volume]:
        found = {id_: available_after_two_seconds(now()) for id_ in ids if id_ != "vol-odd"}
        if len(found) < len(ids) and now() < 5:
            raise PartlyRead("odd", found=found, unread=["vol-odd"])
        return found | dict.fromkeys(ids, a_volume())

    async def act() -> tuple[float, float]:
        poller = Poller(describe)
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poller.run())
            odd = group.create_task(wait(poller, "vol-odd"))
            plain = await wait(poller, "vol-1")
            try:
                return plain, await odd
            finally:
                polling.cancel()

    plain, odd = run(act())

    assert 2 <= plain < 2.5
    assert 5 <= odd < 7


def test_a_volume_that_stays_unreadable_is_not_polled_more_often_than_others() -> None:
    """An answer that the driver cannot read shows as little as an answer with the old state."""
    polls = 0

    async def describe(_: Collection[str]) -> Mapping[str, Volume]:
        nonlocal polls
        polls += 1
        raise PartlyRead("odd", found={}, unread=["vol-odd"])

    async def act() -> None:
        poller = Poller(describe)
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poller.run())
            with pytest.raises(TimeoutError):
                await wait(poller, "vol-odd", patience=120)
            polling.cancel()

    run(act())

    assert polls < 150


def test_an_exception_in_a_waiters_condition_reaches_only_that_waiter() -> None:

    def fail(_: Volume | None) -> bool:
        raise ZeroDivisionError

    async def act() -> float:
        async with Watcher(ScriptedCloud(shows=available_after_two_seconds).cloud) as watcher:
            with pytest.raises(ZeroDivisionError):
                await watcher.wait_for_volume("vol-1", Transition.CREATE, fail, patience=60)
            return await wait(watcher)

    assert run(act()) < 3


@pytest.mark.requirement("waits.end")
def test_the_death_of_the_watcher_fails_its_waiters() -> None:
    """A bug in a poll must end in errors, not in a hang."""
    caught: list[BaseException] = []

    async def wait_twice(watcher: Watcher) -> None:
        try:
            await wait(watcher)
        except errors.Unavailable as error:
            caught.append(error)
            with pytest.raises(errors.Unavailable):
                await wait(watcher)
            raise

    async def act() -> None:
        scripted = ScriptedCloud()
        scripted.refusals["describe_volumes"] = [ZeroDivisionError()]
        async with Watcher(scripted.cloud) as watcher:
            await wait_twice(watcher)

    with pytest.raises(BaseExceptionGroup) as death:
        run(act())
    assert death.group_contains(ZeroDivisionError)
    assert len(caught) <= 1


@pytest.mark.requirement("waits.end")
def test_waiters_that_are_left_at_the_end_fail_with_a_retryable_error() -> None:
    """Their callers retry with the next controller."""

    async def act() -> None:
        async with asyncio.TaskGroup() as group:
            async with Watcher(ScriptedCloud(shows=lambda _: a_volume("creating")).cloud) as watcher:
                waiting = group.create_task(wait(watcher))
                await asyncio.sleep(3)
            with pytest.raises(errors.Unavailable, match="stopping"):
                await waiting

    with pytest.raises(BaseExceptionGroup) as stopped:
        run(act())
    assert stopped.group_contains(errors.Unavailable)
