"""The processes of the demo: an emulator with a HyperPod cluster, one controller, and a node process for each node."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hyperpod_ebs.demo.emulator_client import INSTANCE_TYPE, EmulatorClient, HyperPodNode, wait_for_environment
from hyperpod_ebs.demo.orchestrator import Orchestrator
from hyperpod_ebs.demo.screen import SilentScreen
from hyperpod_ebs.demo.steps import Steps
from hyperpod_ebs.kit import files
from hyperpod_ebs.sandbox.processes import Processes
from hyperpod_ebs.sandbox.sandbox import Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The running processes, and the clients that call them."""

    emulator: EmulatorClient
    orchestrator: Orchestrator
    processes: Processes
    zone: str


@asynccontextmanager
async def start_fleet(sandbox: Sandbox, profile: str, steps: Steps | None = None) -> AsyncGenerator[Fleet]:
    """A fleet in the sandbox, which is stopped when the block ends.

    Raises:
        ExceptionGroup: Of `ProcessNotReady` and `ProcessEnded`, and of what the block raises.
    """
    steps = steps or Steps(SilentScreen())
    async with Processes.supervise(sandbox) as processes, AsyncExitStack() as stack:
        async with steps.step("start the embedded cloud") as result:
            state = sandbox.path / "cloud"
            words = ("--state", str(state), "--port", "0", "--profile", profile)
            await processes.start("emulator", "emulator", "run", *words)
            env = await wait_for_environment(sandbox, state)
            http = await stack.enter_async_context(aiohttp.ClientSession(env["AWS_ENDPOINT_URL"]))
            result(f"EC2, SageMaker, EKS and STS at {env['AWS_ENDPOINT_URL']}")
        emulator = EmulatorClient(state, env, http)
        steps.count_calls(emulator.call_counts)
        async with steps.step("create a HyperPod cluster") as result:
            socket = sandbox.path / "controller.sock"
            # The controller starts while the cluster is being created.
            await processes.start("controller", "controller", f"--endpoint=unix://{socket}", env=env)
            nodes = await emulator.create_cluster(2)
            result(f"{nodes[0].cluster}, orchestrated by EKS, {len(nodes)} nodes in {nodes[0].zone}")
        async with steps.step("start the driver") as result:
            sockets = {
                f"node-{number}": await _start_node(processes, sandbox, state, number, node)
                for number, node in enumerate(nodes, 1)
            }
            orchestrator = await stack.enter_async_context(Orchestrator.connect(socket, sockets))
            result(f"1 controller and {len(nodes)} node processes, each serving CSI on its own socket")
        yield Fleet(emulator=emulator, orchestrator=orchestrator, processes=processes, zone=nodes[0].zone)


async def _start_node(processes: Processes, sandbox: Sandbox, state: Path, number: int, node: HyperPodNode) -> Path:
    """Start a node's process; the path of its socket, which it is about to create."""
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
