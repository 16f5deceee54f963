"""The filters of EC2's describe operations: each finds an object by its own value, and by no other."""

import pytest

from hyperpod_ebs.emulator.state.clock import AWS_DURATIONS, Duration
from tests.support.emulator_clients import ZONE, Aws, cloud
from tests.support.waiting import wait_until_equal


async def ids_found(aws: Aws, method: str, name: str, value: str) -> list[str]:
    """The volumes or snapshots that a filter with this value finds."""
    answer = await aws.ec2(method, Filters=[{"Name": name, "Values": [value]}])
    [found] = [value for key, value in answer.items() if key != "ResponseMetadata" and isinstance(value, list)]
    return [entry["SnapshotId" if method == "describe_snapshots" else "VolumeId"] for entry in found]


def volume_tag(value: str) -> dict[str, object]:
    """The tag `app` of a new volume."""
    return {"ResourceType": "volume", "Tags": [{"Key": "app", "Value": value}]}


async def test_a_snapshot_is_found_by_each_of_its_properties(aws: Aws) -> None:
    """EC2 API reference, DescribeSnapshots: Filters."""
    volume = await aws.create_volume(Size=3)
    snapshot = (await aws.ec2("create_snapshot", VolumeId=volume, Description="before"))["SnapshotId"]
    await aws.ec2("describe_snapshots")
    values = {
        "description": "before",
        "encrypted": "false",
        "owner-id": "123456789012",
        "progress": "100%",
        "snapshot-id": snapshot,
        "start-time": "20*",
        "status": "completed",
        "storage-tier": "standard",
        "volume-id": volume,
        "volume-size": "3",
    }

    found = {name: await ids_found(aws, "describe_snapshots", name, value) for name, value in values.items()}
    not_found = {name: await ids_found(aws, "describe_snapshots", name, "another") for name in values}

    assert found == {key: [snapshot] for key in values}
    assert not_found == {key: [] for key in values}
    assert await ids_found(aws, "describe_snapshots", "owner-alias", "amazon") == []


async def test_a_volume_is_found_by_each_of_its_properties(aws: Aws) -> None:
    """EC2 API reference, DescribeVolumes: Filters."""
    instance = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
    source = await aws.create_volume()
    snapshot = (await aws.ec2("create_snapshot", VolumeId=source))["SnapshotId"]
    await aws.ec2("describe_snapshots")
    volume = await aws.create_volume(Size=5, VolumeType="io1", Iops=100, SnapshotId=snapshot, Encrypted=True)
    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached")
    values = {
        "attachment.attach-time": "20*",
        "attachment.delete-on-termination": "false",
        "attachment.device": "/dev/sdf",
        "attachment.instance-id": instance,
        "attachment.status": "attached",
        "availability-zone": ZONE,
        "availability-zone-id": "usw2-az1",
        "create-time": "20*",
        "encrypted": "true",
        "fast-restored": "false",
        "multi-attach-enabled": "false",
        "operator.managed": "false",
        "size": "5",
        "snapshot-id": snapshot,
        "status": "in-use",
        "volume-id": volume,
        "volume-type": "io1",
    }

    found = {name: volume in await ids_found(aws, "describe_volumes", name, value) for name, value in values.items()}
    not_found = {name: await ids_found(aws, "describe_volumes", name, "another") for name in values}

    assert found == dict.fromkeys(values, True)
    assert not_found == {key: [] for key in values}
    assert await ids_found(aws, "describe_volumes", "operator.principal", "*") == []


async def test_a_modification_is_optimizing_with_the_new_size_and_is_found_by_each_of_its_properties(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """EC2 API reference, DescribeVolumesModifications: Filters; EBS user guide, "Monitor the progress"."""
    monkeypatch.setitem(AWS_DURATIONS, "optimizing", Duration(median=0.001, p95=0.002))
    monkeypatch.setitem(AWS_DURATIONS, "modified", Duration(median=3600, p95=7200))
    async with cloud(profile="aws") as (_, aws):
        volume = await aws.create_volume(Size=10, VolumeType="gp2")
        await aws.ec2("modify_volume", VolumeId=volume, VolumeType="gp3", Size=20, Iops=4000)

        async def progress() -> tuple[str, int]:
            [shown] = (await aws.ec2("describe_volumes_modifications", VolumeIds=[volume]))["VolumesModifications"]
            return shown["ModificationState"], shown["Progress"]

        await wait_until_equal(progress, ("optimizing", 50))
        size = (await aws.describe_volume(volume))["Size"]
        values = {
            "modification-state": "optimizing",
            "original-iops": "100",
            "original-size": "10",
            "original-volume-type": "gp2",
            "originalMultiAttachEnabled": "false",
            "start-time": "20*",
            "target-iops": "4000",
            "target-size": "20",
            "target-volume-type": "gp3",
            "targetMultiAttachEnabled": "false",
            "volume-id": volume,
        }
        method = "describe_volumes_modifications"
        found = {name: await ids_found(aws, method, name, value) for name, value in values.items()}
        not_found = {name: await ids_found(aws, method, name, "another") for name in values}

    assert size == 20
    assert found == {key: [volume] for key in values}
    assert not_found == {key: [] for key in values}


@pytest.mark.parametrize(
    ("pattern", "is_found"),
    [
        ("*", True),
        ("a*", True),
        ("*a", False),
        ("*b", True),
        ("a*a?b", True),
        ("a????b", True),
        ("a??b", True),
        ("a?b", False),
        ("??a*?b??", True),
        (r"a\?*b", True),
        (r"a\*?b", False),
        (r"a*\b", True),
        ("A*", False),
    ],
)
async def test_a_star_is_any_text_and_a_question_mark_at_most_one_character(
    aws: Aws, pattern: str, *, is_found: bool
) -> None:
    """EC2 User Guide, "List and filter using the CLI and API"."""
    volume = await aws.create_volume(TagSpecifications=[volume_tag("a?ab")])

    assert await ids_found(aws, "describe_volumes", "tag:app", pattern) == [volume] * is_found


async def test_a_pattern_made_to_be_slow_is_answered_at_once(aws: Aws) -> None:
    """CWE-1333: a search that backtracks would take longer than the machine lives."""
    await aws.create_volume(TagSpecifications=[volume_tag(256 * "a")])

    assert await ids_found(aws, "describe_volumes", "tag:app", 100 * "*a?" + "b") == []


@pytest.mark.parametrize(
    ("method", "ids"),
    [
        ("describe_volumes", {"VolumeIds": ["vol-0123456789abcdef0"]}),
        ("describe_snapshots", {"SnapshotIds": ["snap-0123456789abcdef0"]}),
        ("describe_instances", {"InstanceIds": ["i-0123456789abcdef0"]}),
    ],
)
async def test_a_page_of_given_ids_is_refused(aws: Aws, method: str, ids: dict[str, list[str]]) -> None:
    """EC2 API reference, MaxResults: "You cannot specify this parameter and the ids parameter in the same request"."""
    refusal = await aws.expect_error("ec2", method, MaxResults=5, **ids)

    assert refusal[0] == "InvalidParameterCombination"
