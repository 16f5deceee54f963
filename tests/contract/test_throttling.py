"""The account's token buckets, as AWS's own clients meet them.

EC2 developer guide, "Request throttling for the Amazon EC2 API". The buckets of these tests have few tokens, and none
come back, so that nothing depends on time.
"""

import asyncio
import json
from pathlib import Path
from typing import Any, Literal

import aiohttp
import boto3  # type: ignore[import-untyped] # it has no types of its own
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from hyperpod_ebs.emulator.call_log import CallLog
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.http.account_limits import DOCUMENTED, UNFILTERED
from hyperpod_ebs.emulator.http.dispatch import handlers_of
from hyperpod_ebs.emulator.services import create_services
from hyperpod_ebs.emulator.wire.operations import AwsFault
from tests.support.emulator_clients import ZONE, Aws, cloud, error_of

ONE = {"capacity": 1, "refill": 0}
VOLUME = {"AvailabilityZone": ZONE, "Size": 1}
THROTTLED = ("RequestLimitExceeded", "Request limit exceeded.")
MISSING = "vol-0123456789abcdef0"


async def read(emulator: Emulator, path: str) -> Any:
    """The JSON document of a control route."""
    async with aiohttp.request("GET", f"{emulator.url}/_emulator/{path}") as answer:
        return await answer.json()


async def post(emulator: Emulator, limits: Any) -> tuple[int, str]:
    """Change limits by the control route; the status and the text of the answer."""
    async with aiohttp.request("POST", f"{emulator.url}/_emulator/throttle", json=limits) as answer:
        return answer.status, await answer.text()


async def test_a_call_beyond_the_bucket_is_refused_and_changes_nothing(emulator: Emulator, aws: Aws) -> None:
    await post(emulator, {"ec2:CreateVolume": ONE})
    await aws.ec2("create_volume", **VOLUME)

    with pytest.raises(ClientError) as refused:
        await aws.ec2("create_volume", **VOLUME)

    response: Any = refused.value.response
    assert (response["Error"]["Code"], response["Error"]["Message"]) == THROTTLED
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert len((await aws.ec2("describe_volumes"))["Volumes"]) == 1


async def test_sagemaker_answers_in_its_own_form(emulator: Emulator, aws: Aws) -> None:
    """SageMaker API reference, "Common Error Types": ThrottlingException has status 400."""
    await post(emulator, {"sagemaker:ListClusters": ONE})
    await aws("sagemaker", "list_clusters")

    with pytest.raises(ClientError) as refused:
        await aws("sagemaker", "list_clusters")

    response: Any = refused.value.response
    assert (response["Error"]["Code"], response["Error"]["Message"]) == ("ThrottlingException", "Rate exceeded")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


async def test_each_operation_has_a_bucket_of_its_own(emulator: Emulator, aws: Aws) -> None:
    """EC2 developer guide, "Request rate limiting": each API is evaluated individually."""
    await post(emulator, {"ec2:DescribeTags": ONE, "ec2:DescribeRegions": ONE})
    await aws.ec2("describe_tags")

    assert await aws.expect_error("ec2", "describe_tags") == THROTTLED
    assert (await aws.ec2("describe_regions"))["Regions"]


async def test_unfiltered_calls_take_no_tokens_from_filtered_ones(emulator: Emulator, aws: Aws) -> None:
    await post(emulator, {"ec2:DescribeVolumes:unfiltered": ONE, "ec2:DescribeVolumes": ONE})
    await aws.ec2("describe_volumes")

    unfiltered = await aws.expect_error("ec2", "describe_volumes")
    filtered = await aws.ec2("describe_volumes", Filters=[{"Name": "volume-id", "Values": [MISSING]}])
    by_id = await aws.expect_error("ec2", "describe_volumes", VolumeIds=[MISSING])

    assert filtered["Volumes"] == []
    assert unfiltered == by_id == THROTTLED


async def test_all_callers_of_the_account_share_a_bucket_and_a_stranger_takes_no_token(
    emulator: Emulator, aws: Aws
) -> None:
    """A request is authenticated before it is throttled, and throttled before its policies are read."""
    await post(emulator, {"ec2:DescribeTags": {"capacity": 2, "refill": 0}})
    await aws("iam", "create_user", UserName="ann")
    key = (await aws("iam", "create_access_key", UserName="ann"))["AccessKey"]
    ann = await asyncio.to_thread(client, emulator, key["AccessKeyId"], key["SecretAccessKey"])
    stranger = await asyncio.to_thread(client, emulator, key["AccessKeyId"], "wrong")

    codes = [await code(each) for each in (stranger, ann, stranger, ann, ann)]

    denied, bad_key = "UnauthorizedOperation", "SignatureDoesNotMatch"
    assert codes == [bad_key, denied, bad_key, denied, "RequestLimitExceeded"]
    assert (await aws.expect_error("ec2", "describe_tags")) == THROTTLED


def client(emulator: Emulator, key_id: str, secret: str, config: Config | None = None) -> Any:
    """An EC2 client with this access key; without `config` it does not retry."""
    return boto3.client(
        "ec2",
        endpoint_url=emulator.url,
        region_name="us-west-2",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=config or Config(retries={"total_max_attempts": 1}),
    )


async def code(ec2: Any) -> str:
    """The code of the error that DescribeTags answers."""
    with pytest.raises(ClientError) as refused:
        await asyncio.to_thread(ec2.describe_tags)
    return error_of(refused.value)[0]


@pytest.mark.parametrize("mode", ["legacy", "standard"])
async def test_sdks_retry_a_throttled_call(emulator: Emulator, mode: Literal["legacy", "standard"]) -> None:
    """AWS SDKs and Tools reference guide, "Retry behavior": both codes are throttling errors."""
    await post(emulator, {"ec2:DescribeTags": {"capacity": 0}})
    env = emulator.env
    keys = (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    ec2 = await asyncio.to_thread(client, emulator, *keys, Config(retries={"mode": mode, "total_max_attempts": 2}))

    with pytest.raises(ClientError) as refused:
        await asyncio.to_thread(ec2.describe_tags)

    response: Any = refused.value.response
    assert response["ResponseMetadata"]["RetryAttempts"] == 1
    assert await read(emulator, "calls/throttled") == {"ec2:DescribeTags": 2}


async def test_throttled_calls_are_counted_as_calls_and_on_their_own(emulator: Emulator, aws: Aws) -> None:
    """A planned fault with the same code is not the bucket's, and waits for a call that the bucket lets through."""
    await post(emulator, {"ec2:DescribeTags": ONE})
    emulator.faults.plan("DescribeTags", AwsFault(*THROTTLED, 503))
    for _ in range(3):
        await aws.expect_error("ec2", "describe_tags")

    calls, throttled = await read(emulator, "calls"), await read(emulator, "calls/throttled")
    status = await read(emulator, "status")
    async with aiohttp.request("DELETE", f"{emulator.url}/_emulator/calls"):
        pass

    assert calls == {"ec2:DescribeTags": 3}
    assert throttled == {"ec2:DescribeTags": 2}
    assert status["throttled"] == [{"operation": "ec2:DescribeTags", "calls": 3, "throttled": 2}]
    assert await read(emulator, "calls/throttled") == {}


async def test_the_control_route_shows_each_bucket_and_plans_a_neighbour(aws: Aws, emulator: Emulator) -> None:
    await post(emulator, {"ec2:DescribeTags": {"capacity": 10, "refill": 0}})
    await aws.ec2("describe_tags")

    before = (await read(emulator, "throttle"))["buckets"]["ec2:DescribeTags"]
    await post(emulator, {"*": {"neighbour": 0.3}})
    during = (await read(emulator, "throttle"))["buckets"]["ec2:DescribeTags"]
    await post(emulator, {"ec2:DescribeTags": {"neighbour": 0}})
    after = (await read(emulator, "throttle"))["buckets"]["ec2:DescribeTags"]

    assert before == {"capacity": 10, "refill": 0, "neighbour": 0, "tokens": 9}
    assert during == {"capacity": 10, "refill": 0, "neighbour": 0.3, "tokens": 7}
    assert after == {"capacity": 10, "refill": 0, "neighbour": 0, "tokens": 7}


async def test_restoring_returns_to_the_limits_at_the_start_and_fills_the_buckets(tmp_path: Path) -> None:
    file = tmp_path / "limits.json"
    await asyncio.to_thread(file.write_text, json.dumps({"ec2:DescribeTags": ONE}))
    async with cloud(throttle=file) as (emulator, aws):
        await aws.ec2("describe_tags")
        await post(emulator, {"*": {"neighbour": 1}})

        async with aiohttp.request("DELETE", f"{emulator.url}/_emulator/throttle") as answer:
            buckets = (await answer.json())["buckets"]

        assert buckets.keys() == DOCUMENTED.keys()
        assert buckets["ec2:DescribeTags"] == {"capacity": 1, "refill": 0, "neighbour": 0, "tokens": 1}
        await aws.ec2("describe_tags")


async def test_a_restart_fills_the_buckets(tmp_path: Path) -> None:
    """The buckets are in memory; AWS's refill, too, while an emulator is stopped."""
    file = tmp_path / "limits.json"
    await asyncio.to_thread(file.write_text, json.dumps({"ec2:DescribeTags": ONE}))
    for _ in range(2):
        async with cloud(tmp_path / "cloud", throttle=file) as (_, aws):
            await aws.ec2("describe_tags")
            assert await aws.expect_error("ec2", "describe_tags") == THROTTLED


@pytest.mark.parametrize(
    ("settings", "capacity"),
    [({}, None), ({"profile": "aws"}, 50), ({"profile": "chaos"}, 50), ({"profile": "aws", "throttle": "off"}, None)],
)
async def test_the_profiles_that_take_time_have_the_documented_buckets(settings: Any, capacity: int | None) -> None:
    async with cloud(**{"throttle": None} | settings) as (emulator, _):
        buckets = (await read(emulator, "throttle"))["buckets"]

    assert buckets.get("ec2:AttachVolume", {}).get("capacity") == capacity


async def test_a_document_that_changes_nothing_is_refused(emulator: Emulator) -> None:
    status, text = await post(emulator, {"*": {"neighbour": 0.3}})

    assert status == 400
    assert "throttling is off" in text
    assert (await read(emulator, "throttle")) == {"buckets": {}}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("{", "application/json", 400),
        ("[" * 100_000, "application/json", 400),
        ('{"ec2:CreateVolume": {"capacity": NaN}}', "application/json", 400),
        ('{"ec2:NoSuchCall": {"capacity": 1}}', "application/json", 400),
        ('{"ec2:CreateVolume": {"capacity": 1}}', "text/plain", 415),
    ],
)
async def test_a_malformed_change_is_refused_and_changes_nothing(
    emulator: Emulator, body: str, kind: str, status: int
) -> None:
    """The Fetch standard lets a web page send text, but not JSON, to another site without asking it first."""
    url, headers = f"{emulator.url}/_emulator/throttle", {"Content-Type": kind}

    async with aiohttp.request("POST", url, data=body, headers=headers) as answer:
        assert answer.status == status

    assert (await read(emulator, "throttle")) == {"buckets": {}}


async def test_every_operation_of_ec2_and_sagemaker_has_a_bucket(emulator: Emulator) -> None:
    """An operation that is added later must not be unlimited by accident."""
    services = create_services(emulator.world, rate="off", enforces=False, call_log=CallLog()).objects

    operations = {f"{name}:{each}" for name in ("ec2", "sagemaker") for each in handlers_of(name, services[name])}

    assert operations == {name for name in DOCUMENTED if not name.endswith(UNFILTERED)}
