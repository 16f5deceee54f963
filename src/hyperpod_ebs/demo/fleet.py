"""The processes of the demo: an emulator with a HyperPod cluster, one controller, and a node process for each node."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiobotocore.session import get_session

from hyperpod_ebs.demo.orchestrator import Orchestrator
from hyperpod_ebs.demo.report import Moment
from hyperpod_ebs.demo.screen import Silent
from hyperpod_ebs.demo.steps import Steps
from hyperpod_ebs.kit import command, files
from hyperpod_ebs.sandbox.failures import ProcessNotReady
from hyperpod_ebs.sandbox.processes import COMMAND, Processes, log_tail
from hyperpod_ebs.sandbox.sandbox import Sandbox

INSTANCE_TYPE: Final = "ml.g5.48xlarge"

_READY: Final = 30.0
"""Seconds that a process has to be ready, and a cluster to be in service."""

_LOOK: Final = 0.05
"""Seconds between two looks into a log."""

_ASK: Final = 0.25
"""Seconds between two questions to AWS whether a cluster is ready."""

_VOLUME: Final = re.compile(r"vol-[0-9a-f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperPodNode:
    """A node of the cluster as SageMaker lists it."""

    cluster: str
    """The cluster's id: the end of its ARN."""
    instance: str
    zone: str
    zone_id: str


class Emulated:
    """The emulator, spoken to by its AWS APIs and by its own pages."""

    def __init__(self, state: Path, environment: Mapping[str, str], http: aiohttp.ClientSession) -> None:
        """`environment` is what `emulator env` prints."""
        self.state = state
        self.environment = environment
        self._http = http

    def client(self, service: str) -> Any:  # an untyped context manager of aiobotocore's
        """A client of an AWS service, by the SDK's name for it."""
        env = self.environment
        return get_session().create_client(
            service,  # type: ignore[call-overload] # a name that the stubs do not know beforehand
            region_name=env["AWS_REGION"],
            endpoint_url=env["AWS_ENDPOINT_URL"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        )

    async def calls(self) -> dict[str, int]:
        """How often each operation was called since the start, by `service:Operation`."""
        async with self._http.get("/_emulator/calls") as answer:
            counts: dict[str, int] = await answer.json()
            return counts

    async def status(self) -> dict[str, list[dict[str, Any]]]:  # rows of every kind
        """What there is now, by kind: volumes, snapshots, attachments, instances, clusters."""
        async with self._http.get("/_emulator/status") as answer:
            kinds: dict[str, list[dict[str, Any]]] = await answer.json()
            return kinds

    async def latest_calls(self) -> list[dict[str, Any]]:  # as above
        """The latest calls, in order: operation, resources and outcome of each."""
        async with self._http.get("/_emulator/calls/latest") as answer:
            latest: list[dict[str, Any]] = (await answer.json())["calls"]
            return latest

    async def history(self) -> tuple[Moment, ...]:
        """When each volume, or an attachment or modification of it, came into each of its states, in order."""
        async with self._http.get("/_emulator/history") as answer:
            rows: list[dict[str, Any]] = (await answer.json())["history"]  # instants are numbers, the rest is text
        return tuple(
            Moment(volume=match[0], state=row["state"], instant=row["instant"])
            for row in rows
            if (match := _VOLUME.search(row["subject"]))
        )

    async def cluster(self, nodes: int, name: str = "demo") -> list[HyperPodNode]:
        """The nodes of a new HyperPod cluster in service, orchestrated by a new EKS cluster of the same name."""
        async with self.client("eks") as eks, self.client("sagemaker") as sagemaker, asyncio.timeout(_READY):
            made = await eks.create_cluster(
                name=name, roleArn="arn:aws:iam::123456789012:role/eks", resourcesVpcConfig={"subnetIds": []}
            )
            while (await eks.describe_cluster(name=name))["cluster"]["status"] != "ACTIVE":  # noqa: ASYNC110 - a poll
                await asyncio.sleep(_ASK)
            await sagemaker.create_cluster(
                ClusterName=name,
                Orchestrator={"Eks": {"ClusterArn": made["cluster"]["arn"]}},
                InstanceGroups=[
                    {
                        "InstanceGroupName": "workers",
                        "InstanceType": INSTANCE_TYPE,
                        "InstanceCount": nodes,
                        "ExecutionRole": "arn:aws:iam::123456789012:role/hyperpod",
                        "LifeCycleConfig": {"SourceS3Uri": "s3://sagemaker-demo", "OnCreate": "on_create.sh"},
                    }
                ],
            )
            cluster = await sagemaker.describe_cluster(ClusterName=name)
            while cluster["ClusterStatus"] != "InService":
                await asyncio.sleep(_ASK)
                cluster = await sagemaker.describe_cluster(ClusterName=name)
            listed = await sagemaker.list_cluster_nodes(ClusterName=name)
        ids = sorted(summary["InstanceId"] for summary in listed["ClusterNodeSummaries"])
        return [await self.node(id_, name) for id_ in ids]

    async def node(self, instance: str, name: str) -> HyperPodNode:
        """A node of the HyperPod cluster `name`."""
        async with self.client("sagemaker") as sagemaker:
            cluster = await sagemaker.describe_cluster(ClusterName=name)
            found = await sagemaker.describe_cluster_node(ClusterName=name, NodeId=instance)
        place = found["NodeDetails"]["Placement"]
        return HyperPodNode(
            cluster=cluster["ClusterArn"].rpartition("/")[2],
            instance=instance,
            zone=place["AvailabilityZone"],
            zone_id=place["AvailabilityZoneId"],
        )

    async def volume(self, zone: str, *, gib: int) -> str:
        """The id of a new volume that was asked for by EC2's own API."""
        async with self.client("ec2") as ec2:
            made = await ec2.create_volume(AvailabilityZone=zone, Size=gib, VolumeType="gp3")
        id_: str = made["VolumeId"]
        return id_


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Everything that runs."""

    emulated: Emulated
    orchestrator: Orchestrator
    processes: Processes
    zone: str


@asynccontextmanager
async def running(sandbox: Sandbox, profile: str, steps: Steps | None = None) -> AsyncGenerator[Fleet]:
    """A fleet in the sandbox, which is stopped when the block ends.

    Raises:
        ExceptionGroup: Of `ProcessNotReady` and `ProcessEnded`, and of what the block raises.
    """
    steps = steps or Steps(Silent())
    async with Processes.supervise(sandbox) as processes, AsyncExitStack() as stack:
        async with steps.step("start the embedded cloud") as result:
            state = sandbox.path / "cloud"
            words = ("--state", str(state), "--port", "0", "--profile", profile)
            await processes.start("emulator", "emulator", "run", *words)
            env = await environment_of(sandbox, state)
            http = await stack.enter_async_context(aiohttp.ClientSession(env["AWS_ENDPOINT_URL"]))
            result(f"EC2, SageMaker, EKS and STS at {env['AWS_ENDPOINT_URL']}")
        emulated = Emulated(state, env, http)
        steps.count(emulated.calls)
        async with steps.step("make a HyperPod cluster") as result:
            socket = sandbox.path / "controller.sock"
            await processes.start("controller", "controller", f"--endpoint=unix://{socket}", env=env)  # while we wait
            nodes = await emulated.cluster(2)
            result(f"{nodes[0].cluster}, orchestrated by EKS, {len(nodes)} nodes in {nodes[0].zone}")
        async with steps.step("start the driver") as result:
            sockets = {f"node-{n}": await _node(processes, sandbox, state, n, node) for n, node in enumerate(nodes, 1)}
            orchestrator = await stack.enter_async_context(Orchestrator.connected(socket, sockets))
            result(f"1 controller and {len(nodes)} nodes, each a process that serves CSI on its socket")
        yield Fleet(emulated=emulated, orchestrator=orchestrator, processes=processes, zone=nodes[0].zone)


async def _node(processes: Processes, sandbox: Sandbox, state: Path, number: int, node: HyperPodNode) -> Path:
    """The socket of a node's process, which is starting."""
    name = f"node-{number}"
    root = sandbox.path / name
    await files.off_loop(root.mkdir)
    await processes.start(
        name,
        "node",
        f"--endpoint=unix://{root / 'csi.sock'}",
        f"--node-id=hyperpod-{node.cluster}-{node.instance}",
        f"--zone={node.zone}",
        f"--instance-type={INSTANCE_TYPE}",
        f"--device-directory={state / 'nodes' / node.instance / 'dev'}",
        f"--kubelet-root={root}",
    )
    return root / "csi.sock"


async def environment_of(sandbox: Sandbox, state: Path) -> dict[str, str]:
    """What a client of the emulator needs, once it answers.

    Raises:
        ProcessNotReady: It does not come up.
    """
    log = sandbox.path / "emulator.log"
    try:
        async with asyncio.timeout(_READY):
            while True:
                await asyncio.sleep(_LOOK)
                # To ask takes a process: so only when the log says that there will be an answer.
                if "emulator ready" not in await files.off_loop(log.read_text):
                    continue
                with suppress(command.CommandFailed):  # the line is of an earlier run
                    answer = await command.run([*COMMAND, "emulator", "env", "--state", str(state), "--output", "json"])
                    environment: dict[str, str] = json.loads(answer.out)
                    return environment
    except TimeoutError as error:
        said = await log_tail(sandbox, "emulator")
        raise ProcessNotReady(f"the emulator did not come up within {_READY:g} s: {said}") from error
