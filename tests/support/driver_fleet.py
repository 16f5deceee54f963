"""All processes of the product, started as a user starts them, and killed at any moment.

A fleet runs in a sandbox, so it is cleaned up even if the test process is killed.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp

from hyperpod_ebs.demo.emulator_client import INSTANCE_TYPE, EmulatorClient, wait_for_environment
from hyperpod_ebs.demo.orchestrator import Orchestrator
from hyperpod_ebs.sandbox.processes import COMMAND
from hyperpod_ebs.sandbox.sandbox import Sandbox
from tests.support.waiting import wait_until

Kind = Literal["hyperpod", "ec2", "xen"]
"""HyperPod nodes, EC2 instances with NVMe, or EC2 instances of the older Xen types."""


@dataclass
class FleetProcess:
    """A process of the fleet, which can be started again."""

    sandbox: Sandbox
    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    running: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        assert self.running is not None
        return self.running.pid

    async def start(self) -> Self:
        """Start the process."""
        self.running = await self.sandbox.start([*COMMAND, *self.argv], log=f"{self.name}.log", env=self.env)
        return self

    async def kill(self) -> None:
        """Kill the process with SIGKILL."""
        assert self.running is not None
        os.kill(self.running.pid, signal.SIGKILL)
        await self.running.wait()

    async def stop(self) -> int:
        """Stop the process with SIGTERM; its exit code."""
        assert self.running is not None
        if self.running.returncode is None:
            self.running.terminate()
        return await self.running.wait()

    def log(self) -> str:
        """The log of all its starts."""
        return (self.sandbox.path / f"{self.name}.log").read_text()


@dataclass
class Fleet:
    """An emulator, a controller and node processes, and clients of them."""

    sandbox: Sandbox
    emulator_client: EmulatorClient
    orchestrator: Orchestrator
    emulator: FleetProcess
    controller: FleetProcess
    nodes: Mapping[str, FleetProcess]
    sockets: Mapping[str, Path]
    zone: str
    cluster: str | None
    """The id of the HyperPod cluster; None with EC2 nodes."""
    _http: aiohttp.ClientSession

    @classmethod
    @asynccontextmanager
    async def start(
        cls, *, kind: Kind = "hyperpod", count: int = 2, zones: int = 3, **emulator_options: str
    ) -> AsyncGenerator[Self]:
        """A fleet whose processes are ready; they are stopped in order at the end.

        `emulator_options` are flags of `emulator run`, without their dashes.
        """
        async with Sandbox.open("hp-test") as sandbox:
            state = sandbox.path / "cloud"
            flags = [f"--{name}={value}" for name, value in emulator_options.items()]
            flags.append("--snapshot-rate=off")  # a test does not wait for AWS's 15 seconds
            words = ("emulator", "run", f"--state={state}", f"--zones={zones}", *flags, "--port")
            emulator = await FleetProcess(sandbox, "emulator", (*words, "0")).start()
            env = await wait_for_environment(sandbox, state)
            # A restarted emulator gets the same port.
            emulator.argv = (*words, env["AWS_ENDPOINT_URL"].rpartition(":")[2])
            async with aiohttp.ClientSession(env["AWS_ENDPOINT_URL"]) as http:
                client = EmulatorClient(state, env, http)
                zone, cluster, nodes_options = await _create_nodes(client, kind, count)
                socket = sandbox.path / "controller.sock"
                controller_argv = ("controller", f"--endpoint=unix://{socket}")
                controller = await FleetProcess(sandbox, "controller", controller_argv, env).start()
                nodes, sockets = {}, {}
                for name, node_options in nodes_options.items():
                    root = sandbox.path / name
                    root.mkdir()
                    sockets[name] = root / "csi.sock"
                    argv = ("node", f"--endpoint=unix://{sockets[name]}", f"--kubelet-root={root}", *node_options.flags)
                    nodes[name] = await FleetProcess(sandbox, name, argv, node_options.env).start()
                async with Orchestrator.connect(socket, sockets) as orchestrator:
                    fleet = cls(
                        sandbox=sandbox,
                        emulator_client=client,
                        orchestrator=orchestrator,
                        emulator=emulator,
                        controller=controller,
                        nodes=nodes,
                        sockets={"controller": socket, **sockets},
                        zone=zone,
                        cluster=cluster,
                        _http=http,
                    )
                    try:
                        yield fleet
                    finally:
                        for process in (*nodes.values(), controller, emulator):
                            await process.stop()

    async def restart_emulator(self) -> None:
        """Start the emulator again with the same directory and port, and wait until it answers."""
        await self.emulator.start()
        await wait_for_environment(self.sandbox, self.emulator_client.state)

    async def status(self) -> dict[str, list[dict[str, Any]]]:
        """The emulator's resources, by kind: see the emulator's `/_emulator/status`."""
        return await self.emulator_client.status()

    async def plan_fault(self, operation: str, **fault: Any) -> None:
        """Plan a fault: see the emulator's `/_emulator/faults`."""
        async with self._http.post("/_emulator/faults", json={"operation": operation, **fault}) as response:
            assert response.status < 300, await response.text()

    async def remaining_faults(self) -> int:
        """The number of planned faults that have not happened."""
        async with self._http.get("/_emulator/faults") as response:
            remaining: int = (await response.json())["left"]
            return remaining


@dataclass(frozen=True)
class _NodeOptions:
    """The options of a node process."""

    flags: tuple[str, ...]
    env: Mapping[str, str]


async def _create_nodes(
    client: EmulatorClient, kind: Kind, count: int
) -> tuple[str, str | None, dict[str, _NodeOptions]]:
    """Create the nodes' instances; their zone, the HyperPod cluster's id, and the options of each node's process."""
    devices = client.state / "nodes"
    if kind == "hyperpod":
        nodes = await client.create_cluster(count)
        options = {
            f"node-{number}": _NodeOptions(
                (
                    f"--node-id=hyperpod-{node.cluster}-{node.instance}",
                    f"--zone={node.zone}",
                    f"--instance-type={INSTANCE_TYPE}",
                    f"--device-directory={devices / node.instance / 'dev'}",
                ),
                {},
            )
            for number, node in enumerate(nodes, 1)
        }
        return nodes[0].zone, nodes[0].cluster, options
    async with client.client("ec2") as ec2:
        response = await ec2.run_instances(
            ImageId="ami-00000000000000000",
            InstanceType="m4.large" if kind == "xen" else INSTANCE_TYPE.removeprefix("ml."),
            MinCount=count,
            MaxCount=count,
            Placement={"AvailabilityZone": "us-west-2a"},
        )
        ids = [instance["InstanceId"] for instance in response["Instances"]]

        async def has_root_volumes() -> bool:
            """Whether EC2 shows the root volumes, so that a client that counts volumes does not find them later."""
            shown = await ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": ids}])
            return len(shown["Volumes"]) == count

        await wait_until(has_root_volumes, interval=0.1)
    metadata = {row["id"]: row["metadata"] for row in (await client.status())["instances"]}
    options = {
        f"node-{number}": _NodeOptions(
            (f"--device-directory={devices / id_ / 'dev'}",),
            {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata[id_]},
        )
        for number, id_ in enumerate(ids, 1)
    }
    return "us-west-2a", None, options
