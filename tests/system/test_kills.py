"""Each process is killed at each point that matters; nothing is lost, leaked or doubled.

Ours: a killed process leaves nothing that the next one cannot finish or undo (INVARIANTS.md).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from harness import Fleet, Process, eventually
from hyperpod_ebs.demo import checkpoint
from hyperpod_ebs.demo.orchestrator import Claim, mounted

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


@pytest.fixture
async def fleet() -> AsyncGenerator[Fleet]:
    """A fleet on a cloud that takes no time."""
    async with Fleet.running() as running:
        yield running
        assert await running.faults_left() == 0


@pytest.fixture
async def slow() -> AsyncGenerator[Fleet]:
    """A fleet on a cloud that takes its time, as AWS does."""
    async with Fleet.running(profile="aws") as running:
        yield running


async def killed_while(process: Process, call: Awaitable[object], until: Callable[[], Awaitable[bool]]) -> None:
    """Kill `process` while `call` is under way, as soon as `until` says so."""

    async def lost() -> None:
        with suppress(grpc.aio.AioRpcError):
            await call

    async with asyncio.TaskGroup() as group:
        group.create_task(lost())
        await eventually(until)
        await process.kill()


async def again(call: Callable[[], Awaitable[Any]]) -> Any:
    """What `call` answers at last: the sidecars try again what is unavailable."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}:
                    raise
                await asyncio.sleep(0.2)


async def described(fleet: Fleet) -> list[dict[str, Any]]:
    """All volumes, as the cloud describes them."""
    async with fleet.emulated.client("ec2") as ec2:
        volumes: list[dict[str, Any]] = (await ec2.describe_volumes())["Volumes"]
        return volumes


async def attachment_states(fleet: Fleet) -> list[str]:
    return [attachment["State"] for volume in await described(fleet) for attachment in volume["Attachments"]]


def children(process: Process, name: str) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(process.pid).children() if child.name().startswith(name)]
    return []


def more_than(journal: checkpoint.Journal, lines: int) -> Callable[[], Awaitable[bool]]:
    """Whether the journal has gone on past so many lines."""

    async def longer() -> bool:
        return journal.written > lines

    return longer


async def used(fleet: Fleet, claim: Claim, node: str) -> Path:
    """Attach, stage and publish; where a pod would find it."""
    on = fleet.orchestrator.nodes[node]
    context = await again(lambda: fleet.orchestrator.attach(claim, on))
    path: Path = await again(lambda: fleet.orchestrator.mount(claim, on, context))
    return path


async def test_a_controller_killed_before_a_create_is_acknowledged_makes_one_volume(fleet: Fleet) -> None:
    """CSI spec, CreateVolume: a repeat answers the same volume."""
    await fleet.plan("CreateVolume", when="after", delay=30.0)

    async def sent() -> bool:
        return len(await described(fleet)) == 1

    await killed_while(
        fleet.controller, fleet.orchestrator.create("data", gib=1, capability=mounted("ext4")), until=sent
    )
    await fleet.controller.start()
    claim = await again(lambda: fleet.orchestrator.create("data", gib=1, capability=mounted("ext4")))

    assert [volume["VolumeId"] for volume in await described(fleet)] == [claim.id]


async def test_a_controller_killed_after_a_create_was_acknowledged_answers_the_same_volume(fleet: Fleet) -> None:
    """CSI spec, CreateVolume: a repeat answers the same volume."""
    first = await fleet.orchestrator.create("data", gib=1, capability=mounted("ext4"))

    await fleet.controller.kill()
    await fleet.controller.start()
    second = await again(lambda: fleet.orchestrator.create("data", gib=1, capability=mounted("ext4")))

    assert second.id == first.id
    assert len(await described(fleet)) == 1


async def test_a_controller_killed_while_an_attach_is_under_way_finishes_it_when_asked_again(slow: Fleet) -> None:
    """Upstream's gap H1: on HyperPod a second attach is refused by AWS, and has to be read as done."""
    claim = await slow.orchestrator.create("data", gib=1, capability=mounted("ext4"))
    node = slow.orchestrator.nodes["node-1"]

    async def attaching() -> bool:
        return await attachment_states(slow) == ["attaching"]

    await killed_while(slow.controller, slow.orchestrator.attach(claim, node), until=attaching)
    await slow.controller.start()
    await again(lambda: slow.orchestrator.attach(claim, node))

    assert await attachment_states(slow) == ["attached"]


async def test_a_controller_killed_while_a_snapshot_is_under_way_takes_one_snapshot(fleet: Fleet) -> None:
    """CSI spec, CreateSnapshot: a repeat answers the same snapshot, and EC2 has no token for it."""
    claim = await fleet.orchestrator.create("data", gib=1, capability=mounted("ext4"))
    await fleet.plan("CreateSnapshot", when="after", delay=30.0)

    async def snapshots() -> list[str]:
        async with fleet.emulated.client("ec2") as ec2:
            answer = await ec2.describe_snapshots(OwnerIds=["self"])
            return [snapshot["SnapshotId"] for snapshot in answer["Snapshots"]]

    async def sent() -> bool:
        return len(await snapshots()) == 1

    await killed_while(fleet.controller, fleet.orchestrator.snapshot(claim, "data-1"), until=sent)
    await fleet.controller.start()
    snapshot = await again(lambda: fleet.orchestrator.snapshot(claim, "data-1"))

    assert await snapshots() == [snapshot.snapshot_id]


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
@pytest.mark.parametrize("with_mkfs", [False, True], ids=["alone", "and its mkfs"])
async def test_a_node_process_killed_while_mkfs_is_under_way_is_healed_by_the_next(
    fleet: Fleet, filesystem: str, *, with_mkfs: bool
) -> None:
    """Ours: a half-made filesystem is finished or made anew, and never one with data in it."""
    claim = await fleet.orchestrator.create("data", gib=2048, capability=mounted(filesystem))
    on = fleet.orchestrator.nodes["node-1"]
    context = await fleet.orchestrator.attach(claim, on)
    orphans: list[psutil.Process] = []

    async def formatting() -> bool:
        orphans.extend(children(fleet.nodes["node-1"], "mk"))
        return bool(orphans)

    await killed_while(fleet.nodes["node-1"], fleet.orchestrator.mount(claim, on, context), until=formatting)
    if with_mkfs:
        for orphan in orphans:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()
    await fleet.nodes["node-1"].start()
    target = await again(lambda: fleet.orchestrator.mount(claim, on, context))
    digests = checkpoint.write(target / "checkpoint")

    assert checkpoint.digests(target / "checkpoint") == digests
    await fleet.orchestrator.unmount(claim, on)


async def test_a_node_process_killed_under_a_running_pod_disturbs_nothing(fleet: Fleet) -> None:
    """The guide: volumes survive; a node process is upgraded under running pods."""
    claim = await fleet.orchestrator.create("data", gib=1, capability=mounted("ext4"))
    target = await used(fleet, claim, "node-1")

    with checkpoint.Journal.writing(target / "journal") as journal:
        await fleet.nodes["node-1"].kill()
        await fleet.nodes["node-1"].start()
        again_target = await used(fleet, claim, "node-1")
        await eventually(more_than(journal, journal.written))

    assert again_target == target
    assert journal.error is None
    assert checkpoint.lines(target / "journal") == journal.written
    await fleet.orchestrator.unmount(claim, fleet.orchestrator.nodes["node-1"])


async def test_an_emulator_killed_loses_no_acknowledged_volume_attachment_or_snapshot(fleet: Fleet) -> None:
    """Ours: acknowledged is durable."""
    co = fleet.orchestrator
    claim = await co.create("data", gib=1, capability=mounted("ext4"))
    target = await used(fleet, claim, "node-1")
    digests = checkpoint.write(target / "checkpoint")
    snapshot = await co.snapshot(claim, "data-1")

    await fleet.emulator.kill()
    await fleet.restart_emulator()

    assert checkpoint.digests(target / "checkpoint") == digests
    assert await attachment_states(fleet) == ["attached"]
    restored = await again(
        lambda: co.create("restored", gib=1, capability=mounted("ext4"), snapshot_id=snapshot.snapshot_id)
    )
    found = checkpoint.digests(await used(fleet, restored, "node-2") / "checkpoint")
    assert found == digests
    await co.unmount(claim, co.nodes["node-1"])
    await co.unmount(restored, co.nodes["node-2"])


async def test_an_emulator_killed_while_a_create_is_under_way_makes_one_volume(slow: Fleet) -> None:
    """Ours: what was half done is finished or undone, and the driver's repeat finds it."""

    async def creating() -> bool:
        return [volume["State"] for volume in await described(slow)] == ["creating"]

    await killed_while(slow.emulator, slow.orchestrator.create("data", gib=1, capability=mounted("ext4")), creating)
    await slow.restart_emulator()
    claim = await again(lambda: slow.orchestrator.create("data", gib=1, capability=mounted("ext4")))

    assert [volume["VolumeId"] for volume in await described(slow)] == [claim.id]


async def test_an_emulator_killed_while_an_attach_is_under_way_finishes_it(slow: Fleet) -> None:
    """Ours: what was half done is finished or undone."""
    claim = await slow.orchestrator.create("data", gib=1, capability=mounted("ext4"))
    node = slow.orchestrator.nodes["node-1"]

    async def attaching() -> bool:
        return await attachment_states(slow) == ["attaching"]

    await killed_while(slow.emulator, slow.orchestrator.attach(claim, node), attaching)
    await slow.restart_emulator()
    target = await used(slow, claim, "node-1")
    digests = checkpoint.write(target / "checkpoint")

    assert checkpoint.digests(target / "checkpoint") == digests
    assert await attachment_states(slow) == ["attached"]
    await slow.orchestrator.unmount(claim, node)


async def test_an_emulator_killed_while_a_snapshot_is_under_way_keeps_it_exact(slow: Fleet) -> None:
    """Ours: an acknowledged snapshot holds exactly what was written before it was asked for."""
    co = slow.orchestrator
    claim = await co.create("data", gib=1, capability=mounted("xfs"))
    target = await used(slow, claim, "node-1")
    with checkpoint.Journal.writing(target / "journal") as journal:
        await eventually(more_than(journal, 10))
        before = journal.written
        snapshot = await co.snapshot(claim, "data-1")
        after = journal.written + 1
        await slow.emulator.kill()
        await slow.restart_emulator()

    async def ready() -> bool:
        return bool((await again(lambda: co.snapshot(claim, "data-1"))).ready_to_use)

    await eventually(ready)
    restored = await co.create("restored", gib=1, capability=mounted("xfs"), snapshot_id=snapshot.snapshot_id)
    found = checkpoint.lines(await used(slow, restored, "node-1") / "journal")

    assert before <= found <= after
    await co.unmount(restored, co.nodes["node-1"])
    await co.unmount(claim, co.nodes["node-1"])


async def test_processes_stop_cleanly_and_at_once_when_told(fleet: Fleet) -> None:
    """Ours: SIGTERM ends each process with 0, and nothing is left."""
    claim = await fleet.orchestrator.create("data", gib=1, capability=mounted("ext4"))
    await used(fleet, claim, "node-1")
    await fleet.orchestrator.unmount(claim, fleet.orchestrator.nodes["node-1"])

    codes = [await process.stop() for process in (*fleet.nodes.values(), fleet.controller, fleet.emulator)]

    assert codes == [0, 0, 0, 0]
    left = fleet.sandbox.leftovers()
    assert (left.loop_devices, left.mounts, left.processes) == ((), (), ())
    assert not fleet.sockets["controller"].exists()
