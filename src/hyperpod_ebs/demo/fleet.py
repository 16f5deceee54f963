"""The processes of the demo: an emulator with a HyperPod cluster, one controller, and a node process for each node."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiobotocore.session import get_session

from hyperpod_ebs.demo.orchestrator import Orchestrator
from hyperpod_ebs.demo.report import Moment
from hyperpod_ebs.demo.sandbox import Sandbox
from hyperpod_ebs.kit import command, files

_READY: Final = 30.0
"""Seconds that a process has to be ready."""

_LOOK: Final = 0.05
_VOLUME: Final = re.compile(r"vol-[0-9a-f]+")
INSTANCE_TYPE: Final = "ml.g5.48xlarge"
_OURS: Final = (sys.executable, "-m", "hyperpod_ebs.cli")


class NotReady(Exception):  # noqa: N818 - reads as what happened
    """A process of the demo did not come up; the text holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperPodNode:
    """A node of the cluster as SageMaker lists it."""

    cluster: str
    """The cluster's id: the end of its ARN."""
    instance: str
    zone: str


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

    async def history(self) -> tuple[Moment, ...]:
        """When each volume, or an attachment or modification of it, came into each of its states, in order."""
        async with self._http.get("/_emulator/history") as answer:
            rows: list[dict[str, Any]] = (await answer.json())["history"]  # instants are numbers, the rest is text
        return tuple(
            Moment(volume=match[0], state=row["state"], instant=row["instant"])
            for row in rows
            if (match := _VOLUME.search(row["subject"]))
        )

    async def cluster(self, nodes: int) -> list[HyperPodNode]:
        """The nodes of a new HyperPod cluster, orchestrated by a new EKS cluster."""
        async with self.client("eks") as eks, self.client("sagemaker") as sagemaker:
            made = await eks.create_cluster(
                name="demo", roleArn="arn:aws:iam::123456789012:role/eks", resourcesVpcConfig={"subnetIds": []}
            )
            async with asyncio.timeout(_READY):
                while (await eks.describe_cluster(name="demo"))["cluster"]["status"] != "ACTIVE":  # noqa: ASYNC110 - a poll
                    await asyncio.sleep(_LOOK)
            await sagemaker.create_cluster(
                ClusterName="demo",
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
            async with asyncio.timeout(_READY):
                while True:
                    cluster = await sagemaker.describe_cluster(ClusterName="demo")
                    if cluster["ClusterStatus"] == "InService":
                        break
                    await asyncio.sleep(_LOOK)
            listed = await sagemaker.list_cluster_nodes(ClusterName="demo")
            ids = sorted(summary["InstanceId"] for summary in listed["ClusterNodeSummaries"])
            described = [await sagemaker.describe_cluster_node(ClusterName="demo", NodeId=id_) for id_ in ids]
        return [
            HyperPodNode(
                cluster=cluster["ClusterArn"].rpartition("/")[2],
                instance=node["NodeDetails"]["InstanceId"],
                zone=node["NodeDetails"]["Placement"]["AvailabilityZone"],
            )
            for node in described
        ]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that runs."""

    emulated: Emulated
    orchestrator: Orchestrator
    zone: str


@asynccontextmanager
async def running(sandbox: Sandbox, profile: str) -> AsyncGenerator[Fleet]:
    """A fleet in the sandbox, stopped in order when the block ends: nodes, controller, emulator.

    Raises:
        NotReady: A process did not come up.
    """
    async with AsyncExitStack() as stack:

        async def start(log: str, *words: str, env: Mapping[str, str] | None = None) -> None:
            process = await sandbox.start([*_OURS, *words], log=log, env=env)
            stack.push_async_callback(_stopped, process)

        state = sandbox.path / "cloud"
        await start("emulator.log", "emulator", "run", "--state", str(state), "--port", "0", "--profile", profile)
        environment = await environment_of(sandbox, state)
        http = await stack.enter_async_context(aiohttp.ClientSession(environment["AWS_ENDPOINT_URL"]))
        emulated = Emulated(state, environment, http)
        nodes = await emulated.cluster(2)

        controller = sandbox.path / "controller.sock"
        await start("controller.log", "controller", f"--endpoint=unix://{controller}", env=environment)
        sockets: dict[str, Path] = {}
        for number, node in enumerate(nodes, 1):
            name, root = f"node-{number}", sandbox.path / f"node-{number}"
            await files.off_loop(root.mkdir)
            sockets[name] = root / "csi.sock"
            await start(
                f"{name}.log",
                "node",
                f"--endpoint=unix://{sockets[name]}",
                f"--node-id=hyperpod-{node.cluster}-{node.instance}",
                f"--zone={node.zone}",
                f"--instance-type={INSTANCE_TYPE}",
                f"--device-directory={state / 'nodes' / node.instance / 'dev'}",
                f"--kubelet-root={root}",
            )
        orchestrator = await stack.enter_async_context(Orchestrator.connected(controller, sockets))
        yield Fleet(emulated, orchestrator, nodes[0].zone)


async def environment_of(sandbox: Sandbox, state: Path) -> dict[str, str]:
    """What a client of the emulator needs, once it answers.

    Raises:
        NotReady: It does not come up.
    """
    why = ""
    try:
        async with asyncio.timeout(_READY):
            while True:
                try:
                    answer = await command.run([*_OURS, "emulator", "env", "--state", str(state), "--output", "json"])
                except command.CommandFailed as error:
                    why = error.said
                    await asyncio.sleep(_LOOK)
                else:
                    environment: dict[str, str] = json.loads(answer.out)
                    return environment
    except TimeoutError as error:
        log = await files.off_loop(lambda: (sandbox.path / "emulator.log").read_text()[-2000:])
        raise NotReady(f"the emulator did not come up within {_READY:g} s: {why}\n{log}") from error


async def _stopped(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()
