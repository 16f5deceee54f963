"""The emulator killed, stopped and started again: what it acknowledged is there, and nothing else is left.

Ours: acknowledged is durable, and a dead process leaves nothing that the next one cannot finish or undo.
"""

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError

from hyperpod_ebs.emulator.state.store import StateRefused
from hyperpod_ebs.kit import command
from tests.support.emulator_clients import GROUP, ZONE, Aws, clients, cloud
from tests.support.waiting import wait_until_equal

pytestmark = pytest.mark.root

OURS = (sys.executable, "-m", "hyperpod_ebs.emulator.commands")


@dataclass
class Machine:
    """An emulator as a process on a state directory, started as often as need be."""

    state: Path
    profile: str = "instant"
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> Aws:
        """Start it; its clients once it answers."""
        words = ("run", "--state", str(self.state), "--port", "0", "--profile", self.profile)
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*OURS, *words, stdout=pipe, stderr=pipe)
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            ready = await self.process.stdout.readline()
        assert b"ready at http://127.0.0.1:" in ready, await self.said()
        shown = await command.run([*OURS, "env", "--state", str(self.state), "--output", "json"])
        return await asyncio.to_thread(clients, json.loads(shown.out))

    async def end(self, number: signal.Signals) -> int:
        """Send it a signal and wait; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(20):
            return await self.process.wait()

    async def said(self) -> str:
        """What it has written to stderr, once it has ended."""
        assert self.process is not None
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def reset(self) -> command.Finished:
        """Delete the state, as a user would."""
        return await command.run([*OURS, "reset", "--state", str(self.state)], ok=frozenset({0, 1}))


@asynccontextmanager
async def machine(state: Path, profile: str = "instant") -> AsyncGenerator[Machine]:
    """A machine that is gone at the end, whatever happens."""
    one = Machine(state, profile)
    try:
        yield one
    finally:
        if one.process is not None and one.process.returncode is None:
            await one.end(signal.SIGKILL)
        gone = await one.reset()
        assert gone.code == 0, gone.err


def device_of(state: Path, node: str, volume: str) -> Path:
    """The device by its by-id name."""
    name = f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    return state / "nodes" / node / "dev" / "disk" / "by-id" / name


@contextmanager
def opened(path: Path) -> Generator[int]:
    """A device, open."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


@asynccontextmanager
async def mounted(device: Path, at: Path) -> AsyncGenerator[Path]:
    """The device, mounted."""
    at.mkdir(exist_ok=True)
    await command.run(["mount", str(device), str(at)])
    try:
        yield at
    finally:
        await command.run(["umount", str(at)])


@pytest.mark.requirement("emulator.durable")
async def test_a_mounted_volume_survives_the_emulator_s_death_on_the_same_device(short_path: Path) -> None:
    """Ours: the next emulator takes the loop device over while the node goes on writing."""
    state = short_path / "state"
    async with machine(state) as emulator:
        aws = await emulator.start()
        volume = await aws.create_volume()
        cluster, (node,) = await aws.create_cluster()
        on_node = {"ClusterArn": cluster, "NodeId": node, "VolumeId": volume}
        await aws("sagemaker", "attach_cluster_node_volume", **on_node)
        device = device_of(state, node, volume)
        await command.run(["mkfs.ext4", "-q", str(device)])
        async with mounted(device, short_path / "mnt") as mount:
            before = device.stat().st_rdev
            await emulator.end(signal.SIGKILL)
            (mount / "meanwhile").write_text("written")

            aws = await emulator.start()

            assert await aws.volume_state(volume) == "in-use attached"
            assert device.stat().st_rdev == before
            assert (mount / "meanwhile").read_text() == "written"
            await aws("sagemaker", "detach_cluster_node_volume", **on_node)
            assert await aws.volume_state(volume) == "in-use busy"
        await wait_until_equal(lambda: aws.volume_state(volume), "available")


@pytest.mark.requirement("emulator.durable")
async def test_everything_acknowledged_is_there_after_a_kill(short_path: Path) -> None:
    """Ours: volumes, snapshots and attachments, each with its bytes."""
    state = short_path / "state"
    async with machine(state) as emulator:
        aws = await emulator.start()
        volume = await aws.create_volume()
        cluster, nodes = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])
        on_node: dict[str, Any] = {"ClusterArn": cluster, "NodeId": nodes[0]}
        await aws("sagemaker", "attach_cluster_node_volume", **on_node, VolumeId=volume)
        with opened(device_of(state, nodes[0], volume)) as handle:
            os.pwrite(handle, b"first", 0)
            os.fsync(handle)
            snapshot = (await aws.ec2("create_snapshot", VolumeId=volume))["SnapshotId"]
            os.pwrite(handle, b"later", 0)
            os.fsync(handle)
        token = {"AvailabilityZone": ZONE, "SnapshotId": snapshot, "ClientToken": "t"}
        restored = (await aws.ec2("create_volume", **token))["VolumeId"]
        await emulator.end(signal.SIGKILL)

        aws = await emulator.start()

        assert (await aws.ec2("create_volume", **token))["VolumeId"] == restored
        await wait_until_equal(lambda: aws.volume_state(restored), "available")
        await aws("sagemaker", "attach_cluster_node_volume", **on_node, VolumeId=restored)
        assert await aws.volume_state(volume) == "in-use attached"
        for id_, wanted in ((volume, b"later"), (restored, b"first")):
            with opened(device_of(state, nodes[0], id_)) as handle:
                assert os.pread(handle, 5, 0) == wanted


@pytest.mark.requirement("emulator.durable")
async def test_what_was_under_way_is_finished_after_a_kill(short_path: Path) -> None:
    """Ours: creating, attaching, detaching, modifying, deleting and a pending snapshot all come to their ends."""
    async with asyncio.TaskGroup() as group:
        for seconds in range(3):  # a different place in the cloud's times each time
            group.create_task(what_was_under_way_is_finished(short_path / f"state-{seconds}", seconds))


async def what_was_under_way_is_finished(state: Path, seconds: int) -> None:
    """Kill an emulator so long after everything was begun."""
    async with machine(state, "aws") as emulator:
        aws = await emulator.start()
        instance = await aws.run_instance()
        async with asyncio.TaskGroup() as group:
            making = [group.create_task(aws.create_volume()) for _ in range(4)]
        to_attach, to_detach, to_modify, to_delete = [made.result() for made in making]
        await aws.ec2("attach_volume", VolumeId=to_detach, InstanceId=instance, Device="/dev/xvdba")
        await wait_until_equal(lambda: aws.volume_state(to_detach), "in-use attached")

        created = (await aws.ec2("create_volume", AvailabilityZone=ZONE, Size=1))["VolumeId"]
        await aws.ec2("attach_volume", VolumeId=to_attach, InstanceId=instance, Device="/dev/xvdbb")
        await aws.ec2("detach_volume", VolumeId=to_detach)
        await aws.ec2("modify_volume", VolumeId=to_modify, Size=2)
        snapshot = (await aws.ec2("create_snapshot", VolumeId=to_modify))["SnapshotId"]
        await aws.ec2("delete_volume", VolumeId=to_delete)
        await asyncio.sleep(seconds)
        await emulator.end(signal.SIGKILL)
        emulator.profile = "instant"
        aws = await emulator.start()

        await wait_until_equal(lambda: aws.volume_state(created), "available")
        await wait_until_equal(lambda: aws.volume_state(to_attach), "in-use attached")
        await wait_until_equal(lambda: aws.volume_state(to_detach), "available")
        await wait_until_equal(lambda: _size(aws, to_modify), "2")
        await wait_until_equal(lambda: _known(aws, to_delete), "no")
        await wait_until_equal(lambda: _snapshot_state(aws, snapshot), "completed")
        assert device_of(state, instance, to_attach).exists()
        assert not device_of(state, instance, to_detach).exists()
        images = {path.stem for path in (state / "disks").iterdir()}
        assert {created, to_attach, to_detach, to_modify, snapshot} <= images
        assert to_delete not in images


async def _size(aws: Aws, volume: str) -> str:
    return str((await aws.describe_volume(volume))["Size"])


async def _known(aws: Aws, volume: str) -> str:
    found = await aws.ec2("describe_volumes", Filters=[{"Name": "volume-id", "Values": [volume]}])
    return "yes" if found["Volumes"] else "no"


async def _snapshot_state(aws: Aws, snapshot: str) -> str:
    return str((await aws.ec2("describe_snapshots", SnapshotIds=[snapshot]))["Snapshots"][0]["State"])


@pytest.mark.requirement("emulator.durable")
@pytest.mark.parametrize("lives", [10, 25, 40])
async def test_a_kill_in_a_burst_of_lives_keeps_each_at_its_last_answer(short_path: Path, lives: int) -> None:
    """Ours: an answer leaves only after the commit, and what no answer told of is whole or not there."""
    state = short_path / "state"
    async with machine(state) as emulator:
        aws = await emulator.start()
        cluster, (node,) = await aws.create_cluster()
        answered: dict[str, str] = {}

        async def live() -> None:
            while True:
                volume = (await aws.ec2("create_volume", AvailabilityZone=ZONE, Size=1))["VolumeId"]
                answered[volume] = "available"
                await wait_until_equal(partial(aws.volume_state, volume), "available")
                on_node = {"ClusterArn": cluster, "NodeId": node, "VolumeId": volume}
                await aws("sagemaker", "attach_cluster_node_volume", **on_node)
                answered[volume] = "in-use attached"
                await aws.ec2("create_snapshot", VolumeId=volume)
                answered[volume] += ", or not any more"
                await aws("sagemaker", "detach_cluster_node_volume", **on_node)

        async def until_it_dies() -> None:
            with suppress(BotoCoreError):
                await live()

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(until_it_dies())
            while len(answered) < lives:  # noqa: ASYNC110 - whichever gets there
                await asyncio.sleep(0.002)
            await emulator.end(signal.SIGKILL)
        aws = await emulator.start()

        for volume, last in answered.items():
            wanted = {"available": {"available", "in-use attached"}, "in-use attached": {"in-use attached"}}
            assert await aws.volume_state(volume) in wanted.get(last, {"available", "in-use attached"})
        snapshots = (await aws.ec2("describe_snapshots"))["Snapshots"]
        known = (await aws.ec2("describe_volumes"))["Volumes"]
        images = {path.stem for path in (state / "disks").iterdir()}
        assert images == {one["SnapshotId"] for one in snapshots} | {one["VolumeId"] for one in known}
        devices = {path.name for path in (state / "nodes" / node / "dev" / "disk" / "by-id").glob("*[0-9a-f]_1")}
        attached = {one["VolumeId"] for one in known if one["State"] == "in-use"}
        assert devices == {f"nvme-Amazon_Elastic_Block_Store_{one.replace('-', '')}_1" for one in attached}
        assert sum(one["State"] == "completed" for one in snapshots) >= sum(
            "not any" in one for one in answered.values()
        )


@pytest.mark.requirement("emulator.durable")
async def test_machines_under_way_are_whole_or_not_there_after_a_kill(short_path: Path) -> None:
    """Ours: RunInstances, TerminateInstances, CreateCluster and DeleteCluster come to their ends, roots and all."""
    async with asyncio.TaskGroup() as group:
        for seconds in range(3):  # a different place in the cloud's times each time
            group.create_task(machines_under_way_are_whole(short_path / f"state-{seconds}", seconds))


async def machines_under_way_are_whole(state: Path, seconds: int) -> None:
    """Kill an emulator so long after everything was begun."""
    async with machine(state, "aws") as emulator:
        aws = await emulator.start()
        ending, (going, _) = await aws.run_instance(), await aws.create_cluster(ClusterName="going")
        on_it = {"VolumeId": await aws.create_volume(), "InstanceId": ending}
        await aws.ec2("attach_volume", **on_it, Device="/dev/xvdba")
        wanted = {"MinCount": 2, "MaxCount": 2, "ClientToken": "t"}

        async with asyncio.TaskGroup() as group:
            running = group.create_task(aws.ec2("run_instances", **wanted))
            group.create_task(aws.ec2("terminate_instances", InstanceIds=[ending]))
            groups = [GROUP | {"InstanceCount": 3}]
            group.create_task(aws("sagemaker", "create_cluster", ClusterName="coming", InstanceGroups=groups))
            group.create_task(aws("sagemaker", "delete_cluster", ClusterName=going))
        await asyncio.sleep(seconds)
        await emulator.end(signal.SIGKILL)
        emulator.profile = "instant"
        aws = await emulator.start()

        ids = [one["InstanceId"] for one in running.result()["Instances"]]
        assert [one["InstanceId"] for one in (await aws.ec2("run_instances", **wanted))["Instances"]] == ids
        await wait_until_equal(lambda: _instances(aws), "running 2 terminated 1")
        await wait_until_equal(lambda: _clusters(aws), "coming InService 3")
        assert await aws.volume_state(on_it["VolumeId"]) == "available"
        roots = [one for one in (await aws.ec2("describe_volumes"))["Volumes"] if one["Size"] == 8]
        assert sorted(one["Attachments"][0]["InstanceId"] for one in roots) == sorted(ids)
        known = {one["VolumeId"] for one in roots} | {on_it["VolumeId"]}
        assert {path.stem for path in (state / "disks").iterdir()} == known


async def test_a_machine_that_ends_while_volumes_are_still_coming_to_it_keeps_none(short_path: Path) -> None:
    """Ours: its end comes after what is due with it, so that no late attachment outlives it."""
    state = short_path / "state"
    async with machine(state, "aws") as emulator:
        aws = await emulator.start()
        async with asyncio.TaskGroup() as group:
            begun = [group.create_task(aws.create_volume()) for _ in range(8)]
            ending = await aws.run_instance()
        volumes = [one.result() for one in begun]
        for letter, volume in zip("abcdefgh", volumes, strict=True):
            await aws.ec2("attach_volume", VolumeId=volume, InstanceId=ending, Device=f"/dev/xvdb{letter}")
        await aws.ec2("terminate_instances", InstanceIds=[ending])
        await emulator.end(signal.SIGKILL)
        await all_is_due(state)
        emulator.profile = "instant"
        aws = await emulator.start()

        await wait_until_equal(lambda: _instances(aws), "terminated 1")
        assert [await aws.volume_state(volume) for volume in volumes] == ["available"] * 8
        assert not (state / "nodes" / ending).exists()


async def all_is_due(state: Path) -> None:
    """Come back when the time of everything that a dead emulator had before it has come."""
    with closing(sqlite3.connect(state / "state.db")) as store:
        bodies = [json.loads(body) for (body,) in store.execute("select body from record where kind = 'Due'")]
    last = max(due["at"] for due in bodies if "forgotten" not in due["step"])
    async with asyncio.timeout(60):
        while time.time() < last:  # noqa: ASYNC110 - time tells nobody
            await asyncio.sleep(0.02)


async def _instances(aws: Aws) -> str:
    found = (await aws.ec2("describe_instances"))["Reservations"]
    states = [one["State"]["Name"] for reservation in found for one in reservation["Instances"]]
    return " ".join(f"{state} {states.count(state)}" for state in sorted(set(states)))


async def _clusters(aws: Aws) -> str:
    """The name and status of each, and the number of nodes that run in the one called `coming`."""
    found = (await aws("sagemaker", "list_clusters"))["ClusterSummaries"]
    nodes = (await aws("sagemaker", "list_cluster_nodes", ClusterName="coming"))["ClusterNodeSummaries"]
    running = sum(node["InstanceStatus"]["Status"] == "Running" for node in nodes)
    return " ".join([*(f"{one['ClusterName']} {one['ClusterStatus']}" for one in found), str(running)])


async def test_half_made_images_are_swept_at_the_start(short_path: Path) -> None:
    """Ours: a file without a row is what a kill cut short."""
    state = short_path / "state"
    async with cloud(state) as (_, aws):
        volume = await aws.create_volume()
    async with cloud(state):
        orphans = [state / "disks" / name for name in ("snap-00000000000000001.img", "vol-1.new")]
        for orphan in orphans:
            orphan.touch()

    async with cloud(state) as (_, aws):
        assert await aws.volume_state(volume) == "available"
        assert not any(orphan.exists() for orphan in orphans)


async def test_a_clean_stop_releases_what_nobody_uses_and_leaves_what_is_mounted(short_path: Path) -> None:
    """Ours: a device that a node has mounted is never torn away; it is said, and taken over later."""
    state = short_path / "state"
    async with machine(state) as emulator:
        aws = await emulator.start()
        used, unused = await aws.create_volume(), await aws.create_volume()
        cluster, (node,) = await aws.create_cluster()
        for volume in (used, unused):
            await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=cluster, NodeId=node, VolumeId=volume)
        await command.run(["mkfs.ext4", "-q", str(device_of(state, node, used))])
        async with mounted(device_of(state, node, used), short_path / "mnt") as mount:
            code = await emulator.end(signal.SIGTERM)
            said = await emulator.said()
            refused = await emulator.reset()
            (mount / "meanwhile").write_text("written")
            aws = await emulator.start()

            assert (await aws.volume_state(used), await aws.volume_state(unused)) == (
                "in-use attached",
                "in-use attached",
            )
            assert device_of(state, node, unused).exists()
        assert code == 0
        assert f"{used} is still in use" in said
        assert unused not in said
        assert (refused.code, str(short_path / "mnt") in refused.err, used in refused.err) == (1, True, True)
        assert await emulator.end(signal.SIGINT) == 0
        assert not (state / "disks").is_mount()


async def test_a_second_emulator_on_a_directory_is_refused_with_the_pid_of_the_first(short_path: Path) -> None:
    """Ours: a state directory has one owner, and a reset waits for it."""
    state = short_path / "state"
    async with machine(state) as emulator:
        await emulator.start()
        assert emulator.process is not None

        second = await command.run([*OURS, "run", "--state", str(state), "--port", "0"], ok=frozenset({1}))
        reset = await emulator.reset()
        shown = await command.run([*OURS, "status", "--state", str(state), "--output", "json"])

        for refused in (second, reset):
            assert (refused.code, f"pid {emulator.process.pid}" in refused.err) == (1, True)
        assert json.loads(shown.out)["volumes"] == []


async def test_state_is_private_and_that_of_a_newer_program_or_another_account_is_refused(short_path: Path) -> None:
    """Ours: nothing is guessed about a state that is not ours."""
    state = short_path / "state"
    async with cloud(state):
        pass
    modes = {path.name: path.stat().st_mode & 0o777 for path in (state, state / "state.db", state / "credentials.json")}

    with pytest.raises(StateRefused, match=r"of account 123456789012 in us-west-2 .* not of 210987654321"):
        async with cloud(state, account="210987654321"):
            pass
    await command.run([sys.executable, "-c", _NEWER, str(state / "state.db")])
    with pytest.raises(StateRefused, match="schema 99"):
        async with cloud(state):
            pass

    assert modes == {"state": 0o700, "state.db": 0o600, "credentials.json": 0o600}


_NEWER = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version=99')"
