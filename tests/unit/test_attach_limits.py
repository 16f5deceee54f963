"""How the controller learns the attach limits of new instance types, and how a node process reads them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.limits import AttachSlots, PublishedSlots
from hyperpod_ebs.driver.node.published_limits import PublishedLimits
from hyperpod_ebs.driver.volumes.attach_limits import AttachLimits
from tests.support.virtual_time import run

DAY = 24 * 3600
SLOTS = AttachSlots(12, shared=True)


@dataclass
class World:
    """A cluster and EC2 that know only what the test says."""

    types: list[str] = field(default_factory=list)
    """The instance types of the cluster's nodes."""
    failure: errors.Error | None = None
    """What EC2 answers, if it fails."""
    readable: bool = True
    """Whether what is published can be read."""
    unknown: frozenset[str] = frozenset()
    """Types that EC2 does not know."""
    published: dict[str, AttachSlots] = field(default_factory=dict)
    reads: int = 0
    calls: list[Collection[str]] = field(default_factory=list)
    """The types of each call to EC2."""

    async def watch_instance_types(self) -> AsyncGenerator[str]:
        """Yield the types, and end the watch after the usual time."""
        for instance_type in self.types:
            yield instance_type
        await asyncio.sleep(450)

    async def read_attach_slots(self) -> PublishedSlots:
        """Read what is published."""
        self.reads += 1
        await asyncio.sleep(0.01)
        if not self.readable:
            raise errors.Denied("forbidden")
        return dict(self.published)

    async def publish_attach_slots(self, learned: PublishedSlots) -> None:
        """Publish entries."""
        self.published |= learned

    async def describe_attach_slots(self, types: Collection[str]) -> PublishedSlots:
        """Answer as EC2."""
        self.calls.append(types)
        if self.failure:
            raise self.failure
        return {name: SLOTS for name in types if name not in self.unknown}


def publish_for(seconds: float, world: World, then: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
    """Let a controller publish for this time, on a virtual clock."""

    async def publish() -> None:
        async with AttachLimits(world, world).publish():
            await asyncio.sleep(seconds)
            if then:
                await then()

    run(publish())


def test_nodes_whose_types_are_in_the_table_cause_no_request() -> None:
    """The calls to AWS are a budget."""
    world = World(types=["ml.g5.8xlarge", "p5.48xlarge", "m4.large"])

    publish_for(DAY, world)

    assert (world.reads, world.calls) == (0, [])


def test_all_types_are_asked_for_once_and_together() -> None:
    """EC2, DescribeInstanceTypes. HyperPod's names have the prefix ml."""
    world = World(types=["ml.x99.large", "x99.large", "x99.huge", "g5.8xlarge"])

    publish_for(DAY, world)

    assert world.published == {"x99.large": SLOTS, "x99.huge": SLOTS}
    assert [sorted(types) for types in world.calls] == [["x99.huge", "x99.large"]]


def test_a_call_asks_for_at_most_100_types() -> None:
    """EC2, DescribeInstanceTypes: a page has at most 100 types."""
    world = World(types=[f"x99.{number}xlarge" for number in range(250)])

    publish_for(60, world)

    assert [len(types) for types in world.calls] == [100, 100, 50]
    assert len(world.published) == 250


def test_a_type_that_ec2_does_not_know_is_logged_and_asked_for_once() -> None:
    """A node outside of EC2 may have any label."""
    world = World(types=["on-premises", "x99.large"], unknown=frozenset({"on-premises"}))

    with capture_logs() as logged:
        publish_for(DAY, world)

    assert world.published == {"x99.large": SLOTS}
    assert len(world.calls) == 1
    assert [line["types"] for line in logged if line["log_level"] == "warning"] == [["on-premises"]]


@pytest.mark.parametrize("failure", [errors.Denied("denied"), errors.Unavailable("no answer")])
def test_a_failure_of_aws_is_logged_once_and_retried_rarely(failure: errors.Error) -> None:
    """A policy without ec2:DescribeInstanceTypes must cost neither calls nor log lines for ever."""
    world = World(types=["x99.large"], failure=failure)

    with capture_logs() as logged:
        publish_for(DAY, world)

    assert 24 <= len(world.calls) <= 60
    assert [line["why"] for line in logged] == [str(failure)]


def test_without_the_right_to_read_what_is_published_aws_is_not_asked() -> None:
    """What the controller learned would be lost."""
    world = World(types=["x99.large"], readable=False)

    publish_for(DAY, world)

    assert world.calls == []
    assert world.reads <= 60


def test_a_failure_that_ends_is_made_up_for() -> None:
    """An administrator adds the permission."""
    world = World(types=["x99.large"], failure=errors.Denied("denied"))

    async def allow() -> None:
        world.failure = None
        await asyncio.sleep(3600)

    publish_for(DAY, world, allow)

    assert world.published == {"x99.large": SLOTS}


def test_a_node_asks_once_a_minute_until_its_type_is_published_and_then_no_more() -> None:
    """Kubelet may call NodeGetInfo every ten seconds."""
    world = World()
    limits = PublishedLimits(world)

    async def look_up(seconds: int) -> int:
        before = world.reads
        for _ in range(seconds // 10):
            await limits.look_up("ml.x99.large")
            await asyncio.sleep(10)
        return world.reads - before

    async def start() -> tuple[int, int]:
        unpublished = await look_up(600)
        world.published = {"x99.large": SLOTS}
        return unpublished, await look_up(600)

    assert run(start()) == (10, 1)
    assert limits.slots == {"x99.large": SLOTS}


def test_two_questions_at_once_both_wait_for_the_answer() -> None:
    """The process itself asks at its start, and kubelet may ask in the same moment."""
    world = World(published={"x99.large": SLOTS})
    limits = PublishedLimits(world)

    async def look_up() -> AttachSlots | None:
        await limits.look_up("x99.large")
        return limits.slots.get("x99.large")

    async def start() -> list[AttachSlots | None]:
        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(look_up()) for _ in range(2)]
        return [task.result() for task in both]

    assert run(start()) == [SLOTS, SLOTS]
    assert world.reads == 1


def test_a_node_keeps_what_it_has_read_while_the_api_server_is_down() -> None:
    """The limit that the scheduler knows must not change with the API server's state."""
    world = World(published={"x99.small": SLOTS})
    limits = PublishedLimits(world)

    async def start() -> None:
        await limits.look_up("x99.large")
        world.readable = False
        await asyncio.sleep(120)
        for _ in range(3):
            await limits.look_up("x99.large")
            await asyncio.sleep(120)

    with capture_logs() as logged:
        run(start())

    assert limits.slots == {"x99.small": SLOTS}
    assert [line["event"] for line in logged] == ["cannot read the published attach limits"]
