"""What was called at the cloud, told afterwards: what a demo or a test shows beside its own side of the story."""

from typing import Any

import aiohttp
import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.http.journal import REMEMBERED, Journal
from hyperpod_ebs.emulator.wire.operations import AwsFault
from tests.support.emulator_clients import Aws, cloud


async def latest(emulator: Emulator, query: str = "") -> list[dict[str, Any]]:
    """The calls that the route tells."""
    async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls/latest{query}") as answer:
        calls: list[dict[str, Any]] = (await answer.json())["calls"]
        return calls


async def test_a_call_is_told_with_its_time_what_it_was_about_and_how_it_ended(emulator: Emulator, aws: Aws) -> None:
    """Ours: the answer's id counts as much as the request's."""
    made = await aws.ec2("create_volume", AvailabilityZone="us-west-2a", Size=1)
    arn, (node,) = await aws.create_cluster()
    missing = "vol-0123456789abcdef0"
    await aws.expect_error("sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=node, VolumeId=missing)

    first, *_, last = await latest(emulator)

    assert (first["operation"], first["resources"], first["outcome"]) == ("ec2:CreateVolume", [made["VolumeId"]], "ok")
    assert (last["operation"], last["outcome"]) == ("sagemaker:AttachClusterNodeVolume", "ValidationException")
    assert last["resources"] == [missing, node, arn]
    assert first["instant"] <= last["instant"]
    assert first["number"] < last["number"]
    assert 0 <= last["seconds"] < 10
    assert "Boto3" in last["agent"]


async def test_planned_trouble_is_told_as_the_caller_had_it(emulator: Emulator, aws: Aws) -> None:
    """Ours: throttled, and then not."""
    emulator.faults.plan("DescribeVolumes", AwsFault("RequestLimitExceeded", "Request limit exceeded.", 503))
    volume = "vol-0123456789abcdef0"
    filters = [{"Name": "volume-id", "Values": [volume]}]

    await aws.expect_error("ec2", "describe_volumes", Filters=filters)
    await aws.ec2("describe_volumes", Filters=filters)

    assert [(one["resources"], one["outcome"]) for one in await latest(emulator)] == [
        ([volume], "RequestLimitExceeded"),
        ([volume], "ok"),
    ]


async def test_who_follows_asks_only_for_what_is_new(emulator: Emulator, aws: Aws) -> None:
    """Ours: by the number of the last call seen, which goes on when the journal begins anew."""
    for _ in range(3):
        await aws("sts", "get_caller_identity")
    seen = await latest(emulator, "?count=2")

    await aws.ec2("describe_availability_zones")
    new = await latest(emulator, f"?after={seen[-1]['number']}")
    async with aiohttp.request("DELETE", f"{emulator.url}/_emulator/calls"):
        pass
    await aws("sts", "get_caller_identity")

    assert [one["number"] for one in seen] == [2, 3]
    assert [one["operation"] for one in new] == ["ec2:DescribeAvailabilityZones"]
    assert [one["number"] for one in await latest(emulator)] == [5]


@pytest.mark.parametrize("query", ["?count=x", "?after=-1", "?after=1234567890"])
async def test_what_is_no_number_is_refused(emulator: Emulator, query: str) -> None:
    """Ours: in words."""
    async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls/latest{query}") as answer:
        assert answer.status == 400
        assert "not a number" in await answer.text()


def test_the_journal_remembers_so_many_calls_and_counts_them_all() -> None:
    """Ours: an emulator that runs for weeks does not grow by it."""
    journal = Journal()

    for _ in range(REMEMBERED + 5):
        with journal.record("ec2:DescribeVolumes", "") as entry:
            entry.add_resources({"VolumeIds": [f"vol-{number}" for number in range(12)]})

    told = journal.latest(REMEMBERED + 5)
    assert (len(told), told[0].number) == (REMEMBERED, 6)
    assert journal.counts == {"ec2:DescribeVolumes": REMEMBERED + 5}
    assert told[0].document()["further"] == 2


async def test_whoever_calls_at_the_emulator_s_own_address_is_on_its_machine() -> None:
    """Ours: a cluster's nodes reach the services at an address, and its demo reads there what was called."""
    async with cloud(host="127.0.0.2") as (emulator, aws):
        await aws("sts", "get_caller_identity")

        assert emulator.url.startswith("http://127.0.0.2:")
        assert [one["operation"] for one in await latest(emulator)] == ["sts:GetCallerIdentity"]
