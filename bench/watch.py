"""Simulate what waiting costs in seconds and AWS calls, for 1 to 5,000 volumes at once.

    python -m bench.watch [--lives N] [--seed N]

The controller's own code works: the operations, the watcher, the governor and the shared looks. The cloud is a stand-in
whose transitions and answers take as long as AWS's, with EC2's token buckets, on a clock that jumps to the next event.

A life is a volume that is created, attached to a HyperPod node, detached and deleted. In a burst, all volumes are asked
for at once, and each is attached when it is created; as in the sidecars, 100 calls of each kind run at a time.

Waste is the time from the end of a transition to the caller's result, summed over the transitions of a volume. The
benchmark fails if a limit in `CASES` is exceeded.
"""

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar, cast

import structlog

from hyperpod_ebs.driver.aws.shared_looks import SharedLooks, TakeKeys
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.model.nodes import HyperPodNode, Node
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.volume import Attachment, AttachState, Modification, Volume, VolumeSpec, VolumeState
from hyperpod_ebs.driver.volumes.attach import attach_volume, detach_volume
from hyperpod_ebs.driver.volumes.budget import Limit, documented_limit
from hyperpod_ebs.driver.volumes.governor import Governor
from hyperpod_ebs.driver.volumes.pace import PRIORS, Transition
from hyperpod_ebs.driver.volumes.provision import delete_volume, provision_volume
from hyperpod_ebs.driver.volumes.watch import Watcher
from tests.support.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from hyperpod_ebs.driver.volumes.cloud import Cloud

T = TypeVar("T")

NODE: Final = HyperPodNode("abcdefghijkl", "i-0123456789abcdef0")

PAUSE: Final = 30.0
"""Seconds between two rounds of a workload, in which the buckets fill."""

WORKERS: Final = 100
"""Calls of each kind that the sidecars make at a time."""

READ_LATENCY: Final = (0.03, 0.06)
CHANGE_LATENCY: Final = (0.1, 0.2)
ATTACH_LATENCY: Final = (0.25, 1.0)
"""The shortest and the longest time in seconds from the moment that AWS carries out a call to the answer.

AWS acknowledges AttachVolume after 0.25 to 1 second (kubernetes-sigs/aws-ebs-csi-driver issue 2056). The others are
guesses, and the same as the emulator's.
"""


class Case(NamedTuple):
    """A line of the table, and the limits for it."""

    workload: Literal["lives", "burst"]
    at_once: int
    waste: float
    """The mean waste in seconds, at most."""
    calls: float
    """The AWS calls of a volume, at most."""
    seconds: float
    """The time from the first request to the last answer, at most."""


CASES: Final = (
    Case("lives", 1, waste=0.63, calls=20.5, seconds=7.5),
    Case("lives", 10, waste=0.53, calls=8.1, seconds=11.0),
    Case("lives", 100, waste=0.55, calls=4.8, seconds=20.0),
    Case("burst", 500, waste=0.62, calls=2.5, seconds=97.0),
    Case("burst", 5000, waste=0.62, calls=2.5, seconds=997.0),
)
"""The attachments take the longest: 50 at once, then five a second. So bursts need 90 and 990 seconds at least."""

DISTRIBUTIONS: Final = dict(PRIORS)
"""The distributions of the simulated times; the watcher starts with the same ones and keeps learning."""


@dataclass
class Bucket:
    """A token bucket of the simulated AWS."""

    limit: Limit
    full_at: float = 0.0
    """The time at which the bucket is full again."""

    def take(self, now: float) -> bool:
        """Take a token; whether there was one."""
        full_at = max(self.full_at, now) + 1 / self.limit.rate
        has_token = full_at - now <= self.limit.capacity / self.limit.rate
        if has_token:
            self.full_at = full_at
        return has_token


@dataclass
class SimulatedCloud:
    """The part of EC2 and SageMaker that the benchmark needs, with random times."""

    random: Random
    latencies: Random
    governor: Governor = field(default_factory=Governor)
    calls: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    known: dict[str, Volume] = field(default_factory=dict)
    done_at: dict[str, float] = field(default_factory=dict)
    """By volume, the time at which its latest transition ends."""

    def __post_init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._searches = SharedLooks[Volume](
            "look up volumes", self._search, lambda: self.governor.delay("CreateVolume")
        )

    async def find_volumes_named(self, name: str) -> tuple[Volume, ...]:
        """Find no volume: each name is new."""
        return tuple(await self._searches.look(name, "look up a volume"))

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """Create a volume, which is creating."""
        volume = Volume(
            id=f"vol-{token[:17]}", size=spec.size.wanted, zone=spec.zone, state=VolumeState.CREATING, type=spec.type
        )
        return await self._call(
            "CreateVolume", volume.id, lambda: self._begin_transition(volume, Transition.CREATE), CHANGE_LATENCY
        )

    async def delete_volume(self, volume_id: str) -> None:
        """Delete a volume at once."""
        await self._call("DeleteVolume", volume_id, lambda: self.known.pop(volume_id), CHANGE_LATENCY)

    async def attach(self, volume_id: str, node: Node) -> Attachment:
        """Attach a volume, which is attaching."""
        return await self._call(
            "AttachClusterNodeVolume",
            volume_id,
            lambda: self._change_attachment(volume_id, node, AttachState.ATTACHING, Transition.ATTACH),
            ATTACH_LATENCY,
        )

    async def detach(self, volume_id: str, node: Node) -> Attachment:
        """Detach a volume, which is detaching.

        Raises:
            NotAttached: The volume is detached.
        """

        def detach() -> Attachment:
            if not self._current(volume_id).attachments:
                raise errors.NotAttached(f"volume {volume_id} is not attached")
            return self._change_attachment(volume_id, node, AttachState.DETACHING, Transition.DETACH)

        return await self._call("DetachClusterNodeVolume", volume_id, detach, CHANGE_LATENCY)

    async def describe_volumes(self, ids: Collection[str]) -> Mapping[str, Volume]:
        """Describe the volumes in their current states."""
        return await self._call(
            "DescribeVolumes", "volumes", lambda: {id_: self._current(id_) for id_ in ids if id_ in self.known}
        )

    async def describe_modifications(self, ids: Collection[str]) -> Mapping[str, Modification]:
        """Fail: the benchmark modifies no volumes."""
        raise NotImplementedError(f"modifications of volumes are not simulated: {ids}")

    async def _search(self, take_names: TakeKeys) -> Iterable[tuple[str, Volume]]:
        await self._call("DescribeVolumes", "volumes", take_names)
        return ()

    async def _call(
        self, operation: str, subject: str, carry_out: Callable[[], T], latency: tuple[float, float] = READ_LATENCY
    ) -> T:
        """Make a call through the governor. AWS carries it out at once, and answers later."""

        async def attempt() -> T:
            self.calls[operation] += 1
            now = asyncio.get_running_loop().time()
            has_token = self._buckets.setdefault(operation, Bucket(documented_limit(operation))).take(now)
            result = carry_out() if has_token else None
            await asyncio.sleep(self.latencies.uniform(*latency))
            if not has_token:
                self.throttled += 1
                raise errors.Throttled(f"cannot make the call {operation}: too many calls")
            return cast("T", result)  # which is not None, because there was a token

        return await self.governor.call(Request(operation, subject, f"make the call {operation}"), attempt)

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


@dataclass
class Run:
    """A run of the benchmark: the cloud, the controller's watcher, and the sidecars' workers."""

    cloud: SimulatedCloud
    watcher: Watcher
    provisioners: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WORKERS))
    attachers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WORKERS))

    async def create(self, name: str) -> tuple[str, float]:
        """Create a volume; its id and the waste."""
        spec = VolumeSpec(name=name, size=SizeRange(GiB(1)), zone="us-west-2a", type="gp3")
        async with self.provisioners:
            volume = await provision_volume(self._whole_cloud, self.watcher, spec)
            return volume.id, self._waste(volume.id)

    async def attach(self, volume_id: str) -> float:
        """Attach a volume; the waste."""
        async with self.attachers:
            await attach_volume(self._whole_cloud, self.watcher, volume_id, NODE)
            return self._waste(volume_id)

    async def live(self, name: str) -> float:
        """Run one volume's life; its waste."""
        volume_id, waste = await self.create(name)
        waste += await self.attach(volume_id)
        async with self.attachers:
            await detach_volume(self._whole_cloud, self.watcher, volume_id, NODE)
            waste += self._waste(volume_id)
        async with self.provisioners:
            await delete_volume(self._whole_cloud, volume_id)
        return waste

    async def create_and_attach(self, name: str) -> float:
        """Create a volume and attach it; the waste."""
        volume_id, waste = await self.create(name)
        return waste + await self.attach(volume_id)

    @property
    def _whole_cloud(self) -> "Cloud":
        return cast("Cloud", self.cloud)  # it has all methods that a life calls

    def _waste(self, volume_id: str) -> float:
        return asyncio.get_running_loop().time() - self.cloud.done_at[volume_id]


class Figures(NamedTuple):
    """What a case costs."""

    wastes: list[float]
    """The waste of each volume."""
    calls: Counter[str]
    throttled: int
    seconds: float
    """The simulated time of all rounds, without the pauses between them."""


async def run_case(case: Case, volumes: int, seed: int) -> Figures:
    """Run the case's workload for so many volumes, `at_once` at a time."""
    cloud = SimulatedCloud(Random(seed), Random(seed))  # noqa: S311 - a simulation
    governor, loop = cloud.governor, asyncio.get_running_loop()
    wastes: list[float] = []
    seconds = 0.0
    async with Watcher(cast("Cloud", cloud), rate=governor.rate, delay=governor.longest_delay) as watcher:
        for start in range(0, volumes, case.at_once):
            run, began = Run(cloud, watcher), loop.time()
            act = run.live if case.workload == "lives" else run.create_and_attach
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(act(f"{seed}-{start + number}")) for number in range(case.at_once)]
            wastes += [task.result() for task in tasks]
            seconds += loop.time() - began
            await asyncio.sleep(PAUSE)
    return Figures(wastes, cloud.calls, cloud.throttled, seconds)


def main() -> None:
    """Print a table with one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--lives", type=int, default=1000, help="the smallest number of volumes to simulate for each line"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulated times")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(
        f"{'workload':>8} {'at once':>8} {'waste mean':>11} {'at most':>8} {'p95':>6} {'calls each':>11} {'at most':>8}"
        f" {'seconds':>8} {'at most':>8} {'throttled':>10} {'CPU ms each':>12}"
    )
    has_failed = False
    for case in CASES:
        volumes = max(options.lives // case.at_once, 1) * case.at_once
        began = time.process_time()
        runner: Any = asyncio.Runner(loop_factory=VirtualLoop)
        with runner:
            figures: Figures = runner.run(run_case(case, volumes, options.seed))
        cpu = time.process_time() - began
        waste, p95 = statistics.fmean(figures.wastes), statistics.quantiles(figures.wastes, n=20)[-1]
        calls, seconds = figures.calls.total() / volumes, figures.seconds * case.at_once / volumes
        has_failed |= waste > case.waste or calls > case.calls or seconds > case.seconds
        print(
            f"{case.workload:>8} {case.at_once:>8} {waste:>11.3f} {case.waste:>8} {p95:>6.2f} {calls:>11.2f} "
            f"{case.calls:>8} {seconds:>8.1f} {case.seconds:>8.1f} {figures.throttled / figures.calls.total():>10.2%} "
            f"{cpu / volumes * 1000:>12.2f}"
        )
    sys.exit(int(has_failed))


if __name__ == "__main__":
    main()
