"""Every operation of the emulator, each asked for once with success and refused once, by whatever client."""

import asyncio
import json
import urllib.request
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from hyperpod_ebs.kit import files
from tests.support.emulator_clients import GROUP, ROLE, ZONE

OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "ec2": frozenset(
        {
            *("CreateVolume", "DeleteVolume", "AttachVolume", "DetachVolume", "ModifyVolume", "DescribeVolumes"),
            *("DescribeVolumesModifications", "CreateSnapshot", "DeleteSnapshot", "DescribeSnapshots"),
            *("CreateTags", "DeleteTags", "DescribeInstances", "DescribeAvailabilityZones"),
            *("RunInstances", "TerminateInstances", "DescribeInstanceTypes"),
        }
    ),
    "sagemaker": frozenset(
        {
            *("CreateCluster", "DeleteCluster", "DescribeCluster", "ListClusters", "ListClusterNodes"),
            *("DescribeClusterNode", "AttachClusterNodeVolume", "DetachClusterNodeVolume"),
            *("BatchDeleteClusterNodes", "BatchReplaceClusterNodes", "BatchRebootClusterNodes"),
        }
    ),
    "eks": frozenset({"CreateCluster", "DescribeCluster"}),
    "sts": frozenset({"GetCallerIdentity"}),
}
"""What the emulator promises, by service."""

UNKNOWN_VOLUME: Final = "vol-0123456789abcdef0"
UNKNOWN_INSTANCE: Final = "i-0123456789abcdef0"
UNKNOWN_SNAPSHOT: Final = "snap-0123456789abcdef0"


async def called(url: str) -> Mapping[str, frozenset[str]]:
    """Which operations the emulator at `url` was asked for, by service."""

    def read() -> list[str]:
        with urllib.request.urlopen(f"{url}/_emulator/calls") as answer:  # noqa: S310 - our own http
            return list(json.load(answer))

    names = [name.split(":") for name in await files.off_loop(read)]
    services = {service for service, _ in names}
    return {service: frozenset(name for of, name in names if of == service) for service in services}


class Client(Protocol):
    """Whoever asks AWS."""

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """What the service answers, as JSON would have it but for times."""
        ...

    async def refused(self, service: str, operation: str, **members: Any) -> str:
        """The code with which the service refuses."""
        ...


async def together(*calls: Coroutine[Any, Any, Any]) -> Sequence[Any]:
    """The answers of calls that do not depend on each other."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


async def asked_for_everything(aws: Client) -> None:
    """Ask an emulator with nothing in it for each operation, and look at the answers."""
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "app", "Value": "a b&c"}]}]
    who, types, zones, made, run, _ = await together(
        aws("sts", "GetCallerIdentity"),
        aws("ec2", "DescribeInstanceTypes", InstanceTypes=["g5.48xlarge"]),
        aws("ec2", "DescribeAvailabilityZones"),
        aws("ec2", "CreateVolume", AvailabilityZone=ZONE, Size=1, VolumeType="gp3", TagSpecifications=tags),
        aws("ec2", "RunInstances", ImageId="ami-1", InstanceType="m5.large", MinCount=1, MaxCount=1),
        aws("eks", "CreateCluster", name="eks", roleArn=ROLE, resourcesVpcConfig={"subnetIds": []}),
    )
    volume, instance = made["VolumeId"], run["Instances"][0]["InstanceId"]
    assert who["Account"] == "123456789012"
    assert types["InstanceTypes"][0]["EbsInfo"]["MaximumEbsAttachments"] == 9
    assert [zone["ZoneName"] for zone in zones["AvailabilityZones"]].count(ZONE) == 1

    eks, volumes, instances, _ = await together(
        aws("eks", "DescribeCluster", name="eks"),
        aws("ec2", "DescribeVolumes", VolumeIds=[volume]),
        aws("ec2", "DescribeInstances", Filters=[{"Name": "instance-state-name", "Values": ["running"]}]),
        aws("ec2", "CreateTags", Resources=[volume, instance], Tags=[{"Key": "more", "Value": ""}]),
    )
    assert eks["cluster"]["status"] == "ACTIVE"
    assert {"Key": "app", "Value": "a b&c"} in volumes["Volumes"][0]["Tags"]
    assert instances["Reservations"][0]["Instances"][0]["InstanceId"] == instance

    orchestrator = {"Eks": {"ClusterArn": eks["cluster"]["arn"]}}
    attached, _ = await together(
        aws("ec2", "AttachVolume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba"),
        aws("sagemaker", "CreateCluster", ClusterName="hp", InstanceGroups=[GROUP], Orchestrator=orchestrator),
    )
    assert attached["State"] in {"attaching", "attached"}

    cluster, clusters, nodes, taken, changed, _ = await together(
        aws("sagemaker", "DescribeCluster", ClusterName="hp"),
        aws("sagemaker", "ListClusters", NameContains="h"),
        aws("sagemaker", "ListClusterNodes", ClusterName="hp"),
        aws("ec2", "CreateSnapshot", VolumeId=volume, Description="before"),
        aws("ec2", "ModifyVolume", VolumeId=volume, Size=2),
        aws("ec2", "DeleteTags", Resources=[instance], Tags=[{"Key": "more"}]),
    )
    node, snapshot = nodes["ClusterNodeSummaries"][0]["InstanceId"], taken["SnapshotId"]
    assert cluster["ClusterStatus"] == clusters["ClusterSummaries"][0]["ClusterStatus"] == "InService"
    assert changed["VolumeModification"]["TargetSize"] == 2

    details, snapshots, changes, detached = await together(
        aws("sagemaker", "DescribeClusterNode", ClusterName="hp", NodeId=node),
        aws("ec2", "DescribeSnapshots", SnapshotIds=[snapshot]),
        aws("ec2", "DescribeVolumesModifications", VolumeIds=[volume]),
        aws("ec2", "DetachVolume", VolumeId=volume),
    )
    assert details["NodeDetails"]["InstanceStatus"]["Status"] == "Running"
    assert (snapshots["Snapshots"][0]["State"], snapshots["Snapshots"][0]["Description"]) == ("completed", "before")
    assert changes["VolumesModifications"][0]["ModificationState"] == "completed"
    assert detached["State"] in {"detaching", "detached"}

    on_node = {"ClusterArn": cluster["ClusterArn"], "NodeId": node, "VolumeId": volume}
    held, ended, _ = await together(
        aws("sagemaker", "AttachClusterNodeVolume", **on_node),
        aws("ec2", "TerminateInstances", InstanceIds=[instance]),
        aws("ec2", "DeleteSnapshot", SnapshotId=snapshot),
    )
    assert (held["Status"], held["DeviceName"]) == ("attached", "/dev/xvdb")
    assert ended["TerminatingInstances"][0]["CurrentState"]["Name"] == "shutting-down"

    released = await aws("sagemaker", "DetachClusterNodeVolume", **on_node)
    assert released["Status"] == "detached"

    rebooted = await aws("sagemaker", "BatchRebootClusterNodes", ClusterName="hp", NodeIds=[node])
    replaced = await aws("sagemaker", "BatchReplaceClusterNodes", ClusterName="hp", NodeIds=[node])
    (fresh,) = (await aws("sagemaker", "ListClusterNodes", ClusterName="hp"))["ClusterNodeSummaries"]
    deleted = await aws("sagemaker", "BatchDeleteClusterNodes", ClusterName="hp", NodeIds=[fresh["InstanceId"]])
    assert rebooted["Successful"] == replaced["Successful"] == [node]
    assert deleted["Successful"] == [fresh["InstanceId"]] != [node]

    gone, _ = await together(
        aws("sagemaker", "DeleteCluster", ClusterName="hp"),
        aws("ec2", "DeleteVolume", VolumeId=volume),
    )
    assert gone["ClusterArn"] == cluster["ClusterArn"]
    assert (await aws("ec2", "DescribeVolumes"))["Volumes"] == []


class Refusal(NamedTuple):
    """A call that is refused."""

    service: str
    operation: str
    members: Mapping[str, Any]
    code: str


_Cases = Mapping[str, tuple[Mapping[str, Any], str]]


def refusals(*, volume: str, cluster: str, node: str) -> Sequence[Refusal]:
    """One for each operation, where there are an available volume, a HyperPod cluster `hp` and an EKS cluster `eks`.

    STS refuses nothing of its own accord: there, ExpiredToken is to be planned.
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
        "RunInstances": ({"MinCount": 1, "MaxCount": 1, "SubnetId": "subnet-x"}, "InvalidSubnetID.NotFound"),
        "TerminateInstances": ({"InstanceIds": ["i-x"]}, "InvalidInstanceID.Malformed"),
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
    }
    eks: _Cases = {
        "CreateCluster": ({"name": "eks", "roleArn": ROLE, "resourcesVpcConfig": {}}, "ResourceInUseException"),
        "DescribeCluster": ({"name": "nowhere"}, "ResourceNotFoundException"),
    }
    sts: _Cases = {"GetCallerIdentity": ({}, "ExpiredToken")}
    return [
        Refusal(service, operation, members, code)
        for service, cases in (("ec2", ec2), ("sagemaker", sagemaker), ("eks", eks), ("sts", sts))
        for operation, (members, code) in cases.items()
    ]


async def refused_everything(aws: Client, cases: Sequence[Refusal]) -> None:
    """Ask for what is refused, and look at the codes."""
    asked = [aws.refused(case.service, case.operation, **case.members) for case in cases]

    codes = await together(*asked)

    assert {(one.service, one.operation): code for one, code in zip(cases, codes, strict=True)} == {
        (one.service, one.operation): one.code for one in cases
    }
