"""The cluster of `make cluster`: starting, using and stopping it, and what it leaves behind."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from hyperpod_ebs.kit import command
from localcluster.oci import Image, write
from localcluster.record import Record
from tests.support.cluster_namespace import XFS, ClusterNamespace
from tests.support.live_cluster import LiveCluster
from tests.support.machine_state import cluster_leftovers, machine_state
from tests.support.waiting import wait_for_cluster

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(1200, func_only=True),
    pytest.mark.xdist_group("another cluster"),  # at most one besides the cluster of the other tests
]

COMMAND: Final = (sys.executable, "-m", "localcluster")

RAW: Final = {"volumeMounts": [], "volumeDevices": [{"name": "data", "devicePath": "/dev/data"}]}
"""A container with the claim's volume as a raw block device."""

Finished = command.Finished


@pytest.fixture
def home(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home directory; TMPDIR is set to its parent, which isolates the cluster from others on the machine."""
    directory = short_path / "home"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    return directory


@pytest.fixture
def driver() -> str:
    """The archive of the driver's image."""
    images = os.environ.get("HYPERPOD_EBS_IMAGES", "")
    if not images:
        pytest.skip("HYPERPOD_EBS_IMAGES names no image: make test does")
    return images.split(os.pathsep)[0]


async def run_command(*words: str, code: int = 0) -> command.Finished:
    """Run `python -m localcluster`, which must exit with `code`."""
    return await command.run([*COMMAND, *words], ok=frozenset({code}), deadline=600)


async def wait_for_record() -> Path:
    """Wait until a starting cluster has written its record; the cluster's directory."""

    async def directory_with_record() -> Path | None:
        return next((file.parent for file in Path(os.environ["TMPDIR"]).glob("hpc-*/cluster.json")), None)

    directory: Path = await wait_for_cluster(directory_with_record, seconds=30)
    return directory


@asynccontextmanager
async def start_command(*words: str) -> AsyncGenerator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    """The process of `python -m localcluster`, and its output."""
    process = await asyncio.create_subprocess_exec(*COMMAND, *words, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        yield process, process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def wait_until_removed(directory: Path) -> None:
    """Wait until nothing of a cluster is left."""

    async def is_removed() -> bool:
        return not cluster_leftovers(directory)

    await wait_for_cluster(is_removed, seconds=120)


@pytest.mark.requirement("cluster.machine-as-before")
async def test_a_used_cluster_whose_process_is_killed_leaves_the_machine_as_it_was(home: Path, driver: str) -> None:
    """`make cluster` prints how to use it, and `make cluster-down` cleans up, also after kill -9."""
    before = machine_state()
    first = await run_command("up", f"--image={driver}")
    kubeconfig = Path(first.out.splitlines()[-1].removeprefix("KUBECONFIG="))
    cluster = Record.read(kubeconfig.parent.parent)
    directory = Path(cluster.directory)
    second = await run_command("up", f"--image={driver}")
    environment = await command.run(["sh", "-c", f'eval "$({sys.executable} -m localcluster env)" && env'])
    await use(cluster, directory)

    os.kill(cluster.process.pid, signal.SIGKILL)
    await run_command("down")

    assert f"localcluster load {driver}" in second.out
    assert second.out.splitlines()[-1] == f"KUBECONFIG={kubeconfig}"
    assert f"KUBECONFIG={kubeconfig}" in environment.out.splitlines()
    assert cluster_leftovers(directory) == []
    assert not any(Path(f"/proc/{node.pid}").exists() for node in cluster.nodes)
    assert [entry.name for entry in home.iterdir()] == []
    assert machine_state() == before


async def use(cluster: Record, directory: Path) -> None:
    """Run pods with a filesystem and with a raw device, one of them from an image that is loaded later."""
    busybox = Image(
        name="localhost/mine:1",
        files={"/bin/busybox": Path(shutil.which("busybox") or "busybox")},
        entrypoint=["/bin/busybox"],
        user="0:0",
    )
    write([busybox], directory / "mine.tar")
    await run_command("load", str(directory / "mine.tar"))
    async with aiohttp.ClientSession(cluster.environment["AWS_ENDPOINT_URL"]) as http:
        namespace = await ClusterNamespace.create(LiveCluster(cluster, http))
        await namespace.create_claim("raw", of=await namespace.create_storage_class(), volumeMode="Block")
        await namespace.create_claim("files", of=await namespace.create_storage_class(**XFS))
        await namespace.create_pod("raw", "raw", container=RAW)
        await namespace.create_pod("files", "files", container={"image": "localhost/mine:1"})
        for name in ("raw", "files"):
            await namespace.wait_for_pod(name)
        await namespace.run_script("raw", "dd if=/dev/urandom of=/dev/data bs=1M count=8 conv=fsync")
        await namespace.run_script("files", "dd if=/dev/urandom of=/data/file bs=1M count=8 conv=fsync")


@pytest.mark.usefixtures("home")
async def test_a_starting_cluster_is_found_by_a_second_up_and_can_be_stopped() -> None:
    """The user may have started it in another terminal."""
    before = machine_state()
    async with start_command("up", "--no-install") as (first, _):
        directory = await wait_for_record()
        second = await run_command("up", "--no-install", code=1)

        await run_command("down")

        assert await first.wait() == 128 + signal.SIGTERM
    assert f"a cluster is starting in {directory};" in second.err
    assert cluster_leftovers(directory) == []
    assert machine_state() == before
    assert "no cluster runs" in (await run_command("down")).err


@pytest.mark.requirement("cluster.machine-as-before")
@pytest.mark.usefixtures("home")
async def test_after_ctrl_c_in_up_nothing_of_the_cluster_is_left() -> None:
    """The cluster runs in another session, so the terminal does not send it the signal."""
    async with start_command("up", "--no-install") as (process, _):
        directory = await wait_for_record()

        process.send_signal(signal.SIGINT)

        assert await process.wait() == 128 + signal.SIGINT
    assert cluster_leftovers(directory) == []


@pytest.mark.requirement("cluster.machine-as-before")
@pytest.mark.usefixtures("home")
async def test_a_cluster_that_is_killed_while_starting_leaves_the_machine_as_it_was() -> None:
    """Its janitor is another process, and cleans up."""
    before = machine_state()
    async with start_command("run", "--no-install") as (process, lines):
        directory = Path(json.loads(await lines.readline())["begun"])
        while "EC2 instance" not in json.loads(await lines.readline())["done"]:
            pass  # the nodes start after this step

        process.kill()

    await wait_until_removed(directory)
    assert machine_state() == before


@pytest.mark.usefixtures("home")
async def test_a_cluster_that_cannot_start_reports_why(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
    """The message has the end of the log of the program that exited."""
    programs = short_path / "bin"
    programs.mkdir()
    (programs / "etcd").write_text("#!/bin/sh\necho the disk is made of cheese\nexit 3\n")
    (programs / "etcd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    failed = await run_command("up", "--no-install", code=1)

    assert re.search(r"etcd exited with code 3: the disk is made of cheese", failed.err)
    assert not list(short_path.glob("hpc-*"))
