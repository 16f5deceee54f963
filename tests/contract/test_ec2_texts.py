"""Shapes and texts of EC2's answers that common clients depend on."""

import re
from typing import Any, Final

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import ZONE, Aws
from tests.support.waiting import wait_until_equal

VOLUME: Final = "vol-0123456789abcdef0"

REFUSALS: Final[dict[str, tuple[dict[str, Any], str, str]]] = {
    "create_volume": (
        {"AvailabilityZone": ZONE},
        "MissingParameter",
        "The request must contain the parameter size/snapshot",
    ),
    "create_tags": (
        {"Resources": [VOLUME], "Tags": []},
        "InvalidParameterValue",
        "Value ( empty ) for parameter tagSet is invalid. You must specify one or more tags to create",
    ),
    "delete_tags": ({"Resources": []}, "MissingParameter", "The request must contain the parameter resourceIdSet"),
    "describe_instances": (
        {"InstanceIds": ["i-0123456789abcdef0"], "MaxResults": 5},
        "InvalidParameterCombination",
        "The parameter instancesSet cannot be used with the parameter maxResults",
    ),
    "describe_snapshots": (
        {"SnapshotIds": ["snap-0123456789abcdef0"], "MaxResults": 5},
        "InvalidParameterCombination",
        "The parameter snapshotSet cannot be used with the parameter maxResults",
    ),
    "describe_volumes": (
        {"VolumeIds": [VOLUME], "MaxResults": 5},
        "InvalidParameterCombination",
        "The parameter volumeSet cannot be used with the parameter maxResults",
    ),
    "terminate_instances": ({"InstanceIds": []}, "InvalidParameterCombination", "No instances specified"),
}
"""Calls that EC2 refuses, with its codes and texts."""


@pytest.mark.parametrize("operation", REFUSALS)
async def test_a_refusal_has_ec2s_own_text(operation: str, aws: Aws) -> None:
    """Texts that EC2 answered to clients: https://github.com/dask/dask-ec2/issues/90 and others of their kind."""
    members, *refusal = REFUSALS[operation]

    assert await aws.expect_error("ec2", operation, **members) == tuple(refusal)


async def test_tags_need_resources(aws: Aws) -> None:
    """EC2 names the parameter as its own model does: https://github.com/getmoto/moto/pull/2134."""
    refused = await aws.expect_error("ec2", "create_tags", Resources=[], Tags=[{"Key": "a", "Value": "b"}])

    assert refused == ("MissingParameter", "The request must contain the parameter resourceIdSet")


@pytest.mark.parametrize("specification", [{"ResourceType": "volume"}, {"ResourceType": "volume", "Tags": []}])
async def test_a_tag_specification_needs_tags(specification: Any, aws: Aws) -> None:
    """EC2 refuses an empty specification: https://github.com/getmoto/moto/pull/5216."""
    refused = await aws.expect_error(
        "ec2", "create_volume", AvailabilityZone=ZONE, Size=1, TagSpecifications=[specification]
    )

    assert refused == ("InvalidParameterValue", "Tag specification must have at least one tag")
    assert (await aws.ec2("describe_volumes"))["Volumes"] == []


async def test_a_new_volume_without_tags_has_an_empty_list_of_them(aws: Aws) -> None:
    """EC2's answer to CreateVolume has `tagSet`, and its description of an untagged volume has none."""
    created = await aws.ec2("create_volume", AvailabilityZone=ZONE, Size=1)
    described = await aws.describe_volume(created["VolumeId"])

    assert created["Tags"] == []
    assert "Tags" not in described


async def test_a_new_snapshot_shows_neither_progress_nor_size(aws: Aws) -> None:
    """EC2's answer to CreateSnapshot is shorter than its description of the snapshot."""
    created = await aws.ec2("create_snapshot", VolumeId=await aws.create_volume())

    async def state() -> str:
        return str((await aws.ec2("describe_snapshots"))["Snapshots"][0]["State"])

    await wait_until_equal(state, "completed")
    (described,) = (await aws.ec2("describe_snapshots"))["Snapshots"]

    assert (created["State"], created["Progress"], created["Tags"]) == ("pending", "", [])
    assert not {"StorageTier", "FullSnapshotSizeInBytes", "TransferType", "CompletionTime"} & set(created)
    assert (described["Progress"], described["StorageTier"], described["TransferType"]) == (
        "100%",
        "standard",
        "standard",
    )
    assert described["FullSnapshotSizeInBytes"] >= 0
    assert "Tags" not in described


async def test_a_device_name_may_lack_its_directory(emulator: Emulator, aws: Aws) -> None:
    """EC2 API reference, AttachVolume: "The device name (for example, /dev/sdh or xvdh)"."""
    instance = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
    first, second = await aws.create_volume(), await aws.create_volume()

    attached = await aws.ec2("attach_volume", VolumeId=first, InstanceId=instance, Device="xvdh")
    await wait_until_equal(lambda: aws.volume_state(first), "in-use attached")
    again = await aws.expect_error("ec2", "attach_volume", VolumeId=second, InstanceId=instance, Device="/dev/xvdh")
    wrong = await aws.expect_error("ec2", "attach_volume", VolumeId=second, InstanceId=instance, Device="sdh")

    assert attached["Device"] == "xvdh"
    assert re.search("already in use", again[1])
    assert "not a valid EBS device name" in wrong[1]
    assert (emulator.device_directory(instance) / "xvdh").exists()
