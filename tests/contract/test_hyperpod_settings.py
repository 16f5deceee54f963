"""Settings and tags of HyperPod clusters, and the partitions of regions."""

from typing import Any

import pytest

from tests.support.emulator_clients import GROUP, ROLE, Aws, cloud

SETTINGS: dict[str, Any] = {
    "ClusterRole": "arn:aws:iam::123456789012:role/cluster",
    "TieredStorageConfig": {"Mode": "Enable", "InstanceMemoryAllocationPercentage": 20},
    "NodeProvisioningMode": "Continuous",
    "NodeRecovery": "None",
}
GROUP_SETTINGS: dict[str, Any] = {
    "ThreadsPerCore": 2,
    "InstanceStorageConfigs": [{"EbsVolumeConfig": {"VolumeSizeInGB": 500}}],
    "OnStartDeepHealthChecks": ["InstanceStress"],
    "OverrideVpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-0000000000000000b"]},
}


async def test_a_cluster_shows_all_that_its_request_contained(aws: Aws) -> None:
    """SageMaker API reference, CreateCluster and DescribeCluster."""
    group = {
        **GROUP,
        **GROUP_SETTINGS,
        "MinInstanceCount": 1,
        "KubernetesConfig": {"Labels": {"a": "b"}},
    }

    scaling = {"Mode": "Enable", "AutoScalerType": "Karpenter"}
    arn, (node,) = await aws.create_cluster(InstanceGroups=[group], AutoScaling=scaling, **SETTINGS)
    shown = await aws("sagemaker", "describe_cluster", ClusterName=arn)
    details = await aws("sagemaker", "describe_cluster_node", ClusterName=arn, NodeId=node)
    (shown_group,) = shown["InstanceGroups"]

    assert {name: shown[name] for name in SETTINGS} == SETTINGS
    assert shown["AutoScaling"] == {**scaling, "Status": "InService"}
    assert {name: shown_group[name] for name in GROUP_SETTINGS} == GROUP_SETTINGS
    assert shown_group["LifeCycleConfig"] == GROUP["LifeCycleConfig"]
    assert shown_group["MinCount"] == 1
    assert shown_group["KubernetesConfig"] == {"CurrentLabels": {"a": "b"}, "DesiredLabels": {"a": "b"}}
    assert details["NodeDetails"]["InstanceStorageConfigs"] == GROUP_SETTINGS["InstanceStorageConfigs"]
    assert details["NodeDetails"]["Placement"]["AvailabilityZone"] == "us-west-2b"


async def test_tags_of_a_cluster_are_added_listed_and_deleted(aws: Aws) -> None:
    """SageMaker API reference, AddTags, ListTags and DeleteTags."""
    arn, _ = await aws.create_cluster(Tags=[{"Key": "one", "Value": "1"}])

    added = await aws("sagemaker", "add_tags", ResourceArn=arn, Tags=[{"Key": "two", "Value": "2"}])
    first = await aws("sagemaker", "list_tags", ResourceArn=arn, MaxResults=50)
    await aws("sagemaker", "delete_tags", ResourceArn=arn, TagKeys=["one", "three"])
    second = await aws("sagemaker", "list_tags", ResourceArn=arn)
    many = [{"Key": str(number), "Value": ""} for number in range(50)]
    too_many = await aws.expect_error("sagemaker", "add_tags", ResourceArn=arn, Tags=many)
    unknown = await aws.expect_error("sagemaker", "list_tags", ResourceArn=f"{arn}x")

    assert added["Tags"] == [{"Key": "two", "Value": "2"}]
    assert [tag["Key"] for tag in first["Tags"]] == ["one", "two"]
    assert second["Tags"] == [{"Key": "two", "Value": "2"}]
    assert (too_many[0], unknown[0]) == ("ResourceLimitExceeded", "ValidationException")


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("cn-north-1", "aws-cn"),
        ("eusc-de-east-1", "aws-eusc"),
        ("us-gov-east-1", "aws-us-gov"),
        ("us-isob-east-1", "aws-iso-b"),
        ("us-west-2", "aws"),
    ],
)
async def test_arns_have_the_partition_of_the_region(region: str, partition: str) -> None:
    """AWS General Reference, "Amazon Resource Names": the partitions that the SDK knows."""
    async with cloud(region=region) as (_, aws):
        identity = await aws("sts", "get_caller_identity")
        volume = await aws.ec2("create_volume", AvailabilityZone=f"{region}a", Size=1)
        described = await aws.describe_volume(volume["VolumeId"])

    assert identity["Arn"].split(":")[1] == partition
    assert described["VolumeArn"].split(":")[1] == partition


async def test_a_slurm_cluster_shows_its_orchestrator(aws: Aws) -> None:
    """SageMaker API reference, ClusterOrchestrator."""
    slurm = {"Slurm": {"SlurmConfigStrategy": "Managed"}}

    arn, _ = await aws.create_cluster(Orchestrator=slurm, InstanceGroups=[{**GROUP, "ExecutionRole": ROLE}])
    shown = await aws("sagemaker", "describe_cluster", ClusterName=arn)

    assert shown["Orchestrator"] == slurm
