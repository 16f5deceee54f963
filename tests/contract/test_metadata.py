"""The instance metadata service, as the node process and the upstream driver use it."""

import asyncio
import logging
import resource
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.http import instance_metadata, metadata_listeners
from tests.support.emulator_clients import GROUP, Aws, cloud
from tests.support.waiting import wait_until_equal

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


async def get(url: str, path: str, token: str) -> tuple[int, str]:
    """Request a path of the endpoint; return the status and the text."""
    async with aiohttp.request("GET", f"{url}/latest/{path}", headers={TOKEN: token}) as answer:
        return answer.status, await answer.text()


async def instance_type(url: str) -> str:
    """Ask the endpoint for the machine's type."""
    status, text = await get(url, "meta-data/instance-type", await create_session(url))
    assert status == 200
    return text


async def is_open(url: str) -> bool:
    """Whether a client can connect to the endpoint."""
    try:
        _, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def status_of(emulator: Emulator) -> dict[str, list[dict[str, Any]]]:
    """What `emulator status` shows."""
    async with aiohttp.request("GET", f"{emulator.url}/_emulator/status") as answer:
        document: dict[str, list[dict[str, Any]]] = await answer.json()
        return document


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
    invalid = []
    for seconds in ("", "0", "21601", "x", "9" * 5000):
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": seconds}
        url = f"{emulator.metadata_url(first)}/latest/api/token"
        async with aiohttp.request("PUT", url, headers=headers) as answer:
            invalid.append(answer.status)

    assert (missing[0], foreign[0], set(invalid)) == (401, 401, {400})


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


async def test_a_request_for_a_token_that_a_proxy_forwards_is_refused(emulator: Emulator, aws: Aws) -> None:
    """AWS Security Blog, "Add defense in depth against open firewalls, reverse proxies, and SSRF vulnerabilities"."""
    url = emulator.metadata_url(await aws.run_instance())
    headers = {TTL: "60", "X-Forwarded-For": "192.0.2.1"}

    async with aiohttp.request("PUT", f"{url}/latest/api/token", headers=headers) as answer:
        assert answer.status == 403


async def test_each_machine_has_a_loopback_address_of_its_own(emulator: Emulator, aws: Aws) -> None:
    """AWS SDK for Go v2, feature/ec2/imds, replaces the path of the endpoint."""
    _, nodes = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])
    instances = [await aws.run_instance(), await aws.run_instance()]
    described = (await aws.ec2("describe_instances", InstanceIds=instances))["Reservations"]
    private = {entry["InstanceId"]: entry["PrivateIpAddress"] for r in described for entry in r["Instances"]}

    urls = {machine: emulator.metadata_url(machine) for machine in [*nodes, *instances]}
    ids = {machine: await get(url, "meta-data/instance-id", await create_session(url)) for machine, url in urls.items()}
    shown = {row["id"]: row["metadata"] for row in (await status_of(emulator))["instances"]}

    port = urlsplit(emulator.url).port
    assert ids == {machine: (200, machine) for machine in urls}
    assert shown == urls
    for instance in instances:
        assert urls[instance] == f"http://127.{private[instance].partition('.')[2]}:{port}"
    assert all(urlsplit(url).path == "" for url in urls.values())
    assert len({*urls.values(), emulator.url}) == 5


async def test_a_machines_address_serves_metadata_alone(emulator: Emulator, aws: Aws) -> None:
    """Control routes and AWS services are at the emulator's own address."""
    url = emulator.metadata_url(await aws.run_instance())
    answered = []

    for method, path in (("GET", ""), ("GET", "_emulator/health"), ("POST", ""), ("GET", "latest/api/token")):
        async with aiohttp.request(method, f"{url}/{path}") as answer:
            answered.append(answer.status)
    async with aiohttp.request("GET", f"{emulator.url}/latest/meta-data/instance-id") as answer:
        assert answer.status == 404

    assert answered == [404, 404, 404, 405]


async def test_the_address_of_a_machine_is_open_while_the_machine_exists(emulator: Emulator, aws: Aws) -> None:
    """An instance has its metadata before it runs; a terminated one has none."""
    cluster, (node,) = await aws.create_cluster()
    node_url = emulator.metadata_url(node)
    started = await aws.ec2("run_instances", MinCount=20, MaxCount=20, ImageId="ami-1")
    ids = [instance["InstanceId"] for instance in started["Instances"]]
    urls = [emulator.metadata_url(id_) for id_ in ids]

    at_start = [await is_open(url) for url in (node_url, *urls)]
    await aws.ec2("terminate_instances", InstanceIds=ids[1:])
    await aws("sagemaker", "delete_cluster", ClusterName=cluster)
    for url in (node_url, *urls[1:]):
        await wait_until_equal(partial(is_open, url), expected=False)

    assert all(at_start)
    assert await instance_type(urls[0]) == "m5.large"
    shown = {row["id"]: row["metadata"] for row in (await status_of(emulator))["instances"]}
    assert shown == {ids[0]: urls[0], **dict.fromkeys(ids[1:])}


async def test_a_restart_keeps_the_addresses(tmp_path: Path) -> None:
    """Programs on the machines keep the endpoint that they were started with."""
    async with cloud(tmp_path) as (emulator, aws):
        instance, ended = await aws.run_instance(), await aws.run_instance()
        url, ended_url = emulator.metadata_url(instance), emulator.metadata_url(ended)
        await aws.ec2("terminate_instances", InstanceIds=[ended])
        port = urlsplit(emulator.url).port or 0
    stopped = await is_open(url)

    async with cloud(tmp_path, port=port) as (emulator, _):
        again = emulator.metadata_url(instance)
        answered = await get(url, "meta-data/instance-id", await create_session(url))
        await wait_until_equal(lambda: is_open(ended_url), expected=False)

    assert (stopped, again, answered) == (False, url, (200, instance))


@pytest.mark.parametrize("host", ["127.0.0.2", "127.31.0.2", "0.0.0.0"])  # noqa: S104 - what a user may give
async def test_metadata_is_served_whatever_address_the_emulator_listens_on(host: str) -> None:
    """The devices, and so the machines' programs, are always on the emulator's own machine."""
    async with cloud(host=host) as (emulator, aws):
        url = emulator.metadata_url(await aws.run_instance())

        assert await instance_type(url) == "m5.large"
        assert urlsplit(url).hostname == "127.31.0.1"
        async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls") as answer:
            assert "ec2:RunInstances" in await answer.json()


@pytest.mark.requirement("emulator.answers-others")
async def test_a_taken_address_costs_one_machine_its_metadata_and_nothing_else(
    emulator: Emulator, aws: Aws, caplog: pytest.LogCaptureFixture
) -> None:
    """Two emulators may have the same port at different addresses."""
    caplog.set_level(logging.WARNING)
    port = urlsplit(emulator.url).port or 0
    with socket.create_server(("127.31.0.1", port)):
        first, second = await aws.run_instance(), await aws.run_instance()
        await aws.create_volume()
        status = await status_of(emulator)

    reason = f"cannot listen at http://127.31.0.1:{port}: Address already in use"
    assert [row["metadata"] for row in status["instances"]] == [None, emulator.metadata_url(second)]
    assert [row["subject"] for row in status["problems"]] == [first]
    assert reason in status["problems"][0]["problem"]
    assert [first in record.getMessage() for record in caplog.records if reason in record.getMessage()] == [True]
    assert await instance_type(emulator.metadata_url(second)) == "m5.large"

    await aws.run_instance()

    assert await instance_type(emulator.metadata_url(first)) == "m5.large"
    assert (await status_of(emulator))["problems"] == []


@pytest.mark.requirement("emulator.answers-others")
async def test_machines_leave_file_descriptors_for_clients_and_disks(
    emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """getrlimit(2), RLIMIT_NOFILE: without a free descriptor, no client could connect."""
    allowed: Final = 3
    monkeypatch.setattr(metadata_listeners, "SHARE", resource.getrlimit(resource.RLIMIT_NOFILE)[0] // allowed)
    instances = [await aws.run_instance() for _ in range(allowed + 2)]

    before = await status_of(emulator)
    await aws.ec2("terminate_instances", InstanceIds=instances[:1])
    await wait_until_equal(lambda: is_open(emulator.metadata_url(instances[allowed])), expected=True)

    assert [row["metadata"] is not None for row in before["instances"]] == [True] * allowed + [False] * 2
    assert [row["subject"] for row in before["problems"]] == instances[allowed:]
    assert all("ulimit -n" in row["problem"] for row in before["problems"])
    assert [row["subject"] for row in (await status_of(emulator))["problems"]] == instances[allowed + 1 :]


@pytest.mark.requirement("emulator.answers-others")
async def test_half_requests_at_a_machines_address_keep_no_client_from_an_answer(emulator: Emulator, aws: Aws) -> None:
    """CWE-400: connections that bring no whole request would take the descriptors of the process."""
    url, limit, surplus = emulator.metadata_url(await aws.run_instance()), 256, 20
    held = []
    for _ in range(limit + surplus):
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        writer.write(b"P")
        held.append((reader, writer))

    async with asyncio.timeout(60):
        for reader, _ in held[:surplus]:
            with suppress(ConnectionError):
                assert await reader.read() == b""
    answered = await instance_type(url)
    await aws.create_volume()

    for _, writer in held:
        writer.close()
    assert answered == "m5.large"
