"""Kills of each process during each operation: nothing is lost, leaked or created twice.

The restarted process finishes or undoes everything that the killed one began (INVARIANTS.md).
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import grpc
import pytest

from hyperpod_ebs.demo import checkpoint
from hyperpod_ebs.demo.orchestrator import Claim, block_capability, filesystem_capability
from hyperpod_ebs.driver.model import topology
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from tests.support.driver_fleet import Fleet, FleetProcess
from tests.support.paused_program import PausedProgram
from tests.support.waiting import retry_while_unavailable, wait_until

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

T = TypeVar("T")

VOLUMES: Final = 12
"""Volumes at the same time: EC2 shows some of them late."""


@pytest.fixture(params=["immediate", "eventual"])
async def fleet(request: pytest.FixtureRequest) -> AsyncGenerator[Fleet]:
    """A fleet on an emulator whose state changes take no time, and are shown at once or late."""
    async with Fleet.start(consistency=request.param) as running:
        yield running
        assert await running.remaining_faults() == 0


@pytest.fixture(params=["immediate", "eventual"])
async def slow_fleet(request: pytest.FixtureRequest) -> AsyncGenerator[Fleet]:
    """A fleet on an emulator whose state changes take as long as on AWS, and are shown at once or late."""
    async with Fleet.start(profile="aws", consistency=request.param) as running:
        yield running


async def kill_during(process: FleetProcess, call: Awaitable[object], until: Callable[[], Awaitable[bool]]) -> None:
    """Kill `process` while `call` is under way, as soon as `until` is true."""

    async def ignore_failure() -> None:
        with suppress(grpc.aio.AioRpcError):
            await call

    async with asyncio.TaskGroup() as group:
        group.create_task(ignore_failure())
        await wait_until(until)
        await process.kill()


async def call_at_once(call: Callable[[int], Awaitable[T]]) -> list[T]:
    """The results of `call` for the numbers of `VOLUMES` volumes, at the same time."""

    async def result(number: int) -> T:
        return await call(number)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(result(number)) for number in range(VOLUMES)]
    return [task.result() for task in tasks]


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    """The code with which the call ends."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def restart_emulator_during(
    fleet: Fleet, call: Callable[[], Awaitable[T]], until: Callable[[], Awaitable[bool]]
) -> T:
    """Kill and restart the emulator during `call`, as soon as `until` is true; the call is repeated as by a sidecar."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(retry_while_unavailable(call))
        await wait_until(until)
        await fleet.emulator.kill()
        await fleet.restart_emulator()
    return task.result()


async def states(fleet: Fleet, kind: str) -> list[str]:
    """The states of all volumes, snapshots or attachments in the emulator."""
    return [record["state"] for record in (await fleet.status())[kind]]


async def ids(fleet: Fleet, kind: str) -> list[str]:
    """The ids of all volumes or snapshots in the emulator."""
    return [record["id"] for record in (await fleet.status())[kind]]


def has_more_lines_than(journal: checkpoint.Journal, lines: int) -> Callable[[], Awaitable[bool]]:
    """A condition: the journal has more lines than this."""

    async def is_longer() -> bool:
        return journal.written > lines

    return is_longer


async def mount(fleet: Fleet, claim: Claim, node: str) -> Path:
    """Attach, stage and publish a volume; the path where a pod has it."""
    to = fleet.orchestrator.nodes[node]
    context = await retry_while_unavailable(lambda: fleet.orchestrator.attach(claim, to))
    path: Path = await retry_while_unavailable(lambda: fleet.orchestrator.mount(claim, to, context))
    return path


@pytest.mark.requirement("kills.nothing-twice", "csi.create-volume.idempotent")
async def test_a_controller_killed_before_it_acknowledges_a_create_creates_one_volume(fleet: Fleet) -> None:
    """CSI spec, CreateVolume is idempotent: a repeated call returns the same volume."""
    await fleet.plan_fault("CreateVolume", when="after", delay=30.0)

    async def is_created() -> bool:
        return len(await ids(fleet, "volumes")) == 1

    await kill_during(
        fleet.controller,
        fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4")),
        until=is_created,
    )
    await fleet.controller.start()
    claim = await retry_while_unavailable(
        lambda: fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    )

    assert await ids(fleet, "volumes") == [claim.id]


@pytest.mark.requirement("kills.nothing-twice", "csi.create-volume.idempotent")
async def test_a_controller_killed_after_it_acknowledged_a_create_returns_the_same_volume(fleet: Fleet) -> None:
    """CSI spec, CreateVolume is idempotent: a repeated call returns the same volume."""
    first = await fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))

    await fleet.controller.kill()
    await fleet.controller.start()
    second = await retry_while_unavailable(
        lambda: fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    )

    assert second.id == first.id
    assert await ids(fleet, "volumes") == [second.id]


@pytest.mark.requirement("kills.nothing-twice", "csi.create-volume.conflict")
async def test_names_keep_their_zone_after_a_controller_is_killed_before_it_acknowledges_them(fleet: Fleet) -> None:
    """EC2 developer guide, "Ensuring idempotency": a client token creates one volume in each zone."""
    co = fleet.orchestrator
    await fleet.plan_fault("CreateVolume", when="after", delay=30.0, times=VOLUMES)

    def create(number: int) -> Awaitable[Claim]:
        return co.create(f"data-{number}", gib=1, capability=block_capability())

    async def are_created() -> bool:
        return len(await ids(fleet, "volumes")) == VOLUMES

    await kill_during(fleet.controller, call_at_once(lambda number: code_of(create(number))), until=are_created)
    await fleet.controller.start()
    elsewhere = csi_pb2.Topology(segments={topology.ZONE: "us-west-2a" if fleet.zone != "us-west-2a" else "us-west-2b"})
    co.nodes = {name: replace(node, topology=elsewhere) for name, node in co.nodes.items()}

    codes = await call_at_once(lambda number: code_of(retry_while_unavailable(lambda: create(number))))

    assert codes == [grpc.StatusCode.ALREADY_EXISTS] * VOLUMES
    assert len(await ids(fleet, "volumes")) == VOLUMES


@pytest.mark.requirement("kills.nothing-twice", "csi.expand-volume.idempotent")
async def test_a_controller_killed_before_it_acknowledges_expansions_requests_each_once(fleet: Fleet) -> None:
    """EBS user guide, "Requirements for EBS volume modifications": a volume can be modified a few times a day."""
    co = fleet.orchestrator
    claims = await call_at_once(lambda number: co.create(f"data-{number}", gib=1, capability=block_capability()))
    await fleet.plan_fault("ModifyVolume", when="after", delay=30.0, times=VOLUMES)

    def expand(number: int) -> Awaitable[object]:
        return co.grow_volume_only(claims[number], gib=2)

    async def are_expanded() -> bool:
        return {record["size_gib"] for record in (await fleet.status())["volumes"]} == {2}

    await kill_during(fleet.controller, call_at_once(lambda number: code_of(expand(number))), until=are_expanded)
    await fleet.controller.start()
    await call_at_once(lambda number: retry_while_unavailable(lambda: expand(number)))

    assert (await fleet.emulator_client.call_counts())["ec2:ModifyVolume"] == VOLUMES


@pytest.mark.requirement("kills.nothing-twice", "csi.modify-volume.together")
async def test_a_controller_killed_before_it_acknowledges_growths_and_changes_of_class_requests_each_pair_once(
    fleet: Fleet,
) -> None:
    """Both callers repeat, and find the modification that was requested for both."""
    co = fleet.orchestrator
    claims = await call_at_once(lambda number: co.create(f"data-{number}", gib=1, capability=block_capability()))
    await fleet.plan_fault("ModifyVolume", when="after", delay=30.0, times=VOLUMES)

    async def are_changed() -> bool:
        return {record["size_gib"] for record in (await fleet.status())["volumes"]} == {2}

    async with grpc.aio.insecure_channel(f"unix://{fleet.sockets['controller']}") as channel:
        csi = csi_pb2_grpc.ControllerStub(channel)

        async def expand_and_modify(number: int) -> None:
            volume = claims[number].id
            change = csi_pb2.ControllerModifyVolumeRequest(volume_id=volume, mutable_parameters={"throughput": "250"})
            async with asyncio.TaskGroup() as group:
                group.create_task(retry_while_unavailable(lambda: co.grow_volume_only(claims[number], gib=2)))
                group.create_task(retry_while_unavailable(lambda: csi.ControllerModifyVolume(change)))

        async with asyncio.TaskGroup() as group:
            group.create_task(call_at_once(expand_and_modify))
            await wait_until(are_changed)
            await fleet.controller.kill()
            await fleet.controller.start()

    assert (await fleet.emulator_client.call_counts())["ec2:ModifyVolume"] == VOLUMES


@pytest.mark.requirement("kills.nothing-twice")
async def test_a_controller_killed_during_an_attach_finishes_it_in_a_repeated_call(slow_fleet: Fleet) -> None:
    """SageMaker refuses a second attach; the driver must recognize that the volume is attached already."""
    claim = await slow_fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    node = slow_fleet.orchestrator.nodes["node-1"]

    async def is_attaching() -> bool:
        return await states(slow_fleet, "attachments") == ["attaching"]

    await kill_during(slow_fleet.controller, slow_fleet.orchestrator.attach(claim, node), until=is_attaching)
    await slow_fleet.controller.start()
    await retry_while_unavailable(lambda: slow_fleet.orchestrator.attach(claim, node))

    assert await states(slow_fleet, "attachments") == ["attached"]


@pytest.mark.requirement("kills.nothing-twice")
async def test_a_controller_killed_during_a_snapshot_creates_one_snapshot(fleet: Fleet) -> None:
    """CSI spec, CreateSnapshot is idempotent; EC2 has no client token for snapshots."""
    claim = await fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    await fleet.plan_fault("CreateSnapshot", when="after", delay=30.0)

    async def is_created() -> bool:
        return len(await ids(fleet, "snapshots")) == 1

    await kill_during(fleet.controller, fleet.orchestrator.snapshot(claim, "data-1"), until=is_created)
    await fleet.controller.start()
    snapshot = await retry_while_unavailable(lambda: fleet.orchestrator.snapshot(claim, "data-1"))

    assert await ids(fleet, "snapshots") == [snapshot.snapshot_id]


@pytest.mark.requirement("data.killed-mkfs-heals")
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
@pytest.mark.parametrize("with_mkfs", [False, True], ids=["mkfs keeps running", "mkfs is killed too"])
async def test_the_next_node_process_recovers_from_a_kill_during_mkfs(
    fleet: Fleet, filesystem: str, *, with_mkfs: bool
) -> None:
    """An unfinished filesystem is waited for or made again; tests/system/test_node_blank.py has more cases."""
    process, node = fleet.nodes["node-1"], fleet.orchestrator.nodes["node-1"]
    claim = await fleet.orchestrator.create("data", gib=2, capability=filesystem_capability(filesystem))
    context = await fleet.orchestrator.attach(claim, node)
    await process.stop()
    paused = PausedProgram.create(fleet.sandbox.path, f"mkfs.{filesystem}")
    process.env = {**process.env, "PATH": paused.path}
    await process.start()
    await node.csi.NodeGetInfo(csi_pb2.NodeGetInfoRequest(), timeout=30, wait_for_ready=True)

    await kill_during(process, fleet.orchestrator.mount(claim, node, context), until=paused.is_paused)
    paused.send(signal.SIGKILL if with_mkfs else signal.SIGCONT)
    process.env = {key: value for key, value in process.env.items() if key != "PATH"}
    await process.start()
    target = await retry_while_unavailable(lambda: fleet.orchestrator.mount(claim, node, context))
    digests = checkpoint.write(target / "checkpoint")

    assert checkpoint.digests(target / "checkpoint") == digests
    await fleet.orchestrator.unmount(claim, node)


@pytest.mark.requirement("unstage.device-free")
async def test_a_volume_is_not_unstaged_while_the_mount_of_a_killed_node_process_still_runs(fleet: Fleet) -> None:
    """A mount program that is slow to start would mount the volume after the controller has detached it."""
    process, node = fleet.nodes["node-1"], fleet.orchestrator.nodes["node-1"]
    claim = await fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    context = await fleet.orchestrator.attach(claim, node)
    await process.stop()
    paused = PausedProgram.create(fleet.sandbox.path, "mount")
    process.env = {**process.env, "PATH": paused.path}
    await process.start()
    await node.csi.NodeGetInfo(csi_pb2.NodeGetInfoRequest(), timeout=30, wait_for_ready=True)

    await kill_during(process, fleet.orchestrator.mount(claim, node, context), until=paused.is_paused)
    process.env = {key: value for key, value in process.env.items() if key != "PATH"}
    await process.start()
    await node.csi.NodeGetInfo(csi_pb2.NodeGetInfoRequest(), timeout=30, wait_for_ready=True)
    try:
        with pytest.raises(grpc.aio.AioRpcError, match="in use by another program"):
            await fleet.orchestrator.unmount(claim, node)
    finally:
        paused.send(signal.SIGCONT)

    await retry_while_unavailable(lambda: fleet.orchestrator.unmount(claim, node))
    await fleet.orchestrator.detach(claim, node)


@pytest.mark.requirement("kills.nothing-twice")
async def test_a_node_process_killed_under_a_running_pod_does_not_disturb_it(fleet: Fleet) -> None:
    """A rolling update of the node DaemonSet replaces node processes under running pods."""
    claim = await fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    target = await mount(fleet, claim, "node-1")

    async with checkpoint.Journal.start(target / "journal") as journal:
        await fleet.nodes["node-1"].kill()
        await fleet.nodes["node-1"].start()
        again_target = await mount(fleet, claim, "node-1")
        await wait_until(has_more_lines_than(journal, journal.written))

    assert again_target == target
    assert journal.error is None
    assert checkpoint.count_lines(target / "journal") == journal.written
    await fleet.orchestrator.unmount(claim, fleet.orchestrator.nodes["node-1"])


@pytest.mark.requirement("emulator.durable")
async def test_a_killed_emulator_loses_no_acknowledged_volume_attachment_or_snapshot(fleet: Fleet) -> None:
    """The emulator stores every change before it responds."""
    co = fleet.orchestrator
    claim = await co.create("data", gib=1, capability=filesystem_capability("ext4"))
    target = await mount(fleet, claim, "node-1")
    digests = checkpoint.write(target / "checkpoint")
    snapshot = await co.snapshot(claim, "data-1")

    await fleet.emulator.kill()
    await fleet.restart_emulator()

    assert checkpoint.digests(target / "checkpoint") == digests
    assert await states(fleet, "attachments") == ["attached"]
    restored = await retry_while_unavailable(
        lambda: co.create("restored", gib=1, capability=filesystem_capability("ext4"), snapshot_id=snapshot.snapshot_id)
    )
    found = checkpoint.digests(await mount(fleet, restored, "node-2") / "checkpoint")
    assert found == digests
    await co.unmount(claim, co.nodes["node-1"])
    await co.unmount(restored, co.nodes["node-2"])


async def test_an_emulator_killed_during_a_create_creates_one_volume(slow_fleet: Fleet) -> None:
    """The restarted emulator finishes or undoes the create, and the call succeeds, at the latest when repeated."""

    async def is_creating() -> bool:
        return await states(slow_fleet, "volumes") == ["creating"]

    claim = await restart_emulator_during(
        slow_fleet,
        lambda: slow_fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4")),
        until=is_creating,
    )

    assert await ids(slow_fleet, "volumes") == [claim.id]


async def test_an_emulator_killed_during_an_attach_finishes_it(slow_fleet: Fleet) -> None:
    """The restarted emulator finishes or undoes the attach."""
    claim = await slow_fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
    node = slow_fleet.orchestrator.nodes["node-1"]

    async def is_attaching() -> bool:
        return await states(slow_fleet, "attachments") == ["attaching"]

    context = await restart_emulator_during(
        slow_fleet, lambda: slow_fleet.orchestrator.attach(claim, node), until=is_attaching
    )
    target = await slow_fleet.orchestrator.mount(claim, node, context)
    digests = checkpoint.write(target / "checkpoint")

    assert checkpoint.digests(target / "checkpoint") == digests
    assert await states(slow_fleet, "attachments") == ["attached"]
    await slow_fleet.orchestrator.unmount(claim, node)


async def test_a_snapshot_is_exact_although_the_emulator_is_killed_meanwhile(slow_fleet: Fleet) -> None:
    """EC2 API reference, CreateSnapshot: it has the data that was written by the time of the call."""
    co = slow_fleet.orchestrator
    claim = await co.create("data", gib=1, capability=filesystem_capability("xfs"))
    target = await mount(slow_fleet, claim, "node-1")
    async with checkpoint.Journal.start(target / "journal") as journal:
        await wait_until(has_more_lines_than(journal, 10))
        before = journal.written
        snapshot = await co.snapshot(claim, "data-1")
        after = journal.written + 1
        await slow_fleet.emulator.kill()
        await slow_fleet.restart_emulator()

    async def is_ready() -> bool:
        return bool((await retry_while_unavailable(lambda: co.snapshot(claim, "data-1"))).ready_to_use)

    await wait_until(is_ready)
    restored = await co.create(
        "restored", gib=1, capability=filesystem_capability("xfs"), snapshot_id=snapshot.snapshot_id
    )
    found = checkpoint.count_lines(await mount(slow_fleet, restored, "node-1") / "journal")

    assert before <= found <= after
    await co.unmount(restored, co.nodes["node-1"])
    await co.unmount(claim, co.nodes["node-1"])


async def test_processes_exit_cleanly_on_sigterm() -> None:
    """Kubernetes sends SIGTERM; each process then exits with 0 and leaves nothing behind."""
    async with Fleet.start() as fleet:
        claim = await fleet.orchestrator.create("data", gib=1, capability=filesystem_capability("ext4"))
        await mount(fleet, claim, "node-1")
        await fleet.orchestrator.unmount(claim, fleet.orchestrator.nodes["node-1"])

        codes = [await process.stop() for process in (*fleet.nodes.values(), fleet.controller, fleet.emulator)]

        assert codes == [0, 0, 0, 0]
        leftovers = fleet.sandbox.leftovers()
        assert (leftovers.loop_devices, leftovers.mounts, leftovers.processes) == ((), (), ())
        assert not fleet.sockets["controller"].exists()
