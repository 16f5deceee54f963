"""HyperPod clusters and the volumes on their nodes, as boto3 sees them; EKS and STS beside them."""

import re
from typing import Any

import pytest

from hyperpod_ebs.emulator.sagemaker.node_volumes import DEVICE_NAMES
from tests.support.emulator_clients import GROUP, ROLE, Aws, cloud, until

NOBODY = "i-0123456789abcdef0"
UNKNOWN = "vol-0123456789abcdef0"


def wrapped(refusal: tuple[str, str]) -> str:
    """The EC2 code in SageMaker's text."""
    code, text = refusal
    assert code == "ValidationException"
    return text.partition("HyperPod - Ec2ErrCode: ")[2].partition(" : Ec2ErrMsg: ")[0]


async def test_a_cluster_comes_into_service_with_its_nodes_and_goes(aws: Aws) -> None:
    """SageMaker: the life of a cluster orchestrated by EKS."""
    groups = [GROUP | {"InstanceCount": 3}]
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-0000000000000000b", "subnet-0000000000000000c"]}

    arn, nodes = await aws.cluster(InstanceGroups=groups, VpcConfig=vpc)
    shown = await aws("sagemaker", "describe_cluster", ClusterName="hp")
    details = [
        (await aws("sagemaker", "describe_cluster_node", ClusterName="hp", NodeId=node))["NodeDetails"]
        for node in nodes
    ]
    listed = await aws("sagemaker", "list_clusters", NameContains="h")
    deleted = await aws("sagemaker", "delete_cluster", ClusterName=arn)

    assert shown["InstanceGroups"][0]["CurrentCount"] == 3
    assert sorted(one["Placement"]["AvailabilityZoneId"] for one in details) == ["usw2-az2", "usw2-az2", "usw2-az3"]
    assert {one["InstanceStatus"]["Status"] for one in details} == {"Running"}
    assert [one["ClusterArn"] for one in listed["ClusterSummaries"]] == [arn]
    assert deleted["ClusterArn"] == arn
    assert (await aws("sagemaker", "list_clusters"))["ClusterSummaries"] == []
    assert (await aws.refused("sagemaker", "describe_cluster", ClusterName="hp"))[0] == "ResourceNotFound"


async def test_a_volume_on_a_node_is_known_to_ec2_only_by_its_resource(aws: Aws) -> None:
    """Upstream: the attachment has AssociatedResource, and neither instance nor device (cloud.go)."""
    volume = await aws.volume()
    arn, (node,) = await aws.cluster()

    made = await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=node, VolumeId=volume)
    shown = await aws.shown(volume)
    by_filter = await aws.ec2("describe_volumes", Filters=[{"Name": "attachment.instance-id", "Values": [node]}])

    assert (made["Status"], made["DeviceName"], made["VolumeId"]) == ("attached", "/dev/xvdb", volume)
    assert shown["State"] == "in-use"
    (attachment,) = shown["Attachments"]
    assert (attachment["AssociatedResource"], attachment["State"]) == (f"{arn}-{node}", "attached")
    assert attachment["InstanceOwningService"] == "sagemaker.amazonaws.com"
    assert not {"InstanceId", "Device"} & attachment.keys()
    assert by_filter["Volumes"] == []


async def test_a_node_is_no_instance_of_the_customers(aws: Aws) -> None:
    """HyperPod: its machines belong to the service."""
    volume = await aws.volume()
    _, (node,) = await aws.cluster()

    described = await aws.refused("ec2", "describe_instances", InstanceIds=[node])
    attached = await aws.refused("ec2", "attach_volume", VolumeId=volume, InstanceId=node, Device="/dev/xvdba")

    assert (await aws.ec2("describe_instances"))["Reservations"] == []
    assert (described[0], attached[0]) == ("InvalidInstanceID.NotFound", "InvalidInstanceID.NotFound")


async def test_a_detach_through_hyperpod_ends_it_and_through_ec2_is_refused(aws: Aws) -> None:
    """EC2: DetachVolume of a volume held by a managed resource fails, forced or not."""
    volume = await aws.volume()
    arn, (node,) = await aws.cluster()
    on_node = {"ClusterArn": arn, "NodeId": node, "VolumeId": volume}
    await aws("sagemaker", "attach_cluster_node_volume", **on_node)

    plain = await aws.refused("ec2", "detach_volume", VolumeId=volume)
    forced = await aws.refused("ec2", "detach_volume", VolumeId=volume, Force=True)
    ended = await aws("sagemaker", "detach_cluster_node_volume", **on_node)
    again = await aws.refused("sagemaker", "detach_cluster_node_volume", **on_node)

    assert (plain[0], forced[0]) == ("UnsupportedOperationException", "UnsupportedOperationException")
    assert ended["Status"] == "detached"
    assert await aws.state(volume) == "available"
    assert wrapped(again) == "IncorrectState"


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_what_ec2_refuses_comes_back_in_a_validation_exception(aws: Aws) -> None:
    """Upstream: the codes are matched in the text after `HyperPod - Ec2ErrCode:`."""
    here, far = await aws.volume(), await aws.volume(AvailabilityZone="us-west-2b")
    arn, nodes = await aws.cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])

    async def refused(method: str, volume: str, node: str = nodes[0]) -> str:
        members = {"ClusterArn": arn, "NodeId": node, "VolumeId": volume}
        return wrapped(await aws.refused("sagemaker", f"{method}_cluster_node_volume", **members))

    assert await refused("attach", UNKNOWN) == "InvalidVolume.NotFound"
    assert await refused("attach", far) == "InvalidVolume.ZoneMismatch"
    assert await refused("detach", here) == "IncorrectState"
    await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=nodes[0], VolumeId=here)
    assert await refused("attach", here) == "VolumeInUse"
    assert await refused("attach", here, nodes[1]) == "VolumeInUse"
    assert await refused("detach", here, nodes[1]) == "InvalidAttachment.NotFound"
    assert await refused("detach", UNKNOWN) == "InvalidVolume.NotFound"


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_an_unknown_cluster_or_node_is_a_resource_not_found(aws: Aws) -> None:
    """SageMaker: the one error that the model has for attach and detach."""
    volume = await aws.volume()
    arn, (node,) = await aws.cluster()
    nowhere = arn.rpartition("/")[0] + "/aaaaaaaaaaaa"

    for method in ("attach_cluster_node_volume", "detach_cluster_node_volume"):
        cluster = await aws.refused("sagemaker", method, ClusterArn=nowhere, NodeId=node, VolumeId=volume)
        other = await aws.refused("sagemaker", method, ClusterArn=arn, NodeId=NOBODY, VolumeId=volume)

        assert (cluster[0], other[0]) == ("ResourceNotFound", "ResourceNotFound")


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_volumes_want_eks_an_unrestricted_group_and_a_cluster_in_service() -> None:
    """SageMaker: the preconditions of AttachClusterNodeVolume."""
    async with cloud() as (_, aws):
        volume = await aws.volume()
        restricted = {key: value for key, value in GROUP.items() if key != "LifeCycleConfig"}
        restricted |= {"EnvironmentConfig": {}}
        clusters = [
            await aws.cluster(ClusterName="slurm", Orchestrator={}),
            await aws.cluster(ClusterName="rig", InstanceGroups=None, RestrictedInstanceGroups=[restricted]),
        ]

        for arn, (node,) in clusters:
            refusal = await aws.refused(
                "sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=node, VolumeId=volume
            )
            assert refusal[0] == "ValidationException", arn
            assert "Ec2ErrCode" not in refusal[1], arn


async def test_a_node_takes_as_many_volumes_as_its_type_but_for_hyperpod_s_own(aws: Aws) -> None:
    """EC2: a g5.48xlarge takes 9; HyperPod: a root and a secondary volume are among them."""
    arn, (node,) = await aws.cluster(InstanceGroups=[GROUP | {"InstanceType": "ml.g5.48xlarge"}])
    volumes = [await aws.volume() for _ in range(8)]

    on_node: dict[str, Any] = {"ClusterArn": arn, "NodeId": node}
    made = [await aws("sagemaker", "attach_cluster_node_volume", **on_node, VolumeId=volume) for volume in volumes[:7]]
    one_more = await aws.refused("sagemaker", "attach_cluster_node_volume", **on_node, VolumeId=volumes[7])
    await aws("sagemaker", "detach_cluster_node_volume", **on_node, VolumeId=volumes[0])
    after_all = await aws("sagemaker", "attach_cluster_node_volume", **on_node, VolumeId=volumes[7])

    assert len({one["DeviceName"] for one in made}) == 7
    assert wrapped(one_more) == "AttachmentLimitExceeded"
    assert "HyperPod - Ec2ErrCode: AttachmentLimitExceeded" in one_more[1]
    assert after_all["Status"] == "attached"


def test_device_names_are_what_the_answer_may_say() -> None:
    """SageMaker: the pattern of DeviceName; no name comes twice, and the root has its own."""
    pattern = re.compile(r"/dev/(xvd[a-z]|sd[b-z]|sd[f-p][1-6])")

    assert all(pattern.fullmatch(name) for name in DEVICE_NAMES)
    assert len(set(DEVICE_NAMES)) == len(DEVICE_NAMES) == 25 + 25 + 66
    assert "/dev/xvda" not in DEVICE_NAMES


async def test_what_cannot_be_a_cluster_is_refused(aws: Aws) -> None:
    """SageMaker and EKS: names are unique, and what is named has to be there."""
    eks = await aws.eks()
    await aws.cluster()

    async def code(**members: Any) -> str:
        wanted = {"ClusterName": "new", "InstanceGroups": [GROUP]} | members
        return (await aws.refused("sagemaker", "create_cluster", **wanted))[0]

    assert await code(ClusterName="hp") == "ResourceInUse"
    assert await code(Orchestrator={"Eks": {"ClusterArn": eks + "x"}}) == "ValidationException"
    assert await code(VpcConfig={"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-x"]}) == "ValidationException"
    again = {"name": "eks", "roleArn": ROLE, "resourcesVpcConfig": {}}
    assert (await aws.refused("eks", "create_cluster", **again))[0] == "ResourceInUseException"
    assert (await aws.refused("eks", "describe_cluster", name="x"))[0] == "ResourceNotFoundException"


async def test_under_aws_s_times_an_attachment_is_attaching_first() -> None:
    """Ours: the answer's Status is the state that the attachment is in."""
    async with cloud(profile="aws", seed=3) as (_, aws):
        volume = await aws.volume()
        arn, (node,) = await aws.cluster()
        on_node = {"ClusterArn": arn, "NodeId": node, "VolumeId": volume}

        made = await aws("sagemaker", "attach_cluster_node_volume", **on_node)
        await until(lambda: aws.state(volume), "in-use attached")
        ended = await aws("sagemaker", "detach_cluster_node_volume", **on_node)
        await until(lambda: aws.state(volume), "available")

        assert (made["Status"], ended["Status"]) == ("attaching", "detaching")


async def test_nodes_come_in_pages_and_by_group(aws: Aws) -> None:
    """SageMaker: ListClusterNodes."""
    groups = [GROUP | {"InstanceCount": 2}, GROUP | {"InstanceGroupName": "spare"}]
    _, nodes = await aws.cluster(InstanceGroups=groups)

    first = await aws("sagemaker", "list_cluster_nodes", ClusterName="hp", MaxResults=2)
    second = await aws("sagemaker", "list_cluster_nodes", ClusterName="hp", MaxResults=2, NextToken=first["NextToken"])
    spare = await aws("sagemaker", "list_cluster_nodes", ClusterName="hp", InstanceGroupNameContains="spa")

    for token in ("x", "9" * 5000):
        refusal = await aws.refused("sagemaker", "list_cluster_nodes", ClusterName="hp", NextToken=token)
        assert refusal[0] == "ValidationException"
    pages = [node["InstanceId"] for page in (first, second) for node in page["ClusterNodeSummaries"]]
    assert pages == nodes
    assert [node["InstanceGroupName"] for node in spare["ClusterNodeSummaries"]] == ["spare"]


async def test_no_two_machines_have_one_address(aws: Aws) -> None:
    """Ours: an address comes free with its machine, not with any."""
    await aws.cluster()
    second, _ = await aws.cluster(ClusterName="second", InstanceGroups=[GROUP | {"InstanceCount": 2}])
    await aws("sagemaker", "delete_cluster", ClusterName="hp")
    third, _ = await aws.cluster(ClusterName="third", InstanceGroups=[GROUP | {"InstanceCount": 2}])

    nodes = [
        node
        for cluster in (second, third)
        for node in (await aws("sagemaker", "list_cluster_nodes", ClusterName=cluster))["ClusterNodeSummaries"]
    ]

    assert len({node["PrivateDnsHostname"] for node in nodes}) == 4


async def test_text_that_is_half_a_character_comes_back_as_it_was(aws: Aws) -> None:
    """Ours: JSON can say it, so it must not break what describes it."""
    odd = {"name": "odd", "roleArn": ROLE, "resourcesVpcConfig": {}, "tags": {"half": "\ud800"}}

    await aws("eks", "create_cluster", **odd)

    assert (await aws("eks", "describe_cluster", name="odd"))["cluster"]["tags"] == {"half": "\ud800"}


async def test_the_caller_learns_who_it_is(aws: Aws) -> None:
    """STS: GetCallerIdentity needs no permission."""
    answer = await aws("sts", "get_caller_identity")

    assert (answer["Account"], answer["Arn"]) == ("123456789012", "arn:aws:iam::123456789012:user/emulator")
