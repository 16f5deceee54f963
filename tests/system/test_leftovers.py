"""`hyperpod-ebs leftovers` as a process: what it finds, deletes and leaves, and the record of it."""

import asyncio
import os
import pty
import signal
import stat
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws
from tests.support.guide_commands import LEFTOVERS, Page, run_page
from tests.support.iam_users import allow, create_user
from tests.support.leftover_site import LeftoverSite
from tests.support.volume_commands import VolumeCommands
from tests.support.waiting import wait_until

READS = {"ec2:DescribeVolumes", "ec2:DescribeSnapshots", "ec2:DescribeInstances", "sts:GetCallerIdentity"}


@pytest.fixture
async def site(emulator: Emulator, aws: Aws, tmp_path: Path) -> AsyncGenerator[LeftoverSite]:
    """A cluster `training` and its cloud."""
    async with LeftoverSite.prepare(emulator, aws, tmp_path) as prepared:
        yield prepared


async def test_leftovers_are_listed_with_evidence_and_cost_and_nothing_is_changed(site: LeftoverSite) -> None:
    """The emulator's call log shows only calls that read."""
    old, large = await site.add_volume(0), await site.add_volume(9)
    bound = await site.add_volume(2)
    site.cluster.add_volume("pv-2", csi={"driver": "ebs.csi.aws.com", "volumeHandle": bound})
    young, other = await site.add_volume(3, age=timedelta(days=1)), await site.add_volume(4, cluster="blue")

    table = await site.commands.run(code=4)
    shown = (await site.commands.run("--kept", "--output", "json", code=4)).json

    assert [each["id"] for each in shown["leftovers"]] == [large, old]
    assert {each["id"]: each["protected_by"] for each in shown["kept"] if each["kind"] == "volume"} == {
        bound: ["named"],
        young: ["too-young"],
        other: ["another-cluster"],
    }
    assert shown["leftovers"][0]["usd_per_month"] == 0.80
    assert shown["cluster"] == "training"
    assert (shown["prices"]["region"], shown["prices"]["estimate"]) == ("us-west-2", True)
    assert "claim research/data-9" in next(line for line in table.out.splitlines() if large in line)
    assert "2 of 6 objects left over" in table.err
    assert "PersistentVolume pv-2 (Available, Delete) needs it" in table.err
    assert set(await site.operations()) <= READS


async def test_delete_removes_leftovers_up_to_the_limit_and_records_each(site: LeftoverSite) -> None:
    volumes = [await site.add_volume(number) for number in range(3)]
    site.record.touch(mode=0o644)

    words = ("--delete", "--yes", "--limit", "2", "--record", str(site.record), "--output", "json")
    shown = (await site.commands.run(*words, code=4)).json
    rest = (await site.commands.run("--delete", "--yes", "--output", "json")).json

    assert [(each["id"], each["result"]) for each in shown["outcomes"]] == [
        (volumes[2], "deleted"),
        (volumes[1], "deleted"),
    ]
    assert [each["id"] for each in rest["outcomes"]] == [volumes[0]]
    assert (await site.aws.ec2("describe_volumes"))["Volumes"] == []
    begins, ended, *_ = site.lines()
    assert (begins["id"], begins["phase"], begins["tags"]["CSIVolumeName"][:4]) == (volumes[2], "begins", "pvc-")
    assert (ended["id"], ended["phase"], ended["result"]) == (volumes[2], "ended", "done")
    assert stat.S_IMODE(site.record.stat().st_mode) == 0o600
    (default,) = (site.commands.home / ".local/state/hyperpod-ebs/leftovers").iterdir()
    assert volumes[0] in default.read_text()


async def test_a_snapshot_without_content_is_deleted_and_one_with_content_kept(site: LeftoverSite) -> None:
    volume = await site.aws.create_volume()
    snapshots = [await _add_snapshot(site, volume, number) for number in range(2)]
    content = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": "kept"},
        "spec": {"deletionPolicy": "Retain", "source": {"snapshotHandle": snapshots[1]}},
    }
    site.cluster.add(content)

    shown = (await site.commands.run("--delete", "--yes", "--output", "json")).json

    assert [(each["id"], each["result"]) for each in shown["outcomes"]] == [(snapshots[0], "deleted")]
    left = (await site.aws.ec2("describe_snapshots", OwnerIds=["self"]))["Snapshots"]
    assert [each["SnapshotId"] for each in left] == [snapshots[1]]


async def _add_snapshot(site: LeftoverSite, volume: str, number: int) -> str:
    tags = {
        "CSIVolumeSnapshotName": f"snapshot-{number}",
        "ebs.csi.aws.com/cluster": "true",
        "ebs.csi.aws.com/cluster-name": "training",
    }
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    specification = [{"ResourceType": "snapshot", "Tags": pairs}]
    id_ = str((await site.aws.ec2("create_snapshot", VolumeId=volume, TagSpecifications=specification))["SnapshotId"])

    async def is_complete() -> bool:
        (found,) = (await site.aws.ec2("describe_snapshots", SnapshotIds=[id_]))["Snapshots"]
        return bool(found["State"] == "completed")

    await wait_until(is_complete)
    snapshots = site.emulator.world.store.snapshots
    snapshots.put(replace(snapshots[id_], started=snapshots[id_].started - timedelta(days=30).total_seconds()))
    return id_


async def test_a_volume_is_detached_from_an_instance_that_is_stopped(site: LeftoverSite) -> None:
    """An instance that is not a node any more keeps the volume, so that no other node can have it."""
    volume = await site.add_volume(0)
    running, stopped = [await site.aws.run_instance(Placement={"AvailabilityZone": "us-west-2a"}) for _ in range(2)]
    other = await site.add_volume(1)
    for id_, instance in ((volume, stopped), (other, running)):
        await site.aws.ec2("attach_volume", VolumeId=id_, InstanceId=instance, Device="/dev/xvdba")

        async def is_attached(id_: str = id_) -> bool:
            return await site.aws.volume_state(id_) == "in-use attached"

        await wait_until(is_attached)
    attachments = site.emulator.world.store.attachments
    for each in [*attachments.where("volume", volume), *attachments.where("volume", other)]:
        attachments.put(replace(each, since=each.since - timedelta(days=30).total_seconds()))
    cluster, (node,) = await site.aws.create_cluster()
    on_node = await site.add_volume(2)
    await site.aws.attach_to_node(cluster, node, on_node)
    await site.aws.ec2("stop_instances", InstanceIds=[stopped])

    async def is_stopped() -> bool:
        answer = await site.aws.ec2("describe_instances", InstanceIds=[stopped])
        return bool(answer["Reservations"][0]["Instances"][0]["State"]["Name"] == "stopped")

    await wait_until(is_stopped)

    shown = (await site.commands.run("--delete", "--yes", "--kept", "--output", "json")).json

    assert [(each["id"], each["result"]) for each in shown["outcomes"]] == [(f"{volume}@{stopped}", "detaching")]
    why = {each["id"]: each["why"] for each in shown["kept"]}
    assert f"machine {running} is up" in why[f"{other}@{running}"]
    assert f"machine {node} is up" in why[f"{on_node}@{node}"]


async def test_an_attachment_to_a_cluster_that_is_gone_is_not_said_to_be_removed(site: LeftoverSite) -> None:
    """SageMaker knows neither the cluster nor the node, while EC2 still shows the attachment."""
    volume = await site.add_volume(0)
    cluster, (node,) = await site.aws.create_cluster()
    await site.aws.attach_to_node(cluster, node, volume)

    async def is_attached() -> bool:
        return await site.aws.volume_state(volume) == "in-use attached"

    await wait_until(is_attached)
    store = site.emulator.world.store
    for each in store.attachments.where("volume", volume):
        store.attachments.put(replace(each, since=each.since - timedelta(days=30).total_seconds()))
    store.instances.put(replace(store.instances[node], cluster="abcdefghijkl"))

    done = await site.commands.run("--delete", "--yes", "--record", str(site.record), "--output", "json", code=1)

    (outcome,) = done.json["outcomes"]
    assert (outcome["kind"], outcome["result"]) == ("attachment", "failed")
    assert "cannot detach volume" in outcome["reason"]
    assert site.lines()[-1]["result"] == "refused"


class Trouble(NamedTuple):
    """A change of the cluster after which nothing can be judged."""

    id: str
    plant: Callable[[LeftoverSite], object]
    says: str
    words: tuple[str, ...] = ()


def _write_another_name(site: LeftoverSite) -> None:
    arguments = site.cluster.container("deployments", "ebs-csi-controller", "ebs-plugin")["args"]
    arguments[arguments.index("--k8s-tag-cluster-id=training")] = "--k8s-tag-cluster-id=blue"


@pytest.mark.parametrize(
    "case",
    [
        Trouble("claims forbidden", lambda site: site.cluster.forbidden.add("persistentvolumeclaims"), "cannot list"),
        Trouble("volumes unknown", lambda site: site.cluster.absent.add("persistentvolumes"), "could not find"),
        Trouble("another cluster's kubeconfig", _write_another_name, "writes blue", ("--cluster", "training")),
        Trouble("no controller", lambda site: site.cluster.lists["deployments"].clear(), "no controller of the driver"),
        Trouble(
            "class that retains",
            lambda site: site.cluster.lists["storageclasses"][0].update(reclaimPolicy="Retain"),
            "retains volumes",
        ),
    ],
    ids=lambda case: case.id,
)
async def test_nothing_is_deleted_of_a_cluster_that_may_need_it(site: LeftoverSite, case: Trouble) -> None:
    volume = await site.add_volume(0)
    case.plant(site)
    could_read = case.says in {"writes blue", "no controller of the driver", "retains volumes"}

    done = await site.commands.run("--delete", "--yes", *case.words, "--output", "json", code=0 if could_read else 4)

    assert (done.json["leftovers"], done.json["outcomes"]) == ([], [])
    assert case.says in done.err
    assert await site.aws.volume_state(volume) == "available"
    assert set(await site.operations()) <= READS


async def test_without_kubectl_nothing_is_judged(site: LeftoverSite) -> None:
    await site.add_volume(0)
    commands = replace(site.commands, extra={"PATH": "/nowhere"})

    done = await commands.run("--output", "json", code=4)

    assert "kubectl is not on PATH" in done.json["not_read"][0]
    assert done.json["leftovers"] == []


async def test_kubectl_may_have_several_kubeconfig_files(site: LeftoverSite) -> None:
    """Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files": KUBECONFIG is a list of files."""
    await site.add_volume(0)
    files = f"{site.commands.extra['KUBECONFIG']}:/another"
    commands = replace(site.commands, extra={**site.commands.extra, "KUBECONFIG": files})

    done = await commands.run("--output", "json", code=4)

    assert done.json["not_read"] == []


async def test_a_deletion_that_aws_denies_is_recorded_and_the_next_object_deleted(site: LeftoverSite) -> None:
    volumes = [await site.add_volume(number) for number in range(2)]
    denied = f"arn:aws:ec2:us-west-2:123456789012:volume/{volumes[1]}"
    user = await create_user(
        site.emulator,
        site.aws,
        "bob",
        allow("ec2:Describe*", "ec2:DeleteVolume"),
        {"Effect": "Deny", "Action": "ec2:DeleteVolume", "Resource": denied},
    )

    done = await site.run_as(user, "--delete", "--yes", "--record", str(site.record), "--output", "json", code=1)

    assert [(each["id"], each["result"]) for each in done.json["outcomes"]] == [
        (volumes[1], "failed"),
        (volumes[0], "deleted"),
    ]
    assert [line.get("result") for line in site.lines()] == [None, "refused", None, "done"]
    assert "ec2:DeleteVolume" in done.json["outcomes"][0]["reason"]


class Change(NamedTuple):
    """What happens to a volume between the list and the answer of the user."""

    id: str
    make: Callable[[LeftoverSite, str], Awaitable[object]]
    says: str


async def _attach(site: LeftoverSite, volume: str) -> None:
    instance = await site.aws.run_instance(Placement={"AvailabilityZone": "us-west-2a"})
    await site.aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")


async def _retag(site: LeftoverSite, volume: str) -> None:
    await site.aws.ec2("create_tags", Resources=[volume], Tags=[{"Key": "keep", "Value": "jürgen"}])


async def _bind(site: LeftoverSite, volume: str) -> None:
    site.cluster.add_volume("pv-new", csi={"driver": "ebs.csi.aws.com", "volumeHandle": volume})


async def _forbid(site: LeftoverSite, volume: str) -> None:
    del volume
    site.cluster.forbidden.add("persistentvolumes")


async def _delete(site: LeftoverSite, volume: str) -> None:
    await site.aws.ec2("delete_volume", VolumeId=volume)


@pytest.mark.parametrize(
    "case",
    [
        Change("attached", _attach, "it is attached to i-"),
        Change("tagged", _retag, "it has changed"),
        Change("bound", _bind, "PersistentVolume pv-new"),
        Change("deleted", _delete, "it is gone"),
        Change("no longer readable", _forbid, "persistentvolumes is forbidden"),
    ],
    ids=lambda case: case.id,
)
async def test_a_volume_that_changes_before_the_user_agrees_is_not_deleted(site: LeftoverSite, case: Change) -> None:
    volume = await site.add_volume(0)
    terminal, stdin = pty.openpty()

    async with site.commands.start("--delete", "--record", str(site.record), stdin=stdin) as process:
        assert process.stderr is not None
        async with asyncio.timeout(30):
            await process.stderr.readuntil(b"? [y/N]")
            await case.make(site, volume)
            os.write(terminal, b"y\n")
            out, err = await process.communicate()
    os.close(terminal)

    assert case.says in err.decode()
    assert case.says in out.decode()
    assert "ec2:DeleteVolume" not in await site.operations()
    assert "begins" not in [line["phase"] for line in site.lines()]


async def test_each_deletion_needs_a_yes(site: LeftoverSite) -> None:
    """An answer other than yes leaves this object; without a terminal, nothing is deleted."""
    volumes = [await site.add_volume(number) for number in range(2)]
    terminal, stdin = pty.openpty()
    os.write(terminal, b"n\ny\n")

    async with site.commands.start("--delete", stdin=stdin) as process, asyncio.timeout(30):
        await process.communicate()
    os.close(terminal)
    unasked = await site.commands.run("--delete", code=1)

    assert process.returncode == 4
    left = (await site.aws.ec2("describe_volumes"))["Volumes"]
    assert [each["VolumeId"] for each in left] == [volumes[1]]
    assert "--yes" in unasked.err


@pytest.mark.parametrize(
    ("number", "code", "result"),
    [(signal.SIGKILL, -9, None), (signal.SIGINT, 130, "not known")],
    ids=["kill", "Ctrl-C"],
)
async def test_the_record_is_true_after_the_end_of_the_process(
    site: LeftoverSite, number: signal.Signals, code: int, result: str | None
) -> None:
    """The line before the act says what may have been deleted."""
    volumes = [await site.add_volume(number) for number in range(3)]
    site.emulator.faults.plan("DeleteVolume", when="after", delay=60)

    async with site.commands.start("--delete", "--yes", "--record", str(site.record)) as process:

        async def is_sent() -> bool:
            return not site.emulator.faults.plans()

        async with asyncio.timeout(30):
            await wait_until(is_sent)
            process.send_signal(number)
            _, err = await process.communicate()

    lines = site.lines()
    assert process.returncode == code
    assert (lines[0]["id"], lines[0]["phase"]) == (volumes[2], "begins")
    assert [line["result"] for line in lines[1:]] == ([result] if result else [])
    left = {each["VolumeId"] for each in (await site.aws.ec2("describe_volumes"))["Volumes"]}
    assert left >= set(volumes[:2])
    if result:
        assert "run the command again" in err.decode()
        assert str(site.record) in err.decode()


async def test_a_record_that_cannot_be_written_prevents_the_deletion(site: LeftoverSite) -> None:
    volume = await site.add_volume(0)

    done = await site.commands.run("--delete", "--yes", "--record", "/dev/full", code=1)

    assert "cannot write the record /dev/full: No space left on device" in done.err
    assert await site.aws.volume_state(volume) == "available"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--older-than=-1d",), "is negative"),
        (("--older-than", "soon"), "older-than"),
        (("--delete", "--older-than", "10m"), "at least 1h"),
        (("--limit", "0"), "limit"),
        (("--cluster", ""), "--cluster is empty"),
    ],
)
async def test_wrong_flags_are_refused_before_aws_is_called(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    commands = VolumeCommands(env={}, home=tmp_path, group="leftovers")

    done = await commands.run(*words, code=2)

    assert says in done.err


async def test_many_volumes_are_read_in_pages(site: LeftoverSite) -> None:
    """EC2 API reference, DescribeVolumes: at most 500 volumes in an answer."""
    first = await site.add_volume(0)
    volumes = site.emulator.world.store.volumes
    for number in range(1199):
        volumes.put(replace(volumes[first], id=f"vol-{number:017x}"))

    shown = (await site.commands.run("--output", "json", code=4)).json

    assert len(shown["leftovers"]) == 1200
    assert sorted(await site.operations()) == sorted(
        ["sts:GetCallerIdentity", "ec2:DescribeSnapshots", *["ec2:DescribeVolumes"] * 3]
    )


@pytest.mark.requirement("guides.true")
async def test_the_commands_of_the_guide_print_what_it_shows(site: LeftoverSite, tmp_path: Path) -> None:
    """docs/guides/leftovers.md, on a cluster with two leftovers and a volume that a PersistentVolume names."""
    for number in (0, 9):
        await site.add_volume(number)
    kept = await site.add_volume(2)
    site.cluster.add_volume("pv-kept", csi={"driver": "ebs.csi.aws.com", "volumeHandle": kept})
    path = f"{Path(sys.executable).parent}:{site.commands.extra['PATH']}"
    environment = {**site.emulator.env, **site.commands.extra, "PATH": path, "HOME": str(tmp_path)}

    await run_page(Page.read(LEFTOVERS), tmp_path, {"CLUSTER": "training"}, environment)
