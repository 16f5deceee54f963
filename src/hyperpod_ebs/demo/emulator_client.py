"""A client of the emulator: of its AWS APIs, and of its own pages under `/_emulator`."""

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiobotocore.session import get_session

from hyperpod_ebs.demo.report import Moment
from hyperpod_ebs.kit import command, files
from hyperpod_ebs.sandbox.failures import ProcessNotReady
from hyperpod_ebs.sandbox.processes import COMMAND, log_tail
from hyperpod_ebs.sandbox.sandbox import Sandbox

INSTANCE_TYPE: Final = "ml.g5.48xlarge"

NODE_ROLE: Final = "hyperpod"
"""The name of the nodes' execution role, which need not exist."""

_READY_TIMEOUT: Final = 30.0
"""Seconds for the emulator to become ready, and for a cluster to be in service."""

_LOG_POLL: Final = 0.05
"""Seconds between two readings of a log."""

_AWS_POLL: Final = 0.25
"""Seconds between two calls that ask for the state of a cluster."""

_VOLUME: Final = re.compile(r"vol-[0-9a-f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperPodNode:
    """A node of a HyperPod cluster, as SageMaker describes it."""

    cluster: str
    """The cluster's id: the end of its ARN."""
    instance: str
    address: str
    """Its private IPv4 address."""
    zone: str
    zone_id: str


class EmulatorClient:
    """Calls the emulator's AWS APIs, and reads its own pages."""

    def __init__(self, state: Path, environment: Mapping[str, str], http: aiohttp.ClientSession) -> None:
        """`state` is the emulator's directory, `environment` the output of `emulator env`."""
        self.state = state
        self.environment = environment
        self._http = http

    def client(self, service: str) -> Any:  # an untyped context manager of aiobotocore's
        """An SDK client of an AWS service; `service` is the SDK's name for it, such as `ec2`."""
        env = self.environment
        return get_session().create_client(
            service,  # type: ignore[call-overload] # a name that the stubs do not know beforehand
            region_name=env["AWS_REGION"],
            endpoint_url=env["AWS_ENDPOINT_URL"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        )

    async def call_counts(self) -> dict[str, int]:
        """The number of calls of each operation since the emulator started, by `service:Operation`."""
        async with self._http.get("/_emulator/calls") as answer:
            counts: dict[str, int] = await answer.json()
            return counts

    async def status(self) -> dict[str, list[dict[str, Any]]]:  # rows of every kind
        """The resources that exist now, by kind: volumes, snapshots, attachments, instances, clusters."""
        async with self._http.get("/_emulator/status") as answer:
            kinds: dict[str, list[dict[str, Any]]] = await answer.json()
            return kinds

    async def latest_calls(self) -> list[dict[str, Any]]:  # as above
        """The latest calls in order, each with its operation, resources and outcome."""
        async with self._http.get("/_emulator/calls/latest") as answer:
            latest: list[dict[str, Any]] = (await answer.json())["calls"]
            return latest

    async def history(self) -> tuple[Moment, ...]:
        """The state changes of each volume and of its attachments and modifications, in order."""
        async with self._http.get("/_emulator/history") as answer:
            rows: list[dict[str, Any]] = (await answer.json())["history"]  # instants are numbers, the rest is text
        return tuple(
            Moment(volume=match[0], state=row["state"], instant=row["instant"])
            for row in rows
            if (match := _VOLUME.search(row["subject"]))
        )

    async def create_cluster(
        self, nodes: int, name: str = "demo", *, instance_type: str = INSTANCE_TYPE
    ) -> list[HyperPodNode]:
        """Create an EKS cluster and a HyperPod cluster that it orchestrates, wait for both, and return the nodes."""
        eks_cluster = await self.create_eks_cluster(name)
        return await self.create_hyperpod_cluster(nodes, name, eks_cluster["arn"], instance_type=instance_type)

    async def create_eks_cluster(self, name: str) -> Any:  # a Cluster of the SDK's, which has no type
        """Create an EKS cluster, wait until it is active, and return its description."""
        async with self.client("eks") as eks, asyncio.timeout(_READY_TIMEOUT):
            await eks.create_cluster(
                name=name, roleArn="arn:aws:iam::123456789012:role/eks", resourcesVpcConfig={"subnetIds": []}
            )
            described = await eks.describe_cluster(name=name)
            while described["cluster"]["status"] != "ACTIVE":
                await asyncio.sleep(_AWS_POLL)
                described = await eks.describe_cluster(name=name)
        return described["cluster"]

    async def create_hyperpod_cluster(
        self, nodes: int, name: str, eks_cluster: str, *, instance_type: str = INSTANCE_TYPE
    ) -> list[HyperPodNode]:
        """Create a HyperPod cluster, wait until its nodes are listed, and return them.

        Args:
            nodes: The number of nodes.
            name: The cluster's name.
            eks_cluster: The ARN of the EKS cluster that orchestrates it.
            instance_type: SageMaker's name of the nodes' type.
        """
        async with self.client("sagemaker") as sagemaker, asyncio.timeout(_READY_TIMEOUT):
            await sagemaker.create_cluster(
                ClusterName=name,
                Orchestrator={"Eks": {"ClusterArn": eks_cluster}},
                InstanceGroups=[
                    {
                        "InstanceGroupName": "workers",
                        "InstanceType": instance_type,
                        "InstanceCount": nodes,
                        "ExecutionRole": f"arn:aws:iam::123456789012:role/{NODE_ROLE}",
                        "LifeCycleConfig": {"SourceS3Uri": "s3://sagemaker-demo", "OnCreate": "on_create.sh"},
                    }
                ],
            )
            cluster = await sagemaker.describe_cluster(ClusterName=name)
            while cluster["ClusterStatus"] != "InService":
                await asyncio.sleep(_AWS_POLL)
                cluster = await sagemaker.describe_cluster(ClusterName=name)
            listed = await sagemaker.list_cluster_nodes(ClusterName=name)
            while len(listed["ClusterNodeSummaries"]) < nodes:  # the list may lag behind the cluster's state
                await asyncio.sleep(_AWS_POLL)
                listed = await sagemaker.list_cluster_nodes(ClusterName=name)
        ids = sorted(summary["InstanceId"] for summary in listed["ClusterNodeSummaries"])
        return [await self.describe_node(id_, name) for id_ in ids]

    async def describe_node(self, instance: str, cluster_name: str) -> HyperPodNode:
        """A node of the HyperPod cluster."""
        async with self.client("sagemaker") as sagemaker:
            cluster = await sagemaker.describe_cluster(ClusterName=cluster_name)
            node = await sagemaker.describe_cluster_node(ClusterName=cluster_name, NodeId=instance)
        details = node["NodeDetails"]
        placement = details["Placement"]
        return HyperPodNode(
            cluster=cluster["ClusterArn"].rpartition("/")[2],
            instance=instance,
            address=details["PrivatePrimaryIp"],
            zone=placement["AvailabilityZone"],
            zone_id=placement["AvailabilityZoneId"],
        )

    async def create_volume(self, zone: str, *, gib: int) -> str:
        """Create a gp3 volume with EC2's API, without the driver; its id."""
        async with self.client("ec2") as ec2:
            created = await ec2.create_volume(AvailabilityZone=zone, Size=gib, VolumeType="gp3")
        id_: str = created["VolumeId"]
        return id_


async def wait_for_environment(sandbox: Sandbox, state: Path) -> dict[str, str]:
    """Wait until the emulator of the sandbox answers; the environment variables that its clients need.

    Raises:
        ProcessNotReady: It does not answer in time.
    """
    log = sandbox.path / "emulator.log"
    try:
        async with asyncio.timeout(_READY_TIMEOUT):
            while True:
                await asyncio.sleep(_LOG_POLL)
                # `emulator env` is a new process, so it is started only once the log says that it can succeed.
                if "emulator ready" not in await files.off_loop(log.read_text):
                    continue
                with suppress(command.CommandFailed):  # the line in the log is of an earlier run
                    words = ("emulator", "env", "--state", str(state), "--output", "json")
                    environment: dict[str, str] = json.loads((await command.run([*COMMAND, *words])).out)
                    return environment
    except TimeoutError as error:
        tail = await log_tail(sandbox, "emulator")
        raise ProcessNotReady(f"the emulator is not ready after {_READY_TIMEOUT:g} s: {tail}") from error
