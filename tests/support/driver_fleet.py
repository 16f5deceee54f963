"""Every process of the product, started as a user would, and killed as no user should.

A fleet lives in a sandbox, whose janitor ends it even when the test process is killed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self

import aiohttp

from hyperpod_ebs.demo.emulator_client import INSTANCE_TYPE, EmulatorClient, wait_for_environment
from hyperpod_ebs.demo.orchestrator import Orchestrator
from hyperpod_ebs.sandbox.sandbox import Sandbox

OURS: Final = (sys.executable, "-m", "hyperpod_ebs.cli")
Kind = Literal["hyperpod", "ec2"]


@dataclass
class Process:
    """One of our processes: what starts it, and the one that runs now."""

    sandbox: Sandbox
    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    running: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The id of the one that runs."""
        assert self.running is not None
        return self.running.pid

    async def start(self) -> Self:
        """Start it, again if need be."""
        self.running = await self.sandbox.start([*OURS, *self.argv], log=f"{self.name}.log", env=self.env)
        return self

    async def kill(self) -> None:
        """Kill it at whatever line it is."""
        assert self.running is not None
        os.kill(self.running.pid, signal.SIGKILL)
        await self.running.wait()

    async def stop(self) -> int:
        """End it as an init system does; its exit code."""
        assert self.running is not None
        if self.running.returncode is None:
            self.running.terminate()
        return await self.running.wait()

    def log(self) -> str:
        """All that it has said."""
        return (self.sandbox.path / f"{self.name}.log").read_text()


@dataclass
class Fleet:
    """An emulator, a controller, and node processes; and an orchestrator that speaks to them."""

    sandbox: Sandbox
    emulator_client: EmulatorClient
    orchestrator: Orchestrator
    emulator: Process
    controller: Process
    nodes: Mapping[str, Process]
    sockets: Mapping[str, Path]
    zone: str
    cluster: str | None
    _http: aiohttp.ClientSession

    @classmethod
    @asynccontextmanager
    async def running(
        cls, *, kind: Kind = "hyperpod", count: int = 2, profile: str = "instant", seed: int = 0, zones: int = 3
    ) -> AsyncGenerator[Self]:
        """A fleet that serves; stopped in order at the end."""
        async with Sandbox.open("hp-test") as sandbox:
            state = sandbox.path / "cloud"
            cloud = ("--state", str(state), "--profile", profile, "--seed", str(seed), "--zones", str(zones))
            words = ("emulator", "run", *cloud, "--port")
            emulator = await Process(sandbox, "emulator", (*words, "0")).start()
            env = await wait_for_environment(sandbox, state)
            emulator.argv = (*words, env["AWS_ENDPOINT_URL"].rpartition(":")[2])
            async with aiohttp.ClientSession(env["AWS_ENDPOINT_URL"]) as http:
                emulator_client = EmulatorClient(state, env, http)
                zone, cluster, described = await _nodes(emulator_client, kind, count)
                socket = sandbox.path / "controller.sock"
                controller = await Process(
                    sandbox, "controller", ("controller", f"--endpoint=unix://{socket}"), env
                ).start()
                nodes, sockets = {}, {}
                for name, options in described.items():
                    root = sandbox.path / name
                    root.mkdir()
                    sockets[name] = root / "csi.sock"
                    argv = ("node", f"--endpoint=unix://{sockets[name]}", f"--kubelet-root={root}", *options.flags)
                    nodes[name] = await Process(sandbox, name, argv, options.env).start()
                async with Orchestrator.connect(socket, sockets) as orchestrator:
                    fleet = cls(
                        sandbox=sandbox,
                        emulator_client=emulator_client,
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
        """Start the emulator again on its directory and port, and wait until it serves."""
        await self.emulator.start()
        await wait_for_environment(self.sandbox, self.emulator_client.state)

    async def status(self) -> dict[str, list[dict[str, Any]]]:
        """What the cloud has now, by kind: see the emulator's `/_emulator/status`."""
        return await self.emulator_client.status()

    async def plan(self, operation: str, **fault: Any) -> None:
        """Order trouble: see the emulator's `/_emulator/faults`."""
        async with self._http.post("/_emulator/faults", json={"operation": operation, **fault}) as answer:
            assert answer.status < 300, await answer.text()

    async def faults_left(self) -> int:
        """How many planned faults nobody met."""
        async with self._http.get("/_emulator/faults") as answer:
            left: int = (await answer.json())["left"]
            return left


@dataclass(frozen=True)
class _Node:
    flags: tuple[str, ...]
    env: Mapping[str, str]


async def _nodes(emulator_client: EmulatorClient, kind: Kind, count: int) -> tuple[str, str | None, dict[str, _Node]]:
    """The zone, the HyperPod cluster's id if there is one, and how to start each node's process."""
    devices = emulator_client.state / "nodes"
    if kind == "hyperpod":
        nodes = await emulator_client.create_cluster(count)
        described = {
            f"node-{number}": _Node(
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
        return nodes[0].zone, nodes[0].cluster, described
    async with emulator_client.client("ec2") as ec2:
        made = await ec2.run_instances(
            ImageId="ami-00000000000000000",
            InstanceType=INSTANCE_TYPE.removeprefix("ml."),
            MinCount=count,
            MaxCount=count,
            Placement={"AvailabilityZone": "us-west-2a"},
        )
    ids = [instance["InstanceId"] for instance in made["Instances"]]
    endpoint = emulator_client.environment["AWS_ENDPOINT_URL"]
    described = {
        f"node-{number}": _Node(
            (f"--device-directory={devices / id_ / 'dev'}",),
            {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{endpoint}/_metadata/{id_}"},
        )
        for number, id_ in enumerate(ids, 1)
    }
    return "us-west-2a", None, described
