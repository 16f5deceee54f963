"""The KMS keys of volumes that RunInstances creates and StartInstances opens again."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.state import clock
from tests.support.callers import Caller, Grant
from tests.support.emulator_clients import Aws, cloud
from tests.support.key_users import (
    EVERYTHING_BUT_KMS,
    GUIDE,
    MANAGE,
    MANAGED,
    OTHER_THAN_GUIDE,
    VIA_EC2,
    create_caller,
    create_key,
    document,
    grant_to,
)
from tests.support.waiting import wait_until_equal

ONE: Final = {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1}

ROOT: Final = ["DescribeKey", "GenerateDataKeyWithoutPlaintext", "Decrypt", "CreateGrant"]
"""What a root volume needs, whose image has a plain snapshot."""

BLANK: Final = ["GenerateDataKeyWithoutPlaintext", "Decrypt", "CreateGrant"]

DENIED: Final = {"Code": "Client.InternalError", "Message": "Client.InternalError: Client error on launch"}

INVALID: Final = {
    "Code": "Client.InvalidKMSKey.InvalidState",
    "Message": "Client.InvalidKMSKey.InvalidState: The KMS key provided is in an incorrect state",
}


async def launch(aws: Aws, *ebs: dict[str, Any], **members: Any) -> Any:
    """Run an instance with these volumes, the root volume first; its description when it is no longer pending."""
    devices = ["/dev/xvda", "/dev/sdf", "/dev/sdg"]
    mappings = [{"DeviceName": device, "Ebs": each} for device, each in zip(devices, ebs, strict=False)]
    run = await aws.ec2("run_instances", **ONE, BlockDeviceMappings=mappings, **members)
    assert run["Instances"][0]["State"]["Name"] == "pending"
    return await wait_until_launched(aws, run["Instances"][0]["InstanceId"])


async def wait_until_launched(aws: Aws, instance: str) -> Any:
    """Wait until the instance is no longer pending; return its description."""

    async def is_pending() -> bool:
        return bool((await describe(aws, instance))["State"]["Name"] == "pending")

    await wait_until_equal(is_pending, False)  # noqa: FBT003 - the value that is awaited
    return await describe(aws, instance)


async def describe(aws: Aws, instance: str) -> Any:
    """The instance's description."""
    return (await aws.ec2("describe_instances", InstanceIds=[instance]))["Reservations"][0]["Instances"][0]


async def keys(aws: Aws, instance: Any) -> list[str | None]:
    """The keys of the instance's volumes, in the order of its mappings."""
    volumes = [each["Ebs"]["VolumeId"] for each in instance["BlockDeviceMappings"]]
    return [(await aws.describe_volume(volume)).get("KmsKeyId") for volume in volumes]


async def test_each_volume_has_the_key_of_its_mapping(emulator: Emulator, aws: Aws) -> None:
    """EC2 API reference, EbsBlockDevice: Encrypted, KmsKeyId; a volume from an encrypted snapshot is encrypted."""
    one, other = await create_key(aws), await create_key(aws)
    source = await aws.create_volume(Encrypted=True, KmsKeyId=other)
    with emulator.world.backing_files.path(source).open("r+b") as file:
        file.write(b"from the snapshot")
    snapshot = (await aws.ec2("create_snapshot", VolumeId=source))["SnapshotId"]
    await aws.ec2("describe_snapshots")

    instance = await launch(
        aws,
        {"Encrypted": True, "KmsKeyId": one},
        {"SnapshotId": snapshot, "Encrypted": False},
        {"VolumeSize": 1, "Encrypted": True},
    )

    restored = instance["BlockDeviceMappings"][1]["Ebs"]["VolumeId"]
    assert instance["State"]["Name"] == "running"
    assert await keys(aws, instance) == [one, other, MANAGED]
    with emulator.world.backing_files.path(restored).open("rb") as file:
        assert file.read(17) == b"from the snapshot"
    (grant,) = (await aws("kms", "list_grants", KeyId=one))["Grants"]
    assert grant["GranteePrincipal"].endswith(f":assumed-role/aws:ec2-infrastructure/{instance['InstanceId']}")


async def test_encryption_by_default_is_for_root_volumes_and_mapped_volumes_too(aws: Aws) -> None:
    """Amazon EBS User Guide, "Encryption by default"."""
    key = await create_key(aws)
    await aws.ec2("enable_ebs_encryption_by_default")
    await aws.ec2("modify_ebs_default_kms_key_id", KmsKeyId=key)

    mapped = await launch(aws, {}, {"VolumeSize": 1, "Encrypted": False}, {"VolumeSize": 1, "KmsKeyId": MANAGED})
    unmapped = await launch(aws)

    assert await keys(aws, mapped) == [key, key, MANAGED]
    assert await keys(aws, unmapped) == [key]


async def test_a_key_needs_encryption(aws: Aws) -> None:
    """EC2 API reference, "Error codes": InvalidParameterDependency."""
    mapping = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "KmsKeyId": MANAGED}}

    refused = await aws.expect_error("ec2", "run_instances", **ONE, BlockDeviceMappings=[mapping])

    assert refused[0] == "InvalidParameterDependency"


@pytest.mark.parametrize(
    ("volumes", "actions", "missing"),
    [
        *(([True], ROOT, each) for each in [None, *ROOT]),
        *(([False, True], BLANK, each) for each in [None, *BLANK]),
    ],
)
async def test_an_instance_whose_caller_lacks_a_permission_is_terminated(
    volumes: Sequence[bool], actions: Sequence[str], missing: str | None, emulator: Emulator, aws: Aws
) -> None:
    """EC2 User Guide, "Instance terminates immediately": Client.InternalError."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    key = await create_key(aws, grant_to("one", [each for each in actions if each != missing], Condition=VIA_EC2))

    instance = await launch(
        caller, *({"VolumeSize": 8} | ({"Encrypted": True, "KmsKeyId": key} if each else {}) for each in volumes)
    )

    assert instance["State"]["Name"] == ("terminated" if missing else "running")
    assert instance.get("StateReason") == (DENIED if missing else None)
    assert len((await aws.ec2("describe_volumes"))["Volumes"]) == (0 if missing else len(volumes))
    assert len((await aws("kms", "list_grants", KeyId=key))["Grants"]) == (0 if missing else 1)


@pytest.mark.parametrize("condition", [GUIDE, *OTHER_THAN_GUIDE.values()], ids=["guide", *OTHER_THAN_GUIDE])
async def test_the_conditions_of_the_guide_decide_about_the_grants_of_an_instance(
    condition: Mapping[str, Any], emulator: Emulator, aws: Aws
) -> None:
    """EC2 creates its grants for the caller: KMS Developer Guide, "kms:GrantIsForAWSResource" and its kin."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    others = [each for each in ROOT if each != "CreateGrant"]
    key = await create_key(aws, grant_to("one", others), grant_to("one", ["CreateGrant"], Condition=condition))

    instance = await launch(caller, {"Encrypted": True, "KmsKeyId": key})

    assert instance["State"]["Name"] == ("running" if condition is GUIDE else "terminated")
    assert instance.get("StateReason") == (None if condition is GUIDE else DENIED)


@pytest.mark.parametrize("key_is", ["unknown", "disabled", "pending deletion"])
async def test_an_instance_whose_key_is_unusable_is_terminated(key_is: str, aws: Aws) -> None:
    """Codes that clients know: Client.InvalidKMSKey.InvalidState; a volume that was to stay and is whole stays."""
    key = "alias/none" if key_is == "unknown" else await create_key(aws)
    if key_is != "unknown":
        await aws("kms", "disable_key" if key_is == "disabled" else "schedule_key_deletion", KeyId=key)

    instance = await launch(
        aws,
        {},
        {"VolumeSize": 2, "DeleteOnTermination": False, "Encrypted": True, "KmsKeyId": key},
        {"VolumeSize": 3, "DeleteOnTermination": False},
    )
    found = await aws.ec2(
        "describe_instances",
        Filters=[
            {"Name": "state-reason-code", "Values": [INVALID["Code"]]},
            {"Name": "state-reason-message", "Values": [INVALID["Message"]]},
        ],
    )
    left = (await aws.ec2("describe_volumes"))["Volumes"]

    assert (instance["State"]["Name"], instance["StateReason"]) == ("terminated", INVALID)
    assert found["Reservations"][0]["Instances"][0]["InstanceId"] == instance["InstanceId"]
    assert [(each["Size"], each["State"]) for each in left] == [(3, "available")]


async def test_an_instance_is_terminated_if_its_key_is_disabled_while_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The key is used until the instance runs."""
    monkeypatch.setitem(clock.AWS_DURATIONS, "instance running", clock.Duration(3600, 3601))
    async with cloud(profile="aws") as (emulator, aws):
        key = await create_key(aws)
        mapping = {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "KmsKeyId": key}}
        run = await aws.ec2("run_instances", **ONE, BlockDeviceMappings=[mapping])
        instance = run["Instances"][0]["InstanceId"]
        await aws("kms", "disable_key", KeyId=key)
        emulator.world.clock.schedule_at(instance, "instance running", 0)

        shown = await describe(aws, instance)

        assert (shown["State"]["Name"], shown["StateReason"]) == ("terminated", INVALID)
        assert (await aws.ec2("describe_volumes"))["Volumes"] == []


async def test_a_stopped_instance_needs_its_keys_to_start_again(emulator: Emulator, aws: Aws) -> None:
    """AWS Knowledge Center, "kms-iam-ec2-permission": without kms:CreateGrant, it is stopped again."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    key = await create_key(aws, grant_to("one", ["CreateGrant"], Condition=VIA_EC2))
    instance = (await launch(aws, {"Encrypted": True, "KmsKeyId": key}))["InstanceId"]
    by_id = {"InstanceIds": [instance]}

    await caller.ec2("stop_instances", **by_id)
    await wait_until_equal(lambda: state(aws, instance), "stopped Client.UserInitiatedShutdown")
    without_grant = (await aws("kms", "list_grants", KeyId=key))["Grants"]
    await aws("kms", "disable_key", KeyId=key)
    await caller.ec2("start_instances", **by_id)
    await wait_until_equal(lambda: state(aws, instance), f"stopped {INVALID['Code']}")
    await aws("kms", "enable_key", KeyId=key)
    await aws("kms", "put_key_policy", KeyId=key, Policy=document(MANAGE))
    await caller.ec2("start_instances", **by_id)
    await wait_until_equal(lambda: state(aws, instance), f"stopped {DENIED['Code']}")
    await aws.ec2("start_instances", **by_id)
    await wait_until_equal(lambda: state(aws, instance), "running")

    assert without_grant == []
    assert len((await aws("kms", "list_grants", KeyId=key))["Grants"]) == 1


async def state(aws: Aws, instance: str) -> str:
    """The instance's state, followed by the code of its reason."""
    shown = await describe(aws, instance)
    return " ".join([shown["State"]["Name"], *([shown["StateReason"]["Code"]] if "StateReason" in shown else [])])


async def test_an_instance_that_its_user_ends_shows_the_reason(aws: Aws) -> None:
    """EC2 API reference, StateReason: Client.UserInitiatedShutdown."""
    instance = await aws.run_instance()
    await aws.ec2("terminate_instances", InstanceIds=[instance])

    await wait_until_equal(lambda: state(aws, instance), "terminated Client.UserInitiatedShutdown")


async def test_a_policy_decides_about_the_encryption_of_every_volume(emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, RunInstances: ec2:Encrypted on each volume, the root volume included."""
    caller = await Caller.create(emulator)
    encrypted = Grant(
        actions=["ec2:RunInstances"],
        resource="arn:aws:ec2:us-west-2:123456789012:volume/*",
        conditions={"ec2:Encrypted": "true"},
    )
    others = {
        "Effect": "Allow",
        "Action": ["ec2:RunInstances"],
        "NotResource": "arn:aws:ec2:us-west-2:123456789012:volume/*",
    }
    caller.allow([encrypted.statement, others])
    data = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "Encrypted": True}}
    root = {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True}}

    async def outcome(*mappings: dict[str, Any]) -> str:
        request = {**ONE, "BlockDeviceMappings": list(mappings), "DryRun": True}
        return (await caller.aws.expect_error("ec2", "run_instances", **request))[0]

    assert await outcome() == "UnauthorizedOperation"
    assert await outcome(data) == "UnauthorizedOperation"
    assert await outcome(root, data) == "DryRunOperation"
    await aws.ec2("enable_ebs_encryption_by_default")
    assert await outcome() == "DryRunOperation"
