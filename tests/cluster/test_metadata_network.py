"""The instance metadata at its address on AWS, in the local cluster's network: the hub, a node, and a pod on the node.

The node is one hop away from the metadata, its pods are two.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from hyperpod_ebs.kit import command, files
from hyperpod_ebs.sandbox.sandbox import Sandbox
from localcluster.machines import network
from localcluster.machines.daemon import Daemon
from localcluster.machines.network import Namespaces
from tests.support.emulator_commands import EMULATOR
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

PORT: Final = 4566

CALL: Final = """
import boto3, json, sys
service, operation, members = json.loads(sys.argv[1])
print(json.dumps(getattr(boto3.client(service), operation)(**members), default=str))
"""
"""A program that calls AWS, with the environment of `emulator env`."""

ASK: Final = """
import sys, urllib.request as http
def ask(method, path, headers):
    request = http.Request("http://169.254.169.254/latest/" + path, method=method, headers=headers)
    return http.urlopen(request, timeout=120).read().decode()
token = ask("PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
print(ask("GET", "meta-data/" + sys.argv[1], {"X-aws-ec2-metadata-token": token}))
"""
"""A program that prints a category of the metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A node and a pod on it."""

    id: str
    node: Namespaces
    pod: Namespaces

    async def ask_from_pod(self) -> asyncio.subprocess.Process:
        """Start to ask for the instance's id from the pod."""
        argv = self.pod.network_argv(sys.executable, "-c", ASK, "instance-id")
        return await asyncio.create_subprocess_exec(*argv, stdout=PIPE)

    async def count_dropped_packets(self) -> int:
        """How many packets the node's kernel has dropped because they had travelled too far."""
        text = await files.off_loop(Path(f"/proc/{self.node.pid}/net/snmp").read_text)
        names, values = (line.split()[1:] for line in text.splitlines() if line.startswith("Icmp:"))
        return int(dict(zip(names, values, strict=True))["OutTimeExcds"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """An emulator in the hub's network."""

    sandbox: Sandbox
    hub: Namespaces
    env: dict[str, str]

    @classmethod
    @asynccontextmanager
    async def start(cls) -> AsyncGenerator["Cloud"]:
        """Start the hub and the emulator; both end with the block."""
        async with Sandbox.open("metadata") as sandbox:
            hub = await new_network(sandbox, "hub")
            await network.create_bridge(hub)
            state = str(sandbox.path / "state")
            listening = ("--host", network.GATEWAY, "--port", str(PORT), "--link-local-metadata", "on")
            argv = hub.network_argv(*EMULATOR, "run", "--state", state, *listening)
            emulator = await Daemon.start(sandbox, "emulator", argv)
            log = sandbox.path / "emulator.log"

            async def is_ready() -> bool:
                return "emulator ready" in await files.off_loop(log.read_text)

            await emulator.wait_until(is_ready, seconds=120)
            environment = await command.run([*EMULATOR, "env", "--state", state, "--output", "json"])
            yield cls(sandbox=sandbox, hub=hub, env=json.loads(environment.out))

    async def call(self, service: str, operation: str, **members: Any) -> Any:
        """Call AWS in the hub."""
        argv = self.hub.network_argv(sys.executable, "-c", CALL, json.dumps([service, operation, members]))
        process = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **self.env}, stdout=PIPE)
        answer, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(answer)

    async def start_machine(self, hops: int) -> Machine:
        """Start an instance with this hop limit, its node, and a pod on the node's bridge."""
        one = {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1}
        started = await self.call("ec2", "run_instances", **one, MetadataOptions={"HttpPutResponseHopLimit": hops})
        instance = started["Instances"][0]
        node = await new_network(self.sandbox, instance["InstanceId"])
        pod = await new_network(self.sandbox, f"{instance['InstanceId']}-pod")
        await network.join_node(self.hub, node, instance["PrivateIpAddress"])
        gateway, address = (network.pod_range(instance["PrivateIpAddress"]).replace(".0/24", f".{n}") for n in (1, 2))
        await run_all(
            node,
            ["ip", "link", "add", "pods", "type", "bridge"],
            ["ip", "address", "add", f"{gateway}/24", "dev", "pods"],
            ["ip", "link", "add", "pod", "type", "veth", "peer", "name", "eth0", "netns", str(pod.pid)],
            ["ip", "link", "set", "pod", "master", "pods", "up"],
            ["ip", "link", "set", "pods", "up"],
        )
        await run_all(
            pod,
            ["ip", "address", "add", f"{address}/24", "dev", "eth0"],
            ["ip", "link", "set", "eth0", "up"],
            ["ip", "route", "add", "default", "via", gateway],
        )
        return Machine(id=instance["InstanceId"], node=node, pod=pod)


async def new_network(sandbox: Sandbox, name: str) -> Namespaces:
    """A network namespace, held by a process that does nothing."""
    holder = await Daemon.start(sandbox, name, ["unshare", "--net", "sleep", "infinity"])
    namespaces = Namespaces(holder.process.pid)

    async def has_own_network() -> bool:
        return namespaces.network_id() != Namespaces.own_network_id()

    await holder.wait_until(has_own_network, seconds=60)
    return namespaces


async def run_all(namespaces: Namespaces, *commands: Sequence[str]) -> None:
    """Run commands in a network namespace."""
    for argv in commands:
        await command.run(namespaces.network_argv(*argv))


async def test_a_token_reaches_a_pod_only_if_it_may_travel_two_hops() -> None:
    """EKS Best Practices Guide, "Restrict access to the instance profile assigned to the worker node"."""
    async with Cloud.start() as cloud:
        near, far = await cloud.start_machine(1), await cloud.start_machine(2)
        on_nodes = [
            (await command.run(machine.node.network_argv(sys.executable, "-c", ASK, "instance-id"))).out.strip()
            for machine in (near, far)
        ]

        blocked, answered = await near.ask_from_pod(), await far.ask_from_pod()
        in_pod, _ = await answered.communicate()

        async def is_dropped() -> bool:
            return await near.count_dropped_packets() > 0

        await wait_until(is_dropped)
        assert await far.count_dropped_packets() == 0
        assert blocked.returncode is None
        blocked.kill()
        assert (await blocked.communicate())[0] == b""
        assert on_nodes == [near.id, far.id]
        assert in_pod.decode().strip() == far.id

        modify = "modify_instance_metadata_options"
        await cloud.call("ec2", modify, InstanceId=near.id, HttpPutResponseHopLimit=2)
        in_pod, _ = await (await near.ask_from_pod()).communicate()

        assert in_pod.decode().strip() == near.id


async def test_an_address_of_no_machine_has_no_metadata() -> None:
    """The hub itself is not an instance."""
    async with Cloud.start() as cloud:
        ask = cloud.hub.network_argv(sys.executable, "-c", ASK, "instance-id")

        failed = await command.run(ask, ok=frozenset({1}))

        assert "HTTP Error 404" in failed.err
