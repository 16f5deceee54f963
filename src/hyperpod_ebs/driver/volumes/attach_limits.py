"""Learn the attach slots of new instance types from EC2, and publish them for the node processes.

A node process has no AWS permissions. So the controller watches the cluster's nodes, asks EC2 for each instance type
that is not in the driver's table, and publishes the answers in the cluster. It asks once for each type, and for many
types in one call. All replicas of the controller do this: they write the same entries, so their order does not matter,
and a replica does not ask for a type that is published already.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final, Protocol

import structlog

from hyperpod_ebs.driver.model import errors, limits
from hyperpod_ebs.driver.model.limits import PublishedSlots
from hyperpod_ebs.driver.volumes.cloud import InstanceTypes

_COLLECT: Final = (0.5, 1.5)
"""Range of seconds between a new type and the request, to which further types are added meanwhile. Each replica draws
its own, so that usually only one of them asks AWS."""

_TYPES_PER_CALL: Final = 100
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 3600.0
"""Seconds after a failure: at first, and at most after repeated failures."""
_SLOWER: Final = 3.0
_WORKED_FOR: Final = 120.0
"""Seconds after which a step that fails has worked before: no request takes so long."""

log = structlog.get_logger()


class Cluster(Protocol):
    """The requests to the API server that this module needs."""

    def watch_instance_types(self) -> AsyncGenerator[str]:
        """Yield the instance type of each node, now and after each change, until the watch ends."""
        ...

    async def read_attach_slots(self) -> PublishedSlots:
        """Read what is published."""
        ...

    async def publish_attach_slots(self, learned: PublishedSlots) -> None:
        """Publish these entries in addition to the existing ones."""


class AttachLimits:
    """The instance types of the cluster's nodes that are not in the driver's table."""

    def __init__(self, cluster: Cluster, cloud: InstanceTypes) -> None:
        self._cluster = cluster
        self._cloud = cloud
        self._pending: set[str] = set()
        self._finished: set[str] = set()
        """Types that are published, or that EC2 does not know."""
        self._has_pending = asyncio.Event()

    @asynccontextmanager
    async def publish(self) -> AsyncGenerator[None]:
        """Watch the nodes and publish what EC2 says about their types, while the block runs."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_repeat(step)) for step in (self._watch_nodes, self._publish_pending)]
            try:
                yield
            finally:
                for task in running:
                    task.cancel()

    async def _watch_nodes(self) -> None:
        async with aclosing(self._cluster.watch_instance_types()) as types:
            async for instance_type in types:
                name = limits.ec2_name(instance_type)
                if not limits.is_in_table(name) and name not in self._finished:
                    self._pending.add(name)
                    self._has_pending.set()

    async def _publish_pending(self) -> None:
        """Wait for pending types, ask EC2 for those that are not published, and publish the answers."""
        await self._has_pending.wait()
        await asyncio.sleep(random.uniform(*_COLLECT))  # noqa: S311 - spreads load, keeps no secret
        names = set(sorted(self._pending)[:_TYPES_PER_CALL])
        if unpublished := names - (await self._cluster.read_attach_slots()).keys():
            learned = await self._cloud.describe_attach_slots(unpublished)
            if learned:
                await self._cluster.publish_attach_slots(learned)
                log.info("attach limits published", slots={name: str(slots) for name, slots in learned.items()})
            if strange := sorted(unpublished - learned.keys()):
                log.warning(
                    "instance types not known to EC2: their nodes get the attach limit of most types",
                    types=strange,
                    do="--volume-attach-limit=N",
                )
        self._finished |= names
        self._pending -= names
        if not self._pending:
            self._has_pending.clear()


async def _repeat(step: Callable[[], Awaitable[None]]) -> None:
    """Repeat the step until cancelled, with growing pauses while it fails. Log a failure once."""
    pause, failure = _FIRST_PAUSE, ""
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await step()
            pause, failure = _FIRST_PAUSE, ""
        except errors.Error as error:
            if str(error) != failure:
                log.warning("cannot look up the attach limits of new instance types", why=str(error))
            failure = str(error)
            pause = _FIRST_PAUSE if loop.time() - started > _WORKED_FOR else min(pause * _SLOWER, _LONGEST_PAUSE)
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - as above
