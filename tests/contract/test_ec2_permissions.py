"""What calls of EC2 need: exactly the listed statements let each call through."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ClientError

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity import access_denied
from tests.support.callers import Caller, Grant, resources
from tests.support.emulator_clients import ZONE, Aws
from tests.support.every_operation import UNKNOWN_SNAPSHOT, UNKNOWN_VOLUME

TAG: Final = {"Key": "team", "Value": "ml"}
OWN: Final = {"ec2:ResourceTag/team": "ml", "aws:ResourceTag/team": "ml", "ec2:Region": "us-west-2"}
NEW: Final = {"aws:RequestTag/team": "ml", "aws:TagKeys": "team"}
IN_ZONE: Final = {"ec2:AvailabilityZone": ZONE, "ec2:AvailabilityZoneId": "usw2-az1"}


def arn(kind: str, id_: str = "*") -> str:
    """The ARN of a resource of EC2."""
    account = "" if kind in {"snapshot", "image"} else "123456789012"
    return f"arn:aws:ec2:us-west-2:{account}:{kind}/{id_}"


def tags(kind: str) -> list[dict[str, Any]]:
    """The tag as a TagSpecifications member."""
    return [{"ResourceType": kind, "Tags": [TAG]}]


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources with the tag; the second volume is attached to the instance."""

    volume: str
    attached: str
    snapshot: str
    instance: str

    @classmethod
    async def create(cls, aws: Aws) -> "Resources":
        """Create the resources as the administrator."""
        volume, attached = [await aws.create_volume(Size=4, TagSpecifications=tags("volume")) for _ in range(2)]
        snapshot = (await aws.ec2("create_snapshot", VolumeId=volume, TagSpecifications=tags("snapshot")))["SnapshotId"]
        instance = await aws.run_instance(
            InstanceType="m5.large", Placement={"AvailabilityZone": ZONE}, TagSpecifications=tags("instance")
        )
        await aws.ec2("attach_volume", VolumeId=attached, InstanceId=instance, Device="/dev/sdg")
        await aws.ec2("describe_volumes")
        return cls(volume, attached, snapshot, instance)


@dataclass(frozen=True, slots=True)
class Case:
    """A call, and the grants that are just enough for it."""

    operation: str
    members: Callable[[Resources], Mapping[str, Any]]
    grants: Callable[[Resources], Sequence[Grant]]


def grant(action: str, kind: str, id_: str = "*", **conditions: Mapping[str, str]) -> Grant:
    """A grant of an action on a resource; the names of the groups of conditions are only for the reader."""
    merged = {key: value for group in conditions.values() for key, value in group.items()}
    return Grant(actions=[f"ec2:{action}"], resource=arn(kind, id_), conditions=merged)


def on_volume(action: str, id_: str, **more: str) -> Grant:
    """A grant on one of the tagged volumes."""
    properties = {
        "ec2:Encrypted": "false",
        "ec2:VolumeID": id_,
        "ec2:VolumeIops": "3000",
        "ec2:VolumeSize": "4",
        "ec2:VolumeThroughput": "125",
        "ec2:VolumeType": "gp3",
    }
    return grant(action, "volume", id_, own=OWN, zone=IN_ZONE, properties=properties, more=more)


def on_snapshot(action: str, at: Resources, **more: str) -> Grant:
    """A grant on the tagged snapshot."""
    properties = {
        "ec2:Owner": "123456789012",
        "ec2:ParentVolume": arn("volume", at.volume),
        "ec2:VolumeSize": "4",
    }
    return grant(action, "snapshot", at.snapshot, own=OWN, properties=properties, more=more)


def on_instance(action: str, id_: str, **more: str) -> Grant:
    """A grant on the tagged instance."""
    properties = {
        "ec2:InstanceID": id_,
        "ec2:InstanceType": "m5.large",
        "ec2:MetadataHttpEndpoint": "enabled",
        "ec2:MetadataHttpPutResponseHopLimit": "2",
        "ec2:MetadataHttpTokens": "required",
        "ec2:Tenancy": "default",
    }
    return grant(action, "instance", id_, own=OWN, zone=IN_ZONE, properties=properties, more=more)


def describe_case(name: str) -> Case:
    """A call that describes all resources."""
    action = f"ec2:Describe{name.title().replace('_', '')}"
    return Case(f"describe_{name}", lambda _: {}, lambda _: [Grant(actions=[action])])


CASES: Final = [
    Case(
        "create_volume",
        lambda at: {
            "AvailabilityZoneId": "usw2-az1",
            "SnapshotId": at.snapshot,
            "VolumeType": "gp3",
            "Iops": 3000,
            "Throughput": 250,
            "VolumeInitializationRate": 100,
            "TagSpecifications": tags("volume"),
        },
        lambda at: [
            grant(
                "CreateVolume",
                "volume",
                tags=NEW,
                zone=IN_ZONE,
                properties={
                    "ec2:Encrypted": "false",
                    "ec2:ParentSnapshot": arn("snapshot", at.snapshot),
                    "ec2:VolumeInitializationRate": "100",
                    "ec2:VolumeIops": "3000",
                    "ec2:VolumeSize": "4",
                    "ec2:VolumeThroughput": "250",
                    "ec2:VolumeType": "gp3",
                },
            ),
            on_snapshot("CreateVolume", at),
            grant("CreateTags", "volume", tags=NEW, create={"ec2:CreateAction": "CreateVolume"}),
        ],
    ),
    Case("delete_volume", lambda at: {"VolumeId": at.volume}, lambda at: [on_volume("DeleteVolume", at.volume)]),
    Case(
        "attach_volume",
        lambda at: {"VolumeId": at.volume, "InstanceId": at.instance, "Device": "/dev/sdf"},
        lambda at: [on_volume("AttachVolume", at.volume), on_instance("AttachVolume", at.instance)],
    ),
    Case(
        "detach_volume",
        lambda at: {"VolumeId": at.attached},
        lambda at: [on_volume("DetachVolume", at.attached), on_instance("DetachVolume", at.instance)],
    ),
    Case(
        "modify_volume",
        lambda at: {"VolumeId": at.volume, "Size": 5},
        lambda at: [on_volume("ModifyVolume", at.volume, **{"ec2:Attribute": "Size", "ec2:Attribute/Size": "5"})],
    ),
    Case(
        "create_snapshot",
        lambda at: {"VolumeId": at.attached, "TagSpecifications": tags("snapshot")},
        lambda at: [
            on_volume("CreateSnapshot", at.attached),
            grant(
                "CreateSnapshot",
                "snapshot",
                tags=NEW,
                properties={
                    "ec2:ParentVolume": arn("volume", at.attached),
                    "ec2:SourceAvailabilityZone": ZONE,
                    "ec2:VolumeSize": "4",
                },
            ),
            grant("CreateTags", "snapshot", tags=NEW, create={"ec2:CreateAction": "CreateSnapshot"}),
        ],
    ),
    Case("delete_snapshot", lambda at: {"SnapshotId": at.snapshot}, lambda at: [on_snapshot("DeleteSnapshot", at)]),
    Case(
        "create_tags",
        lambda at: {"Resources": [at.volume, at.snapshot, at.instance], "Tags": [{"Key": "stage", "Value": "test"}]},
        lambda at: [
            on_volume("CreateTags", at.volume, **{"aws:RequestTag/stage": "test", "aws:TagKeys": "stage"}),
            on_snapshot("CreateTags", at, **{"aws:RequestTag/stage": "test", "aws:TagKeys": "stage"}),
            on_instance("CreateTags", at.instance),
        ],
    ),
    Case(
        "delete_tags",
        lambda at: {"Resources": [at.volume, at.snapshot], "Tags": [{"Key": "team"}]},
        lambda at: [
            grant("DeleteTags", "volume", at.volume, own=OWN, tags={"aws:TagKeys": "team"}),
            grant("DeleteTags", "snapshot", at.snapshot, own=OWN, tags={"aws:TagKeys": "team"}),
        ],
    ),
    Case(
        "run_instances",
        lambda _: {
            "ImageId": "ami-1",
            "InstanceType": "m5.large",
            "MinCount": 1,
            "MaxCount": 1,
            "SubnetId": "subnet-0000000000000000a",
            "TagSpecifications": tags("instance"),
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        },
        lambda _: [
            grant(
                "RunInstances",
                "instance",
                tags=NEW,
                zone=IN_ZONE,
                properties={
                    "ec2:InstanceType": "m5.large",
                    "ec2:MetadataHttpPutResponseHopLimit": "1",
                    "ec2:MetadataHttpTokens": "required",
                    "ec2:RootDeviceType": "ebs",
                },
            ),
            grant("RunInstances", "image", "ami-1", image={"ec2:ImageID": "ami-1"}),
            grant("RunInstances", "subnet", "subnet-0000000000000000a", zone=IN_ZONE),
            grant(
                "RunInstances",
                "network-interface",
                network={"ec2:Subnet": arn("subnet", "subnet-0000000000000000a")},
            ),
            grant(
                "RunInstances",
                "security-group",
                "sg-00000000000000001",
                network={"ec2:Vpc": arn("vpc", "vpc-00000000000000001")},
            ),
            grant("RunInstances", "volume", zone=IN_ZONE, properties={"ec2:Encrypted": "false"}),
            grant("CreateTags", "instance", tags=NEW, create={"ec2:CreateAction": "RunInstances"}),
        ],
    ),
    Case(
        "copy_snapshot",
        lambda at: {
            "SourceRegion": "us-west-2",
            "SourceSnapshotId": at.snapshot,
            "TagSpecifications": tags("snapshot"),
        },
        lambda at: [
            on_snapshot("CopySnapshot", at),
            grant(
                "CopySnapshot",
                "snapshot",
                tags=NEW,
                properties={"ec2:ParentSnapshot": arn("snapshot", at.snapshot), "ec2:VolumeSize": "4"},
            ),
            grant("CreateTags", "snapshot", tags=NEW, create={"ec2:CreateAction": "CopySnapshot"}),
        ],
    ),
    Case(
        "modify_snapshot_attribute",
        lambda at: {
            "SnapshotId": at.snapshot,
            "CreateVolumePermission": {"Add": [{"UserId": "210987654321"}]},
        },
        lambda at: [on_snapshot("ModifySnapshotAttribute", at, **{"ec2:Add/userId": "210987654321"})],
    ),
    Case(
        "reset_snapshot_attribute",
        lambda at: {"SnapshotId": at.snapshot, "Attribute": "createVolumePermission"},
        lambda at: [on_snapshot("ResetSnapshotAttribute", at)],
    ),
    Case(
        "describe_volume_attribute",
        lambda at: {"VolumeId": at.volume, "Attribute": "autoEnableIO"},
        lambda at: [on_volume("DescribeVolumeAttribute", at.volume)],
    ),
    Case(
        "modify_instance_metadata_options",
        lambda at: {"InstanceId": at.instance, "HttpTokens": "optional"},
        lambda at: [
            on_instance(
                "ModifyInstanceMetadataOptions",
                at.instance,
                **{"ec2:Attribute": "HttpTokens", "ec2:Attribute/HttpTokens": "optional"},
            )
        ],
    ),
    Case(
        "stop_instances",
        lambda at: {"InstanceIds": [at.instance]},
        lambda at: [on_instance("StopInstances", at.instance)],
    ),
    Case(
        "start_instances",
        lambda at: {"InstanceIds": [at.instance]},
        lambda at: [on_instance("StartInstances", at.instance)],
    ),
    Case(
        "terminate_instances",
        lambda at: {"InstanceIds": [at.instance]},
        lambda at: [on_instance("TerminateInstances", at.instance)],
    ),
    *(
        describe_case(name)
        for name in (
            "volumes",
            "snapshots",
            "instances",
            "instance_types",
            "availability_zones",
            "volumes_modifications",
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operation)
async def test_a_call_needs_each_of_its_permissions(case: Case, emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, EC2: a refused call names the action and the resource, and changes nothing."""
    at, caller = await Resources.create(aws), await Caller.create(emulator)
    grants, members = list(case.grants(at)), case.members(at)
    before = resources(emulator)

    for number, missing in enumerate(grants):
        others = [each.statement for each in grants[:number] + grants[number + 1 :]]
        narrowed = [missing.other_value_of(key).statement for key in missing.conditions]
        for statements in (others, *([*others, each] for each in narrowed)):
            caller.allow(statements)
            await check_denied(caller, case.operation, members, missing)
            if not case.operation.startswith("describe"):
                await check_denied(caller, case.operation, {**members, "DryRun": True}, missing)
    unchanged = resources(emulator) == before
    caller.allow([each.statement for each in grants])
    dry_run = await caller.aws.expect_error("ec2", case.operation, **members, DryRun=True)
    await caller.aws.ec2(case.operation, **members)

    assert unchanged
    assert dry_run[0] == "DryRunOperation"


async def check_denied(caller: Caller, operation: str, members: Mapping[str, Any], missing: Grant) -> None:
    """Check that the call is refused because of the missing grant, in the text and in the encoded message."""
    code, text = await caller.aws.expect_error("ec2", operation, **members)
    (action,) = missing.actions
    reason, encoded, message = text.partition(" Encoded authorization failure message: ")

    assert code == "UnauthorizedOperation", missing
    where = "" if missing.resource == "*" else f" on resource: {missing.resource}"
    assert f"user/caller is not authorized to perform: {action}{where} because" in reason
    if missing.resource != "*":
        assert encoded
        context = json.loads(access_denied.decode(message))["context"]
        assert (context["action"], context["resource"]) == (action, missing.resource)


async def test_a_describe_call_is_allowed_only_on_all_resources(emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, EC2: Describe actions have no resource types."""
    volume, caller = await aws.create_volume(), await Caller.create(emulator)

    caller.allow([Grant(actions=["ec2:DescribeVolumes"], resource=arn("volume")).statement])
    denied = await caller.aws.expect_error("ec2", "describe_volumes", VolumeIds=[volume])

    assert denied[0] == "UnauthorizedOperation"


async def test_deleting_all_tags_has_no_tag_keys_to_allow(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Null condition operator": the policy AmazonEBSCSIDriverPolicyV2 depends on this."""
    volume, caller = await aws.create_volume(TagSpecifications=tags("volume")), await Caller.create(emulator)
    statement = Grant(actions=["ec2:DeleteTags"]).statement

    caller.allow([{**statement, "Condition": {"Null": {"aws:TagKeys": "false"}}}])
    denied = await caller.aws.expect_error("ec2", "delete_tags", Resources=[volume])

    assert denied[0] == "UnauthorizedOperation"
    assert (await aws.describe_volume(volume))["Tags"] == [TAG]


async def test_a_resource_that_does_not_exist_is_shown_as_such_to_those_who_lack_only_a_condition(
    emulator: Emulator,
) -> None:
    """Drivers whose policy asks for a tag repeat the deletion of a volume; others learn nothing about ids."""
    caller = await Caller.create(emulator)

    refused = await caller.aws.expect_error("ec2", "delete_volume", VolumeId=UNKNOWN_VOLUME)
    caller.allow([Grant(actions=["ec2:Delete*"], conditions={"ec2:ResourceTag/team": "ml"}).statement])
    volume = await caller.aws.expect_error("ec2", "delete_volume", VolumeId=UNKNOWN_VOLUME)
    snapshot = await caller.aws.expect_error("ec2", "delete_snapshot", SnapshotId=UNKNOWN_SNAPSHOT)

    assert [refused[0], volume[0], snapshot[0]] == [
        "UnauthorizedOperation",
        "InvalidVolume.NotFound",
        "InvalidSnapshot.NotFound",
    ]


async def test_several_volumes_of_an_instance_are_decided_about_one_by_one(emulator: Emulator) -> None:
    """Service Authorization Reference, EC2, RunInstances: volume."""
    caller = await Caller.create(emulator)
    allowed = Grant(actions=["ec2:RunInstances"]).statement
    mappings = [
        {"DeviceName": f"/dev/sd{letter}", "Ebs": {"VolumeSize": 1, "VolumeType": kind}}
        for letter, kind in (("f", "gp3"), ("g", "gp2"))
    ]
    denied = {
        "Effect": "Deny",
        "Action": "ec2:RunInstances",
        "Resource": arn("volume"),
        "Condition": {"StringEquals": {"ec2:VolumeType": "gp2"}},
    }

    caller.allow([allowed, denied])
    code, text = await caller.aws.expect_error(
        "ec2", "run_instances", ImageId="ami-1", MinCount=1, MaxCount=1, BlockDeviceMappings=mappings, DryRun=True
    )
    caller.allow([allowed])
    without = await caller.aws.expect_error(
        "ec2", "run_instances", ImageId="ami-1", MinCount=1, MaxCount=1, BlockDeviceMappings=mappings, DryRun=True
    )

    assert (code, without[0]) == ("UnauthorizedOperation", "DryRunOperation")
    assert "with an explicit deny in an identity-based policy" in text


@pytest.mark.parametrize(
    ("operation", "members", "code"),
    [
        ("create_tags", {"Resources": [UNKNOWN_VOLUME] * 1001, "Tags": [TAG]}, "InvalidParameterValue"),
        ("delete_tags", {"Resources": [UNKNOWN_VOLUME] * 1001, "Tags": [TAG]}, "InvalidParameterValue"),
        ("terminate_instances", {"InstanceIds": ["i-0123456789abcdef0"] * 1001}, "InvalidParameterValue"),
        (
            "create_tags",
            {"Resources": [UNKNOWN_VOLUME], "Tags": [{"Key": f"{number}", "Value": ""} for number in range(51)]},
            "TagLimitExceeded",
        ),
        (
            "create_tags",
            {"Resources": [UNKNOWN_VOLUME], "Tags": [{"Key": "a", "Value": "b" * 257}]},
            "InvalidParameterValue",
        ),
    ],
)
async def test_a_request_that_exceeds_a_limit_is_refused_before_the_decision(
    emulator: Emulator, operation: str, members: Mapping[str, Any], code: str
) -> None:
    """The decisions about ten thousand tags on ten thousand resources, which fit into a request, would take minutes."""
    caller = await Caller.create(emulator)

    assert (await caller.aws.expect_error("ec2", operation, **members))[0] == code


async def test_policies_see_the_beginning_of_a_long_user_agent(emulator: Emulator) -> None:
    """A guess, as AWS documents no limit: the 1,024 characters that CloudTrail shows, too."""
    caller = await Caller.create(emulator)
    agent = {"StringLike": {"aws:UserAgent": "*end"}}
    caller.allow([{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": agent}])
    ec2 = caller.aws.clients["ec2"]

    def describe(agent: str) -> None:
        def set_agent(request: AWSPreparedRequest, **_: object) -> None:
            request.headers["User-Agent"] = agent

        ec2.meta.events.register_last("before-send.ec2", set_agent)
        ec2.describe_volumes()

    await asyncio.to_thread(describe, f"{'a' * 1021}end")
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        await asyncio.to_thread(describe, f"{'a' * 1022}end")
