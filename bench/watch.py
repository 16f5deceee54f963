"""Simulate what waiting costs in seconds and AWS calls, for 1, 10, 100 or 500 volumes at once.

    python -m bench.watch [--lives N] [--seed N]

The controller's own code creates each volume, attaches it to a HyperPod node, detaches it and
deletes it. The cloud is a stand-in whose transitions take as long as AWS's (log-normal), on a
clock that jumps to the next event. With buckets, mutating calls wait as long as a client that
respects EC2's token buckets: 100 or 50 calls at once, then five a second.

Waste is the time from the end of a transition to the caller's result, summed over the three transitions
(creating, attaching, detaching). The benchmark fails if a life costs more calls than `TARGETS` allows.
"""

import argparse
import asyncio
import math
import statistics
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import HyperPodNode, Node
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.volume import Attachment, AttachState, Modification, Volume, VolumeSpec, VolumeState
from hyperpod_ebs.driver.volumes.attach import attach_volume, detach_volume
from hyperpod_ebs.driver.volumes.pace import PRIORS, Transition
from hyperpod_ebs.driver.volumes.provision import delete_volume, provision_volume
from hyperpod_ebs.driver.volumes.watch import Watcher
from tests.support.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from hyperpod_ebs.driver.volumes.cloud import Cloud

ROUND_TRIP: Final = 0.03
"""Seconds that each call takes."""

MERGED_WITHIN: Final = 0.005
"""Seconds within which searches for names share a call."""

NODE: Final = HyperPodNode("abcdefghijkl", "i-0123456789abcdef0")
BUCKETS: Final = {"create": (100, 5.0), "attach": (50, 5.0), "detach": (50, 5.0), "delete": (100, 5.0)}
"""The capacity of each bucket, and the tokens that it gets a second."""

TARGETS: Final = {1: 23.5, 10: 8.0, 100: 4.8, 500: 4.8}
"""The AWS calls that a life may cost at most, by the number of lives at once; the column `at most`.

Each life needs four calls: create, attach, detach and delete. A search for the name comes before them, because EC2
accepts a client token once in each zone (decision 0036); lives that begin together share it. The other calls describe
volumes, of all lives together.
"""

DISTRIBUTIONS: Final = dict(PRIORS)
"""The distributions of the simulated times; the watcher starts with the same ones and keeps learning."""


@dataclass
class Bucket:
    """A token bucket in which calls wait for their turn."""

    capacity: float
    refill: float
    full_at: float = 0.0
    """The time at which the bucket is full again."""

    def take(self, now: float) -> float:
        """Take a token; the seconds until it is available."""
        self.full_at = max(self.full_at, now) + 1 / self.refill
        return max(0.0, self.full_at - now - self.capacity / self.refill)


@dataclass
class SimulatedCloud:
    """The part of EC2 and SageMaker that the benchmark needs, with random times."""

    random: Random
    buckets: dict[str, Bucket] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    known: dict[str, Volume] = field(default_factory=dict)
    done_at: dict[str, float] = field(default_factory=dict)
    """By volume, the time at which its latest transition ends."""
    search_sent_at: float = -math.inf
    """When the latest search for names is sent."""

    async def find_volumes_named(self, _: str) -> tuple[Volume, ...]:
        """Find no volume: each name is new."""
        now = asyncio.get_running_loop().time()
        if now > self.search_sent_at:
            self.calls["find"] += 1
            self.search_sent_at = now + MERGED_WITHIN
        await asyncio.sleep(self.search_sent_at - now + ROUND_TRIP)
        return ()

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """Create a volume, which is creating."""
        await self._count_and_delay("create")
        volume = Volume(
            id=f"vol-{token[:17]}", size=spec.size.wanted, zone=spec.zone, state=VolumeState.CREATING, type=spec.type
        )
        return self._begin_transition(volume, Transition.CREATE)

    async def delete_volume(self, volume_id: str) -> None:
        """Delete a volume at once."""
        await self._count_and_delay("delete")
        del self.known[volume_id]

    async def attach(self, volume_id: str, node: Node) -> Attachment:
        """Attach a volume, which is attaching."""
        await self._count_and_delay("attach")
        return self._change_attachment(volume_id, node, AttachState.ATTACHING, Transition.ATTACH)

    async def detach(self, volume_id: str, node: Node) -> Attachment:
        """Detach a volume, which is detaching.

        Raises:
            NotAttached: The volume is detached.
        """
        await self._count_and_delay("detach")
        if not self._current(volume_id).attachments:
            raise errors.NotAttached(f"volume {volume_id} is not attached")
        return self._change_attachment(volume_id, node, AttachState.DETACHING, Transition.DETACH)

    async def describe_volumes(self, ids: Collection[str]) -> Mapping[str, Volume]:
        """Describe the volumes in their current states."""
        await self._count_and_delay("describe")
        return {volume_id: self._current(volume_id) for volume_id in ids if volume_id in self.known}

    async def describe_modifications(self, ids: Collection[str]) -> Mapping[str, Modification]:
        """Fail: the benchmark modifies no volumes."""
        raise NotImplementedError(f"modifications of volumes are not simulated: {ids}")

    async def _count_and_delay(self, name: str) -> None:
        self.calls[name] += 1
        if bucket := self.buckets.get(name):
            await asyncio.sleep(bucket.take(asyncio.get_running_loop().time()))
        await asyncio.sleep(ROUND_TRIP)

    def _change_attachment(self, volume_id: str, node: Node, state: AttachState, transition: Transition) -> Attachment:
        attachment = Attachment(state=state, node=node, holder=str(node), since=datetime.now(UTC))
        self._begin_transition(replace(self._current(volume_id), attachments=(attachment,)), transition)
        return attachment

    def _begin_transition(self, volume: Volume, transition: Transition) -> Volume:
        distribution = DISTRIBUTIONS[transition]
        seconds = self.random.lognormvariate(distribution.mean, distribution.deviation)
        self.known[volume.id] = volume
        self.done_at[volume.id] = asyncio.get_running_loop().time() + seconds
        return volume

    def _current(self, volume_id: str) -> Volume:
        volume = self.known[volume_id]
        if asyncio.get_running_loop().time() < self.done_at[volume_id]:
            return volume
        if volume.state is VolumeState.CREATING:
            return replace(volume, state=VolumeState.AVAILABLE)
        match volume.attachments:
            case (attachment,) if attachment.state is AttachState.ATTACHING:
                return replace(volume, attachments=(replace(attachment, state=AttachState.ATTACHED),))
            case (attachment,) if attachment.state is AttachState.DETACHING:
                return replace(volume, attachments=())
        return volume


async def run_life(cloud: SimulatedCloud, watcher: Watcher, name: str) -> float:
    """Run one volume's life; its waste in seconds."""
    whole_cloud = cast("Cloud", cloud)  # it has all methods that a life calls
    loop = asyncio.get_running_loop()
    spec = VolumeSpec(name=name, size=SizeRange(GiB(1)), zone="us-west-2a", type="gp3")
    volume = await provision_volume(whole_cloud, watcher, spec)
    waste = loop.time() - cloud.done_at[volume.id]
    await attach_volume(whole_cloud, watcher, volume.id, NODE)
    waste += loop.time() - cloud.done_at[volume.id]
    await detach_volume(whole_cloud, watcher, volume.id, NODE)
    waste += loop.time() - cloud.done_at[volume.id]
    await delete_volume(whole_cloud, volume.id)
    return waste


async def run_lives(count: int, at_once: int, seed: int, *, buckets: bool) -> tuple[list[float], Counter[str], float]:
    """Run `count` lives, `at_once` at a time; the waste of each, the calls, and the simulated seconds."""
    cloud = SimulatedCloud(Random(seed))  # noqa: S311 - a simulation
    if buckets:
        cloud.buckets = {name: Bucket(*bucket) for name, bucket in BUCKETS.items()}
    wastes: list[float] = []
    async with Watcher(cast("Cloud", cloud)) as watcher:
        for start in range(0, count, at_once):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run_life(cloud, watcher, f"{seed}-{start + i}")) for i in range(at_once)]
            wastes += [task.result() for task in tasks]
        seconds = asyncio.get_running_loop().time()
    return wastes, cloud.calls, seconds


def main() -> None:
    """Print a table with one line for each number of volumes at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--lives", type=int, default=2000, help="the smallest number of lives to simulate for each line"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulated times")
    options = parser.parse_args()
    print(
        f"{'at once':>8} {'buckets':>8} {'waste mean':>11} {'p95':>6} {'calls each':>11} {'at most':>8} {'seconds':>8}"
    )
    has_failed = False
    cases: list[tuple[int, bool]] = [(1, False), (10, False), (100, False), (500, False), (100, True), (500, True)]
    for at_once, buckets in cases:
        count = max(options.lives // at_once, 1) * at_once
        runner: Any = asyncio.Runner(loop_factory=VirtualLoop)
        with runner:
            wastes, calls, seconds = runner.run(run_lives(count, at_once, options.seed, buckets=buckets))
        p95 = statistics.quantiles(wastes, n=20)[-1]
        has_failed |= calls.total() / count > TARGETS[at_once]
        print(
            f"{at_once:>8} {'yes' if buckets else 'no':>8} {statistics.fmean(wastes):>11.3f} {p95:>6.2f} "
            f"{calls.total() / count:>11.2f} {TARGETS[at_once]:>8} {seconds * at_once / count:>8.1f}"
        )
    sys.exit(int(has_failed))


if __name__ == "__main__":
    main()
