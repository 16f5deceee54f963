"""Each process is killed at each point that matters; nothing is lost, leaked or doubled.

Ours: a killed process leaves nothing that the next one cannot finish or undo (INVARIANTS.md).
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest

from hyperpod_ebs.demo import checkpoint
from hyperpod_ebs.demo.orchestrator import Claim, filesystem_capability
from hyperpod_ebs.pb import csi_pb2
from tests.support.driver_fleet import Fleet, Process, again, eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

T = TypeVar("T")


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


async def survived(fleet: Fleet, call: Coroutine[Any, Any, T], until: Callable[[], Awaitable[bool]]) -> T:
    """What `call` answers although the cloud is killed under it, and started again, as soon as `until` says so."""
    async with asyncio.TaskGroup() as group:
        under_way = group.create_task(call)
        await eventually(until)
        await fleet.emulator.kill()
        await fleet.restart_emulator()
    return under_way.result()


async def states(fleet: Fleet, kind: str) -> list[str]:
    """The states of all volumes, snapshots or attachments at the cloud."""
    return [one["state"] for one in (await fleet.status())[kind]]


async def ids(fleet: Fleet, kind: str) -> list[str]:
    """The ids of all volumes or snapshots at the cloud."""
    return [one["id"] for one in (await fleet.status())[kind]]


@dataclass(frozen=True, slots=True)
class Held:
    """A program that stops when it is started, and goes on when it is told."""

    shim: Path
    pid: Path
    """Holds its process id from then on."""


def held_at_start(directory: Path, program: str) -> Held:
    """The real `program`, which begins only once its process gets SIGCONT; for a PATH that begins with the shim's."""
    real = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    held = Held(directory / "shims" / program, directory / f"{program}.pid")
    held.shim.parent.mkdir()
    held.shim.write_text(
        f"""#!/bin/sh
echo $$ > {held.pid}.new && mv {held.pid}.new {held.pid}
kill -STOP $$
exec {real} "$@"
"""
    )
    held.shim.chmod(0o755)
    return held


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


@pytest.mark.requirement("kills.nothing-twice", "csi.create-volume.idempotent")
async def test_a_controller_killed_before_a_create_is_acknowledged_makes_one_volume(fleet: Fleet) -> None:
    """CSI spec, CreateVolume: a repeat answers the same volume."""
    await fleet.plan("CreateVolume", when="after", delay=30.0)

    async def sent() -> bool:
        return len(await ids(fleet, "volumes")) == 1

    await killed_while(
        fleet.controller, fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4")), until=sent
    )
    await fleet.controller.start()
    claim = await again(lambda: fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4")))

    assert await ids(fleet, "volumes") == [claim.id]


@pytest.mark.requirement("kills.nothing-twice", "csi.create-volume.idempotent")
async def test_a_controller_killed_after_a_create_was_acknowledged_answers_the_same_volume(fleet: Fleet) -> None:
    """CSI spec, CreateVolume: a repeat answers the same volume."""
    first = await fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))

    await fleet.controller.kill()
    await fleet.controller.start()
    second = await again(lambda: fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4")))

    assert second.id == first.id
    assert await ids(fleet, "volumes") == [second.id]


@pytest.mark.requirement("kills.nothing-twice")
async def test_a_controller_killed_while_an_attach_is_under_way_finishes_it_when_asked_again(slow: Fleet) -> None:
    """Upstream's gap H1: on HyperPod a second attach is refused by AWS, and has to be read as done."""
    claim = await slow.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    node = slow.orchestrator.nodes["node-1"]

    async def attaching() -> bool:
        return await states(slow, "attachments") == ["attaching"]

    await killed_while(slow.controller, slow.orchestrator.attach(claim, node), until=attaching)
    await slow.controller.start()
    await again(lambda: slow.orchestrator.attach(claim, node))

    assert await states(slow, "attachments") == ["attached"]


@pytest.mark.requirement("kills.nothing-twice")
async def test_a_controller_killed_while_a_snapshot_is_under_way_takes_one_snapshot(fleet: Fleet) -> None:
    """CSI spec, CreateSnapshot: a repeat answers the same snapshot, and EC2 has no token for it."""
    claim = await fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    await fleet.plan("CreateSnapshot", when="after", delay=30.0)

    async def sent() -> bool:
        return len(await ids(fleet, "snapshots")) == 1

    await killed_while(fleet.controller, fleet.orchestrator.snapshot(claim, "data-1"), until=sent)
    await fleet.controller.start()
    snapshot = await again(lambda: fleet.orchestrator.snapshot(claim, "data-1"))

    assert await ids(fleet, "snapshots") == [snapshot.snapshot_id]


@pytest.mark.requirement("data.killed-mkfs-heals")
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
@pytest.mark.parametrize("with_mkfs", [False, True], ids=["alone", "and its mkfs"])
async def test_a_node_process_killed_while_mkfs_is_under_way_is_healed_by_the_next(
    fleet: Fleet, filesystem: str, *, with_mkfs: bool
) -> None:
    """Ours: a filesystem that is being made is waited for or made anew; tests/system/test_node_blank.py goes deeper."""
    node, on = fleet.nodes["node-1"], fleet.orchestrator.nodes["node-1"]
    claim = await fleet.orchestrator.create("data", gib=2, capability=filesystem_capability(filesystem))
    context = await fleet.orchestrator.attach(claim, on)
    await node.stop()
    held = held_at_start(fleet.sandbox.path, f"mkfs.{filesystem}")
    node.env = {**node.env, "PATH": f"{held.shim.parent}:{os.environ['PATH']}"}
    await node.start()
    await on.csi.NodeGetInfo(csi_pb2.NodeGetInfoRequest(), timeout=30, wait_for_ready=True)

    async def formatting() -> bool:
        return held.pid.exists()

    await killed_while(node, fleet.orchestrator.mount(claim, on, context), until=formatting)
    os.kill(int(held.pid.read_text()), signal.SIGKILL if with_mkfs else signal.SIGCONT)
    node.env = {key: value for key, value in node.env.items() if key != "PATH"}
    await node.start()
    target = await again(lambda: fleet.orchestrator.mount(claim, on, context))
    digests = checkpoint.write(target / "checkpoint")

    assert checkpoint.digests(target / "checkpoint") == digests
    await fleet.orchestrator.unmount(claim, on)


@pytest.mark.requirement("kills.nothing-twice")
async def test_a_node_process_killed_under_a_running_pod_disturbs_nothing(fleet: Fleet) -> None:
    """The guide: volumes survive; a node process is upgraded under running pods."""
    claim = await fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    target = await used(fleet, claim, "node-1")

    async with checkpoint.Journal.start(target / "journal") as journal:
        await fleet.nodes["node-1"].kill()
        await fleet.nodes["node-1"].start()
        again_target = await used(fleet, claim, "node-1")
        await eventually(more_than(journal, journal.written))

    assert again_target == target
    assert journal.error is None
    assert checkpoint.count_lines(target / "journal") == journal.written
    await fleet.orchestrator.unmount(claim, fleet.orchestrator.nodes["node-1"])


@pytest.mark.requirement("emulator.durable")
async def test_an_emulator_killed_loses_no_acknowledged_volume_attachment_or_snapshot(fleet: Fleet) -> None:
    """Ours: acknowledged is durable."""
    co = fleet.orchestrator
    claim = await co.create("data", gib=1, capability=filesystem_capability("ext4"))
    target = await used(fleet, claim, "node-1")
    digests = checkpoint.write(target / "checkpoint")
    snapshot = await co.snapshot(claim, "data-1")

    await fleet.emulator.kill()
    await fleet.restart_emulator()

    assert checkpoint.digests(target / "checkpoint") == digests
    assert await states(fleet, "attachments") == ["attached"]
    restored = await again(
        lambda: co.create("restored", gib=1, capability=filesystem_capability("ext4"), snapshot_id=snapshot.snapshot_id)
    )
    found = checkpoint.digests(await used(fleet, restored, "node-2") / "checkpoint")
    assert found == digests
    await co.unmount(claim, co.nodes["node-1"])
    await co.unmount(restored, co.nodes["node-2"])


async def test_an_emulator_killed_while_a_create_is_under_way_makes_one_volume(slow: Fleet) -> None:
    """Ours: what was half done is finished or undone, and the call under way does not even notice."""

    async def creating() -> bool:
        return await states(slow, "volumes") == ["creating"]

    call = slow.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    claim = await survived(slow, call, until=creating)

    assert await ids(slow, "volumes") == [claim.id]


async def test_an_emulator_killed_while_an_attach_is_under_way_finishes_it(slow: Fleet) -> None:
    """Ours: what was half done is finished or undone."""
    claim = await slow.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    node = slow.orchestrator.nodes["node-1"]

    async def attaching() -> bool:
        return await states(slow, "attachments") == ["attaching"]

    context = await survived(slow, slow.orchestrator.attach(claim, node), until=attaching)
    target = await slow.orchestrator.mount(claim, node, context)
    digests = checkpoint.write(target / "checkpoint")

    assert checkpoint.digests(target / "checkpoint") == digests
    assert await states(slow, "attachments") == ["attached"]
    await slow.orchestrator.unmount(claim, node)


async def test_an_emulator_killed_while_a_snapshot_is_under_way_keeps_it_exact(slow: Fleet) -> None:
    """Ours: an acknowledged snapshot holds exactly what was written before it was asked for."""
    co = slow.orchestrator
    claim = await co.create("data", gib=1, capability=filesystem_capability("xfs"))
    target = await used(slow, claim, "node-1")
    async with checkpoint.Journal.start(target / "journal") as journal:
        await eventually(more_than(journal, 10))
        before = journal.written
        snapshot = await co.snapshot(claim, "data-1")
        after = journal.written + 1
        await slow.emulator.kill()
        await slow.restart_emulator()

    async def ready() -> bool:
        return bool((await again(lambda: co.snapshot(claim, "data-1"))).ready_to_use)

    await eventually(ready)
    restored = await co.create(
        "restored", gib=1, capability=filesystem_capability("xfs"), snapshot_id=snapshot.snapshot_id
    )
    found = checkpoint.count_lines(await used(slow, restored, "node-1") / "journal")

    assert before <= found <= after
    await co.unmount(restored, co.nodes["node-1"])
    await co.unmount(claim, co.nodes["node-1"])


async def test_processes_stop_cleanly_when_told() -> None:
    """Ours: SIGTERM ends each process with 0, and nothing is left."""
    async with Fleet.running() as fleet:
        await _stop_and_look(fleet)


async def _stop_and_look(fleet: Fleet) -> None:
    claim = await fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    await used(fleet, claim, "node-1")
    await fleet.orchestrator.unmount(claim, fleet.orchestrator.nodes["node-1"])

    codes = [await process.stop() for process in (*fleet.nodes.values(), fleet.controller, fleet.emulator)]

    assert codes == [0, 0, 0, 0]
    left = fleet.sandbox.leftovers()
    assert (left.loop_devices, left.mounts, left.processes) == ((), (), ())
    assert not fleet.sockets["controller"].exists()
