"""One operation per object at a time, joined by whoever asks for the same."""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from hyperpod_ebs.kit.operations import Busy, Operation, Operations


@dataclass
class Work:
    """Work that waits to be let through."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0
    ended: int = 0

    async def __call__(self) -> int:
        """How often it was begun."""
        self.begun += 1
        try:
            await self.opened.wait()
        finally:
            self.ended += 1
        return self.begun


@pytest.fixture
async def operations() -> AsyncGenerator[Operations[str]]:
    """Operations with an owner."""
    async with Operations[str]() as owned, asyncio.timeout(5):
        yield owned


@pytest.mark.requirement("calls.join")
async def test_an_identical_call_joins(operations: Operations[str]) -> None:
    """Ours: the work is done once, and both get its result."""
    work = Work()

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(operations.run("vol-1", Operation("attach", "node-1"), work))
        second = tasks.create_task(operations.run("vol-1", Operation("attach", "node-1"), work))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        work.opened.set()

    assert (first.result(), second.result(), work.begun) == (1, 1, 1)


@pytest.mark.requirement("calls.join")
@pytest.mark.parametrize("other", [Operation("detach", "node-1"), Operation("attach", "node-2")], ids=repr)
async def test_a_different_call_is_turned_away_with_what_runs(operations: Operations[str], other: Operation) -> None:
    """Ours: another name, or other terms."""
    work = Work()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(operations.run("vol-1", Operation("attach", "node-1"), work))
        await asyncio.sleep(0)

        with pytest.raises(Busy, match=rf"{other.name} of vol-1 has to wait: attach for \d+\.\d s is under way"):
            await operations.run("vol-1", other, work)

        assert re.match(r"vol-1: attach for \d+\.\d s", repr(operations))
        work.opened.set()


async def test_other_objects_are_free(operations: Operations[str]) -> None:
    """Ours."""
    slow, quick = Work(), Work()
    quick.opened.set()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(operations.run("vol-1", Operation("attach"), slow))
        await asyncio.sleep(0)

        assert await operations.run("vol-2", Operation("attach"), quick) == 1

        slow.opened.set()


async def test_parts_are_free_of_one_another_but_not_of_their_whole(operations: Operations[str]) -> None:
    """Ours: a volume that is being published is not unstaged, nor published while it is unstaged."""
    part, whole, quick = Work(), Work(), Work()
    quick.opened.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(operations.run("vol-1 at /a", Operation("publish"), part, under="vol-1"))
        await asyncio.sleep(0)
        assert await operations.run("vol-1 at /b", Operation("publish"), quick, under="vol-1") == 1
        assert await operations.run("vol-2", Operation("unstage"), quick) == 2
        with pytest.raises(Busy, match=r"unstage of vol-1 has to wait: publish for 0\.\d s is under way"):
            await operations.run("vol-1", Operation("unstage"), whole)
        part.opened.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(operations.run("vol-1", Operation("unstage"), whole))
        await asyncio.sleep(0)
        with pytest.raises(Busy, match=r"publish of vol-1 at /a has to wait: unstage for 0\.\d s is under way"):
            await operations.run("vol-1 at /a", Operation("publish"), part, under="vol-1")
        whole.opened.set()


@pytest.mark.requirement("calls.join")
async def test_a_cancelled_caller_leaves_the_work_to_be_joined(operations: Operations[str]) -> None:
    """Ours: the work belongs to the driver."""
    work = Work()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await operations.run("vol-1", Operation("attach"), work)

    work.opened.set()
    result = await operations.run("vol-1", Operation("attach"), work)

    assert (result, work.begun) == (1, 1)


async def test_a_failure_reaches_everyone_and_frees_the_object(operations: Operations[str]) -> None:
    """Ours."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    async with asyncio.TaskGroup() as tasks:
        calls = [
            tasks.create_task(_caught(operations, Operation("attach"), fail)),
            tasks.create_task(_caught(operations, Operation("attach"), fail)),
        ]

    assert [call.result() for call in calls] == ["no", "no"]
    assert repr(operations) == "idle"


async def _caught(operations: Operations[str], what: Operation, act: object) -> str:
    try:
        await operations.run("vol-1", what, act)  # type: ignore[arg-type] # it never gives a result
    except ValueError as error:
        return str(error)
    return ""


async def test_draining_takes_nothing_new_and_waits_for_what_runs(operations: Operations[str]) -> None:
    """Ours: a clean stop."""
    work = Work()
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(operations.run("vol-1", Operation("attach"), work))
        await asyncio.sleep(0)

        in_time = await operations.drain(0.01)
        with pytest.raises(Busy, match="stopping"):
            await operations.run("vol-2", Operation("attach"), work)
        work.opened.set()
        finished = await operations.drain(5)
        await call

    assert (in_time, finished) == (False, True)


async def test_nothing_outlives_its_owner() -> None:
    """Ours: what still runs at the end is cancelled, and waited for."""
    work = Work()
    async with Operations[str]() as operations:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await operations.run("vol-1", Operation("attach"), work)

    assert (work.begun, work.ended) == (1, 1)
