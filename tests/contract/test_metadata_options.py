"""The metadata options of instances: who needs a session token, how far it travels, and whether there is metadata."""

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws

TTL: Final = "X-aws-ec2-metadata-token-ttl-seconds"

DEFAULTS: Final = {
    "State": "applied",
    "HttpTokens": "required",
    "HttpPutResponseHopLimit": 2,
    "HttpEndpoint": "enabled",
    "HttpProtocolIpv6": "disabled",
    "InstanceMetadataTags": "disabled",
}

REFUSALS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "no hop": ({"HttpPutResponseHopLimit": 0}, "InvalidParameterValue"),
    "too many hops": ({"HttpPutResponseHopLimit": 65}, "InvalidParameterValue"),
    "unknown value": ({"HttpTokens": "perhaps"}, "InvalidParameterValue"),
    "IPv6": ({"HttpProtocolIpv6": "enabled"}, "UnsupportedOperation"),
    "tags": ({"InstanceMetadataTags": "enabled"}, "UnsupportedOperation"),
}


async def options_of(aws: Aws, instance: str) -> Any:
    """The options in the answer of DescribeInstances."""
    described = await aws.ec2("describe_instances", InstanceIds=[instance])
    return described["Reservations"][0]["Instances"][0]["MetadataOptions"]


async def status_without_token(url: str) -> int:
    """The status of a request of version 1, which has no session token."""
    async with aiohttp.request("GET", f"{url}/latest/meta-data/instance-id") as answer:
        return answer.status


async def test_an_instance_has_the_options_of_its_request_or_those_of_amazon_linux_2023(aws: Aws) -> None:
    """EC2 API reference, "Image": an image with ImdsSupport v2.0 requires tokens and sets the hop limit to 2."""
    chosen = {"HttpTokens": "optional", "HttpPutResponseHopLimit": 3, "HttpEndpoint": "enabled"}
    default, own = await aws.run_instance(), await aws.run_instance(MetadataOptions=chosen)

    shown = [await options_of(aws, instance) for instance in (default, own)]
    changed = await aws.ec2("modify_instance_metadata_options", InstanceId=default, HttpPutResponseHopLimit=1)

    assert shown == [DEFAULTS, {**DEFAULTS, **chosen}]
    assert changed["InstanceMetadataOptions"] == {**DEFAULTS, "HttpPutResponseHopLimit": 1}
    assert await options_of(aws, default) == changed["InstanceMetadataOptions"]
    for name, value in {"http-tokens": "optional", "http-put-response-hop-limit": "3"}.items():
        by_option = [{"Name": f"metadata-options.{name}", "Values": [value]}]
        found = await aws.ec2("describe_instances", Filters=by_option)
        assert [each["Instances"][0]["InstanceId"] for each in found["Reservations"]] == [own]


@pytest.mark.parametrize("name", REFUSALS)
async def test_options_that_cannot_be_had_are_refused(name: str, aws: Aws) -> None:
    """EC2 API reference, "InstanceMetadataOptionsRequest"."""
    options, code = REFUSALS[name]
    instance = await aws.run_instance()
    one = {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1}

    refused = [
        await aws.expect_error("ec2", "modify_instance_metadata_options", InstanceId=instance, **options),
        await aws.expect_error("ec2", "run_instances", **one, MetadataOptions=options),
    ]

    assert [each[0] for each in refused] == [code, code]
    assert await options_of(aws, instance) == DEFAULTS


async def test_the_options_decide_about_requests_without_a_token(emulator: Emulator, aws: Aws) -> None:
    """EC2 User Guide, "Use the Instance Metadata Service": 401 without a token, 403 if the service is turned off."""
    instance = await aws.run_instance()
    url, modify = emulator.metadata_url(instance), "modify_instance_metadata_options"

    statuses = [await status_without_token(url)]
    for change in ({"HttpTokens": "optional"}, {"HttpEndpoint": "disabled"}, {"HttpEndpoint": "enabled"}):
        await aws.ec2(modify, InstanceId=instance, **change)
        statuses.append(await status_without_token(url))
    await aws.ec2(modify, InstanceId=instance, HttpEndpoint="disabled")
    async with aiohttp.request("PUT", f"{url}/latest/api/token", headers={TTL: "60"}) as answer:
        statuses.append(answer.status)

    assert statuses == [401, 200, 403, 200, 403]
