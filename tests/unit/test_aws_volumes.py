"""What EC2 shows of volumes: all of it, and what nobody can read is not taken for gone."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from hyperpod_ebs.driver.aws.ec2 import Ec2Volumes
from hyperpod_ebs.driver.aws.sts import Identity
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.volumes.cloud import PartlyRead
from tests.support.virtual_time import run


def shown(volume_id: str, **more: Any) -> Mapping[str, Any]:
    """A volume as EC2 shows it."""
    terms = {"VolumeId": volume_id, "Size": 1, "AvailabilityZone": "us-west-2a", "State": "available"}
    return terms | {"VolumeType": "gp3"} | more


class Shows:
    """As much of EC2 and STS as these tests need: answers that no emulator gives."""

    def __init__(self, *pages: list[Mapping[str, Any]]) -> None:
        self.pages = pages
        self.identities = 0

    async def describe_volumes(self, **asked: Any) -> Mapping[str, Any]:
        """One page after the other."""
        place = int(asked.get("NextToken", 0))
        more = {"NextToken": str(place + 1)} if place + 1 < len(self.pages) else {}
        return {"Volumes": self.pages[place], **more}

    async def get_caller_identity(self) -> Mapping[str, Any]:
        """The account."""
        self.identities += 1
        return {"Account": "123456789012"}


def ec2(shows: Any) -> Ec2Volumes:
    """The driver's way to it."""
    return Ec2Volumes(ec2=shows, identity=Identity(sts=shows, partition="aws", region="us-west-2"))


ODD = shown("vol-2", State="hibernating")


def test_a_volume_on_a_later_page_is_not_gone() -> None:
    """EC2: a filter is applied to each page, and a page may be empty."""
    found = run(ec2(Shows([shown("vol-1")], [], [shown("vol-2")])).volumes(["vol-1", "vol-2"]))

    assert sorted(found) == ["vol-1", "vol-2"]


@pytest.mark.parametrize("odd", [ODD, shown("vol-2", State="in-use", Attachments=[{}])])
def test_a_volume_that_cannot_be_read_is_told_apart_from_one_that_is_gone(odd: Mapping[str, Any]) -> None:
    """Ours: absent would mean detached, or void."""
    with pytest.raises(PartlyRead, match="vol-2") as some:
        run(ec2(Shows([shown("vol-1"), odd])).volumes(["vol-1", "vol-2", "vol-3"]))

    assert sorted(some.value.found) == ["vol-1"]
    assert some.value.unread == {"vol-2"}
    with pytest.raises(errors.CloudError, match="vol-2"):
        run(ec2(Shows([odd])).volumes(["vol-2"]))


def test_a_volume_that_cannot_be_read_does_not_hide_the_others_of_a_list() -> None:
    """Attacher: without its list it attaches everything again."""
    page = run(ec2(Shows([shown("vol-1"), ODD])).volume_page(5, None))

    assert [volume.id for volume in page.items] == ["vol-1"]


def test_the_account_is_asked_for_once_by_however_many() -> None:
    """STS: hundreds may attach at once when a controller starts."""
    shows = Shows([])
    identity = ec2(shows).identity

    async def act() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(identity.account())

    run(act())

    assert shows.identities == 1
