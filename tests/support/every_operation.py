"""Scenarios for any AWS client: every operation of the emulator once with success, and once with an error."""

import asyncio
import json
import urllib.request
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.kit import files
from tests.support import every_kms_operation
from tests.support.emulator_clients import GROUP, ROLE, ZONE
from tests.support.every_ec2_operation import (
    FURTHER_EC2_ERRORS,
    FURTHER_EC2_OPERATIONS,
    call_further_ec2_operations,
)
from tests.support.every_eks_operation import (
    EKS_AUTH_OPERATIONS,
    EKS_OPERATIONS,
    call_every_eks_operation,
    eks_auth_error_cases,
    eks_error_cases,
)
from tests.support.every_iam_operation import IAM_OPERATIONS, iam_error_cases
from tests.support.every_sagemaker_operation import (
    FURTHER_SAGEMAKER_ERRORS,
    FURTHER_SAGEMAKER_OPERATIONS,
    call_further_sagemaker_operations,
)
from tests.support.every_sts_operation import STS_OPERATIONS, call_every_sts_operation, sts_error_cases

DEFAULT_ENCRYPTION: Final = (
    *("GetEbsEncryptionByDefault", "EnableEbsEncryptionByDefault", "DisableEbsEncryptionByDefault"),
    *("GetEbsDefaultKmsKeyId", "ModifyEbsDefaultKmsKeyId", "ResetEbsDefaultKmsKeyId"),
)
"""The operations of EC2 on encryption by default."""

OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "cloudtrail": frozenset({"LookupEvents"}),
    "ec2": frozenset(
        {
            *("CreateVolume", "DeleteVolume", "AttachVolume", "DetachVolume", "ModifyVolume", "DescribeVolumes"),
            *("DescribeVolumesModifications", "CreateSnapshot", "DeleteSnapshot", "DescribeSnapshots"),
            *("CreateTags", "DeleteTags", "DescribeInstances", "DescribeAvailabilityZones"),
            *("RunInstances", "TerminateInstances", "DescribeInstanceTypes"),
            *DEFAULT_ENCRYPTION,
        }
    )
    | FURTHER_EC2_OPERATIONS,
    "sagemaker": frozenset(
        {
            *("CreateCluster", "DeleteCluster", "DescribeCluster", "ListClusters", "ListClusterNodes"),
            *("DescribeClusterNode", "AttachClusterNodeVolume", "DetachClusterNodeVolume"),
            *("BatchDeleteClusterNodes", "BatchReplaceClusterNodes", "BatchRebootClusterNodes"),
        }
    )
    | FURTHER_SAGEMAKER_OPERATIONS,
    "eks": EKS_OPERATIONS,
    "eks-auth": EKS_AUTH_OPERATIONS,
    "iam": IAM_OPERATIONS,
    "kms": every_kms_operation.OPERATIONS,
    "sts": STS_OPERATIONS,
}
"""The emulated operations by service."""

UNKNOWN_VOLUME: Final = "vol-0123456789abcdef0"
UNKNOWN_INSTANCE: Final = "i-0123456789abcdef0"
UNKNOWN_SNAPSHOT: Final = "snap-0123456789abcdef0"


async def read_called_operations(url: str) -> Mapping[str, frozenset[str]]:
    """Read from the emulator's call log which operations were called, by service."""

    def read() -> list[str]:
        with urllib.request.urlopen(f"{url}/_emulator/calls") as answer:  # noqa: S310 - http, to the emulator
            return list(json.load(answer))

    names = [name.split(":") for name in await files.off_loop(read)]
    services = {service for service, _ in names}
    return {service: frozenset(name for of, name in names if of == service) for service in services}


class Client(Protocol):
    """An AWS client: an SDK or the AWS CLI."""

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """Call the operation and return its answer; only times may differ from JSON."""
        ...

    async def expect_error(self, service: str, operation: str, **members: Any) -> str:
        """Call the operation, which must answer an error; return the error's code."""
        ...


async def run_concurrently(*calls: Coroutine[Any, Any, Any]) -> Sequence[Any]:
    """Run independent calls at the same time and return their answers."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


async def call_every_operation(aws: Client, emulator: Emulator) -> None:
    """Call each operation of an empty emulator except those of IAM, and check the answers."""
    assert (await aws("cloudtrail", "LookupEvents", MaxResults=50))["Events"] is not None
    await call_every_eks_operation(aws, emulator)
    await call_every_sts_operation(aws, emulator)
    await every_kms_operation.call_every_operation(aws)
    await _call_default_encryption(aws)
    await call_further_ec2_operations(aws)
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "app", "Value": "a b&c"}]}]
    identity, types, zones, created, run, _ = await run_concurrently(
        aws("sts", "GetCallerIdentity"),
        aws("ec2", "DescribeInstanceTypes", InstanceTypes=["g5.48xlarge"]),
        aws("ec2", "DescribeAvailabilityZones"),
        aws("ec2", "CreateVolume", AvailabilityZone=ZONE, Size=1, VolumeType="gp3", TagSpecifications=tags),
        aws("ec2", "RunInstances", ImageId="ami-1", InstanceType="m5.large", MinCount=1, MaxCount=1),
        aws("eks", "CreateCluster", name="eks", roleArn=ROLE, resourcesVpcConfig={"subnetIds": []}),
    )
    volume, instance = created["VolumeId"], run["Instances"][0]["InstanceId"]
    assert identity["Account"] == "123456789012"
    assert types["InstanceTypes"][0]["EbsInfo"]["MaximumEbsAttachments"] == 9
    assert [zone["ZoneName"] for zone in zones["AvailabilityZones"]].count(ZONE) == 1

    eks, volumes, instances, _ = await run_concurrently(
        aws("eks", "DescribeCluster", name="eks"),
        aws("ec2", "DescribeVolumes", VolumeIds=[volume]),
        aws("ec2", "DescribeInstances", Filters=[{"Name": "instance-state-name", "Values": ["running"]}]),
        aws("ec2", "CreateTags", Resources=[volume, instance], Tags=[{"Key": "more", "Value": ""}]),
    )
    assert eks["cluster"]["status"] == "ACTIVE"
    assert {"Key": "app", "Value": "a b&c"} in volumes["Volumes"][0]["Tags"]
    assert instances["Reservations"][0]["Instances"][0]["InstanceId"] == instance

    orchestrator = {"Eks": {"ClusterArn": eks["cluster"]["arn"]}}
    attachment, _ = await run_concurrently(
        aws("ec2", "AttachVolume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba"),
        aws("sagemaker", "CreateCluster", ClusterName="hp", InstanceGroups=[GROUP], Orchestrator=orchestrator),
    )
    assert attachment["State"] in {"attaching", "attached"}

    cluster, clusters, nodes, new_snapshot, modification, _ = await run_concurrently(
        aws("sagemaker", "DescribeCluster", ClusterName="hp"),
        aws("sagemaker", "ListClusters", NameContains="h"),
        aws("sagemaker", "ListClusterNodes", ClusterName="hp"),
        aws("ec2", "CreateSnapshot", VolumeId=volume, Description="before"),
        aws("ec2", "ModifyVolume", VolumeId=volume, Size=2),
        aws("ec2", "DeleteTags", Resources=[instance], Tags=[{"Key": "more"}]),
    )
    node, snapshot = nodes["ClusterNodeSummaries"][0]["InstanceId"], new_snapshot["SnapshotId"]
    assert cluster["ClusterStatus"] == clusters["ClusterSummaries"][0]["ClusterStatus"] == "InService"
    assert modification["VolumeModification"]["TargetSize"] == 2

    details, snapshots, modifications, detachment = await run_concurrently(
        aws("sagemaker", "DescribeClusterNode", ClusterName="hp", NodeId=node),
        aws("ec2", "DescribeSnapshots", SnapshotIds=[snapshot]),
        aws("ec2", "DescribeVolumesModifications", VolumeIds=[volume]),
        aws("ec2", "DetachVolume", VolumeId=volume),
    )
    assert details["NodeDetails"]["InstanceStatus"]["Status"] == "Running"
    assert (snapshots["Snapshots"][0]["State"], snapshots["Snapshots"][0]["Description"]) == ("completed", "before")
    assert modifications["VolumesModifications"][0]["ModificationState"] == "completed"
    assert detachment["State"] in {"detaching", "detached"}

    on_node = {"ClusterArn": cluster["ClusterArn"], "NodeId": node, "VolumeId": volume}
    node_attachment, terminated, _ = await run_concurrently(
        aws("sagemaker", "AttachClusterNodeVolume", **on_node),
        aws("ec2", "TerminateInstances", InstanceIds=[instance]),
        aws("ec2", "DeleteSnapshot", SnapshotId=snapshot),
    )
    assert (node_attachment["Status"], node_attachment["DeviceName"]) == ("attached", "/dev/xvdb")
    assert terminated["TerminatingInstances"][0]["CurrentState"]["Name"] == "shutting-down"

    node_detachment = await aws("sagemaker", "DetachClusterNodeVolume", **on_node)
    assert node_detachment["Status"] == "detached"

    await call_further_sagemaker_operations(aws, cluster["ClusterArn"])
    rebooted = await aws("sagemaker", "BatchRebootClusterNodes", ClusterName="hp", NodeIds=[node])
    replaced = await aws("sagemaker", "BatchReplaceClusterNodes", ClusterName="hp", NodeIds=[node])
    (new_node,) = (await aws("sagemaker", "ListClusterNodes", ClusterName="hp"))["ClusterNodeSummaries"]
    deleted = await aws("sagemaker", "BatchDeleteClusterNodes", ClusterName="hp", NodeIds=[new_node["InstanceId"]])
    assert rebooted["Successful"] == replaced["Successful"] == [node]
    assert deleted["Successful"] == [new_node["InstanceId"]] != [node]

    deleted_cluster, _ = await run_concurrently(
        aws("sagemaker", "DeleteCluster", ClusterName="hp"),
        aws("ec2", "DeleteVolume", VolumeId=volume),
    )
    assert deleted_cluster["ClusterArn"] == cluster["ClusterArn"]
    assert (await aws("ec2", "DescribeVolumes"))["Volumes"] == []


async def _call_default_encryption(aws: Client) -> None:
    enabled = await aws("ec2", "EnableEbsEncryptionByDefault")
    shown, modified = await run_concurrently(
        aws("ec2", "GetEbsEncryptionByDefault"),
        aws("ec2", "ModifyEbsDefaultKmsKeyId", KmsKeyId="alias/storage"),
    )
    key = await aws("ec2", "GetEbsDefaultKmsKeyId")
    disabled, reset = await run_concurrently(
        aws("ec2", "DisableEbsEncryptionByDefault"), aws("ec2", "ResetEbsDefaultKmsKeyId")
    )
    assert enabled["EbsEncryptionByDefault"] is shown["EbsEncryptionByDefault"] is True
    assert disabled["EbsEncryptionByDefault"] is False
    assert key["KmsKeyId"] == modified["KmsKeyId"] != reset["KmsKeyId"]


class ErrorCase(NamedTuple):
    """A call that must answer an error."""

    service: str
    operation: str
    members: Mapping[str, Any]
    code: str


_Cases = Mapping[str, tuple[Mapping[str, Any], str]]


def error_cases(*, volume: str, cluster: str, node: str) -> Sequence[ErrorCase]:
    """A case for each operation.

    The emulator must have an available volume, a HyperPod cluster `hp` and an EKS cluster `eks`, and a planned fault
    ExpiredToken for GetCallerIdentity, which has no errors.
    """
    on_node = {"ClusterArn": cluster, "NodeId": node}
    nowhere = {"ClusterName": "nowhere"}
    ec2: _Cases = {
        "CreateVolume": ({"AvailabilityZone": "us-west-2z", "Size": 1}, "InvalidZone.NotFound"),
        "DeleteVolume": ({"VolumeId": UNKNOWN_VOLUME}, "InvalidVolume.NotFound"),
        "AttachVolume": (
            {"VolumeId": volume, "InstanceId": UNKNOWN_INSTANCE, "Device": "/dev/xvdba"},
            "InvalidInstanceID.NotFound",
        ),
        "DetachVolume": ({"VolumeId": volume}, "IncorrectState"),
        "ModifyVolume": ({"VolumeId": volume, "Iops": 1}, "InvalidParameterValue"),
        "DescribeVolumes": ({"VolumeIds": ["vol-x"]}, "InvalidVolumeID.Malformed"),
        "DescribeVolumesModifications": ({"VolumeIds": [volume]}, "InvalidVolumeModification.NotFound"),
        "CreateSnapshot": ({"VolumeId": UNKNOWN_VOLUME}, "InvalidVolume.NotFound"),
        "DeleteSnapshot": ({"SnapshotId": UNKNOWN_SNAPSHOT}, "InvalidSnapshot.NotFound"),
        "DescribeSnapshots": ({"Filters": [{"Name": "colour", "Values": ["red"]}]}, "InvalidParameterValue"),
        "CreateTags": ({"Resources": [volume], "Tags": [{"Key": "aws:x", "Value": ""}]}, "InvalidParameterValue"),
        "DeleteTags": ({"Resources": ["thing-1"]}, "InvalidID"),
        "DescribeInstances": ({"InstanceIds": [UNKNOWN_INSTANCE]}, "InvalidInstanceID.NotFound"),
        "DescribeAvailabilityZones": ({"DryRun": True}, "DryRunOperation"),
        "DescribeInstanceTypes": ({"InstanceTypes": ["z9.large"]}, "InvalidInstanceType"),
        "RunInstances": (
            {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1, "SubnetId": "subnet-x"},
            "InvalidSubnetID.NotFound",
        ),
        "TerminateInstances": ({"InstanceIds": ["i-x"]}, "InvalidInstanceID.Malformed"),
        **{
            name: ({"DryRun": True, **({"KmsKeyId": "k"} if name.startswith("Modify") else {})}, "DryRunOperation")
            for name in DEFAULT_ENCRYPTION
        },
        **FURTHER_EC2_ERRORS,
    }
    sagemaker: _Cases = {
        "CreateCluster": ({"ClusterName": "hp", "InstanceGroups": [GROUP]}, "ResourceInUse"),
        "DeleteCluster": (nowhere, "ResourceNotFound"),
        "DescribeCluster": (nowhere, "ResourceNotFound"),
        "ListClusters": ({"MaxResults": 101}, "ValidationException"),
        "ListClusterNodes": (nowhere, "ResourceNotFound"),
        "DescribeClusterNode": ({"ClusterName": "hp", "NodeId": UNKNOWN_INSTANCE}, "ResourceNotFound"),
        "BatchDeleteClusterNodes": ({"ClusterName": "nowhere", "NodeIds": [node]}, "ResourceNotFound"),
        "BatchReplaceClusterNodes": ({"ClusterName": "hp"}, "ValidationException"),
        "BatchRebootClusterNodes": ({"ClusterName": "hp", "NodeLogicalIds": ["one"]}, "ValidationException"),
        "AttachClusterNodeVolume": ({**on_node, "VolumeId": UNKNOWN_VOLUME}, "ValidationException"),
        "DetachClusterNodeVolume": ({**on_node, "VolumeId": volume}, "ValidationException"),
        **FURTHER_SAGEMAKER_ERRORS,
    }
    return [
        ErrorCase(service, operation, members, code)
        for service, cases in (
            ("cloudtrail", {"LookupEvents": ({"NextToken": "x"}, "InvalidNextTokenException")}),
            ("ec2", ec2),
            ("sagemaker", sagemaker),
            ("eks", eks_error_cases(ROLE)),
            ("eks-auth", eks_auth_error_cases()),
            ("iam", iam_error_cases()),
            ("kms", every_kms_operation.ERRORS),
            ("sts", sts_error_cases(ROLE)),
        )
        for operation, (members, code) in cases.items()
    ]


async def check_every_error(aws: Client, cases: Sequence[ErrorCase]) -> None:
    """Make the calls of `cases`, and check the codes of the errors."""
    calls = [aws.expect_error(case.service, case.operation, **case.members) for case in cases]

    codes = await run_concurrently(*calls)

    assert {(case.service, case.operation): code for case, code in zip(cases, codes, strict=True)} == {
        (case.service, case.operation): case.code for case in cases
    }
