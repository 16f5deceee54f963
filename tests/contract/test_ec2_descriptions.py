"""DescribeTags, statuses, attributes and regions, and copies of snapshots."""

from typing import Any

import pytest

from tests.support.emulator_clients import ZONE, Aws, cloud
from tests.support.waiting import wait_until_equal

STRANGER = "210987654321"


def tags(kind: str, **values: str) -> list[dict[str, Any]]:
    """The TagSpecifications of a request."""
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in values.items()]}]


async def create_snapshot(aws: Aws, **members: Any) -> str:
    """Create a snapshot of a new volume, and wait until it is completed."""
    created = await aws.ec2("create_snapshot", VolumeId=await aws.create_volume(), **members)
    await wait_until_equal(lambda: snapshot_state(aws, created["SnapshotId"]), "completed")
    return str(created["SnapshotId"])


async def snapshot_state(aws: Aws, id_: str) -> str:
    """The snapshot's state."""
    return str((await aws.ec2("describe_snapshots", SnapshotIds=[id_]))["Snapshots"][0]["State"])


async def test_tags_of_all_resources_are_in_one_list(aws: Aws) -> None:
    """EC2 API reference, DescribeTags."""
    volume = await aws.create_volume(TagSpecifications=tags("volume", team="ml", stage="test"))
    snapshot = await create_snapshot(aws, TagSpecifications=tags("snapshot", team="ml"))
    instance = await aws.run_instance(TagSpecifications=tags("instance", team="web"))

    async def tags_with(name: str, value: str) -> set[tuple[str, str]]:
        answer = await aws.ec2("describe_tags", Filters=[{"Name": name, "Values": [value]}])
        return {(tag["ResourceId"], tag["Key"]) for tag in answer["Tags"]}

    everything = (await aws.ec2("describe_tags"))["Tags"]

    assert len(everything) == 4
    assert {"Key": "team", "Value": "web", "ResourceId": instance, "ResourceType": "instance"} in everything
    assert await tags_with("resource-id", volume) == {(volume, "team"), (volume, "stage")}
    assert await tags_with("resource-type", "snapshot") == {(snapshot, "team")}
    assert await tags_with("tag:team", "ml") == {(volume, "team"), (snapshot, "team")}
    assert await tags_with("key", "stage") == {(volume, "stage")}
    assert await tags_with("value", "w?b") == {(instance, "team")}


async def test_all_tags_are_listed_page_by_page(aws: Aws) -> None:
    """EC2 API reference, DescribeTags: MaxResults and NextToken; keys may have any characters."""
    keys = {f"key/{number} é" for number in range(12)}
    await aws.create_volume(TagSpecifications=tags("volume", **dict.fromkeys(keys, "")))

    listed: list[str] = []
    token: dict[str, str] = {}
    while not listed or token:
        page = await aws.ec2("describe_tags", MaxResults=5, **token)
        listed += [tag["Key"] for tag in page["Tags"]]
        token = {"NextToken": page["NextToken"]} if "NextToken" in page else {}

    assert (len(listed), set(listed)) == (12, keys)


async def test_statuses_are_those_of_running_instances_unless_all_are_wanted(aws: Aws) -> None:
    """EC2 API reference, DescribeInstanceStatus."""
    running, stopped = await aws.run_instance(), await aws.run_instance()
    await aws.ec2("stop_instances", InstanceIds=[stopped])

    async def statuses(**members: Any) -> dict[str, str]:
        answer = await aws.ec2("describe_instance_status", **members)
        return {each["InstanceId"]: each["SystemStatus"]["Status"] for each in answer["InstanceStatuses"]}

    await wait_until_equal(statuses, {running: "ok"})

    assert await statuses(IncludeAllInstances=True) == {running: "ok", stopped: "not-applicable"}
    by_state = [{"Name": "instance-state-name", "Values": ["stopped"]}]
    assert await statuses(IncludeAllInstances=True, Filters=by_state) == {stopped: "not-applicable"}


async def test_a_volume_has_a_status_and_attributes(aws: Aws) -> None:
    """EC2 API reference, DescribeVolumeStatus and DescribeVolumeAttribute."""
    volume = await aws.create_volume()

    (status,) = (await aws.ec2("describe_volume_status", VolumeIds=[volume]))["VolumeStatuses"]
    automatic = await aws.ec2("describe_volume_attribute", VolumeId=volume, Attribute="autoEnableIO")
    unknown = await aws.expect_error("ec2", "describe_volume_attribute", VolumeId=volume, Attribute="colour")

    assert status["AvailabilityZone"] == ZONE
    assert status["VolumeStatus"]["Status"] == "ok"
    assert {"Name": "io-enabled", "Status": "passed"} in status["VolumeStatus"]["Details"]
    assert automatic["AutoEnableIO"] == {"Value": False}
    assert unknown[0] == "InvalidParameterValue"


async def test_a_snapshot_is_shared_with_accounts_and_with_everyone(aws: Aws) -> None:
    """EC2 API reference, ModifySnapshotAttribute, DescribeSnapshotAttribute and ResetSnapshotAttribute."""
    snapshot = await create_snapshot(aws)
    shared = {"SnapshotId": snapshot, "Attribute": "createVolumePermission"}

    async def permissions() -> Any:
        return (await aws.ec2("describe_snapshot_attribute", **shared))["CreateVolumePermissions"]

    async def restorable(user: str) -> int:
        return len((await aws.ec2("describe_snapshots", RestorableByUserIds=[user]))["Snapshots"])

    before = [await permissions(), await restorable(STRANGER)]
    permission = {"Add": [{"UserId": STRANGER}, {"Group": "all"}]}
    await aws.ec2("modify_snapshot_attribute", SnapshotId=snapshot, CreateVolumePermission=permission)
    added = [await permissions(), await restorable(STRANGER), await restorable("all"), await restorable("self")]
    await aws.ec2("modify_snapshot_attribute", **shared, OperationType="remove", GroupNames=["all"])
    removed = await permissions()
    await aws.ec2("reset_snapshot_attribute", **shared)
    wrong = await aws.expect_error("ec2", "modify_snapshot_attribute", **shared, OperationType="add", UserIds=["12345"])
    nothing = await aws.expect_error("ec2", "modify_snapshot_attribute", **shared)

    assert before == [[], 0]
    assert added == [[{"UserId": STRANGER}, {"Group": "all"}], 1, 1, 1]
    assert removed == [{"UserId": STRANGER}]
    assert await permissions() == []
    assert (wrong[0], nothing[0]) == ("InvalidParameterValue", "InvalidParameterCombination")


async def test_a_copy_of_a_snapshot_outlives_its_source(aws: Aws) -> None:
    """EC2 API reference, CopySnapshot."""
    source = await create_snapshot(aws)

    copied = await aws.ec2(
        "copy_snapshot",
        SourceRegion="us-west-2",
        SourceSnapshotId=source,
        Description="copy",
        CompletionDurationMinutes=30,
        TagSpecifications=tags("snapshot", team="ml"),
    )
    await wait_until_equal(lambda: snapshot_state(aws, copied["SnapshotId"]), "completed")
    await aws.ec2("delete_snapshot", SnapshotId=source)
    (copy,) = (await aws.ec2("describe_snapshots"))["Snapshots"]
    restored = await aws.create_volume(SnapshotId=copied["SnapshotId"])

    assert copied["Tags"] == copy["Tags"] == [{"Key": "team", "Value": "ml"}]
    assert (copy["VolumeId"], copy["Description"], copy["VolumeSize"]) == ("vol-ffffffff", "copy", 1)
    assert (copy["TransferType"], copy["CompletionDurationMinutes"]) == ("time-based", 30)
    assert (await aws.describe_volume(restored))["SnapshotId"] == copied["SnapshotId"]


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"SourceRegion": "eu-west-1"}, "UnsupportedOperation"),
        ({"SourceSnapshotId": "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound"),
        ({"CompletionDurationMinutes": 20}, "InvalidParameterValue"),
        ({"Encrypted": False}, "InvalidParameterValue"),
        ({"KmsKeyId": "alias/aws/ebs"}, "InvalidParameterDependency"),
    ],
)
async def test_a_copy_that_cannot_be_made_is_refused(members: dict[str, Any], code: str, aws: Aws) -> None:
    """EC2 API reference, CopySnapshot; the emulator has one region."""
    source = await create_snapshot(aws)

    refused = await aws.expect_error(
        "ec2", "copy_snapshot", **{"SourceRegion": "us-west-2", "SourceSnapshotId": source} | members
    )

    assert refused[0] == code
    assert len((await aws.ec2("describe_snapshots"))["Snapshots"]) == 1


async def test_only_the_emulated_region_is_enabled() -> None:
    """EC2 API reference, DescribeRegions: AllRegions adds those that are not enabled for the account."""
    async with cloud(region="eu-west-1") as (_, aws):
        enabled = (await aws.ec2("describe_regions"))["Regions"]
        everything = (await aws.ec2("describe_regions", AllRegions=True))["Regions"]
        unknown = await aws.expect_error("ec2", "describe_regions", RegionNames=["eu-west-9"])

    assert enabled == [
        {
            "RegionName": "eu-west-1",
            "Endpoint": "ec2.eu-west-1.amazonaws.com",
            "OptInStatus": "opt-in-not-required",
        }
    ]
    assert {"eu-west-1", "us-east-1", "ap-southeast-2"} <= {each["RegionName"] for each in everything}
    assert unknown == ("InvalidParameterValue", "Invalid region provided: [eu-west-9]")
