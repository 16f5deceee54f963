"""What waiting costs: seconds lost and AWS calls made, when 1, 10, 100 or 500 volumes live at once.

    python -m bench.watch [--lives N] [--seed N]

Each volume is created, attached to a HyperPod node, detached and deleted by the
controller's own code, against a cloud of a few lines whose transitions take as long
as they do in the wild (log-normal), on a clock that jumps to whatever comes next.
With buckets, the cloud makes mutating calls wait as EC2's token buckets would have
a patient client wait: 100 or 50 at once, then five a second.

Waste is the time from a state's arrival until the caller had it, summed over the three.
"""

import argparse
import asyncio
import random
import statistics
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

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
NODE: Final = HyperPodNode("abcdefghijkl", "i-0123456789abcdef0")
BUCKETS: Final = {"create": (100, 5.0), "attach": (50, 5.0), "detach": (50, 5.0), "delete": (100, 5.0)}
TARGETS: Final = {1: 20.0, 10: 8.0, 100: 5.0, 500: 4.2}
DRAWN: Final = dict(PRIORS)
"""The truth that is drawn from; the watcher begins with the same belief and goes on learning."""


@dataclass
class Bucket:
    """A token bucket in which calls queue."""

    capacity: float
    refill: float
    free: float = 0.0
    """When the bucket would be full again, as a time."""

    def wait(self, now: float) -> float:
        """Seconds until a token is there for the call that comes now."""
        self.free = max(self.free, now) + 1 / self.refill
        return max(0.0, self.free - now - self.capacity / self.refill)


@dataclass
class DrawnCloud:
    """Just enough of EC2 and SageMaker, with drawn times."""

    chance: random.Random
    buckets: dict[str, Bucket] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    known: dict[str, Volume] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)
    """When each volume's latest transition is, or was, done."""

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """A volume that is creating."""
        await self._called("create")
        volume = Volume(
            id=f"vol-{token[:17]}", size=spec.size.wanted, zone=spec.zone, state=VolumeState.CREATING, type=spec.type
        )
        return self._begun(volume, Transition.CREATE)

    async def delete_volume(self, volume_id: str) -> None:
        """It is gone."""
        await self._called("delete")
        del self.known[volume_id]

    async def attach(self, volume_id: str, node: Node) -> Attachment:
        """An attachment on its way."""
        await self._called("attach")
        return self._moved(volume_id, node, AttachState.ATTACHING, Transition.ATTACH)

    async def detach(self, volume_id: str, node: Node) -> Attachment:
        """An attachment on its way off."""
        await self._called("detach")
        return self._moved(volume_id, node, AttachState.DETACHING, Transition.DETACH)

    async def volumes(self, ids: Collection[str]) -> Mapping[str, Volume]:
        """As they are now."""
        await self._called("describe")
        return {one: self._now(one) for one in ids if one in self.known}

    async def modifications(self, ids: Collection[str]) -> Mapping[str, Modification]:
        """There are none."""
        raise NotImplementedError(f"nobody here modifies volumes: {ids}")

    async def _called(self, name: str) -> None:
        self.calls[name] += 1
        if bucket := self.buckets.get(name):
            await asyncio.sleep(bucket.wait(asyncio.get_running_loop().time()))
        await asyncio.sleep(ROUND_TRIP)

    def _moved(self, volume_id: str, node: Node, state: AttachState, transition: Transition) -> Attachment:
        attachment = Attachment(state=state, node=node, holder=str(node), since=datetime.now(UTC))
        self._begun(replace(self._now(volume_id), attachments=(attachment,)), transition)
        return attachment

    def _begun(self, volume: Volume, transition: Transition) -> Volume:
        drawn = DRAWN[transition]
        took = self.chance.lognormvariate(drawn.mean, drawn.deviation)
        self.known[volume.id] = volume
        self.arrived[volume.id] = asyncio.get_running_loop().time() + took
        return volume

    def _now(self, volume_id: str) -> Volume:
        volume = self.known[volume_id]
        if asyncio.get_running_loop().time() < self.arrived[volume_id]:
            return volume
        if volume.state is VolumeState.CREATING:
            return replace(volume, state=VolumeState.AVAILABLE)
        match volume.attachments:
            case (one,) if one.state is AttachState.ATTACHING:
                return replace(volume, attachments=(replace(one, state=AttachState.ATTACHED),))
            case (one,) if one.state is AttachState.DETACHING:
                return replace(volume, attachments=())
        return volume


async def life(cloud: DrawnCloud, watcher: Watcher, name: str) -> float:
    """One volume's life; the seconds that it waited for states that were there already."""
    real = cast("Cloud", cloud)  # as much of one as this life needs
    loop = asyncio.get_running_loop()
    spec = VolumeSpec(name=name, size=SizeRange(GiB(1)), zone="us-west-2a", type="gp3")
    volume = await provision_volume(real, watcher, spec)
    waste = loop.time() - cloud.arrived[volume.id]
    await attach_volume(real, watcher, volume.id, NODE)
    waste += loop.time() - cloud.arrived[volume.id]
    await detach_volume(real, watcher, volume.id, NODE)
    waste += loop.time() - cloud.arrived[volume.id]
    await delete_volume(real, volume.id)
    return waste


async def lives(count: int, at_once: int, seed: int, *, buckets: bool) -> tuple[list[float], Counter[str], float]:
    """The waste of each of `count` lives, `at_once` of them at a time, all calls, and the seconds it took."""
    cloud = DrawnCloud(random.Random(seed))  # noqa: S311 - a simulation
    if buckets:
        cloud.buckets = {name: Bucket(*bucket) for name, bucket in BUCKETS.items()}
    wastes: list[float] = []
    async with Watcher(cast("Cloud", cloud)) as watcher:
        for start in range(0, count, at_once):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(life(cloud, watcher, f"{seed}-{start + i}")) for i in range(at_once)]
            wastes += [task.result() for task in tasks]
        took = asyncio.get_running_loop().time()
    return wastes, cloud.calls, took


def main() -> None:
    """Print one line for each number of lives at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lives", type=int, default=2000, help="lives to simulate for each line, at least")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(
        f"{'at once':>8} {'buckets':>8} {'waste mean':>11} {'p95':>6} {'calls each':>11} {'at most':>8} {'seconds':>8}"
    )
    cases: list[tuple[int, bool]] = [(1, False), (10, False), (100, False), (500, False), (100, True), (500, True)]
    for at_once, buckets in cases:
        count = max(options.lives // at_once, 1) * at_once
        runner: Any = asyncio.Runner(loop_factory=VirtualLoop)
        with runner:
            wastes, calls, took = runner.run(lives(count, at_once, options.seed, buckets=buckets))
        p95 = statistics.quantiles(wastes, n=20)[-1]
        print(
            f"{at_once:>8} {'yes' if buckets else 'no':>8} {statistics.fmean(wastes):>11.3f} {p95:>6.2f} "
            f"{calls.total() / count:>11.2f} {TARGETS[at_once]:>8} {took * at_once / count:>8.1f}"
        )


if __name__ == "__main__":
    main()
