"""The cluster of `make cluster` itself: how it is begun, used and ended, and what it leaves behind."""

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
from tests.support.cluster_namespace import XFS, Space
from tests.support.live_cluster import Live, eventually
from tests.support.machine_state import left_of, of_the_machine

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(1200, func_only=True),
    pytest.mark.xdist_group("another cluster"),  # one at a time beside that of the others
]

COMMAND: Final = (sys.executable, "-m", "localcluster")

RAW: Final = {"volumeMounts": [], "volumeDevices": [{"name": "data", "devicePath": "/dev/data"}]}
"""A container that has the claim's volume as a device."""

Finished = command.Finished


@pytest.fixture
def home(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of a user; the cluster is below the same directory, beside any other of this machine."""
    place = short_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    return place


@pytest.fixture
def driver() -> str:
    """The archive of the driver's image."""
    images = os.environ.get("HYPERPOD_EBS_IMAGES", "")
    if not images:
        pytest.skip("HYPERPOD_EBS_IMAGES names no image: make test does")
    return images.split(os.pathsep)[0]


async def said(*words: str, code: int = 0) -> command.Finished:
    """What our command says, which ends with `code`."""
    return await command.run([*COMMAND, *words], ok=frozenset({code}), deadline=600)


async def recorded() -> Path:
    """The directory of a cluster that has just begun, once it is in its record."""

    async def known() -> Path | None:
        return next((file.parent for file in Path(os.environ["TMPDIR"]).glob("hpc-*/cluster.json")), None)

    found: Path = await eventually(known, seconds=30)
    return found


@asynccontextmanager
async def begun(*words: str) -> AsyncGenerator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    """Our command, and what it prints."""
    process = await asyncio.create_subprocess_exec(*COMMAND, *words, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        yield process, process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def gone(directory: Path) -> None:
    """Come back when nothing is left of a cluster."""

    async def nothing() -> bool:
        return not left_of(directory)

    await eventually(nothing, seconds=120)


@pytest.mark.requirement("cluster.machine-as-before")
async def test_a_used_cluster_whose_holder_is_killed_leaves_the_machine_as_it_was(home: Path, driver: str) -> None:
    """The issue: one command brings it up and says how to look around, one takes it down, also after kill -9."""
    before = of_the_machine()
    first = await said("up", f"--image={driver}")
    kubeconfig = Path(first.out.splitlines()[-1].removeprefix("KUBECONFIG="))
    cluster = Record.read(kubeconfig.parent.parent)
    directory = Path(cluster.directory)
    second = await said("up", f"--image={driver}")
    environment = await command.run(["sh", "-c", f'eval "$({sys.executable} -m localcluster env)" && env'])
    await use(cluster, directory)

    os.kill(cluster.holder.pid, signal.SIGKILL)
    await said("down")

    assert f"localcluster load {driver}" in second.out
    assert second.out.splitlines()[-1] == f"KUBECONFIG={kubeconfig}"
    assert f"KUBECONFIG={kubeconfig}" in environment.out.splitlines()
    assert left_of(directory) == []
    assert not any(Path(f"/proc/{node.holder}").exists() for node in cluster.nodes)
    assert [entry.name for entry in home.iterdir()] == []
    assert of_the_machine() == before


async def use(cluster: Record, directory: Path) -> None:
    """Have pods with a filesystem and with a raw device, one of an image that was brought later."""
    busybox = Image(
        name="localhost/mine:1",
        files={"/bin/busybox": Path(shutil.which("busybox") or "busybox")},
        entrypoint=["/bin/busybox"],
        user="0:0",
    )
    write([busybox], directory / "mine.tar")
    await said("load", str(directory / "mine.tar"))
    async with aiohttp.ClientSession(cluster.environment["AWS_ENDPOINT_URL"]) as http:
        space = await Space.opened(Live(cluster, http))
        await space.claim("raw", of=await space.storage_class(), volumeMode="Block")
        await space.claim("files", of=await space.storage_class(**XFS))
        await space.pod("raw", "raw", container=RAW)
        await space.pod("files", "files", container={"image": "localhost/mine:1"})
        for name in ("raw", "files"):
            await space.running(name)
        await space.shell("raw", "dd if=/dev/urandom of=/dev/data bs=1M count=8 conv=fsync")
        await space.shell("files", "dd if=/dev/urandom of=/data/file bs=1M count=8 conv=fsync")


@pytest.mark.usefixtures("home")
async def test_a_cluster_that_comes_up_is_known_to_a_second_one_and_can_be_ended() -> None:
    """Ours: who has begun it may be at another terminal, or gone."""
    before = of_the_machine()
    async with begun("up", "--no-install") as (first, _):
        directory = await recorded()
        second = await said("up", "--no-install", code=1)

        await said("down")

        assert await first.wait() == 128 + signal.SIGTERM
    assert f"coming up in {directory}:" in second.err
    assert left_of(directory) == []
    assert of_the_machine() == before
    assert "no cluster runs" in (await said("down")).err


@pytest.mark.requirement("cluster.machine-as-before")
@pytest.mark.usefixtures("home")
async def test_a_cluster_whose_beginner_is_interrupted_is_gone_when_he_is() -> None:
    """Ours: Ctrl-C in `make cluster`."""
    async with begun("up", "--no-install") as (process, _):
        directory = await recorded()

        process.send_signal(signal.SIGINT)

        assert await process.wait() == 128 + signal.SIGINT
    assert left_of(directory) == []


@pytest.mark.requirement("cluster.machine-as-before")
@pytest.mark.usefixtures("home")
async def test_a_cluster_that_is_killed_half_way_leaves_the_machine_as_it_was() -> None:
    """Ours: its janitor lives on."""
    before = of_the_machine()
    async with begun("run", "--no-install") as (holder, lines):
        directory = Path(json.loads(await lines.readline())["begun"])
        while "EC2 instance" not in json.loads(await lines.readline())["done"]:
            pass  # from then on nodes are starting

        holder.kill()

    await gone(directory)
    assert of_the_machine() == before


@pytest.mark.usefixtures("home")
async def test_a_cluster_that_cannot_come_up_says_why(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
    """Ours: with the last words of the program that ended."""
    programs = short_path / "bin"
    programs.mkdir()
    (programs / "etcd").write_text("#!/bin/sh\necho the disk is made of cheese\nexit 3\n")
    (programs / "etcd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    failed = await said("up", "--no-install", code=1)

    assert re.search(r"etcd ended with exit code 3: the disk is made of cheese", failed.err)
    assert not list(short_path.glob("hpc-*"))
