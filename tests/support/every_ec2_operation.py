"""The operations of EC2 about instances, attributes and statuses, each once with success and once with an error."""

from collections.abc import Mapping
from typing import Any, Final, Protocol


class Client(Protocol):
    """An AWS client: an SDK or the AWS CLI."""

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """Call the operation and return its answer."""
        ...


UNKNOWN_INSTANCE: Final = "i-0123456789abcdef0"

UNKNOWN_SNAPSHOT: Final = "snap-0123456789abcdef0"

FURTHER_EC2_OPERATIONS: Final = frozenset(
    {
        *("CopySnapshot", "DescribeInstanceStatus", "DescribeRegions", "DescribeSnapshotAttribute", "DescribeTags"),
        *("DescribeVolumeAttribute", "DescribeVolumeStatus", "ModifyInstanceMetadataOptions"),
        *("ModifySnapshotAttribute", "ResetSnapshotAttribute", "StartInstances", "StopInstances"),
    }
)

FURTHER_EC2_ERRORS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "CopySnapshot": (
        {"SourceRegion": "us-west-2", "SourceSnapshotId": UNKNOWN_SNAPSHOT},
        "InvalidSnapshot.NotFound",
    ),
    "DescribeInstanceStatus": ({"InstanceIds": [UNKNOWN_INSTANCE]}, "InvalidInstanceID.NotFound"),
    "DescribeRegions": ({"RegionNames": ["nowhere"]}, "InvalidParameterValue"),
    "DescribeSnapshotAttribute": (
        {"SnapshotId": UNKNOWN_SNAPSHOT, "Attribute": "productCodes"},
        "InvalidSnapshot.NotFound",
    ),
    "DescribeTags": ({"Filters": [{"Name": "colour", "Values": ["red"]}]}, "InvalidParameterValue"),
    "DescribeVolumeAttribute": (
        {"VolumeId": "vol-0123456789abcdef0", "Attribute": "autoEnableIO"},
        "InvalidVolume.NotFound",
    ),
    "DescribeVolumeStatus": ({"VolumeIds": ["vol-0123456789abcdef0"]}, "InvalidVolume.NotFound"),
    "ModifyInstanceMetadataOptions": ({"InstanceId": UNKNOWN_INSTANCE}, "InvalidInstanceID.NotFound"),
    "ModifySnapshotAttribute": ({"SnapshotId": UNKNOWN_SNAPSHOT}, "InvalidSnapshot.NotFound"),
    "ResetSnapshotAttribute": (
        {"SnapshotId": UNKNOWN_SNAPSHOT, "Attribute": "createVolumePermission"},
        "InvalidSnapshot.NotFound",
    ),
    "StartInstances": ({"InstanceIds": [UNKNOWN_INSTANCE]}, "InvalidInstanceID.NotFound"),
    "StopInstances": ({"InstanceIds": [UNKNOWN_INSTANCE]}, "InvalidInstanceID.NotFound"),
}
"""For each operation, members of a call that must fail, and the error's code."""


async def call_further_ec2_operations(aws: Client) -> None:
    """Call each of the operations, and check the answers."""
    await _call_snapshot_operations(aws)
    run = await aws("ec2", "RunInstances", ImageId="ami-1", MinCount=1, MaxCount=1)
    by_id = {"InstanceIds": [run["Instances"][0]["InstanceId"]]}
    await aws("ec2", "DescribeInstances", **by_id)
    statuses = await aws("ec2", "DescribeInstanceStatus", **by_id)
    regions = await aws("ec2", "DescribeRegions")
    assert statuses["InstanceStatuses"][0]["InstanceStatus"]["Status"] == "ok"
    assert regions["Regions"][0]["RegionName"] == "us-west-2"
    (instance,) = by_id["InstanceIds"]
    options = await aws("ec2", "ModifyInstanceMetadataOptions", InstanceId=instance, HttpPutResponseHopLimit=1)
    assert options["InstanceMetadataOptions"]["HttpPutResponseHopLimit"] == 1
    stopped = await aws("ec2", "StopInstances", **by_id)
    await aws("ec2", "DescribeInstances", **by_id)
    started = await aws("ec2", "StartInstances", **by_id)
    await aws("ec2", "TerminateInstances", **by_id)
    assert stopped["StoppingInstances"][0]["PreviousState"]["Name"] == "running"
    assert started["StartingInstances"][0]["PreviousState"]["Name"] == "stopped"


async def _call_snapshot_operations(aws: Client) -> None:
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]
    created = await aws("ec2", "CreateVolume", AvailabilityZone="us-west-2a", Size=1, TagSpecifications=tags)
    volume = created["VolumeId"]
    await aws("ec2", "DescribeVolumes")
    status = await aws("ec2", "DescribeVolumeStatus", VolumeIds=[volume])
    attribute = await aws("ec2", "DescribeVolumeAttribute", VolumeId=volume, Attribute="autoEnableIO")
    listed = await aws("ec2", "DescribeTags")
    assert status["VolumeStatuses"][0]["VolumeStatus"]["Status"] == "ok"
    assert attribute["AutoEnableIO"] == {"Value": False}
    assert [tag["ResourceId"] for tag in listed["Tags"]] == [volume]

    snapshot = (await aws("ec2", "CreateSnapshot", VolumeId=volume))["SnapshotId"]
    await aws("ec2", "DescribeSnapshots")
    shared = {"SnapshotId": snapshot, "Attribute": "createVolumePermission"}
    await aws("ec2", "ModifySnapshotAttribute", **shared, OperationType="add", UserIds=["210987654321"])
    permissions = await aws("ec2", "DescribeSnapshotAttribute", **shared)
    await aws("ec2", "ResetSnapshotAttribute", **shared)
    copied = await aws("ec2", "CopySnapshot", SourceRegion="us-west-2", SourceSnapshotId=snapshot)
    assert permissions["CreateVolumePermissions"] == [{"UserId": "210987654321"}]
    for each in (snapshot, copied["SnapshotId"]):
        await aws("ec2", "DeleteSnapshot", SnapshotId=each)
    await aws("ec2", "DeleteVolume", VolumeId=volume)
    await aws("ec2", "DescribeVolumes")
