"""The cloud under the cluster: the emulator, with the machines that the nodes are."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from hyperpod_ebs.demo.emulator_client import INSTANCE_TYPE, EmulatorClient, HyperPodNode, wait_for_environment
from hyperpod_ebs.sandbox.processes import COMMAND
from hyperpod_ebs.sandbox.sandbox import Sandbox
from localcluster.machines import network
from localcluster.machines.network import Namespace

PORT: Final = 4566
URL: Final = f"http://{network.GATEWAY}:{PORT}"

NAME: Final = "training"
"""The name of the EKS cluster, and of the HyperPod cluster that it orchestrates."""

EC2_TYPE: Final = "m6i.xlarge"

_READY: Final = 180.0
_ASK: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A machine at the cloud, as its Kubernetes node is to show it."""

    id: str
    name: str
    """The Kubernetes node's name."""
    provider_id: str
    labels: Mapping[str, str]
    devices: Path
    """The directory in which the cloud shows its volumes."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """The emulator, and its machines in the order in which they were made."""

    client: EmulatorClient

    @classmethod
    @asynccontextmanager
    async def running(cls, sandbox: Sandbox, hub: Namespace, door: str, profile: str) -> AsyncGenerator["Cloud"]:
        """The emulator in the hub's network; spoken to at `door`, a URL that leads there."""
        state = sandbox.path / "cloud"
        words = ("--state", str(state), "--host", network.GATEWAY, "--port", str(PORT), "--profile", profile)
        await sandbox.start(hub.inside(*COMMAND, "emulator", "run", *words), log="emulator.log")
        environment = {**await wait_for_environment(sandbox, state), "AWS_ENDPOINT_URL": door}
        async with aiohttp.ClientSession(door) as http:
            yield cls(EmulatorClient(state, environment, http))

    async def hyperpod(self, nodes: int) -> list[Instance]:
        """The nodes of a new HyperPod cluster, orchestrated by a new EKS cluster."""
        return [self._instance_of(node) for node in await self.client.create_cluster(nodes, NAME)]

    async def running_instances(self) -> dict[str, bool]:
        """Each instance that runs, and whether it is of the HyperPod cluster."""
        listed = (await self.client.status())["instances"]
        return {one["id"]: bool(one["cluster"]) for one in listed if one["state"] == "running"}

    async def hyperpod_instance(self, instance: str) -> Instance:
        """A node of the HyperPod cluster."""
        return self._instance_of(await self.client.describe_node(instance, NAME))

    def _instance_of(self, node: HyperPodNode) -> Instance:
        name = f"hyperpod-{node.instance}"
        return Instance(
            id=node.instance,
            name=name,
            provider_id=f"aws:///{node.zone_id}/sagemaker/cluster/hyperpod-{node.cluster}-{node.instance}",
            labels={
                **self._labels(INSTANCE_TYPE, node.zone),
                "sagemaker.amazonaws.com/cluster-name": NAME,
                "sagemaker.amazonaws.com/node-health-status": "Schedulable",
                "sagemaker.amazonaws.com/num-eni-attachments": "1",
                "sagemaker.amazonaws.com/num-block-device-mappings": "1",
            },
            devices=self._devices(node.instance),
        )

    async def ec2_instance(self, zone: str) -> Instance:
        """A new plain instance."""
        async with self.client.client("ec2") as ec2, asyncio.timeout(_READY):
            made = await ec2.run_instances(
                ImageId="ami-0123456789abcdef0",
                InstanceType=EC2_TYPE,
                MinCount=1,
                MaxCount=1,
                Placement={"AvailabilityZone": zone},
            )
            instance = made["Instances"][0]["InstanceId"]
            while (await self._described(ec2, instance))["State"]["Name"] != "running":  # noqa: ASYNC110 - a poll
                await asyncio.sleep(_ASK)
            address = (await self._described(ec2, instance))["PrivateIpAddress"]
        region = self.client.environment["AWS_REGION"]
        return Instance(
            id=instance,
            name=f"ip-{address.replace('.', '-')}.{region}.compute.internal",
            provider_id=f"aws:///{zone}/{instance}",
            labels=self._labels(EC2_TYPE, zone),
            devices=self._devices(instance),
        )

    async def _described(self, ec2: Any, instance: str) -> Any:  # the SDK's client and its dictionaries
        answer = await ec2.describe_instances(InstanceIds=[instance])
        return answer["Reservations"][0]["Instances"][0]

    def _labels(self, kind: str, zone: str) -> dict[str, str]:
        return {
            "node.kubernetes.io/instance-type": kind,
            "topology.kubernetes.io/region": self.client.environment["AWS_REGION"],
            "topology.kubernetes.io/zone": zone,
        }

    def _devices(self, instance: str) -> Path:
        return self.client.state / "nodes" / instance / "dev"
