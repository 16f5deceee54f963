"""Snapshots and modifications of volumes, called through the AWS SDK."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

from tests.support.emulator_clients import ZONE, Aws, cloud, error_of
from tests.support.waiting import wait_until_equal


async def create_snapshot(aws: Aws, volume: str, **members: Any) -> str:
    """Create a snapshot, and wait until it is completed; its id."""
    made = await aws.ec2("create_snapshot", VolumeId=volume, **members)
    id_: str = made["SnapshotId"]

    async def state() -> str:
        return str((await aws.ec2("describe_snapshots", SnapshotIds=[id_]))["Snapshots"][0]["State"])

    await wait_until_equal(state, "completed")
    return id_


async def test_a_snapshot_is_pending_and_then_completed(aws: Aws) -> None:
    """EC2 API reference, CreateSnapshot and Snapshot: State and Progress."""
    volume = await aws.create_volume(Size=3)
    tags = [{"Key": "n", "Value": "1"}]

    made = await aws.ec2(
        "create_snapshot",
        VolumeId=volume,
        Description="before",
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}],
    )
    shown = (await aws.ec2("describe_snapshots", SnapshotIds=[made["SnapshotId"]]))["Snapshots"][0]

    assert (made["State"], shown["State"], shown["Progress"]) == ("pending", "completed", "100%")
    assert (shown["VolumeId"], shown["VolumeSize"], shown["Description"], shown["Tags"]) == (volume, 3, "before", tags)
    assert shown["OwnerId"] == "123456789012"


async def test_a_volume_from_a_snapshot_is_at_least_as_large(aws: Aws) -> None:
    """EC2 API reference, CreateVolume: Size, Encrypted and VolumeInitializationRate."""
    source = await aws.create_volume(Size=2, Encrypted=True)
    from_it = await create_snapshot(aws, source)

    same, larger = (
        await aws.create_volume(SnapshotId=from_it, Size=2),
        await aws.create_volume(SnapshotId=from_it, Size=4),
    )
    members = {"AvailabilityZone": ZONE, "SnapshotId": from_it}
    smaller = await aws.expect_error("ec2", "create_volume", Size=1, **members)
    rate = await aws.expect_error("ec2", "create_volume", VolumeInitializationRate=99, **members)

    shown = [await aws.describe_volume(volume) for volume in (same, larger)]
    assert [(volume["Size"], volume["SnapshotId"], volume["Encrypted"]) for volume in shown] == [
        (2, from_it, True),
        (4, from_it, True),
    ]
    assert (smaller[0], rate[0]) == ("InvalidParameterValue", "InvalidParameterValue")


async def test_the_initialization_rate_of_a_volume_is_from_100_to_300(aws: Aws) -> None:
    """EC2 API reference, CreateVolume: VolumeInitializationRate in MiB/s."""
    members = {"Size": 2, "SnapshotId": await create_snapshot(aws, await aws.create_volume(Size=2))}

    accepted = [await aws.create_volume(VolumeInitializationRate=rate, **members) for rate in (100, 300)]
    refused = [
        await aws.expect_error("ec2", "create_volume", AvailabilityZone=ZONE, VolumeInitializationRate=rate, **members)
        for rate in (99, 301)
    ]

    assert [(await aws.describe_volume(volume))["VolumeInitializationRate"] for volume in accepted] == [100, 300]
    assert [code for code, _ in refused] == ["InvalidParameterValue"] * 2


async def test_snapshots_are_found_by_owner_filter_and_page(aws: Aws) -> None:
    """EC2 API reference, DescribeSnapshots."""
    volume = await aws.create_volume()
    made = {(await aws.ec2("create_snapshot", VolumeId=volume))["SnapshotId"] for _ in range(6)}
    filters = [{"Name": "volume-id", "Values": [volume]}, {"Name": "status", "Values": ["completed"]}]

    own = await aws.ec2("describe_snapshots", OwnerIds=["self"], Filters=filters)
    foreign = await aws.ec2("describe_snapshots", OwnerIds=["210987654321"])
    first = await aws.ec2("describe_snapshots", MaxResults=5)
    second = await aws.ec2("describe_snapshots", MaxResults=5, NextToken=first["NextToken"])

    assert {snapshot["SnapshotId"] for snapshot in own["Snapshots"]} == made
    assert foreign["Snapshots"] == []
    assert {snapshot["SnapshotId"] for snapshot in first["Snapshots"] + second["Snapshots"]} == made


async def test_a_deleted_snapshot_is_unknown_and_volumes_created_from_it_stay(aws: Aws) -> None:
    """EC2 API reference, DeleteSnapshot."""
    id_ = await create_snapshot(aws, await aws.create_volume())
    volume = (await aws.ec2("create_volume", AvailabilityZone=ZONE, SnapshotId=id_))["VolumeId"]

    await aws.ec2("delete_snapshot", SnapshotId=id_)

    assert (await aws.expect_error("ec2", "describe_snapshots", SnapshotIds=[id_]))[0] == "InvalidSnapshot.NotFound"
    assert (await aws.expect_error("ec2", "delete_snapshot", SnapshotId=id_))[0] == "InvalidSnapshot.NotFound"
    assert await aws.volume_state(volume) == "available"


async def test_a_volume_from_a_pending_snapshot_is_refused() -> None:
    """EC2 API reference, "Error codes": IncorrectState."""
    async with cloud(profile="aws") as (_, aws):
        made = await aws.ec2("create_snapshot", VolumeId=await aws.create_volume())

        early = await aws.expect_error("ec2", "create_volume", AvailabilityZone=ZONE, SnapshotId=made["SnapshotId"])

    assert early[0] == "IncorrectState"


@pytest.mark.parametrize("profile", ["instant", "aws"])
async def test_a_second_snapshot_within_fifteen_seconds_is_refused_also_after_a_restart(
    profile: str, tmp_path: Path
) -> None:
    """EC2 API reference, "Error codes": SnapshotCreationPerVolumeRateExceeded; a deleted snapshot counts too."""
    async with cloud(tmp_path / "cloud", profile=profile, snapshot_rate="one-in-15-seconds") as (_, aws):
        volume, other = await aws.create_volume(), await aws.create_volume()
        first = await aws.ec2("create_snapshot", VolumeId=volume)
        await aws.ec2("delete_snapshot", SnapshotId=first["SnapshotId"])
        again = await aws.expect_error("ec2", "create_snapshot", VolumeId=volume)
        dry_run = await aws.expect_error("ec2", "create_snapshot", VolumeId=other, DryRun=True)
        await aws.ec2("create_snapshot", VolumeId=other)

    async with cloud(tmp_path / "cloud", profile=profile, snapshot_rate="one-in-15-seconds") as (_, aws):
        restarted = await aws.expect_error("ec2", "create_snapshot", VolumeId=volume)
        count = len((await aws.ec2("describe_snapshots"))["Snapshots"])

    assert (again[0], restarted[0]) == ("SnapshotCreationPerVolumeRateExceeded",) * 2
    assert (dry_run[0], count) == ("DryRunOperation", 1)


async def test_the_rate_of_snapshots_can_be_unlimited() -> None:
    """Tests of programs need not wait."""
    async with cloud(snapshot_rate="off") as (_, aws):
        volume = await aws.create_volume()

        for _attempt in range(2):
            await aws.ec2("create_snapshot", VolumeId=volume)

        assert len((await aws.ec2("describe_snapshots"))["Snapshots"]) == 2


async def test_a_snapshot_of_a_volume_that_is_being_deleted_succeeds_or_is_refused(aws: Aws) -> None:
    """The two calls race; in either order, the emulator returns a result that EC2 can return."""

    async def code(volume: str) -> str:
        try:
            await create_snapshot(aws, volume)
        except ClientError as refusal:
            return error_of(refusal)[0]
        return "none"

    for volume in [await aws.create_volume() for _ in range(10)]:
        async with asyncio.TaskGroup() as group:
            snapshotted = group.create_task(code(volume))
            group.create_task(aws.ec2("delete_volume", VolumeId=volume))

        assert snapshotted.result() in {"none", "InvalidVolume.NotFound", "IncorrectState"}


async def test_a_modification_ends_with_the_new_size_and_performance(aws: Aws) -> None:
    """EC2 API reference, ModifyVolume and DescribeVolumesModifications."""
    volume = await aws.create_volume(Size=1)

    made = await aws.ec2("modify_volume", VolumeId=volume, Size=10, Iops=4000, Throughput=300)
    shown = await aws.describe_volume(volume)
    found = (await aws.ec2("describe_volumes_modifications", VolumeIds=[volume]))["VolumesModifications"][0]

    modification = made["VolumeModification"]
    assert (modification["ModificationState"], modification["OriginalSize"], modification["TargetSize"]) == (
        "modifying",
        1,
        10,
    )
    assert (shown["Size"], shown["Iops"], shown["Throughput"]) == (10, 4000, 300)
    assert (found["ModificationState"], found["Progress"]) == ("completed", 100)


async def test_a_volume_that_only_grows_keeps_its_iops_and_throughput(aws: Aws) -> None:
    """EC2 API reference, ModifyVolume: Iops and Throughput default to the existing value of the volume."""
    gp3 = await aws.create_volume(Size=10, Iops=4000, Throughput=300)
    io2 = await aws.create_volume(Size=10, VolumeType="io2", Iops=500)

    for volume in (gp3, io2):
        await aws.ec2("modify_volume", VolumeId=volume, Size=20)

    shown = [await aws.describe_volume(volume) for volume in (gp3, io2)]
    assert [(volume["Size"], volume["Iops"], volume.get("Throughput")) for volume in shown] == [
        (20, 4000, 300),
        (20, 500, None),
    ]


async def test_a_gp2_volume_becomes_gp3_with_the_higher_iops_of_both(aws: Aws) -> None:
    """EC2 API reference, ModifyVolume: Iops."""
    volume = await aws.create_volume(VolumeType="gp2", Size=2000)

    await aws.ec2("modify_volume", VolumeId=volume, VolumeType="gp3")

    shown = await aws.describe_volume(volume)
    assert (shown["VolumeType"], shown["Iops"], shown["Throughput"]) == ("gp3", 6000, 250)


async def test_a_volume_of_another_type_becomes_gp3_with_its_baseline(aws: Aws) -> None:
    """EBS user guide, "General Purpose SSD volumes": 3,000 IOPS and 125 MiB/s."""
    volume = await aws.create_volume(VolumeType="st1", Size=200)

    await aws.ec2("modify_volume", VolumeId=volume, VolumeType="gp3")

    shown = await aws.describe_volume(volume)
    assert (shown["VolumeType"], shown["Iops"], shown["Throughput"]) == ("gp3", 3000, 125)


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_an_invalid_modification_is_refused(aws: Aws) -> None:
    """EC2 API reference, ModifyVolume and "Error codes"."""
    volume, unknown = await aws.create_volume(Size=2), "vol-0123456789abcdef0"

    async def code(**members: Any) -> str:
        return (await aws.expect_error("ec2", "modify_volume", **{"VolumeId": volume} | members))[0]

    assert await code(Size=1) == "InvalidParameterValue"
    assert await code(Iops=2_000_000) == "InvalidParameterValue"
    assert await code(VolumeType="gp2", Iops=3000) == "InvalidParameterCombination"
    assert await code() == "InvalidParameterCombination"
    assert await code(VolumeId=unknown, Size=3) == "InvalidVolume.NotFound"
    assert await code(Size=3, DryRun=True) == "DryRunOperation"
    missing = await aws.expect_error("ec2", "describe_volumes_modifications", VolumeIds=[volume])
    assert missing[0] == "InvalidVolumeModification.NotFound"
    assert (await aws.describe_volume(volume))["Size"] == 2


async def test_the_fifth_modification_of_a_day_is_refused(aws: Aws) -> None:
    """EBS user guide, Elastic Volumes: four modifications of a volume in a rolling 24 hours."""
    volume = await aws.create_volume(Size=1)
    for size in (2, 3, 4, 5):
        await aws.ec2("modify_volume", VolumeId=volume, Size=size)
        await aws.describe_volume(volume)

    fifth = await aws.expect_error("ec2", "modify_volume", VolumeId=volume, Size=6)

    assert fifth[0] == "VolumeModificationRateExceeded"


class Window(NamedTuple):
    """A rule on modifications, how many of them use it up, and its length."""

    rule: str
    modifications: int
    hours: float


@pytest.mark.parametrize("window", [Window("four-a-day", 4, 24), Window("six-hours-apart", 1, 6)])
async def test_a_volume_can_be_modified_again_when_the_window_ends_and_not_earlier(window: Window) -> None:
    """EBS user guide, "Amazon EBS Elastic Volumes": 24 hours since 2026, and six hours before."""
    async with cloud(rate=window.rule) as (emulator, aws):
        volume = await aws.create_volume(Size=1)
        for size in range(2, 2 + window.modifications):
            await aws.ec2("modify_volume", VolumeId=volume, Size=size)
            await aws.describe_volume(volume)

        async def modify_after(hours: float) -> str:
            """The answer to one more modification `hours` after the first."""
            modifications = emulator.world.store.modifications
            latest, first = modifications[volume], time.time() - hours * 3600
            if latest.earlier:
                modifications.put(replace(latest, earlier=(first, *latest.earlier[1:])))
            else:
                modifications.put(replace(latest, started=first))
            try:
                await aws.ec2("modify_volume", VolumeId=volume, Size=10)
            except ClientError as refusal:
                return error_of(refusal)[0]
            return "modified"

        answers = [await modify_after(window.hours - 0.1), await modify_after(window.hours + 0.1)]

    assert answers == ["VolumeModificationRateExceeded", "modified"]


async def test_a_second_modification_is_refused_while_the_first_is_under_way() -> None:
    """EC2 API reference, "Error codes": IncorrectModificationState."""
    async with cloud(profile="aws") as (_, aws):
        volume = await aws.create_volume(Size=1)
        await aws.ec2("modify_volume", VolumeId=volume, Size=2)

        second = await aws.expect_error("ec2", "modify_volume", VolumeId=volume, Size=3)

        assert second[0] == "IncorrectModificationState"


async def test_the_older_modification_rate_can_be_chosen() -> None:
    """AWS has changed its rule, and most guides still describe six hours between two modifications."""
    async with cloud(rate="six-hours-apart") as (_, aws):
        volume = await aws.create_volume(Size=1)
        await aws.ec2("modify_volume", VolumeId=volume, Size=2)

        second = await aws.expect_error("ec2", "modify_volume", VolumeId=volume, Size=3)

    assert second[0] == "VolumeModificationRateExceeded"
