"""Settings and tags of HyperPod clusters, and the partitions of regions."""

from collections.abc import Mapping
from typing import Any, Final

import botocore.session
import pytest
from botocore.model import StructureShape

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


BATCH: Final = {"RollingUpdatePolicy": {"MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1}}}
LUSTRE: Final = {"SizeInGiB": 1200, "PerUnitStorageThroughput": 125}
TAINT: Final = {"Key": "a", "Value": "b", "Effect": "NoSchedule"}

EVERY_GROUP_MEMBER: Final[Mapping[str, tuple[Any, Mapping[str, Any]]]] = {
    "AutoPatchConfig": ({"PatchingStrategy": "WhenIdle", "DeploymentConfig": BATCH}, {}),
    "CapacityRequirements": ({"Spot": {}}, {}),
    "ExecutionRole": (ROLE, {}),
    "ImageId": ("ami-12345678", {"CurrentImageId": "ami-12345678", "DesiredImageId": "ami-12345678"}),
    "ImageReleaseVersion": ("1.2.3", {"CurrentImageReleaseVersion": "1.2.3", "DesiredImageReleaseVersion": "1.2.3"}),
    "InstanceCount": (1, {"TargetCount": 1, "CurrentCount": 1}),
    "InstanceGroupName": ("workers", {}),
    "InstanceRequirements": (
        {"InstanceTypes": ["ml.m5.large"]},
        {
            "InstanceRequirements": {
                "CurrentInstanceTypes": ["ml.m5.large"],
                "DesiredInstanceTypes": ["ml.m5.large"],
            }
        },
    ),
    "InstanceStorageConfigs": ([{"EbsVolumeConfig": {"VolumeSizeInGB": 5}}], {}),
    "InstanceType": ("ml.m5.large", {}),
    "KubernetesConfig": (
        {"Labels": {"a": "b"}, "Taints": [TAINT]},
        {
            "KubernetesConfig": {
                "CurrentLabels": {"a": "b"},
                "DesiredLabels": {"a": "b"},
                "CurrentTaints": [TAINT],
                "DesiredTaints": [TAINT],
            }
        },
    ),
    "LifeCycleConfig": ({"SourceS3Uri": "s3://sagemaker-a", "OnCreate": "a.sh", "OnInitComplete": "b.sh"}, {}),
    "MinInstanceCount": (1, {"MinCount": 1}),
    "NetworkInterface": ({"InterfaceType": "efa"}, {}),
    "OnStartDeepHealthChecks": (["InstanceStress"], {}),
    "OverrideVpcConfig": ({"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-0000000000000000b"]}, {}),
    "ScheduledUpdateConfig": ({"ScheduleExpression": "cron(0 0 * * ? *)", "DeploymentConfig": BATCH}, {}),
    "SlurmConfig": ({"NodeType": "Compute", "PartitionNames": ["a"]}, {}),
    "ThreadsPerCore": (2, {}),
    "TrainingPlanArn": ("arn:aws:sagemaker:us-west-2:123456789012:training-plan/a", {}),
}
"""For each member of an instance group, a value, and the members that show it; the same member if there are none."""

RESTRICTED: Final[Mapping[str, Any]] = {
    **{
        name: EVERY_GROUP_MEMBER[name][0]
        for name in (
            *("ExecutionRole", "InstanceCount", "InstanceStorageConfigs", "InstanceType", "OnStartDeepHealthChecks"),
            *("OverrideVpcConfig", "ScheduledUpdateConfig", "ThreadsPerCore", "TrainingPlanArn"),
        )
    },
    "InstanceGroupName": "restricted",
    "EnvironmentConfig": {"FSxLustreConfig": LUSTRE},
}
"""Each member of a Restricted Instance Group."""


async def test_no_member_of_an_instance_group_is_lost(aws: Aws) -> None:
    """SageMaker API reference: each member of the request is shown; the SDK's model lists them."""
    given = {name: value for name, (value, _) in EVERY_GROUP_MEMBER.items()}
    shared = {"FSxLustreDeletionPolicy": "Keep", "FSxLustreConfig": LUSTRE}

    arn, _ = await aws.create_cluster(
        InstanceGroups=[given],
        RestrictedInstanceGroups=[RESTRICTED],
        RestrictedInstanceGroupsConfig={"SharedEnvironmentConfig": shared},
    )
    shown = await aws("sagemaker", "describe_cluster", ClusterName=arn)
    (group,), (restricted,) = shown["InstanceGroups"], shown["RestrictedInstanceGroups"]

    expected: dict[str, Any] = {}
    for name, (value, members) in EVERY_GROUP_MEMBER.items():
        expected |= members or {name: value}
    assert members_of("ClusterInstanceGroupSpecification") == set(EVERY_GROUP_MEMBER)
    assert {name: group.get(name) for name in expected} == expected
    assert members_of("ClusterRestrictedInstanceGroupSpecification") == set(RESTRICTED)
    assert {name: restricted.get(name) for name in RESTRICTED if name != "InstanceCount"} == {
        name: value for name, value in RESTRICTED.items() if name != "InstanceCount"
    }
    assert shown["RestrictedInstanceGroupsConfig"]["SharedEnvironmentConfig"] == {
        f"{prefix}{name}": value for name, value in shared.items() for prefix in ("Current", "Desired")
    }


def members_of(structure: str) -> set[str]:
    """The members of a structure in the SDK's model of SageMaker."""
    shape = botocore.session.get_session().get_service_model("sagemaker").shape_for(structure)
    assert isinstance(shape, StructureShape)
    return set(shape.members)


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
