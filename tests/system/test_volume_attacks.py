"""`hyperpod-ebs volume` while AWS is slow, throttles, loses answers or gets stuck, and while users press Ctrl-C."""

import asyncio
import os
import pty
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.records import Attachment, attachment_id
from hyperpod_ebs.emulator.wire.operations import AwsFault
from tests.support.emulator_clients import GROUP, Aws
from tests.support.volume_commands import VolumeCommands
from tests.support.waiting import wait_until

FOREVER = 4_000_000_000.0


async def create_site(emulator: Emulator, aws: Aws) -> tuple[str, str, str]:
    """Create a cluster; the full name of its node, an instance in the same zone, and a volume there."""
    cluster, (node,) = await aws.create_cluster(InstanceGroups=[GROUP])
    zone = emulator.world.store.instances[node].zone
    instance = await aws.run_instance(Placement={"AvailabilityZone": zone})
    volume = await aws.create_volume(AvailabilityZone=zone)
    return f"hyperpod-{cluster.rpartition('/')[2]}-{node}", instance, volume


def put_attachment(emulator: Emulator, volume: str, instance: str, state: str) -> None:
    """Put an attachment that stays in this state since long ago."""
    emulator.world.store.attachments.put(
        Attachment(volume=volume, instance=instance, device="/dev/xvdb", unit=1, state=state, since=1_700_000_000.0)
    )


async def read_until(process: asyncio.subprocess.Process, text: str) -> str:
    """Read the process's stderr until a line contains the text; the lines so far."""
    assert process.stderr is not None
    lines = ""
    async with asyncio.timeout(60):
        while text not in lines:
            line = await process.stderr.readline()
            assert line, lines
            lines += line.decode()
    return lines


@asynccontextmanager
async def slow_attachments(emulator: Emulator) -> AsyncGenerator[None]:
    """Let attachments take forever, and finish them at the end."""
    original = emulator.world.clock.schedule

    def schedule(subject: str, step: str, *, extra: float = 0.0) -> float:
        if step in {"attached", "detached"}:
            return emulator.world.clock.schedule_at(subject, step, FOREVER)
        return original(subject, step, extra=extra)

    emulator.world.clock.schedule = schedule  # type: ignore[method-assign] # an instance's own pace
    try:
        yield
    finally:
        emulator.world.clock.schedule = original  # type: ignore[method-assign] # as above


async def test_ctrl_c_says_what_continues_and_how_to_follow_or_undo_it(
    emulator: Emulator, aws: Aws, tmp_path: Path
) -> None:
    """The exit code is 130, and the named command follows the attachment."""
    node, _, volume = await create_site(emulator, aws)
    commands = VolumeCommands(env=emulator.env, home=tmp_path)

    async with slow_attachments(emulator), commands.start("attach", volume, node) as process:
        await read_until(process, "attaching")
        process.send_signal(signal.SIGINT)
        _, rest = await process.communicate()
    interrupted = process.returncode
    emulator.faults.plan("DescribeVolumes", delay=20)
    async with commands.start("move", volume, node) as before:
        await wait_for_running_call(emulator)
        before.send_signal(signal.SIGINT)
        _, early = await before.communicate()
    emulator.faults.plan("AttachClusterNodeVolume", delay=20)
    await aws.detach_from_node(*_arguments(emulator, node), volume)
    async with commands.start("attach", volume, node) as during_request:
        await wait_for_running_call(emulator)
        during_request.send_signal(signal.SIGINT)
        _, uncertain = await during_request.communicate()

    assert interrupted == 130
    assert f"hyperpod-ebs volume wait {volume} --until attached --node {node}" in rest.decode()
    assert f"hyperpod-ebs volume detach {volume} {node}" in rest.decode()
    assert (before.returncode, during_request.returncode) == (130, 130)
    assert "interrupted; nothing was changed" in early.decode()
    assert "AWS may have got the request already" in uncertain.decode()
    assert b"Traceback" not in rest + early + uncertain


def _arguments(emulator: Emulator, node: str) -> tuple[str, str]:
    """The ARN of the node's cluster, and the id of the instance."""
    _, cluster, instance = node.split("-", 2)
    region = emulator.world.region
    return region.arn("sagemaker", f"cluster/{cluster}"), instance


async def wait_for_running_call(emulator: Emulator) -> None:
    """Wait until the planned delay has begun."""

    async def has_begun() -> bool:
        return not emulator.faults.remaining()

    await wait_until(has_begun)


async def test_lost_answers_and_throttling_do_not_end_an_attachment(
    emulator: Emulator, aws: Aws, tmp_path: Path
) -> None:
    """A repeated request that AWS refuses because the first one arrived counts as done."""
    node, instance, volume = await create_site(emulator, aws)
    commands = VolumeCommands(env=emulator.env, home=tmp_path)

    emulator.faults.plan("AttachClusterNodeVolume", when="after", drop=True)
    attached = await commands.run("attach", volume, node, "--output", "json")
    emulator.faults.plan("DescribeVolumes", AwsFault("RequestLimitExceeded", "Request limit exceeded.", 503), times=3)
    emulator.faults.plan("DetachClusterNodeVolume", AwsFault("ThrottlingException", "Rate exceeded"), times=2)
    moved = await commands.run("move", volume, instance, "--yes", "--output", "json")

    assert attached.json["attachments"][0]["state"] == "attached"
    assert moved.json["attachments"][0]["node"] == instance
    assert moved.json["changed"]


async def test_stuck_attachments_are_named_and_the_timeout_says_how_to_follow(
    emulator: Emulator, aws: Aws, tmp_path: Path
) -> None:
    """EBS User Guide, "Troubleshoot volumes that are stuck in the attaching or detaching state"."""
    _, instance, volume = await create_site(emulator, aws)
    commands = VolumeCommands(env=emulator.env, home=tmp_path)
    said = {}

    for state, until in {"attaching": "attached", "busy": "detached"}.items():
        put_attachment(emulator, volume, instance, state)
        said[state] = (await commands.run("wait", volume, "--until", until, "--timeout", "1", code=1)).err
        emulator.world.store.attachments.drop(attachment_id(volume, instance))
    nothing = await commands.run("wait", volume, code=1)

    assert "stuck: volume" in said["attaching"]
    assert f"hyperpod-ebs volume detach {volume} {instance}" in said["attaching"]
    assert f"hyperpod-ebs volume wait {volume} --until attached" in said["attaching"]
    assert f"hyperpod-ebs volume release {volume}" in said["busy"]
    assert "is not being attached" in nothing.err


async def test_a_move_whose_second_half_fails_says_where_the_volume_is(
    emulator: Emulator, aws: Aws, tmp_path: Path
) -> None:
    """The message has the command that finishes the move, and the one that undoes it."""
    node, instance, volume = await create_site(emulator, aws)
    await aws.attach_to_node(*_arguments(emulator, node), volume)
    commands = VolumeCommands(env=emulator.env, home=tmp_path)

    # The first call is the dry run.
    emulator.faults.plan("AttachVolume", AwsFault("DryRunOperation", "Request would have succeeded.", 412))
    emulator.faults.plan("AttachVolume", AwsFault("AttachmentLimitExceeded", "Too many volumes."))
    failed = await commands.run("move", volume, instance, "--yes", code=1)

    assert f"detached from {node} and available, but not attached to {instance}" in failed.err
    assert f"hyperpod-ebs volume attach {volume} {instance}" in failed.err
    assert f"hyperpod-ebs volume attach {volume} {node}" in failed.err
    assert await aws.volume_state(volume) == "available"


async def test_multi_attach_volumes_are_detached_from_the_named_instance(
    emulator: Emulator, aws: Aws, tmp_path: Path
) -> None:
    """EBS User Guide, "Attach an EBS volume to multiple EC2 instances using Multi-Attach"."""
    node, instance, other = await create_site(emulator, aws)
    zone = emulator.world.store.instances[instance].zone
    second = await aws.run_instance(Placement={"AvailabilityZone": zone})
    volume = await aws.create_volume(AvailabilityZone=zone, VolumeType="io2", Iops=100, Size=4, MultiAttachEnabled=True)
    commands = VolumeCommands(env=emulator.env, home=tmp_path)
    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")

    shared = await commands.run("attach", volume, second, "--output", "json")
    on_hyperpod = await commands.run("attach", volume, node, code=3)
    unclear = await commands.run("detach", volume, "--yes", code=2)
    free = await commands.run("detach", other, "--yes", "--output", "json", code=3)
    await commands.run("detach", volume, second, "--yes")

    assert {each["node"] for each in shared.json["attachments"]} == {instance, second}
    assert "only while it is available" in on_hyperpod.err
    assert instance in unclear.err
    assert second in unclear.err
    assert await aws.volume_state(volume) == "in-use attached"
    assert "there is nothing to detach" in free.json["preconditions"][0]["finding"]
    assert await aws.volume_state(other) == "available"


async def test_a_node_that_was_replaced_is_named(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """EC2 may still show an attachment to a node that is gone."""
    node, _, volume = await create_site(emulator, aws)
    cluster, instance = _arguments(emulator, node)
    await aws.attach_to_node(cluster, instance, volume)
    instances = emulator.world.store.instances
    instances.put(replace(instances[instance], cluster=""))
    commands = VolumeCommands(env=emulator.env, home=tmp_path)

    gone = await commands.run("attach", volume, node, code=3)

    assert f"node {node} is not in cluster hp" in gone.err
    assert "HyperPod may have replaced this one" in gone.err


async def test_force_explains_what_may_be_lost_and_wants_the_id_typed(
    emulator: Emulator, aws: Aws, tmp_path: Path
) -> None:
    """EC2 API reference, DetachVolume: Force can lead to data loss or a corrupted file system."""
    node, instance, volume = await create_site(emulator, aws)
    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")
    commands = VolumeCommands(env=emulator.env, home=tmp_path)

    without_terminal = await commands.run("detach", volume, "--force", "--yes", code=1)
    wrong = await type_on_terminal(commands, "yes", "detach", volume, "--force")
    held = await aws.volume_state(volume)
    right = await type_on_terminal(commands, volume, "detach", volume, "--force")
    await aws.attach_to_node(*_arguments(emulator, node), volume)
    on_hyperpod = await commands.run("detach", volume, "--force", code=2)

    assert "nothing was changed" in without_terminal.err
    assert "may be damaged" in wrong[1]
    assert (wrong[0], held) == (1, "in-use attached")
    assert right[0] == 0
    assert "HyperPod has no forced detachment" in on_hyperpod.err


async def type_on_terminal(commands: VolumeCommands, line: str, *words: str) -> tuple[int, str]:
    """Run a command with a terminal as its stdin, on which a user types a line; its exit code and stderr."""
    master, slave = pty.openpty()
    try:
        async with commands.start(*words, stdin=slave) as process:
            printed = await read_until(process, "may have to be restarted")
            os.write(master, f"{line}\n".encode())
            _, rest = await process.communicate()
            return process.returncode or 0, printed + rest.decode()
    finally:
        os.close(master)
        os.close(slave)


async def test_grow_and_snapshot_explain_what_follows(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """EBS User Guide, "Extend the file system after resizing an Amazon EBS volume"."""
    _, _, volume = await create_site(emulator, aws)
    commands = VolumeCommands(env=emulator.env, home=tmp_path)

    smaller = await commands.run("grow", volume, "1", code=2)
    would = await commands.run("grow", volume, "3", "--dry-run")
    grown = await commands.run("grow", volume, "2", "--output", "json")
    text = "You've reached the maximum modification rate per volume limit."
    emulator.faults.plan("ModifyVolume", AwsFault("VolumeModificationRateExceeded", text))
    too_often = await commands.run("grow", volume, "4", code=1)
    tags = {
        "kubernetes.io/created-for/pvc/name": "data",
        "kubernetes.io/created-for/pvc/namespace": "ml",
        "CSIVolumeName": "pvc-1",
    }
    await aws.ec2("create_tags", Resources=[volume], Tags=[{"Key": key, "Value": tags[key]} for key in tags])
    managed = await commands.run("grow", volume, "8", code=3)
    taken = await commands.run("snapshot", volume, "--name", "vor dem Umzug", "--wait", "--output", "json")

    assert "EBS volumes only grow" in smaller.err
    assert "EC2 would grow" in would.out
    assert grown.json | {"modification": ""} == {
        "volume": volume,
        "fromGiB": 1,
        "toGiB": 2,
        "changed": True,
        "modification": "",
    }
    assert "resize2fs" in grown.err
    assert "4 modifications of a volume in 24 hours" in too_often.err
    assert "kubectl -n ml patch pvc data" in managed.err
    assert taken.json["state"] == "completed"
    snapshots = await aws.ec2("describe_snapshots", SnapshotIds=[taken.json["snapshot"]])
    assert snapshots["Snapshots"][0]["Tags"] == [{"Key": "Name", "Value": "vor dem Umzug"}]


async def test_a_user_learns_that_aws_does_not_answer(emulator: Emulator, tmp_path: Path) -> None:
    """An endpoint that accepts connections and says nothing, as behind a broken proxy."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {**emulator.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        async with VolumeCommands(env=env, home=tmp_path).start("list") as process:
            await read_until(process, "AWS has not answered DescribeVolumes")
            process.send_signal(signal.SIGINT)
            await process.communicate()

    assert process.returncode == 130


async def test_a_snapshot_whose_answer_is_lost_is_taken_once(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """EC2 API reference, CreateSnapshot: it has no client token, so a repeated request takes another snapshot."""
    _, _, volume = await create_site(emulator, aws)
    commands = VolumeCommands(env=emulator.env, home=tmp_path)
    emulator.faults.plan("CreateSnapshot", when="after", drop=True)

    lost = await commands.run("snapshot", volume, code=1)

    assert len((await aws.ec2("describe_snapshots", OwnerIds=["self"]))["Snapshots"]) == 1
    assert f"describe-snapshots --filters Name=volume-id,Values={volume}" in lost.err
