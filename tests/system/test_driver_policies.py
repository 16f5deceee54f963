"""What AWS's managed policies for EBS CSI drivers refuse: tags that change later, and volumes of others.

`test_permissions_page.py` runs the whole job of a controller under each of them.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from hyperpod_ebs.driver.aws.clients import Settings
from hyperpod_ebs.driver.aws.connection import connect
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.tags import CLUSTER, TagChanges, TagPolicy
from hyperpod_ebs.driver.model.volume import Change, Volume
from hyperpod_ebs.driver.volumes.attach import attach_volume
from hyperpod_ebs.driver.volumes.modify import Modifier
from hyperpod_ebs.driver.volumes.provision import delete_volume
from hyperpod_ebs.driver.volumes.watch import Watcher
from hyperpod_ebs.kit.operations import Operations
from tests.support.callers import Caller, Grant
from tests.support.in_process_controller import AT_ONCE, Controller

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
        async with (
            connect(Settings()) as cloud,
            Watcher(cloud, AT_ONCE) as watcher,
            Operations[str]() as operations,
        ):
            modifier = Modifier(cloud, watcher, operations, window=0.0)
            yield replace(running, cloud=cloud, watcher=watcher, modifier=modifier)


async def provision(controller: Controller, name: str = "pvc-1", **terms: Any) -> Volume:
    """Provision a volume with the tags of the cluster."""
    return await controller.provision(name, tags=TagPolicy(cluster=NAME).volume_tags(name, {}, ()), **terms)


async def test_a_class_changes_tags_of_existing_volumes_only_under_the_newer_policies(
    request: pytest.FixtureRequest, controller: Controller
) -> None:
    """AWS managed policy reference: AmazonEBSCSIDriverPolicy allows CreateTags only at creation, and DeleteTags."""
    is_newer = "AmazonEBSCSIDriverPolicy]" not in request.node.name
    volume = await provision(controller)

    if is_newer:
        await controller.modifier.modify_volume(volume.id, Change(throughput=250), TagChanges(put={"stage": "test"}))
        await controller.modifier.modify_volume(volume.id, Change(), TagChanges(remove=frozenset({"stage"})))
    else:
        with pytest.raises(errors.Denied, match="ec2:CreateTags"):
            await controller.modifier.modify_volume(
                volume.id, Change(throughput=250), TagChanges(put={"stage": "test"})
            )
    with pytest.raises(errors.Denied, match="ec2:CreateTags"):
        await controller.modifier.modify_volume(volume.id, Change(), TagChanges(put={CLUSTER: "another"}))

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
