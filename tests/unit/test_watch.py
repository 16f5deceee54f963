"""The watcher: everyone described together, woken one by one, and nobody left hanging."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.volume import Volume, VolumeState
from hyperpod_ebs.driver.volumes.cloud import PartlyRead
from hyperpod_ebs.driver.volumes.pace import Transition
from hyperpod_ebs.driver.volumes.watch import ANSWER, Watched, Watcher
from tests.support.scripted_cloud import ScriptedCloud, a_volume
from tests.support.virtual_time import now, run


def available(volume: Volume | None) -> bool:
    """What the waiters of these tests hope for."""
    return volume is not None and volume.state is VolumeState.AVAILABLE


def growing_up(at: float) -> Volume:
    """A volume that is available after two seconds."""
    return a_volume("available" if at >= 2 else "creating")


async def waited(watched: Watched[Volume] | Watcher, volume_id: str = "vol-1", patience: float = 60) -> float:
    """When the wait for a volume was over."""
    wait = watched.volume if isinstance(watched, Watcher) else watched.wait
    await wait(volume_id, Transition.CREATE, available, patience=patience)
    return now()


def test_a_waiter_wakes_soon_after_its_state_has_come() -> None:
    """Ours: the waste of one transition is a fraction of a second."""

    async def act() -> float:
        async with Watcher(ScriptedCloud(shows=growing_up).cloud) as watcher:
            return await waited(watcher)

    assert 2 <= run(act()) < 2.5


def test_all_waiters_share_calls_of_at_most_two_hundred_ids_and_wake_one_by_one() -> None:
    """EC2: a filter takes 200 values; an id that it does not know is absent and poisons nobody."""
    asked: list[int] = []

    async def describe(ids: Collection[str]) -> Mapping[str, Volume]:
        asked.append(len(ids))
        return {one: a_volume() for one in ids if int(one) < now() * 100}

    async def act() -> list[float]:
        watched = Watched(describe)
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(watched.run())
            async with asyncio.TaskGroup() as waiters:
                tasks = [waiters.create_task(waited(watched, str(number))) for number in range(450)]
            looking.cancel()
        return [task.result() for task in tasks]

    ends = run(act())

    assert max(asked) <= 200
    assert len(asked) < 60
    assert len(set(ends)) > 2
    assert all(number / 100 <= end < number / 100 + 3 for number, end in enumerate(ends))


@pytest.mark.requirement("waits.end")
def test_looks_that_fail_slow_the_pace_and_harm_nobody() -> None:
    """AWS: throttles and broken connections come and go."""
    paper = ScriptedCloud(shows=growing_up)
    paper.refusals["volumes"] = [
        errors.Throttled("slower"),
        errors.Unavailable("no answer"),
        errors.CloudError("X", ""),
    ]

    async def act() -> float:
        async with Watcher(paper.cloud) as watcher:
            return await waited(watcher)

    assert 2 <= run(act()) < 8
    assert paper.calls["volumes"] < 8


@pytest.mark.requirement("waits.end")
def test_a_look_that_hangs_holds_nobody_up_for_long() -> None:
    """Ours: one dead connection is given up, and the next look takes another."""
    paper, looks = ScriptedCloud(shows=growing_up), 0

    async def describe(ids: Collection[str]) -> Mapping[str, Volume]:
        nonlocal looks
        looks += 1
        if looks == 1:
            await asyncio.sleep(3600)
        return await paper.volumes(ids)

    async def act() -> float:
        watched = Watched(describe)
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(watched.run())
            try:
                return await waited(watched)
            finally:
                looking.cancel()

    assert run(act()) < ANSWER + 2


@pytest.mark.requirement("waits.end")
def test_a_wait_ends_with_its_patience_and_is_forgotten() -> None:
    """Ours: every wait has a deadline, and one that nobody waits for costs nothing."""
    paper = ScriptedCloud(shows=lambda _: a_volume("creating"))

    async def act() -> tuple[float, int, int]:
        async with Watcher(paper.cloud) as watcher:
            with pytest.raises(TimeoutError):
                await waited(watcher, patience=30)
            ended, calls = now(), paper.calls["volumes"]
            await asyncio.sleep(600)
            return ended, calls, paper.calls["volumes"]

    ended, before, after = run(act())

    assert ended == pytest.approx(30)
    assert before == after


def test_a_cancelled_waiter_is_forgotten_and_the_others_are_not() -> None:
    """Ours: a caller may go at any time."""
    paper = ScriptedCloud(shows=growing_up)

    async def act() -> float:
        async with Watcher(paper.cloud) as watcher, asyncio.TaskGroup() as group:
            leaving = group.create_task(waited(watcher, "vol-1"))
            staying = group.create_task(waited(watcher, "vol-2"))
            await asyncio.sleep(1)
            leaving.cancel()
            return await staying

    assert 2 <= run(act()) < 3


def test_an_answer_from_before_the_wait_began_wakes_nobody() -> None:
    """Ours: it may show what was true before the cloud was asked."""
    begun, answered = asyncio.Event(), asyncio.Event()

    async def describe(ids: Collection[str]) -> Mapping[str, Volume]:
        if begun.is_set():
            return dict.fromkeys(ids, growing_up(now()))
        begun.set()
        await answered.wait()
        return dict.fromkeys(ids, a_volume("available"))

    async def act() -> float:
        watched = Watched(describe)
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(watched.run())
            first = group.create_task(waited(watched))
            await begun.wait()
            late = group.create_task(waited(watched))
            await asyncio.sleep(0)
            answered.set()
            await first
            try:
                return await late
            finally:
                looking.cancel()

    assert run(act()) >= 2


def test_a_volume_that_nobody_can_read_keeps_only_its_own_waiter() -> None:
    """Ours: one word that is new must not hide the others, nor be taken for a volume that is gone."""

    async def describe(ids: Collection[str]) -> Mapping[str, Volume]:
        found = {one: growing_up(now()) for one in ids if one != "vol-odd"}
        if len(found) < len(ids) and now() < 5:
            raise PartlyRead("odd", found=found, unread=["vol-odd"])
        return found | dict.fromkeys(ids, a_volume())

    async def act() -> tuple[float, float]:
        watched = Watched(describe)
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(watched.run())
            odd = group.create_task(waited(watched, "vol-odd"))
            plain = await waited(watched, "vol-1")
            try:
                return plain, await odd
            finally:
                looking.cancel()

    plain, odd = run(act())

    assert 2 <= plain < 2.5
    assert 5 <= odd < 7


def test_a_waiters_own_mistake_is_its_own() -> None:
    """Ours: one bug must not stop everybody's waiting."""

    def mistaken(_: Volume | None) -> bool:
        raise ZeroDivisionError

    async def act() -> float:
        async with Watcher(ScriptedCloud(shows=growing_up).cloud) as watcher:
            with pytest.raises(ZeroDivisionError):
                await watcher.volume("vol-1", Transition.CREATE, mistaken, patience=60)
            return await waited(watcher)

    assert run(act()) < 3


@pytest.mark.requirement("waits.end")
def test_the_watchers_death_is_everybodys_error() -> None:
    """Ours: a bug below it ends in errors, not in a hang."""
    heard: list[BaseException] = []

    async def wait(watcher: Watcher) -> None:
        try:
            await waited(watcher)
        except errors.Unavailable as error:
            heard.append(error)
            with pytest.raises(errors.Unavailable):
                await waited(watcher)
            raise

    async def act() -> None:
        paper = ScriptedCloud()
        paper.refusals["volumes"] = [ZeroDivisionError()]
        async with Watcher(paper.cloud) as watcher:
            await wait(watcher)

    with pytest.raises(BaseExceptionGroup) as death:
        run(act())
    assert death.group_contains(ZeroDivisionError)
    assert len(heard) <= 1


@pytest.mark.requirement("waits.end")
def test_whoever_still_waits_at_the_end_is_told() -> None:
    """Ours: the controller stops, and its callers ask the next one."""

    async def act() -> None:
        async with asyncio.TaskGroup() as group:
            async with Watcher(ScriptedCloud(shows=lambda _: a_volume("creating")).cloud) as watcher:
                waiting = group.create_task(waited(watcher))
                await asyncio.sleep(3)
            with pytest.raises(errors.Unavailable, match="stopping"):
                await waiting

    with pytest.raises(BaseExceptionGroup) as stopped:
        run(act())
    assert stopped.group_contains(errors.Unavailable)
