"""Lives of volumes while the controller is killed again and again and AWS loses answers; `make attack` runs them.

At no moment is anything doubled, lost or left. tests/system/test_kills.py has one kill at one chosen moment each.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final, NamedTuple, TypeVar

import grpc
import pytest

from hyperpod_ebs.demo.orchestrator import Claim, Node, block_capability
from tests.support.driver_fleet import Fleet, Kind
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.attack, pytest.mark.timeout(1200)]

T = TypeVar("T")

LIVES: Final = 4
"""Volumes at the same time."""

KILLS: Final = 15
"""Kills of the controller: with any number of kills, a slow machine would make no progress."""

LOSSES: Final = 40
"""Calls whose answers are lost, late or errors."""

PATIENCE: Final = 400.0
"""Seconds that a call may take, with its repetitions."""

REPEATED: Final = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED}
"""The codes after which Kubernetes' sidecars ask again; after any other code, a life has failed."""

LOST_ANSWERS: Final = (
    {"drop": True, "when": "after"},
    {"drop": True, "when": "before"},
    {"code": "InternalError", "status": 500, "when": "after"},
    {"code": "RequestLimitExceeded", "status": 503},
    {"delay": 4.0, "when": "after"},
)


class Attack(NamedTuple):
    """An attack that is always the same, apart from the speed of the machine."""

    kind: Kind
    profile: str
    seed: int

    @property
    def id(self) -> str:
        """The attack as a phrase."""
        return f"{self.kind} nodes, {self.profile} profile, seed {self.seed}"

    def random(self, purpose: str) -> Random:
        """The random choices for one purpose."""
        return Random(f"{self.seed}/{purpose}")  # noqa: S311 - must be repeatable


ATTACKS: Final = [
    Attack("ec2", "instant", 0),
    Attack("hyperpod", "instant", 1),
    Attack("ec2", "aws", 2),
    Attack("hyperpod", "aws", 3),
    Attack("ec2", "chaos", 4),
]


async def persist(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call as the sidecars do, until it succeeds."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in REPEATED:
                    raise
                await asyncio.sleep(0.2)


async def ends_within(done: asyncio.Event, seconds: float) -> bool:
    """Whether all lives end within this time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()
    return done.is_set()


async def kill_the_controller(fleet: Fleet, done: asyncio.Event, random: Random) -> None:
    """Kill and start the controller again, at random moments."""
    for _ in range(KILLS):
        if await ends_within(done, random.uniform(1, 9)):
            return
        await fleet.controller.kill()
        await fleet.controller.start()


async def lose_answers(fleet: Fleet, kind: Kind, done: asyncio.Event, random: Random) -> None:
    """Let calls of AWS fail, come late or get no answer, at random moments."""
    node = "" if kind == "ec2" else "ClusterNode"
    operations = ["CreateVolume", "DeleteVolume", "ModifyVolume", "CreateSnapshot", "DeleteSnapshot", "DescribeVolumes"]
    operations += [f"Attach{node}Volume", f"Detach{node}Volume"]
    for _ in range(LOSSES):
        if await ends_within(done, random.uniform(0.3, 3)):
            return
        await fleet.plan_fault(random.choice(operations), **random.choice(LOST_ANSWERS))


async def holders(fleet: Fleet, claim: Claim) -> list[str]:
    """The instances that the volume is attached to, in any state."""
    return [record["instance"] for record in (await fleet.status())["attachments"] if record["volume"] == claim.id]


async def live(fleet: Fleet, name: str, random: Random) -> None:
    """Live the life of one volume, on two nodes; each call of its orchestrator may be repeated."""
    co = fleet.orchestrator
    claim, again = [await persist(lambda: co.create(name, gib=1, capability=block_capability())) for _ in range(2)]
    assert again.id == claim.id
    await persist(lambda: co.grow_volume_only(claim, gib=2))
    for node in random.sample(list(co.nodes.values()), k=2):
        await live_on_node(fleet, claim, node, random)
    sizes = {record["id"]: record["size_gib"] for record in (await fleet.status())["volumes"]}
    assert sizes[claim.id] == 2
    await persist(lambda: co.delete(claim))


async def live_on_node(fleet: Fleet, claim: Claim, node: Node, random: Random) -> None:
    """Attach the volume and take a snapshot, or give up while it is attached; then detach it."""
    co = fleet.orchestrator
    if random.choice([True, False]):
        with suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout(random.uniform(0.05, 2)):
                await co.attach(claim, node)
    else:
        await persist(lambda: co.attach(claim, node))
        assert [node.id.endswith(instance) for instance in await holders(fleet, claim)] == [True]
        name = f"{claim.id} on {node.name}"
        snapshot, again = [await persist(lambda: co.snapshot(claim, name)) for _ in range(2)]
        assert again.snapshot_id == snapshot.snapshot_id
        await persist(lambda: co.delete_snapshot(snapshot.snapshot_id))
    await persist(lambda: co.detach(claim, node))
    assert await holders(fleet, claim) == []


async def resources(fleet: Fleet) -> list[list[str]]:
    """The ids of all volumes and snapshots, and the volumes that are attached."""
    status = await fleet.status()
    return [
        sorted(record[key] for record in status[kind])
        for kind, key in (("volumes", "id"), ("snapshots", "id"), ("attachments", "volume"))
    ]


@pytest.mark.requirement("kills.nothing-twice", "absence.proved")
@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.id for attack in ATTACKS])
async def test_nothing_is_doubled_lost_or_left_however_often_the_controller_is_killed(attack: Attack) -> None:
    """EC2 developer guide, "Ensure idempotency and eventual consistency"."""
    done = asyncio.Event()
    started = Fleet.start(
        kind=attack.kind, zones=1, profile=attack.profile, consistency="eventual", seed=str(attack.seed)
    )
    async with started as fleet:
        before = await resources(fleet)

        async with asyncio.TaskGroup() as attackers:
            attackers.create_task(kill_the_controller(fleet, done, attack.random("kills")))
            attackers.create_task(lose_answers(fleet, attack.kind, done, attack.random("answers")))
            try:
                async with asyncio.TaskGroup() as lives:
                    for number in range(LIVES):
                        name = f"pvc-{number}"
                        lives.create_task(live(fleet, name, attack.random(name)))
            finally:
                done.set()

        async def is_as_before() -> bool:
            return await resources(fleet) == before

        await wait_until(is_as_before)
        assert "because of a bug" not in fleet.controller.log()
