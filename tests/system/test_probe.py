"""The command of the chart's probes, against real servers on a real socket."""

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs.driver.csi import probe
from hyperpod_ebs.driver.csi.endpoint import new_server, start_server
from hyperpod_ebs.driver.csi.server import Services, serve
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.kit import command
from tests.support.driver_process import node_arguments, start_driver

PROBE: Final = (sys.executable, "-I", "-S", str(Path(probe.__file__)))
SECONDS: Final = "60"
"""More than a busy machine needs."""


async def run_probe(wanted: str, path: Path, seconds: str = SECONDS, *options: str) -> command.Finished:
    """Run the command; its exit code and its output."""
    argv = [PROBE[0], *options, *PROBE[1:], wanted, str(path), seconds]
    return await command.run(argv, deadline=120.0, ok=frozenset({0, 1}))


@pytest.mark.requirement("process.answers-others")
@pytest.mark.parametrize("wanted", ["alive", "ready"])
async def test_a_healthy_process_is_alive_and_ready(short_path: Path, wanted: str) -> None:
    """Kubernetes, "Configure Liveness, Readiness and Startup Probes": the command exits with 0."""
    async with start_driver(*node_arguments(short_path)) as node:
        await node.wait_for_log("serving")

        finished = await run_probe(wanted, short_path / "csi.sock")

    assert (finished.code, finished.err) == (0, "")


async def test_a_process_with_a_problem_is_alive_and_not_ready(short_path: Path) -> None:
    """Decision 0014: a restart does not fix a missing permission."""
    path, condition = short_path / "csi.sock", Condition()
    condition.report("AWS", "ec2:DescribeVolumes is denied")

    async with serve(str(path), Services(), condition=condition):
        alive = await run_probe("alive", path)
        ready = await run_probe("ready", path, "0.5")

    assert alive.code == 0
    assert (ready.code, ready.err) == (1, "the driver is not ready; its log says why\n")


@dataclass
class CountedCalls:
    """Notices the first call that is answered."""

    first: asyncio.Event = field(default_factory=asyncio.Event)

    def count_csi_call(self, method: str, code: str, seconds: float) -> None:
        """Notice a call."""
        del method, code, seconds
        self.first.set()


async def test_a_probe_waits_for_the_socket_and_for_readiness(short_path: Path) -> None:
    """A rollout waits for each node's probe, so the probe notices at once that the driver is ready."""
    path, condition, calls = short_path / "csi.sock", Condition(), CountedCalls()
    condition.report("AWS", "no answer")

    async with asyncio.TaskGroup() as tasks:
        probing = tasks.create_task(run_probe("ready", path))
        async with serve(str(path), Services(), condition=condition, measure=calls):
            await calls.first.wait()
            condition.report("AWS", None)
            finished = await probing

    assert finished.code == 0


@pytest.mark.parametrize("wanted", ["alive", "ready"])
async def test_without_a_socket_the_probe_fails(short_path: Path, wanted: str) -> None:
    finished = await run_probe(wanted, short_path / "csi.sock", "0.5")

    assert finished.code == 1
    assert finished.err.startswith(f"no answer from {short_path / 'csi.sock'}: ")


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["mute", "closed", "HTTP/1"])
async def test_a_server_that_does_not_answer_fails_the_probe(short_path: Path, answer: bytes | None) -> None:
    """A process whose event loop is stuck still accepts connections."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await reader.read()  # until the client gives up
        else:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(handle, short_path / "csi.sock"):
        finished = await run_probe("alive", short_path / "csi.sock", "0.5")

    assert finished.code == 1
    assert "no answer from" in finished.err


async def test_a_server_that_is_not_csi_fails_the_probe(short_path: Path) -> None:
    async with start_server(new_server(), short_path / "csi.sock"):
        finished = await run_probe("alive", short_path / "csi.sock", "0.5")

    assert (finished.code, finished.err.rpartition(": ")[2]) == (1, "the server refused the call\n")


async def test_the_probe_loads_only_built_in_modules(short_path: Path) -> None:
    """Kubelet runs it every few seconds on every node: docs/decisions/0039 has what each module costs."""
    finished = await run_probe("alive", short_path / "csi.sock", "0.1", "-X", "importtime")

    imported = {line.rpartition("|")[2].strip() for line in finished.err.splitlines() if "import time:" in line}
    assert "_socket" in imported
    assert imported.isdisjoint({"socket", "typing", "selectors", "enum", "re", "grpc", "site"})
