"""Kills, stops and restarts of the emulator.

A restarted emulator has every change that it acknowledged. It completes or undoes every other change that the previous
process had begun.
"""

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from botocore.exceptions import BotoCoreError

from hyperpod_ebs.emulator.disks import pool
from hyperpod_ebs.emulator.state.store import StateRefused
from hyperpod_ebs.kit import command
from tests.support.device_links import volume_link
from tests.support.emulator_clients import GROUP, ZONE, Aws, cloud
from tests.support.emulator_commands import EMULATOR
from tests.support.emulator_process import prepare_emulator
from tests.support.mount_namespaces import copy_mount_to_another_namespace
from tests.support.pod_tokens import cluster_key_id, create_role, pod_claims, sign_with_file
from tests.support.waiting import wait_until_equal

pytestmark = pytest.mark.root


def device_of(state: Path, node: str, volume: str) -> Path:
    """The by-id link of a volume in a node's device directory."""
    return volume_link(state / "nodes" / node / "dev", volume)


@contextmanager
def open_device(path: Path) -> Generator[int]:
    """Open a device; the file descriptor."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


@asynccontextmanager
async def mount(device: Path, at: Path) -> AsyncGenerator[Path]:
    """Mount a device; unmount it at the end."""
    at.mkdir(exist_ok=True)
    await command.run(["mount", str(device), str(at)])
    try:
        yield at
    finally:
        await command.run(["umount", str(at)])


@pytest.mark.requirement("emulator.durable")
async def test_a_mounted_volume_stays_on_its_device_when_the_emulator_is_killed(short_path: Path) -> None:
    """The next emulator takes over the loop device while the node writes to it."""
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        aws = await emulator.start()
        volume = await aws.create_volume()
        cluster, (node,) = await aws.create_cluster()
        on_node = {"ClusterArn": cluster, "NodeId": node, "VolumeId": volume}
        await aws("sagemaker", "attach_cluster_node_volume", **on_node)
        device = device_of(state, node, volume)
        await command.run(["mkfs.ext4", "-q", str(device)])
        async with mount(device, short_path / "mnt") as directory:
            before = device.stat().st_rdev
            await emulator.end(signal.SIGKILL)
            (directory / "meanwhile").write_text("written")

            aws = await emulator.start()

            assert await aws.volume_state(volume) == "in-use attached"
            assert device.stat().st_rdev == before
            assert (directory / "meanwhile").read_text() == "written"
            await aws("sagemaker", "detach_cluster_node_volume", **on_node)
            assert await aws.volume_state(volume) == "in-use busy"
        await wait_until_equal(lambda: aws.volume_state(volume), "available")


@pytest.mark.requirement("emulator.durable")
async def test_machines_keep_their_metadata_addresses_when_the_emulator_is_killed(short_path: Path) -> None:
    """Programs on the machines keep the endpoint that they were started with."""
    async with prepare_emulator(short_path / "state") as emulator:
        aws = await emulator.start()
        instance, ended = await aws.run_instance(), await aws.run_instance()
        before = await emulator.metadata_urls()
        await aws.ec2("terminate_instances", InstanceIds=[ended])
        await emulator.end(signal.SIGKILL)

        emulator.port = urlsplit(before[instance]).port or 0
        await emulator.start()
        after = await emulator.metadata_urls()

        headers = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        async with aiohttp.request("PUT", f"{before[instance]}/latest/api/token", headers=headers) as answer:
            assert answer.status == 200
        assert await emulator.end(signal.SIGTERM) == 0
        assert await emulator.read_stderr() == ""
        assert after == {instance: before[instance], ended: None}


@pytest.mark.requirement("emulator.durable")
async def test_acknowledged_kms_keys_and_grants_survive_a_kill(short_path: Path) -> None:
    """What a key encrypted before the kill can be decrypted after it."""
    async with prepare_emulator(short_path / "state") as emulator:
        aws = await emulator.start()
        key = (await aws("kms", "create_key"))["KeyMetadata"]["Arn"]
        blob = (await aws("kms", "encrypt", KeyId=key, Plaintext=b"secret"))["CiphertextBlob"]
        grantee = "arn:aws:iam::123456789012:root"
        grant = await aws("kms", "create_grant", KeyId=key, GranteePrincipal=grantee, Operations=["Decrypt"])
        await emulator.end(signal.SIGKILL)

        aws = await emulator.start()
        opened = await aws("kms", "decrypt", CiphertextBlob=blob)
        grants = await aws("kms", "list_grants", KeyId=key)

        assert opened["Plaintext"] == b"secret"
        assert [each["GrantId"] for each in grants["Grants"]] == [grant["GrantId"]]
        await aws("kms", "retire_grant", GrantToken=grant["GrantToken"])


@pytest.mark.requirement("emulator.durable")
async def test_acknowledged_eks_clusters_and_associations_survive_a_kill(short_path: Path) -> None:
    """A pod gets credentials with a token that the same cluster's key signs after the kill."""
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        aws = await emulator.start()
        await aws.create_eks_cluster()
        role = await create_role(aws, "pods")
        pods = {"namespace": "kube-system", "serviceAccount": "ebs", "roleArn": role}
        await aws("eks", "create_pod_identity_association", clusterName="eks", **pods)
        before = (await aws("eks", "describe_cluster", name="eks"))["cluster"]
        await emulator.end(signal.SIGKILL)

        aws = await emulator.start()
        after = (await aws("eks", "describe_cluster", name="eks"))["cluster"]
        key_id = cluster_key_id((state / "eks" / "eks" / "sa.pub").read_bytes())
        token = sign_with_file(state, "eks", pod_claims(after["identity"]["oidc"]["issuer"]), key_id=key_id)
        assumed = await aws("eks-auth", "assume_role_for_pod_identity", clusterName="eks", token=token)

        assert after == before
        assert assumed["subject"]["serviceAccount"] == "ebs"


@pytest.mark.requirement("emulator.durable")
async def test_acknowledged_volumes_snapshots_and_attachments_survive_a_kill(short_path: Path) -> None:
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        aws = await emulator.start()
        volume = await aws.create_volume()
        cluster, nodes = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])
        on_node: dict[str, Any] = {"ClusterArn": cluster, "NodeId": nodes[0]}
        await aws("sagemaker", "attach_cluster_node_volume", **on_node, VolumeId=volume)
        with open_device(device_of(state, nodes[0], volume)) as handle:
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
            with open_device(device_of(state, nodes[0], id_)) as handle:
                assert os.pread(handle, 5, 0) == wanted


@pytest.mark.requirement("emulator.durable")
async def test_pending_volume_operations_are_completed_after_a_kill(short_path: Path) -> None:
    """Operations: create, attach, detach, modify and delete a volume, and create a snapshot."""
    async with asyncio.TaskGroup() as group:
        for seconds in range(3):  # each kill interrupts other steps
            group.create_task(check_pending_volume_operations(short_path / f"state-{seconds}", seconds))


async def check_pending_volume_operations(state: Path, seconds: int) -> None:
    """Begin the operations, kill the emulator after `seconds`, and check a restarted one."""
    async with prepare_emulator(state, "aws") as emulator:
        aws = await emulator.start()
        instance = await aws.run_instance()
        async with asyncio.TaskGroup() as group:
            creations = [group.create_task(aws.create_volume()) for _ in range(4)]
        to_attach, to_detach, to_modify, to_delete = [creation.result() for creation in creations]
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
        await wait_until_equal(lambda: _exists(aws, to_delete), "no")
        await wait_until_equal(lambda: _snapshot_state(aws, snapshot), "completed")
        assert device_of(state, instance, to_attach).exists()
        assert not device_of(state, instance, to_detach).exists()
        images = {path.stem for path in (state / "disks").iterdir()}
        assert {created, to_attach, to_detach, to_modify, snapshot} <= images
        assert to_delete not in images


async def _size(aws: Aws, volume: str) -> str:
    return str((await aws.describe_volume(volume))["Size"])


async def _exists(aws: Aws, volume: str) -> str:
    answer = await aws.ec2("describe_volumes", Filters=[{"Name": "volume-id", "Values": [volume]}])
    return "yes" if answer["Volumes"] else "no"


async def _snapshot_state(aws: Aws, snapshot: str) -> str:
    return str((await aws.ec2("describe_snapshots", SnapshotIds=[snapshot]))["Snapshots"][0]["State"])


@pytest.mark.requirement("emulator.durable")
@pytest.mark.parametrize("volumes", [10, 25, 40])
async def test_a_kill_under_load_loses_no_acknowledged_change(short_path: Path, volumes: int) -> None:
    """An unacknowledged change is complete or absent after the restart: no file or device without a record."""
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        aws = await emulator.start()
        cluster, (node,) = await aws.create_cluster()
        answered: dict[str, str] = {}

        async def create_attach_and_detach_volumes() -> None:
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

        async def call_until_the_kill() -> None:
            with suppress(BotoCoreError):
                await create_attach_and_detach_volumes()

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(call_until_the_kill())
            while len(answered) < volumes:  # noqa: ASYNC110 - three tasks count together
                await asyncio.sleep(0.002)
            await emulator.end(signal.SIGKILL)
        aws = await emulator.start()

        for volume, last in answered.items():
            wanted = {"available": {"available", "in-use attached"}, "in-use attached": {"in-use attached"}}
            assert await aws.volume_state(volume) in wanted.get(last, {"available", "in-use attached"})
        snapshots = (await aws.ec2("describe_snapshots"))["Snapshots"]
        known = (await aws.ec2("describe_volumes"))["Volumes"]
        images = {path.stem for path in (state / "disks").iterdir()}
        assert images == {snapshot["SnapshotId"] for snapshot in snapshots} | {volume["VolumeId"] for volume in known}
        devices = {path.name for path in (state / "nodes" / node / "dev" / "disk" / "by-id").glob("*[0-9a-f]_1")}
        attached = {volume["VolumeId"] for volume in known if volume["State"] == "in-use"}
        assert devices == {f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}_1" for volume in attached}
        assert sum(snapshot["State"] == "completed" for snapshot in snapshots) >= sum(
            "not any" in last_state for last_state in answered.values()
        )


@pytest.mark.requirement("emulator.durable")
async def test_pending_instance_and_cluster_operations_are_completed_after_a_kill(short_path: Path) -> None:
    """Operations: RunInstances, TerminateInstances, CreateCluster and DeleteCluster, with the root volumes."""
    async with asyncio.TaskGroup() as group:
        for seconds in range(3):  # each kill interrupts other steps
            group.create_task(check_pending_instance_operations(short_path / f"state-{seconds}", seconds))


async def check_pending_instance_operations(state: Path, seconds: int) -> None:
    """Begin the operations, kill the emulator after `seconds`, and check a restarted one."""
    async with prepare_emulator(state, "aws") as emulator:
        aws = await emulator.start()
        terminating, (deleting, _) = await aws.run_instance(), await aws.create_cluster(ClusterName="deleting")
        attachment = {"VolumeId": await aws.create_volume(), "InstanceId": terminating}
        await aws.ec2("attach_volume", **attachment, Device="/dev/xvdba")
        wanted = {"ImageId": "ami-1", "MinCount": 2, "MaxCount": 2, "ClientToken": "t"}

        async with asyncio.TaskGroup() as group:
            running = group.create_task(aws.ec2("run_instances", **wanted))
            group.create_task(aws.ec2("terminate_instances", InstanceIds=[terminating]))
            groups = [GROUP | {"InstanceCount": 3}]
            group.create_task(aws("sagemaker", "create_cluster", ClusterName="creating", InstanceGroups=groups))
            group.create_task(aws("sagemaker", "delete_cluster", ClusterName=deleting))
        await asyncio.sleep(seconds)
        await emulator.end(signal.SIGKILL)
        emulator.profile = "instant"
        aws = await emulator.start()

        ids = [instance["InstanceId"] for instance in running.result()["Instances"]]
        assert [instance["InstanceId"] for instance in (await aws.ec2("run_instances", **wanted))["Instances"]] == ids
        await wait_until_equal(lambda: _instances(aws), "running 2 terminated 1")
        await wait_until_equal(lambda: _clusters(aws), "creating InService 3")
        assert await aws.volume_state(attachment["VolumeId"]) == "available"
        roots = [volume for volume in (await aws.ec2("describe_volumes"))["Volumes"] if volume["Size"] == 8]
        assert sorted(volume["Attachments"][0]["InstanceId"] for volume in roots) == sorted(ids)
        known = {volume["VolumeId"] for volume in roots} | {attachment["VolumeId"]}
        assert {path.stem for path in (state / "disks").iterdir()} == known


async def test_an_instance_that_terminates_while_volumes_are_attaching_releases_them_all(short_path: Path) -> None:
    """The termination runs after the attachments that are due at the same time, so that none of them stays."""
    state = short_path / "state"
    async with prepare_emulator(state, "aws") as emulator:
        aws = await emulator.start()
        async with asyncio.TaskGroup() as group:
            creations = [group.create_task(aws.create_volume()) for _ in range(8)]
            instance = await aws.run_instance()
        volumes = [creation.result() for creation in creations]
        for letter, volume in zip("abcdefgh", volumes, strict=True):
            await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device=f"/dev/xvdb{letter}")
        await aws.ec2("terminate_instances", InstanceIds=[instance])
        await emulator.end(signal.SIGKILL)
        await wait_until_all_steps_are_due(state)
        emulator.profile = "instant"
        aws = await emulator.start()

        await wait_until_equal(lambda: _instances(aws), "terminated 1")
        assert [await aws.volume_state(volume) for volume in volumes] == ["available"] * 8
        assert not (state / "nodes" / instance).exists()


async def wait_until_all_steps_are_due(state: Path) -> None:
    """Wait until all pending steps in the state of a killed emulator are due."""
    with closing(sqlite3.connect(state / "state.db")) as store:
        bodies = [json.loads(body) for (body,) in store.execute("select body from record where kind = 'Due'")]
    last = max(due["at"] for due in bodies if "forgotten" not in due["step"])
    async with asyncio.timeout(60):
        while time.time() < last:  # noqa: ASYNC110 - nothing signals that time
            await asyncio.sleep(0.02)


async def _instances(aws: Aws) -> str:
    found = (await aws.ec2("describe_instances"))["Reservations"]
    states = [instance["State"]["Name"] for reservation in found for instance in reservation["Instances"]]
    return " ".join(f"{state} {states.count(state)}" for state in sorted(set(states)))


async def _clusters(aws: Aws) -> str:
    """The name and status of each cluster, and the number of running nodes of the cluster `creating`."""
    found = (await aws("sagemaker", "list_clusters"))["ClusterSummaries"]
    nodes = (await aws("sagemaker", "list_cluster_nodes", ClusterName="creating"))["ClusterNodeSummaries"]
    running = sum(node["InstanceStatus"]["Status"] == "Running" for node in nodes)
    return " ".join([*(f"{cluster['ClusterName']} {cluster['ClusterStatus']}" for cluster in found), str(running)])


async def test_files_without_a_record_are_deleted_at_the_start(short_path: Path) -> None:
    """A kill can leave a file for which no record was committed."""
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


async def test_a_stop_frees_idle_devices_and_leaves_mounted_ones_for_the_next_start(short_path: Path) -> None:
    """A mounted device must not disappear; a warning names its volume."""
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        aws = await emulator.start()
        used, unused = await aws.create_volume(), await aws.create_volume()
        cluster, (node,) = await aws.create_cluster()
        for volume in (used, unused):
            await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=cluster, NodeId=node, VolumeId=volume)
        await command.run(["mkfs.ext4", "-q", str(device_of(state, node, used))])
        async with mount(device_of(state, node, used), short_path / "mnt") as directory:
            code = await emulator.end(signal.SIGTERM)
            stderr = await emulator.read_stderr()
            refused = await emulator.reset()
            (directory / "meanwhile").write_text("written")
            aws = await emulator.start()

            assert (await aws.volume_state(used), await aws.volume_state(unused)) == (
                "in-use attached",
                "in-use attached",
            )
            assert device_of(state, node, unused).exists()
        assert code == 0
        assert f"{used} is still in use" in stderr
        assert unused not in stderr
        assert (refused.code, str(short_path / "mnt") in refused.err, used in refused.err) == (1, True, True)
        assert await emulator.end(signal.SIGINT) == 0
        assert not (state / "disks").is_mount()


async def test_a_device_that_was_pulled_out_stays_so_when_the_emulator_is_killed(short_path: Path) -> None:
    """docs/decisions/0040: the kernel has the device until its last close, and the next emulator finds it."""
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        aws = await emulator.start()
        volume, first, second = await aws.create_volume(), await aws.run_instance(), await aws.run_instance()
        await aws.ec2("attach_volume", VolumeId=volume, InstanceId=first, Device="/dev/xvdba")
        await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached")
        await command.run(["mkfs.ext4", "-q", str(device_of(state, first, volume))])
        async with mount(device_of(state, first, volume), short_path / "old") as old:
            await aws.ec2("detach_volume", VolumeId=volume, Force=True)
            await emulator.end(signal.SIGKILL)
            aws = await emulator.start()
            await aws.ec2("attach_volume", VolumeId=volume, InstanceId=second, Device="/dev/xvdba")
            await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached")

            with open_device(device_of(state, second, volume)) as handle:
                os.pwrite(handle, b"new" + bytes(4093), 2**29)
            with pytest.raises(OSError, match=r"Input/output error|Read-only"):
                await asyncio.to_thread(write_and_sync, old / "late")

        await aws.ec2("detach_volume", VolumeId=volume)
        await wait_until_equal(lambda: aws.volume_state(volume), "available")


def write_and_sync(file: Path) -> None:
    """Write to a new file and flush it to the disk."""
    with file.open("w") as opened:
        opened.write("data")
        opened.flush()
        os.fsync(opened.fileno())


async def test_a_pool_that_failed_under_a_killed_emulator_is_mounted_again(short_path: Path) -> None:
    """XFS shuts down after an error of its disk, and stays mounted (xfs(5), error handling)."""
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        aws = await emulator.start()
        volume = await aws.create_volume()
        await emulator.end(signal.SIGKILL)
        await command.run(["xfs_io", "-x", "-c", "shutdown", str(state / "disks")])

        aws = await emulator.start()
        await aws.ec2("create_snapshot", VolumeId=volume)

        assert await aws.volume_state(volume) == "available"
        assert await emulator.end(signal.SIGTERM) == 0
        assert not (state / "disks").is_mount()


async def test_a_pool_that_failed_without_an_end_of_the_emulator_can_be_reset(short_path: Path) -> None:
    """A stop and a reset find the mount of a failed XFS, although stat(2) fails on it."""
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        aws = await emulator.start()
        await aws.create_volume()
        await command.run(["xfs_io", "-x", "-c", "shutdown", str(state / "disks")])

        code = await emulator.end(signal.SIGTERM)
        finished = await emulator.reset()

        assert (code, finished.code, finished.err) == (0, 0, "")


async def test_another_filesystem_in_the_place_of_the_pool_is_refused_and_keeps_its_files(short_path: Path) -> None:
    """The start deletes files without a record, which must be its own."""
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        await emulator.start()
        await emulator.end(signal.SIGTERM)
        await command.run(["mount", "-t", "tmpfs", "tmpfs", str(state / "disks")])
        try:
            (state / "disks" / "precious").write_text("data")

            refused = await command.run(
                [*EMULATOR, "run", "--state", str(state), "--port", "0"], ok=frozenset({1}), deadline=30
            )

            assert f"{state}/disks is a mount of device" in refused.err
            assert (state / "disks" / "precious").read_text() == "data"
        finally:
            await command.run(["umount", str(state / "disks")])


@asynccontextmanager
async def hold_through_a_file(disks: Path) -> AsyncGenerator[int]:
    """A process, this one, with an open file in the pool; its pid."""
    handle = os.open(disks, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield os.getpid()
    finally:
        os.close(handle)


@pytest.mark.parametrize("hold", [hold_through_a_file, copy_mount_to_another_namespace])
async def test_a_stop_and_a_reset_name_the_process_that_holds_the_disks(
    short_path: Path, hold: Callable[[Path], AbstractAsyncContextManager[int]]
) -> None:
    """umount(8) says only "target is busy", and nothing at all about a copy of the mount in another namespace."""
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        aws = await emulator.start()
        volume = await aws.create_volume()
        async with hold(state / "disks") as pid:
            code = await emulator.end(signal.SIGTERM)
            stderr = await emulator.read_stderr()
            refused = await emulator.reset()
        aws = await emulator.start()
        kept = await aws.volume_state(volume)
        await emulator.end(signal.SIGTERM)
        finished = await emulator.reset()

    assert (code, f"process {pid} (" in stderr) == (0, True), stderr
    assert (refused.code, f"process {pid} (" in refused.err) == (1, True), refused.err
    assert kept == "available"
    assert (finished.code, state.exists()) == (0, False)


async def test_the_disks_are_closed_once_a_short_use_ends(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel frees a loop device a moment after its last close, and udev or a scanner may have a file open."""
    monkeypatch.setattr(pool, "PATIENCE", 60.0)
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        await emulator.start()
        await emulator.end(signal.SIGKILL)

        async with asyncio.TaskGroup() as group, hold_through_a_file(state / "disks"):
            closing_pool = group.create_task(pool.close(state))
            await asyncio.wait({closing_pool}, timeout=0.5)
            assert not closing_pool.done()

    assert closing_pool.result() == []


async def test_the_error_about_a_directory_in_use_has_the_pid_of_its_emulator(short_path: Path) -> None:
    """`run` and `reset` need the directory for themselves; `status` does not."""
    state = short_path / "state"
    async with prepare_emulator(state) as emulator:
        await emulator.start()
        assert emulator.process is not None

        second = await command.run([*EMULATOR, "run", "--state", str(state), "--port", "0"], ok=frozenset({1}))
        reset = await emulator.reset()
        shown = await command.run([*EMULATOR, "status", "--state", str(state), "--output", "json"])

        for refused in (second, reset):
            assert (refused.code, f"pid {emulator.process.pid}" in refused.err) == (1, True)
        assert json.loads(shown.out)["volumes"] == []


async def test_state_is_private_and_is_rejected_for_another_account_or_from_a_newer_version(short_path: Path) -> None:
    """The state contains a secret key, and the emulator must not misread it."""
    state = short_path / "state"
    async with cloud(state):
        pass
    modes = {path.name: path.stat().st_mode & 0o777 for path in (state, state / "state.db", state / "credentials.json")}

    with pytest.raises(StateRefused, match=r"for account 123456789012 in us-west-2 .* not for 210987654321"):
        async with cloud(state, account="210987654321"):
            pass
    await command.run([sys.executable, "-c", _SET_NEWER_SCHEMA, str(state / "state.db")])
    with pytest.raises(StateRefused, match="schema 99"):
        async with cloud(state):
            pass

    assert modes == {"state": 0o700, "state.db": 0o600, "credentials.json": 0o600}


_SET_NEWER_SCHEMA = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version=99')"
