"""DryRun on every operation of EC2, and operations whose permission takes no resource."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore import xform_name

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.callers import Caller, resources
from tests.support.emulator_clients import ZONE, Aws
from tests.support.every_operation import OPERATIONS

ANY_RESOURCE: Final = "arn:aws:ec2:*"
"""Each resource of EC2; an action without a resource type is allowed only on `*`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """The resources of the calls."""

    volume: str
    attached: str
    snapshot: str
    instance: str

    @classmethod
    async def create(cls, aws: Aws) -> "Ids":
        """Create an available volume, one that is attached to an instance, and a snapshot."""
        volume, attached = await aws.create_volume(), await aws.create_volume()
        instance = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
        await aws.ec2("attach_volume", VolumeId=attached, InstanceId=instance, Device="/dev/sdf")
        await aws.ec2("describe_volumes")
        snapshot = (await aws.ec2("create_snapshot", VolumeId=volume))["SnapshotId"]
        await aws.ec2("describe_snapshots")
        return cls(volume=volume, attached=attached, snapshot=snapshot, instance=instance)


ON_RESOURCES: Final[Mapping[str, Callable[[Ids], Mapping[str, Any]]]] = {
    "AttachVolume": lambda ids: {"VolumeId": ids.volume, "InstanceId": ids.instance, "Device": "/dev/sdg"},
    "CopySnapshot": lambda ids: {"SourceRegion": "us-west-2", "SourceSnapshotId": ids.snapshot},
    "CreateSnapshot": lambda ids: {"VolumeId": ids.attached},
    "CreateTags": lambda ids: {"Resources": [ids.volume], "Tags": [{"Key": "a", "Value": "b"}]},
    "CreateVolume": lambda _: {"AvailabilityZone": ZONE, "Size": 1},
    "DeleteSnapshot": lambda ids: {"SnapshotId": ids.snapshot},
    "DeleteTags": lambda ids: {"Resources": [ids.volume]},
    "DeleteVolume": lambda ids: {"VolumeId": ids.volume},
    "DescribeSnapshotAttribute": lambda ids: {"SnapshotId": ids.snapshot, "Attribute": "createVolumePermission"},
    "DescribeVolumeAttribute": lambda ids: {"VolumeId": ids.volume, "Attribute": "autoEnableIO"},
    "DetachVolume": lambda ids: {"VolumeId": ids.attached},
    "ModifyInstanceMetadataOptions": lambda ids: {"InstanceId": ids.instance, "HttpTokens": "optional"},
    "ModifySnapshotAttribute": lambda ids: {"SnapshotId": ids.snapshot, "OperationType": "add", "GroupNames": ["all"]},
    "ModifyVolume": lambda ids: {"VolumeId": ids.volume, "Size": 2},
    "ResetSnapshotAttribute": lambda ids: {"SnapshotId": ids.snapshot, "Attribute": "createVolumePermission"},
    "RunInstances": lambda _: {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1},
    "StartInstances": lambda ids: {"InstanceIds": [ids.instance]},
    "StopInstances": lambda ids: {"InstanceIds": [ids.instance]},
    "TerminateInstances": lambda ids: {"InstanceIds": [ids.instance]},
}
"""Calls of the operations with resource types, by the Service Authorization Reference."""

WITHOUT_RESOURCE: Final[Mapping[str, Mapping[str, Any]]] = {
    **{name: {} for name in OPERATIONS["ec2"] - ON_RESOURCES.keys()},
    "ModifyEbsDefaultKmsKeyId": {"KmsKeyId": "alias/aws/ebs"},
}
"""Calls of the other operations."""


async def test_a_dry_run_of_each_operation_tells_whether_the_caller_is_allowed(emulator: Emulator, aws: Aws) -> None:
    """EC2 API reference, DryRun: DryRunOperation or UnauthorizedOperation, and nothing changes."""
    ids, caller = await Ids.create(aws), await Caller.create(emulator)
    calls = {**WITHOUT_RESOURCE, **{name: members(ids) for name, members in ON_RESOURCES.items()}}
    before = resources(emulator)

    async def codes(*policy: Mapping[str, Any], **extra: bool) -> Mapping[str, str]:
        caller.allow(list(policy))
        return {
            name: (await caller.aws.expect_error("ec2", xform_name(name), **members, **extra))[0]
            for name, members in calls.items()
        }

    refused = await codes()
    refused_dry_runs = await codes(DryRun=True)
    allowed_dry_runs = await codes({"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}, DryRun=True)

    assert set(calls) == OPERATIONS["ec2"]
    assert refused == refused_dry_runs == dict.fromkeys(calls, "UnauthorizedOperation")
    assert allowed_dry_runs == dict.fromkeys(calls, "DryRunOperation")
    assert resources(emulator) == before


async def test_an_operation_without_a_resource_type_is_allowed_only_on_all_resources(
    emulator: Emulator, aws: Aws
) -> None:
    """Service Authorization Reference, EC2: most Describe actions, and those about encryption by default."""
    ids, caller = await Ids.create(aws), await Caller.create(emulator)
    caller.allow([{"Effect": "Allow", "Action": "ec2:*", "Resource": ANY_RESOURCE}])

    without = {
        name: (await caller.aws.expect_error("ec2", xform_name(name), **members, DryRun=True))[0]
        for name, members in WITHOUT_RESOURCE.items()
    }
    others = {
        name: (await caller.aws.expect_error("ec2", xform_name(name), **members(ids), DryRun=True))[0]
        for name, members in ON_RESOURCES.items()
    }

    assert without == dict.fromkeys(WITHOUT_RESOURCE, "UnauthorizedOperation")
    assert others == dict.fromkeys(ON_RESOURCES, "DryRunOperation")
