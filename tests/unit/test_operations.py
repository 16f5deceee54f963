"""One operation per object at a time, which callers that ask for the same join."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from hyperpod_ebs.kit.operations import Busy, Interruption, Operation, Operations, joined_wait, waiting

ATTACH = Operation("attach")


@dataclass
class Work:
    """Work that waits for an event."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    started: int = 0
    ended: int = 0

    async def __call__(self) -> int:
        """Wait for the event; how often the work was started."""
        self.started += 1
        try:
            await self.opened.wait()
        finally:
            self.ended += 1
        return self.started


@pytest.fixture
async def operations() -> AsyncGenerator[Operations[str]]:
    """Operations that are closed at the end of the test."""
    async with Operations[str]() as opened, asyncio.timeout(5):
        yield opened


@pytest.mark.requirement("calls.join")
async def test_an_identical_call_joins_the_running_operation_and_gets_its_result(operations: Operations[str]) -> None:
    work = Work()

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(operations.run("vol-1", Operation("attach", "node-1"), work))
        second = tasks.create_task(operations.run("vol-1", Operation("attach", "node-1"), work))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        work.opened.set()

    assert (first.result(), second.result(), work.started) == (1, 1, 1)


@pytest.mark.requirement("calls.join", "events.stable")
@pytest.mark.parametrize("other", [Operation("detach", "node-1"), Operation("attach", "node-2")], ids=repr)
async def test_a_different_call_is_refused_with_the_name_and_start_of_the_running_operation(
    operations: Operations[str], other: Operation
) -> None:
    work = Work()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(operations.run("vol-1", Operation("attach", "node-1"), work))
        await asyncio.sleep(0)

        with pytest.raises(
            Busy, match=rf"{other.name} of vol-1 has to wait: attach has been running since 2\S+Z"
        ) as first:
            await operations.run("vol-1", other, work)

        with pytest.raises(Busy) as repeated:
            await operations.run("vol-1", other, work)
        assert str(repeated.value) == str(first.value), "a repeated event has the same text"
        assert re.match(r"vol-1: attach has been running since 2\S+Z", repr(operations))
        work.opened.set()


async def test_operations_on_other_objects_do_not_wait(operations: Operations[str]) -> None:
    slow, quick = Work(), Work()
    quick.opened.set()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(operations.run("vol-1", Operation("attach"), slow))
        await asyncio.sleep(0)

        assert await operations.run("vol-2", Operation("attach"), quick) == 1

        slow.opened.set()


async def test_operations_on_two_parts_run_together_but_not_with_one_on_the_whole(operations: Operations[str]) -> None:
    """A volume is published at several targets at the same time, but not while it is unstaged."""
    part, whole, quick = Work(), Work(), Work()
    quick.opened.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(operations.run("vol-1 at /a", Operation("publish"), part, part_of="vol-1"))
        await asyncio.sleep(0)
        assert await operations.run("vol-1 at /b", Operation("publish"), quick, part_of="vol-1") == 1
        assert await operations.run("vol-2", Operation("unstage"), quick) == 2
        with pytest.raises(Busy, match=r"unstage of vol-1 has to wait: publish has been running since 2\d+-"):
            await operations.run("vol-1", Operation("unstage"), whole)
        part.opened.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(operations.run("vol-1", Operation("unstage"), whole))
        await asyncio.sleep(0)
        with pytest.raises(Busy, match=r"publish of vol-1 at /a has to wait: unstage has been running since 2\d+-"):
            await operations.run("vol-1 at /a", Operation("publish"), part, part_of="vol-1")
        whole.opened.set()


@pytest.mark.requirement("calls.join")
async def test_the_operation_of_a_cancelled_caller_continues_and_can_be_joined(operations: Operations[str]) -> None:
    work = Work()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await operations.run("vol-1", Operation("attach"), work)

    work.opened.set()
    result = await operations.run("vol-1", Operation("attach"), work)

    assert (result, work.started) == (1, 1)


@pytest.mark.requirement("detach.preempts")
async def test_an_operation_that_nobody_waits_for_gives_way_where_it_allows_it(operations: Operations[str]) -> None:
    request, interruption, quick = Work(), Interruption(), Work()
    quick.opened.set()
    reached: list[str] = []

    async def attach() -> None:
        await request()
        reached.append("the wait")
        with interruption.allow():
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        caller = tasks.create_task(operations.run("vol-1", ATTACH, attach, interruption=interruption))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="attach has been running"):
            await operations.run("vol-1", Operation("detach"), quick, preempts={"attach"})
        caller.cancel()
    with pytest.raises(Busy, match="attach has been running"):
        await operations.run("vol-1", Operation("delete"), quick)

    async with asyncio.TaskGroup() as tasks:
        detach = tasks.create_task(operations.run("vol-1", Operation("detach"), quick, preempts={"attach"}))
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="attach has been running"):
            await operations.run("vol-1", ATTACH, attach, interruption=interruption)
        assert not reached, "the request is not interrupted"
        request.opened.set()

    assert (detach.result(), reached) == (1, ["the wait"])
    assert repr(operations) == "idle"


@pytest.mark.requirement("detach.preempts")
async def test_an_operation_that_waits_gives_way_at_once(operations: Operations[str]) -> None:
    waiting, interruption, quick = Work(), Interruption(), Work()
    quick.opened.set()

    async def attach() -> None:
        with interruption.allow():
            await waiting()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await operations.run("vol-1", ATTACH, attach, interruption=interruption)

    assert await operations.run("vol-1", Operation("detach"), quick, preempts={"attach"}) == 1
    assert (waiting.started, waiting.ended) == (1, 1)


@pytest.mark.requirement("detach.preempts")
async def test_an_operation_that_has_waited_within_a_wait_still_gives_way_at_once(operations: Operations[str]) -> None:
    """An attach that waits for its volume also asks for the volume by its id, and that call waits for its turn."""
    work, interruption, quick = Work(), Interruption(), Work()
    quick.opened.set()

    async def attach() -> None:
        with interruption.allow():
            with waiting(lambda: "waits for its turn", may_give_way=True):
                await asyncio.sleep(0)
            await work()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await operations.run("vol-1", ATTACH, attach, interruption=interruption)

    async with asyncio.timeout(10):
        assert await operations.run("vol-1", Operation("detach"), quick, preempts={"attach"}) == 1


async def test_an_operation_that_runs_another_one_waits_for_the_same(operations: Operations[str]) -> None:
    """A caller that gives up learns what the inner operation waits for."""
    work = Work()

    async def request() -> int:
        with waiting(lambda: "waits for its turn", may_give_way=False):
            return await work()

    async def modify() -> int:
        return await operations.run("vol-1 (request)", Operation("request"), request)

    async def call() -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await operations.run("vol-1", Operation("modify"), modify)
        return joined_wait()

    assert await call() == "waits for its turn"
    work.opened.set()
    await operations.run("vol-1", Operation("modify"), modify)
    assert not joined_wait()


async def test_a_failure_reaches_all_callers_and_frees_the_object(operations: Operations[str]) -> None:

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    async with asyncio.TaskGroup() as tasks:
        calls = [
            tasks.create_task(run_to_failure(operations, Operation("attach"), fail)),
            tasks.create_task(run_to_failure(operations, Operation("attach"), fail)),
        ]

    assert [call.result() for call in calls] == ["no", "no"]
    assert repr(operations) == "idle"


async def run_to_failure(operations: Operations[str], operation: Operation, act: object) -> str:
    """Run an operation that fails; the text of its error."""
    try:
        await operations.run("vol-1", operation, act)  # type: ignore[arg-type] # it never returns a result
    except ValueError as error:
        return str(error)
    return ""


async def test_draining_refuses_new_operations_and_waits_for_running_ones(operations: Operations[str]) -> None:
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


async def test_an_operation_that_still_runs_at_the_end_is_cancelled() -> None:
    work = Work()
    async with Operations[str]() as operations:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await operations.run("vol-1", Operation("attach"), work)

    assert (work.started, work.ended) == (1, 1)
