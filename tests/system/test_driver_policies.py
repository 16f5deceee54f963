"""The controller's code under AWS's managed policies for EBS CSI drivers, through the whole life of a volume."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from hyperpod_ebs.driver.aws.clients import Settings
from hyperpod_ebs.driver.aws.connection import connect
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Node
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.tags import CLUSTER, TagChanges, TagPolicy
from hyperpod_ebs.driver.model.volume import Change, Volume
from hyperpod_ebs.driver.volumes.attach import attach_volume, detach_volume
from hyperpod_ebs.driver.volumes.listing import list_snapshots, list_volumes
from hyperpod_ebs.driver.volumes.modify import expand_volume, modify_volume
from hyperpod_ebs.driver.volumes.provision import delete_volume
from hyperpod_ebs.driver.volumes.snapshot import delete_snapshot, take_snapshot
from hyperpod_ebs.driver.volumes.watch import Watcher
from tests.support.callers import Caller, Grant
from tests.support.in_process_controller import AT_ONCE, Controller, a_snapshot
from tests.support.waiting import wait_until_equal

NAME: Final = "training"
"""The cluster's name in the tags of volumes and instances, and in the driver's own tag."""

HYPERPOD: Final = (
    Grant(
        actions=["sagemaker:AttachClusterNodeVolume", "sagemaker:DetachClusterNodeVolume"],
        resource="arn:aws:sagemaker:us-west-2:123456789012:cluster/*",
    ),
    Grant(actions=["eks:DescribeCluster"], resource="arn:aws:eks:us-west-2:123456789012:cluster/eks"),
)
"""The statement that the guide adds to the driver's role."""

POLICIES: Final[Mapping[str, Mapping[str, str]]] = {
    "service-role/AmazonEBSCSIDriverPolicy": {},
    "AmazonEBSCSIDriverPolicyV2": {},
    "AmazonEBSCSIDriverEKSClusterScopedPolicy": {"eks-cluster-name": NAME},
}
"""The managed policies, and the tags that a driver with each of them needs."""


@pytest.fixture(name="controller", params=POLICIES, ids=lambda name: name.rpartition("/")[2])
async def open_controller(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Controller]:
    """The controller's code as a user with one of the policies; `aws` is the administrator."""
    async with Controller.open(monkeypatch) as running:
        caller = await Caller.create(running.emulator, "driver", POLICIES[request.param])
        caller.allow([grant.statement for grant in HYPERPOD], managed=[request.param])
        for name, value in caller.env.items():
            monkeypatch.setenv(name, value)
        async with connect(Settings()) as cloud, Watcher(cloud, AT_ONCE) as watcher:
            yield replace(running, cloud=cloud, watcher=watcher)


async def create_node(controller: Controller, kind: str) -> Node:
    """Create a HyperPod node, or an EC2 instance with the cluster's tag."""
    if kind == "hyperpod":
        return (await controller.create_nodes(1))[0]
    node = await controller.run_instance()
    await controller.aws.ec2("create_tags", Resources=[node.instance], Tags=[{"Key": CLUSTER, "Value": NAME}])
    return node


async def provision(controller: Controller, name: str = "pvc-1", **terms: Any) -> Volume:
    """Provision a volume with the tags of the cluster."""
    return await controller.provision(name, tags=TagPolicy(cluster=NAME).volume_tags(name, {}, ()), **terms)


@pytest.mark.parametrize("kind", ["hyperpod", "ec2"])
async def test_the_policy_and_the_guides_statement_suffice_for_the_life_of_a_volume(
    controller: Controller, kind: str
) -> None:
    """SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters": the role."""
    driver = (controller.cloud, controller.watcher)
    node = await create_node(controller, kind)
    volume = await provision(controller)
    await attach_volume(*driver, volume.id, node)
    await expand_volume(*driver, volume.id, SizeRange(GiB(2), None))
    snapshot = await take_snapshot(
        controller.cloud, replace(a_snapshot(volume), tags=TagPolicy(cluster=NAME).snapshot_tags("snapshot-1"))
    )
    await wait_until_equal(lambda: snapshot_state(controller, snapshot.id), "completed")
    restored = await provision(controller, "pvc-2", gib=2, snapshot_id=snapshot.id)
    listed = await list_volumes(controller.cloud, 0, "")
    snapshots = await list_snapshots(controller.cloud, 0, "", volume_id="", snapshot_id="")
    await detach_volume(*driver, volume.id, node)
    await delete_snapshot(controller.cloud, snapshot.id)
    for _ in range(2):
        await delete_volume(controller.cloud, volume.id)
        await delete_volume(controller.cloud, restored.id)

    assert {volume.id, restored.id} <= {each.id for each in listed.items}
    assert [each.id for each in snapshots.items] == [snapshot.id]
    remaining = (await controller.aws.ec2("describe_volumes"))["Volumes"]
    assert not {volume.id, restored.id} & {each["VolumeId"] for each in remaining}


async def snapshot_state(controller: Controller, id_: str) -> str:
    """The snapshot's state."""
    return str((await controller.aws.ec2("describe_snapshots", SnapshotIds=[id_]))["Snapshots"][0]["State"])


async def test_a_class_changes_tags_of_existing_volumes_only_under_the_newer_policies(
    request: pytest.FixtureRequest, controller: Controller
) -> None:
    """AWS managed policy reference: AmazonEBSCSIDriverPolicy allows CreateTags only at creation, and DeleteTags."""
    driver = (controller.cloud, controller.watcher)
    is_newer = "AmazonEBSCSIDriverPolicy]" not in request.node.name
    volume = await provision(controller)

    if is_newer:
        await modify_volume(*driver, volume.id, Change(throughput=250), TagChanges(put={"stage": "test"}))
        await modify_volume(*driver, volume.id, Change(), TagChanges(remove=frozenset({"stage"})))
    else:
        with pytest.raises(errors.Denied, match="ec2:CreateTags"):
            await modify_volume(*driver, volume.id, Change(throughput=250), TagChanges(put={"stage": "test"}))
    with pytest.raises(errors.Denied, match="ec2:CreateTags"):
        await modify_volume(*driver, volume.id, Change(), TagChanges(put={CLUSTER: "another"}))

    (described,) = (await controller.aws.ec2("describe_volumes", VolumeIds=[volume.id]))["Volumes"]
    assert {tag["Key"]: tag["Value"] for tag in described["Tags"]} == dict(volume.tags)


async def test_the_newer_policies_refuse_volumes_of_others(
    request: pytest.FixtureRequest, controller: Controller
) -> None:
    """AWS managed policy reference: statically provisioned volumes need the driver's tag."""
    (node,) = await controller.create_nodes(1)
    volume = await controller.aws.create_volume()

    if "AmazonEBSCSIDriverPolicy]" in request.node.name:
        await attach_volume(controller.cloud, controller.watcher, volume, node)
    else:
        with pytest.raises(errors.Error, match="ec2:AttachVolume"):
            await attach_volume(controller.cloud, controller.watcher, volume, node)
    with pytest.raises(errors.Error, match=r"VolumeInUse|ec2:DeleteVolume"):
        await delete_volume(controller.cloud, volume)
