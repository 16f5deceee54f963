"""Describing volumes: the driver reads all pages, and does not take a volume that it cannot parse for deleted."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from hyperpod_ebs.driver.aws.account import Account
from hyperpod_ebs.driver.aws.clients import Clients
from hyperpod_ebs.driver.aws.ec2_snapshots import Ec2Snapshots
from hyperpod_ebs.driver.aws.ec2_volumes import Ec2Volumes
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.tags import SNAPSHOT_NAME, VOLUME_NAME
from hyperpod_ebs.driver.volumes.cloud import PartlyRead
from tests.support.virtual_time import run


def volume_shape(volume_id: str, **more: Any) -> Mapping[str, Any]:
    """A volume as EC2 describes it."""
    shape = {"VolumeId": volume_id, "Size": 1, "AvailabilityZone": "us-west-2a", "State": "available"}
    return shape | {"VolumeType": "gp3"} | more


def snapshot_shape(snapshot_id: str, name: str) -> Mapping[str, Any]:
    """A snapshot as EC2 describes it."""
    shape = {"SnapshotId": snapshot_id, "VolumeId": "vol-1", "VolumeSize": 1, "State": "completed"}
    return shape | {"StartTime": datetime.now(UTC), "Tags": [{"Key": SNAPSHOT_NAME, "Value": name}]}


class ScriptedAws:
    """The parts of EC2 and STS that these tests need, with answers that the emulator does not give."""

    def __init__(self, *pages: list[Mapping[str, Any]]) -> None:
        self.pages = pages
        self.identity_calls = 0

    async def describe_volumes(self, **request: Any) -> Mapping[str, Any]:
        """Answer with one page after the other."""
        page = int(request.get("NextToken", 0))
        more = {"NextToken": str(page + 1)} if page + 1 < len(self.pages) else {}
        return {"Volumes": self.pages[page], **more}

    async def get_caller_identity(self) -> Mapping[str, Any]:
        """Answer with the account."""
        self.identity_calls += 1
        return {"Account": "123456789012"}


def clients_of(aws: Any) -> Clients:
    """Clients that all call `aws`."""
    return Clients(ec2=aws, sagemaker=aws, sts=aws, account=Account(partition="aws", region="us-west-2"))


def ec2_volumes(aws: Any) -> Ec2Volumes:
    """The driver's volumes in `aws`."""
    clients = clients_of(aws)

    async def connect() -> Clients:
        return clients

    return Ec2Volumes(clients=connect)


UNKNOWN_STATE = volume_shape("vol-2", State="hibernating")


def test_a_volume_on_a_later_page_is_found() -> None:
    """EC2 applies a filter to each page, so a page may be empty (DescribeVolumes, MaxResults)."""
    found = run(
        ec2_volumes(ScriptedAws([volume_shape("vol-1")], [], [volume_shape("vol-2")])).describe_volumes(
            ["vol-1", "vol-2"]
        )
    )

    assert sorted(found) == ["vol-1", "vol-2"]


@pytest.mark.parametrize("odd", [UNKNOWN_STATE, volume_shape("vol-2", State="in-use", Attachments=[{}])])
def test_a_volume_that_cannot_be_parsed_is_distinguished_from_a_deleted_one(odd: Mapping[str, Any]) -> None:
    """A volume that is absent counts as detached, or as never created."""
    with pytest.raises(PartlyRead, match="vol-2") as error:
        run(ec2_volumes(ScriptedAws([volume_shape("vol-1"), odd])).describe_volumes(["vol-1", "vol-2", "vol-3"]))

    assert sorted(error.value.found) == ["vol-1"]
    assert error.value.unread == {"vol-2"}
    with pytest.raises(errors.CloudError, match="vol-2"):
        run(ec2_volumes(ScriptedAws([odd])).describe_volumes(["vol-2"]))


def test_a_volume_that_cannot_be_parsed_does_not_hide_the_others_of_a_list() -> None:
    """The external-attacher attaches every volume again that the list does not show as attached."""
    page = run(ec2_volumes(ScriptedAws([volume_shape("vol-1"), UNKNOWN_STATE])).list_volumes(5, None))

    assert [volume.id for volume in page.items] == ["vol-1"]


def test_a_name_is_compared_although_ec2_was_asked_for_it() -> None:
    """EC2 API reference, Filter: a value is a pattern. A search that finds more must not give a name another volume."""
    named = [{"Key": VOLUME_NAME, "Value": name} for name in ("pvc-1", "pvc-10")]
    shapes = [volume_shape(f"vol-{number}", Tags=[tag]) for number, tag in enumerate(named)]

    found = run(ec2_volumes(ScriptedAws(shapes)).find_volumes_named("pvc-1"))

    assert [volume.id for volume in found] == ["vol-0"]


def test_the_name_of_a_snapshot_is_compared_although_ec2_was_asked_for_it() -> None:
    """EC2 API reference, Filter: a value is a pattern."""

    class Snapshots:
        async def describe_snapshots(self, **_: Any) -> Mapping[str, Any]:
            return {"Snapshots": [snapshot_shape("snap-0", "sbi?"), snapshot_shape("snap-1", "sbig")]}

    clients = clients_of(Snapshots())

    async def connect() -> Clients:
        return clients

    found = run(Ec2Snapshots(clients=connect).find_snapshots_named("sbi?"))

    assert [snapshot.id for snapshot in found] == ["snap-0"]


def test_volumes_that_other_accounts_share_are_not_listed() -> None:
    """EC2 API reference, Volume: OwnerId; the account's own id is needed only if there are several owners."""
    own, shared = volume_shape("vol-1", OwnerId="123456789012"), volume_shape("vol-2", OwnerId="210987654321")
    alone, together = ScriptedAws([own]), ScriptedAws([own, shared])

    pages = [run(ec2_volumes(aws).list_volumes(5, None)) for aws in (alone, together)]

    assert [[volume.id for volume in page.items] for page in pages] == [["vol-1"], ["vol-1"]]
    assert (alone.identity_calls, together.identity_calls) == (0, 1)


def test_simultaneous_calls_look_up_the_account_once() -> None:
    """Hundreds of volumes may be attached at once when a controller starts."""
    aws = ScriptedAws([])
    volumes = ec2_volumes(aws)

    async def look_up() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(volumes.resolve_account_id())

    run(look_up())

    assert aws.identity_calls == 1
