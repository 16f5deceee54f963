"""The cloud of a measurement: an emulator in a process of its own, with a HyperPod cluster."""

import asyncio
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from bench.controller.buckets import Bucket, Buckets
from bench.process_usage import cpu_seconds
from hyperpod_ebs.demo.emulator_client import EmulatorClient, HyperPodNode, wait_for_environment
from hyperpod_ebs.sandbox.failures import ProcessEnded
from hyperpod_ebs.sandbox.processes import COMMAND, log_tail
from hyperpod_ebs.sandbox.sandbox import Sandbox

_NODE_TYPE: Final = "ml.p5.48xlarge"
_SLOTS: Final = 60
"""Volumes that are attached to a node of that type, which has 64 attach slots and uses two of them itself."""

_NO_AWS_FILES: Final = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
_READING: Final = ("Describe", "Get", "List")
"""How the names of the operations begin that change nothing."""


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of AWS in some time, by `service:Operation`, as the cloud counted them."""

    all: Mapping[str, int]
    throttled: Mapping[str, int]

    def since(self, before: "Calls") -> "Calls":
        """The calls that came after `before`."""
        return Calls(
            dict(Counter(self.all) - Counter(before.all)),
            dict(Counter(self.throttled) - Counter(before.throttled)),
        )

    @property
    def total(self) -> int:
        """The number of calls, with those that were throttled."""
        return sum(self.all.values())

    @property
    def throttled_percent(self) -> float:
        """The share of throttled calls in those that change something."""
        changing = sum(count for name, count in self.all.items() if is_changing(name))
        throttled = sum(count for name, count in self.throttled.items() if is_changing(name))
        return 100 * throttled / changing if changing else 0.0


def is_changing(operation: str) -> bool:
    """Whether `service:Operation` changes something."""
    return not operation.partition(":")[2].startswith(_READING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A running emulator, and what is in it."""

    client: EmulatorClient
    http: aiohttp.ClientSession
    pid: int
    nodes: Sequence[HyperPodNode]
    environment: Mapping[str, str]
    """The variables with which the Go driver's controller, and ours, call this cloud."""

    @property
    def zone(self) -> str:
        """The Availability Zone of the nodes."""
        return self.nodes[0].zone

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of the emulator so far."""
        return cpu_seconds(self.pid)

    def node_id(self, number: int) -> str:
        """The CSI node id of the node to which the volume of this number is attached."""
        node = self.nodes[number % len(self.nodes)]
        return f"hyperpod-{node.cluster}-{node.instance}"

    async def calls(self) -> Calls:
        """The calls since the emulator started."""
        return Calls(await self._page("calls"), await self._page("calls/throttled"))

    async def buckets(self) -> Buckets:
        """The token buckets of the account now; empty if the emulator throttles nothing."""
        page = await self._page("throttle")
        return {name: Bucket(**fields) for name, fields in page["buckets"].items()}

    async def fill_buckets(self, *, neighbour: float = 0.0) -> None:
        """Fill all buckets, of which others use this share from now on."""
        async with self.http.delete("/_emulator/throttle") as answer:
            answer.raise_for_status()
        if neighbour:
            async with self.http.post("/_emulator/throttle", json={"*": {"neighbour": neighbour}}) as answer:
                answer.raise_for_status()

    async def state_instants(self) -> Mapping[tuple[str, str], float]:
        """When each volume first reached each state: Unix seconds by volume and state."""
        instants: dict[tuple[str, str], float] = {}
        for moment in await self.client.history():
            instants.setdefault((moment.volume, moment.state), moment.instant)
        return instants

    async def _page(self, path: str) -> Any:  # JSON
        async with self.http.get(f"/_emulator/{path}") as answer:
            answer.raise_for_status()
            return await answer.json()


@asynccontextmanager
async def open_cloud(sandbox: Sandbox, *, volumes: int, flags: Sequence[str]) -> AsyncGenerator[Cloud]:
    """A cloud in the sandbox with enough nodes for this number of attached volumes; it ends with the block.

    Args:
        sandbox: A sandbox without another cloud.
        volumes: The number of volumes that are attached at once.
        flags: Further flags of `emulator run`.

    Raises:
        ExceptionGroup: Of `ProcessNotReady` and `ProcessEnded`, and of what the block raises.
    """
    state = sandbox.path / "cloud"
    argv = [*COMMAND, "emulator", "run", f"--state={state}", "--port=0", *flags]
    process = await sandbox.start(argv, log="emulator.log")
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(_raise_when_ended(sandbox, process))
        variables = await wait_for_environment(sandbox, state)
        async with aiohttp.ClientSession(variables["AWS_ENDPOINT_URL"]) as http:
            client = EmulatorClient(state, variables, http)
            nodes = await client.create_cluster(-(-volumes // _SLOTS), instance_type=_NODE_TYPE)
            yield Cloud(client=client, http=http, pid=process.pid, nodes=nodes, environment=_environment(variables))
        watcher.cancel()
        process.terminate()
        await process.wait()


def _environment(variables: Mapping[str, str]) -> Mapping[str, str]:
    """The variables of the Go driver: one for each endpoint, and static credentials."""
    url = variables["AWS_ENDPOINT_URL"]
    return {
        **_NO_AWS_FILES,
        **{name: variables[name] for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
        **dict.fromkeys(("AWS_EC2_ENDPOINT", "AWS_SAGEMAKER_ENDPOINT", "AWS_ENDPOINT_URL_STS"), url),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


async def _raise_when_ended(sandbox: Sandbox, process: Process) -> None:
    code = await process.wait()
    raise ProcessEnded(f"the emulator ended with code {code}: {await log_tail(sandbox, 'emulator')}")
