"""HyperPod clusters and the volumes on their nodes, EKS and STS, called through the AWS SDK."""

import re
from typing import Any

import pytest

from hyperpod_ebs.emulator.sagemaker.node_volumes import DEVICE_NAMES
from tests.support.emulator_clients import GROUP, ROLE, Aws, cloud
from tests.support.waiting import wait_until_equal

UNKNOWN_NODE = "i-0123456789abcdef0"
UNKNOWN_VOLUME = "vol-0123456789abcdef0"


def ec2_code(refusal: tuple[str, str]) -> str:
    """The EC2 error code in SageMaker's message."""
    code, text = refusal
    assert code == "ValidationException"
    return text.partition("HyperPod - Ec2ErrCode: ")[2].partition(" : Ec2ErrMsg: ")[0]


async def test_a_cluster_is_created_with_its_nodes_and_deleted(aws: Aws) -> None:
    """SageMaker API reference, CreateCluster, DescribeCluster, ListClusters and DeleteCluster."""
    groups = [GROUP | {"InstanceCount": 3}]
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-0000000000000000b", "subnet-0000000000000000c"]}

    arn, nodes = await aws.create_cluster(InstanceGroups=groups, VpcConfig=vpc)
    shown = await aws("sagemaker", "describe_cluster", ClusterName="hp")
    details = [
        (await aws("sagemaker", "describe_cluster_node", ClusterName="hp", NodeId=node))["NodeDetails"]
        for node in nodes
    ]
    listed = await aws("sagemaker", "list_clusters", NameContains="h")
    deleted = await aws("sagemaker", "delete_cluster", ClusterName=arn)

    assert shown["InstanceGroups"][0]["CurrentCount"] == 3
    assert sorted(node["Placement"]["AvailabilityZoneId"] for node in details) == ["usw2-az2", "usw2-az2", "usw2-az3"]
    assert {node["InstanceStatus"]["Status"] for node in details} == {"Running"}
    assert [cluster["ClusterArn"] for cluster in listed["ClusterSummaries"]] == [arn]
    assert deleted["ClusterArn"] == arn
    assert (await aws("sagemaker", "list_clusters"))["ClusterSummaries"] == []
    assert (await aws.expect_error("sagemaker", "describe_cluster", ClusterName="hp"))[0] == "ResourceNotFound"


async def test_ec2_shows_a_volume_on_a_node_only_with_its_associated_resource(aws: Aws) -> None:
    """The upstream driver reads AssociatedResource, because instance and device are missing (pkg/cloud/cloud.go)."""
    volume = await aws.create_volume()
    arn, (node,) = await aws.create_cluster()

    made = await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=node, VolumeId=volume)
    shown = await aws.describe_volume(volume)
    by_filter = await aws.ec2("describe_volumes", Filters=[{"Name": "attachment.instance-id", "Values": [node]}])

    assert (made["Status"], made["DeviceName"], made["VolumeId"]) == ("attached", "/dev/xvdb", volume)
    assert shown["State"] == "in-use"
    (attachment,) = shown["Attachments"]
    assert (attachment["AssociatedResource"], attachment["State"]) == (f"{arn}-{node}", "attached")
    assert attachment["InstanceOwningService"] == "sagemaker.amazonaws.com"
    assert not {"InstanceId", "Device"} & attachment.keys()
    assert by_filter["Volumes"] == []


async def test_ec2_does_not_show_hyperpod_nodes_as_instances(aws: Aws) -> None:
    """The service owns the instances of HyperPod clusters, so EC2 does not know the nodes' ids."""
    volume = await aws.create_volume()
    _, (node,) = await aws.create_cluster()

    described = await aws.expect_error("ec2", "describe_instances", InstanceIds=[node])
    attached = await aws.expect_error("ec2", "attach_volume", VolumeId=volume, InstanceId=node, Device="/dev/xvdba")

    assert (await aws.ec2("describe_instances"))["Reservations"] == []
    assert (described[0], attached[0]) == ("InvalidInstanceID.NotFound", "InvalidInstanceID.NotFound")


async def test_a_volume_on_a_node_is_detached_by_sagemaker_and_not_by_ec2(aws: Aws) -> None:
    """EC2 API reference, DetachVolume: it fails for a volume that is attached to a managed resource."""
    volume = await aws.create_volume()
    arn, (node,) = await aws.create_cluster()
    on_node = {"ClusterArn": arn, "NodeId": node, "VolumeId": volume}
    await aws("sagemaker", "attach_cluster_node_volume", **on_node)

    plain = await aws.expect_error("ec2", "detach_volume", VolumeId=volume)
    forced = await aws.expect_error("ec2", "detach_volume", VolumeId=volume, Force=True)
    ended = await aws("sagemaker", "detach_cluster_node_volume", **on_node)
    again = await aws.expect_error("sagemaker", "detach_cluster_node_volume", **on_node)

    assert (plain[0], forced[0]) == ("UnsupportedOperationException", "UnsupportedOperationException")
    assert ended["Status"] == "detached"
    assert await aws.volume_state(volume) == "available"
    assert ec2_code(again) == "IncorrectState"


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_an_ec2_error_is_returned_in_a_validation_exception(aws: Aws) -> None:
    """The upstream driver matches the code after `HyperPod - Ec2ErrCode:` (pkg/cloud/cloud.go)."""
    here, far = await aws.create_volume(), await aws.create_volume(AvailabilityZone="us-west-2b")
    arn, nodes = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])

    async def error_code(method: str, volume: str, node: str = nodes[0]) -> str:
        members = {"ClusterArn": arn, "NodeId": node, "VolumeId": volume}
        return ec2_code(await aws.expect_error("sagemaker", f"{method}_cluster_node_volume", **members))

    assert await error_code("attach", UNKNOWN_VOLUME) == "InvalidVolume.NotFound"
    assert await error_code("attach", far) == "InvalidVolume.ZoneMismatch"
    assert await error_code("detach", here) == "IncorrectState"
    await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=nodes[0], VolumeId=here)
    assert await error_code("attach", here) == "VolumeInUse"
    assert await error_code("attach", here, nodes[1]) == "VolumeInUse"
    assert await error_code("detach", here, nodes[1]) == "InvalidAttachment.NotFound"
    assert await error_code("detach", UNKNOWN_VOLUME) == "InvalidVolume.NotFound"


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_an_unknown_cluster_or_node_is_a_resource_not_found(aws: Aws) -> None:
    """SageMaker API reference, AttachClusterNodeVolume and DetachClusterNodeVolume: ResourceNotFound."""
    volume = await aws.create_volume()
    arn, (node,) = await aws.create_cluster()
    nowhere = arn.rpartition("/")[0] + "/aaaaaaaaaaaa"

    for method in ("attach_cluster_node_volume", "detach_cluster_node_volume"):
        cluster = await aws.expect_error("sagemaker", method, ClusterArn=nowhere, NodeId=node, VolumeId=volume)
        other = await aws.expect_error("sagemaker", method, ClusterArn=arn, NodeId=UNKNOWN_NODE, VolumeId=volume)

        assert (cluster[0], other[0]) == ("ResourceNotFound", "ResourceNotFound")


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_volumes_need_an_eks_cluster_and_an_unrestricted_group() -> None:
    """SageMaker API reference, AttachClusterNodeVolume."""
    async with cloud() as (_, aws):
        volume = await aws.create_volume()
        restricted = {key: value for key, value in GROUP.items() if key != "LifeCycleConfig"}
        restricted |= {"EnvironmentConfig": {}}
        clusters = [
            await aws.create_cluster(ClusterName="slurm", Orchestrator={}),
            await aws.create_cluster(ClusterName="rig", InstanceGroups=None, RestrictedInstanceGroups=[restricted]),
        ]

        for arn, (node,) in clusters:
            refusal = await aws.expect_error(
                "sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=node, VolumeId=volume
            )
            assert refusal[0] == "ValidationException", arn
            assert "Ec2ErrCode" not in refusal[1], arn


async def test_a_node_takes_as_many_volumes_as_its_type_minus_hyperpods_own(aws: Aws) -> None:
    """A g5.48xlarge takes 9 volumes (EC2 user guide); HyperPod uses 2 of them, for a root and a secondary volume."""
    arn, (node,) = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceType": "ml.g5.48xlarge"}])
    volumes = [await aws.create_volume() for _ in range(8)]

    on_node: dict[str, Any] = {"ClusterArn": arn, "NodeId": node}
    made = [await aws("sagemaker", "attach_cluster_node_volume", **on_node, VolumeId=volume) for volume in volumes[:7]]
    one_more = await aws.expect_error("sagemaker", "attach_cluster_node_volume", **on_node, VolumeId=volumes[7])
    await aws("sagemaker", "detach_cluster_node_volume", **on_node, VolumeId=volumes[0])
    after_all = await aws("sagemaker", "attach_cluster_node_volume", **on_node, VolumeId=volumes[7])

    assert len({attachment["DeviceName"] for attachment in made}) == 7
    assert ec2_code(one_more) == "AttachmentLimitExceeded"
    assert "HyperPod - Ec2ErrCode: AttachmentLimitExceeded" in one_more[1]
    assert after_all["Status"] == "attached"


def test_device_names_match_the_response_s_pattern() -> None:
    """SageMaker API reference, AttachClusterNodeVolume: the pattern of DeviceName."""
    pattern = re.compile(r"/dev/(xvd[a-z]|sd[b-z]|sd[f-p][1-6])")

    assert all(pattern.fullmatch(name) for name in DEVICE_NAMES)
    assert len(set(DEVICE_NAMES)) == len(DEVICE_NAMES) == 25 + 25 + 66
    assert "/dev/xvda" not in DEVICE_NAMES


async def test_an_invalid_cluster_is_refused(aws: Aws) -> None:
    """SageMaker and EKS API references, CreateCluster: names are unique, and named resources must exist."""
    eks = await aws.create_eks_cluster()
    await aws.create_cluster()

    async def code(**members: Any) -> str:
        request = {"ClusterName": "new", "InstanceGroups": [GROUP]} | members
        return (await aws.expect_error("sagemaker", "create_cluster", **request))[0]

    assert await code(ClusterName="hp") == "ResourceInUse"
    assert await code(Orchestrator={"Eks": {"ClusterArn": eks + "x"}}) == "ValidationException"
    assert await code(VpcConfig={"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-x"]}) == "ValidationException"
    again = {"name": "eks", "roleArn": ROLE, "resourcesVpcConfig": {}}
    assert (await aws.expect_error("eks", "create_cluster", **again))[0] == "ResourceInUseException"
    assert (await aws.expect_error("eks", "describe_cluster", name="x"))[0] == "ResourceNotFoundException"


async def test_with_the_aws_profile_an_attachment_is_attaching_first() -> None:
    """SageMaker API reference, AttachClusterNodeVolume: Status."""
    async with cloud(profile="aws", seed=3) as (_, aws):
        volume = await aws.create_volume()
        arn, (node,) = await aws.create_cluster()
        on_node = {"ClusterArn": arn, "NodeId": node, "VolumeId": volume}

        made = await aws("sagemaker", "attach_cluster_node_volume", **on_node)
        await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached")
        ended = await aws("sagemaker", "detach_cluster_node_volume", **on_node)
        await wait_until_equal(lambda: aws.volume_state(volume), "available")

        assert (made["Status"], ended["Status"]) == ("attaching", "detaching")


async def test_nodes_are_listed_in_pages_and_by_group(aws: Aws) -> None:
    """SageMaker API reference, ListClusterNodes."""
    groups = [GROUP | {"InstanceCount": 2}, GROUP | {"InstanceGroupName": "spare"}]
    _, nodes = await aws.create_cluster(InstanceGroups=groups)

    first = await aws("sagemaker", "list_cluster_nodes", ClusterName="hp", MaxResults=2)
    second = await aws("sagemaker", "list_cluster_nodes", ClusterName="hp", MaxResults=2, NextToken=first["NextToken"])
    spare = await aws("sagemaker", "list_cluster_nodes", ClusterName="hp", InstanceGroupNameContains="spa")

    for token in ("x", "9" * 5000):
        refusal = await aws.expect_error("sagemaker", "list_cluster_nodes", ClusterName="hp", NextToken=token)
        assert refusal[0] == "ValidationException"
    pages = [node["InstanceId"] for page in (first, second) for node in page["ClusterNodeSummaries"]]
    assert pages == nodes
    assert [node["InstanceGroupName"] for node in spare["ClusterNodeSummaries"]] == ["spare"]


async def test_no_two_machines_have_the_same_address(aws: Aws) -> None:
    """The address of a deleted node becomes free; the addresses of the others stay taken."""
    await aws.create_cluster()
    second, _ = await aws.create_cluster(ClusterName="second", InstanceGroups=[GROUP | {"InstanceCount": 2}])
    await aws("sagemaker", "delete_cluster", ClusterName="hp")
    third, _ = await aws.create_cluster(ClusterName="third", InstanceGroups=[GROUP | {"InstanceCount": 2}])

    nodes = [
        node
        for cluster in (second, third)
        for node in (await aws("sagemaker", "list_cluster_nodes", ClusterName=cluster))["ClusterNodeSummaries"]
    ]

    assert len({node["PrivateDnsHostname"] for node in nodes}) == 4


async def test_text_with_an_unpaired_surrogate_is_returned_unchanged(aws: Aws) -> None:
    """JSON can encode an unpaired surrogate (RFC 8259, section 8.2), so a request can contain one."""
    odd = {"name": "odd", "roleArn": ROLE, "resourcesVpcConfig": {}, "tags": {"half": "\ud800"}}

    await aws("eks", "create_cluster", **odd)

    assert (await aws("eks", "describe_cluster", name="odd"))["cluster"]["tags"] == {"half": "\ud800"}


async def test_the_caller_gets_its_identity(aws: Aws) -> None:
    """STS API reference, GetCallerIdentity."""
    answer = await aws("sts", "get_caller_identity")

    assert (answer["Account"], answer["Arn"]) == ("123456789012", "arn:aws:iam::123456789012:user/emulator")
