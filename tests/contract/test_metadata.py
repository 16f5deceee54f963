"""The metadata service of a machine, as the node process and the Go driver ask it."""

from typing import Any

import aiohttp

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


async def get(url: str, path: str, token: str) -> tuple[int, str]:
    """Status and text at a path of the endpoint."""
    async with aiohttp.request("GET", f"{url}/latest/{path}", headers={TOKEN: token}) as answer:
        return answer.status, await answer.text()


async def session(url: str) -> str:
    """A token."""
    async with aiohttp.request("PUT", f"{url}/latest/api/token", headers={TTL: "60"}) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_a_machine_learns_who_and_where_it_is(emulator: Emulator, aws: Aws) -> None:
    """EC2: the identity document and the categories of instance metadata."""
    instance = await aws.run_instance(InstanceType="c5.large")
    url = emulator.metadata_url(instance)
    token = await session(url)

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


async def test_a_volume_attached_is_in_the_block_device_mapping(emulator: Emulator, aws: Aws) -> None:
    """Upstream: the Go driver counts the `ebs` entries (imds.go)."""
    instance, volume = await aws.run_instance(), await aws.create_volume()
    url = emulator.metadata_url(instance)
    token = await session(url)
    before = await get(url, "meta-data/block-device-mapping", token)

    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")
    await aws.describe_volume(volume)

    assert before == (200, "ami\nroot")
    assert await get(url, "meta-data/block-device-mapping", token) == (200, "ami\nebs1\nroot")
    assert await get(url, "meta-data/block-device-mapping/ebs1", token) == (200, "xvdba")


async def test_nobody_is_told_without_a_token_of_the_machine(emulator: Emulator, aws: Aws) -> None:
    """EC2: IMDSv2 answers 401 without a session, 400 for a session of no length."""
    first, second = await aws.run_instance(), await aws.run_instance()
    token = await session(emulator.metadata_url(second))

    none = await get(emulator.metadata_url(first), "meta-data/instance-id", "")
    foreign = await get(emulator.metadata_url(first), "meta-data/instance-id", token)
    unknown = await get(emulator.metadata_url("i-0123456789abcdef0"), "meta-data/instance-id", token)
    odd = []
    for seconds in ("", "0", "21601", "x", "9" * 5000):
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": seconds}
        url = f"{emulator.metadata_url(first)}/latest/api/token"
        async with aiohttp.request("PUT", url, headers=headers) as answer:
            odd.append(answer.status)

    assert (none[0], foreign[0], unknown[0], set(odd)) == (401, 401, 404, {400})


async def test_a_hyperpod_node_has_metadata_too(emulator: Emulator, aws: Aws) -> None:
    """HyperPod: a node is a machine like any other from within."""
    _, (node,) = await aws.create_cluster()
    url = emulator.metadata_url(node)

    assert await get(url, "meta-data/instance-type", await session(url)) == (200, "ml.m5.large")
