"""The instance metadata service, as the node process and the upstream driver use it."""

from typing import Any

import aiohttp
import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.http import instance_metadata
from tests.support.emulator_clients import Aws

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


async def get(url: str, path: str, token: str) -> tuple[int, str]:
    """Request a path of the endpoint; return the status and the text."""
    async with aiohttp.request("GET", f"{url}/latest/{path}", headers={TOKEN: token}) as answer:
        return answer.status, await answer.text()


async def create_session(url: str) -> str:
    """Request a session token."""
    async with aiohttp.request("PUT", f"{url}/latest/api/token", headers={TTL: "60"}) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_an_instance_learns_its_id_type_and_location(emulator: Emulator, aws: Aws) -> None:
    """EC2 User Guide, "Instance identity documents" and "Instance metadata categories"."""
    instance = await aws.run_instance(InstanceType="c5.large")
    url = emulator.metadata_url(instance)
    token = await create_session(url)

    async with aiohttp.request(
        "GET", f"{url}/latest/dynamic/instance-identity/document", headers={TOKEN: token}
    ) as answer:
        document: dict[str, Any] = await answer.json(content_type=None)

    assert (document["instanceId"], document["instanceType"]) == (instance, "c5.large")
    assert (document["region"], document["availabilityZone"]) == ("us-west-2", "us-west-2a")
    assert await get(url, "meta-data/placement/availability-zone-id", token) == (200, "usw2-az1")
    assert await get(url, "meta-data/placement/", token) == (
        200,
        "availability-zone\navailability-zone-id\nregion",
    )
    assert await get(url, "meta-data/outpost-arn", token) == (404, "404: Not Found")
    status, macs = await get(url, "meta-data/network/interfaces/macs", token)
    assert (status, macs.endswith("/"), "\n" in macs) == (200, True, False)


async def test_an_attached_volume_is_in_the_block_device_mapping(emulator: Emulator, aws: Aws) -> None:
    """The upstream driver counts the `ebs` entries (kubernetes-sigs/aws-ebs-csi-driver, pkg/cloud/metadata/imds.go)."""
    instance, volume = await aws.run_instance(), await aws.create_volume()
    url = emulator.metadata_url(instance)
    token = await create_session(url)
    before = await get(url, "meta-data/block-device-mapping", token)

    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")
    await aws.describe_volume(volume)

    assert before == (200, "ami\nroot")
    assert await get(url, "meta-data/block-device-mapping", token) == (200, "ami\nebs1\nroot")
    assert await get(url, "meta-data/block-device-mapping/ebs1", token) == (200, "xvdba")


async def test_metadata_needs_a_session_token_of_the_instance(emulator: Emulator, aws: Aws) -> None:
    """EC2 User Guide, "Use the Instance Metadata Service": 401 without a valid token, 400 for an invalid TTL."""
    first, second = await aws.run_instance(), await aws.run_instance()
    token = await create_session(emulator.metadata_url(second))

    missing = await get(emulator.metadata_url(first), "meta-data/instance-id", "")
    foreign = await get(emulator.metadata_url(first), "meta-data/instance-id", token)
    unknown = await get(emulator.metadata_url("i-0123456789abcdef0"), "meta-data/instance-id", token)
    invalid = []
    for seconds in ("", "0", "21601", "x", "9" * 5000):
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": seconds}
        url = f"{emulator.metadata_url(first)}/latest/api/token"
        async with aiohttp.request("PUT", url, headers=headers) as answer:
            invalid.append(answer.status)

    assert (missing[0], foreign[0], unknown[0], set(invalid)) == (401, 401, 404, {400})


async def test_a_hyperpod_node_has_metadata_too(emulator: Emulator, aws: Aws) -> None:
    """Software on a HyperPod node reads the metadata service as on any EC2 instance."""
    _, (node,) = await aws.create_cluster()
    url = emulator.metadata_url(node)

    assert await get(url, "meta-data/instance-type", await create_session(url)) == (200, "ml.m5.large")


async def test_the_oldest_session_gives_way_to_a_new_one(
    emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CWE-400: every client may request tokens, which are valid for up to six hours."""
    monkeypatch.setattr(instance_metadata, "MAX_SESSIONS", 2)
    url = emulator.metadata_url(await aws.run_instance())

    tokens = [await create_session(url) for _ in range(3)]

    assert [(await get(url, "meta-data/instance-type", token))[0] for token in tokens] == [401, 200, 200]
