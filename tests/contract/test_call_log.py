"""The call log: the demo shows it, and tests read which AWS calls were made."""

from typing import Any

import aiohttp
import pytest

from hyperpod_ebs.emulator.call_log import CallLog
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.wire.operations import AwsFault
from tests.support.emulator_clients import Aws, cloud


async def latest(emulator: Emulator, query: str = "") -> list[dict[str, Any]]:
    """The calls in the answer of the call log's route."""
    async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls/latest{query}") as answer:
        calls: list[dict[str, Any]] = (await answer.json())["calls"]
        return calls


async def test_the_call_log_shows_the_time_resources_and_outcome_of_each_call(emulator: Emulator, aws: Aws) -> None:
    """The resources are those in the request and those in the answer."""
    created = await aws.ec2("create_volume", AvailabilityZone="us-west-2a", Size=1)
    arn, (node,) = await aws.create_cluster()
    missing = "vol-0123456789abcdef0"
    await aws.expect_error("sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=node, VolumeId=missing)

    first, *_, last = await latest(emulator)

    assert (first["operation"], first["resources"], first["outcome"]) == (
        "ec2:CreateVolume",
        [created["VolumeId"]],
        "ok",
    )
    assert (last["operation"], last["outcome"]) == ("sagemaker:AttachClusterNodeVolume", "ValidationException")
    assert last["resources"] == [missing, node, arn]
    assert first["instant"] <= last["instant"]
    assert first["number"] < last["number"]
    assert 0 <= last["seconds"] < 10
    assert "Boto3" in last["agent"]


async def test_a_planned_fault_is_in_the_call_log_as_the_caller_saw_it(emulator: Emulator, aws: Aws) -> None:
    emulator.faults.plan("DescribeVolumes", AwsFault("RequestLimitExceeded", "Request limit exceeded.", 503))
    volume = "vol-0123456789abcdef0"
    filters = [{"Name": "volume-id", "Values": [volume]}]

    await aws.expect_error("ec2", "describe_volumes", Filters=filters)
    await aws.ec2("describe_volumes", Filters=filters)

    assert [(call["resources"], call["outcome"]) for call in await latest(emulator)] == [
        ([volume], "RequestLimitExceeded"),
        ([volume], "ok"),
    ]


async def test_a_client_can_request_only_the_calls_after_the_last_one_it_saw(emulator: Emulator, aws: Aws) -> None:
    """The calls' numbers continue after the call log is cleared."""
    for _ in range(3):
        await aws("sts", "get_caller_identity")
    seen = await latest(emulator, "?count=2")

    await aws.ec2("describe_availability_zones")
    new = await latest(emulator, f"?after={seen[-1]['number']}")
    async with aiohttp.request("DELETE", f"{emulator.url}/_emulator/calls"):
        pass
    await aws("sts", "get_caller_identity")

    assert [call["number"] for call in seen] == [2, 3]
    assert [call["operation"] for call in new] == ["ec2:DescribeAvailabilityZones"]
    assert [call["number"] for call in await latest(emulator)] == [5]


@pytest.mark.parametrize("query", ["?count=x", "?after=-1", "?after=1234567890"])
async def test_a_parameter_that_is_not_a_number_is_rejected(emulator: Emulator, query: str) -> None:
    async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls/latest{query}") as answer:
        assert answer.status == 400
        assert "not a number" in await answer.text()


def test_the_call_log_keeps_a_limited_number_of_calls_and_counts_all() -> None:
    """The memory of an emulator that runs for weeks must not grow."""
    call_log = CallLog()

    for _ in range(1005):
        with call_log.record("ec2:DescribeVolumes") as entry:
            call_log.accept(entry)
            entry.add_resources({"VolumeIds": [f"vol-{number}" for number in range(12)]})

    entries = call_log.latest(1005)
    assert (len(entries), entries[0].number) == (1000, 6)
    assert call_log.counts == {"ec2:DescribeVolumes": 1005}
    assert entries[0].document()["further"] == 2


async def test_a_client_that_connects_from_the_emulator_s_own_address_may_use_the_control_routes() -> None:
    """In the local cluster the emulator does not listen on loopback, and the demo reads the call log."""
    async with cloud(host="127.0.0.2") as (emulator, aws):
        await aws("sts", "get_caller_identity")

        assert emulator.url.startswith("http://127.0.0.2:")
        assert [call["operation"] for call in await latest(emulator)] == ["sts:GetCallerIdentity"]
