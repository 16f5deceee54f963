"""What csi-sanity does not see: repeats, holders and moves on HyperPod and EC2 nodes, on real devices."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import grpc
import pytest

from harness import Fleet, Kind
from hyperpod_ebs.demo import checkpoint
from hyperpod_ebs.demo.orchestrator import mounted, raw

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

KINDS: tuple[Kind, ...] = ("hyperpod", "ec2")


@pytest.fixture(params=KINDS)
async def fleet(request: pytest.FixtureRequest) -> AsyncGenerator[Fleet]:
    """A fleet of two nodes, of each kind in turn."""
    async with Fleet.running(kind=request.param) as running:
        yield running


async def test_a_repeated_attach_answers_what_the_first_one_did(fleet: Fleet) -> None:
    """CSI spec, ControllerPublishVolume is idempotent; upstream's gap H1 on HyperPod."""
    co, node = fleet.orchestrator, fleet.orchestrator.nodes["node-1"]
    claim = await co.create("data", gib=1, capability=mounted("ext4"))

    answers = [await co.attach(claim, node) for _ in range(3)]

    assert answers == [answers[0]] * 3


async def test_a_volume_in_use_elsewhere_is_refused_with_its_holder(fleet: Fleet) -> None:
    """CSI spec, ControllerPublishVolume: FAILED_PRECONDITION, and the node that holds it."""
    co = fleet.orchestrator
    claim = await co.create("data", gib=1, capability=mounted("ext4"))
    await co.attach(claim, co.nodes["node-1"])

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await co.attach(claim, co.nodes["node-2"])

    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert co.nodes["node-1"].id in (refused.value.details() or "")


async def test_a_volume_moves_with_its_data(fleet: Fleet) -> None:
    """The guide: checkpoints are there on whichever node the job resumes."""
    co = fleet.orchestrator
    claim = await co.create("data", gib=1, capability=mounted("ext4"))
    target = await co.mount(claim, co.nodes["node-1"], await co.attach(claim, co.nodes["node-1"]))
    digests = checkpoint.write(target / "checkpoint")
    await co.unmount(claim, co.nodes["node-1"])
    await co.detach(claim, co.nodes["node-1"])

    target = await co.mount(claim, co.nodes["node-2"], await co.attach(claim, co.nodes["node-2"]))

    assert checkpoint.digests(target / "checkpoint") == digests
    await co.unmount(claim, co.nodes["node-2"])


async def test_a_device_appears_on_its_own_node_and_on_no_other(fleet: Fleet) -> None:
    """Ours: an attachment is seen on one node."""
    co = fleet.orchestrator
    claim = await co.create("data", gib=1, capability=raw())

    await co.attach(claim, co.nodes["node-1"])

    links = list((fleet.emulated.state / "nodes").glob(f"*/dev/disk/by-id/*{claim.id.replace('-', '')}"))
    holder = co.nodes["node-1"].id
    assert [holder.endswith(link.parents[3].name) for link in links] == [True]
    await co.detach(claim, co.nodes["node-1"])
    assert not list((fleet.emulated.state / "nodes").glob("*/dev/disk/by-id/*"))


async def test_a_detach_of_what_is_gone_succeeds(fleet: Fleet) -> None:
    """CSI spec, ControllerUnpublishVolume is idempotent."""
    co, node = fleet.orchestrator, fleet.orchestrator.nodes["node-1"]
    claim = await co.create("data", gib=1, capability=mounted("ext4"))
    await co.attach(claim, node)

    await co.detach(claim, node)
    await co.detach(claim, node)
    await co.delete(claim)
    await co.detach(claim, node)
    await co.delete(claim)


async def test_a_raw_device_keeps_what_was_written_to_it(fleet: Fleet) -> None:
    """The guide: direct block access."""
    co, node = fleet.orchestrator, fleet.orchestrator.nodes["node-1"]
    claim = await co.create("data", gib=1, capability=raw())
    device = await co.mount(claim, node, await co.attach(claim, node))
    _write(device, b"x" * 4096)
    await co.unmount(claim, node)

    device = await co.mount(claim, node, await co.attach(claim, node))

    assert _read(device) == b"x" * 4096
    await co.unmount(claim, node)


async def test_xfs_grows_while_it_is_written_to(fleet: Fleet) -> None:
    """The guide: a claim's size is raised and the volume grows while workloads go on."""
    co, node = fleet.orchestrator, fleet.orchestrator.nodes["node-1"]
    claim = await co.create("data", gib=1, capability=mounted("xfs"))
    target = await co.mount(claim, node, await co.attach(claim, node))

    with checkpoint.Journal.writing(target / "journal") as journal:
        size = await co.grow(claim, node, gib=3)

    room = os.statvfs(target)
    assert size == 3 * 2**30
    assert room.f_blocks * room.f_frsize > 2.9 * 2**30
    assert journal.error is None
    assert checkpoint.lines(target / "journal") == journal.written
    await co.unmount(claim, node)


@pytest.mark.online_ext4_growth
async def test_ext4_grows_while_it_is_written_to(fleet: Fleet) -> None:
    """The guide: a claim's size is raised and the volume grows while workloads go on."""
    co, node = fleet.orchestrator, fleet.orchestrator.nodes["node-1"]
    claim = await co.create("data", gib=1, capability=mounted("ext4"))
    target = await co.mount(claim, node, await co.attach(claim, node))

    with checkpoint.Journal.writing(target / "journal") as journal:
        size = await co.grow(claim, node, gib=3)

    room = os.statvfs(target)
    assert size == 3 * 2**30
    assert room.f_blocks * room.f_frsize > 2.8 * 2**30
    assert journal.error is None
    await co.unmount(claim, node)


async def test_ext4_that_grew_at_the_cloud_is_grown_when_it_is_next_staged(fleet: Fleet) -> None:
    """Ours: where the kernel may not grow a mounted ext4, staging grows it before it is mounted."""
    co, node = fleet.orchestrator, fleet.orchestrator.nodes["node-1"]
    claim = await co.create("data", gib=1, capability=mounted("ext4"))
    target = await co.mount(claim, node, await co.attach(claim, node))
    digests = checkpoint.write(target / "checkpoint")
    await co.unmount(claim, node)
    await co.grow_at_cloud(claim, gib=3)

    target = await co.mount(claim, node, await co.attach(claim, node))

    room = os.statvfs(target)
    assert room.f_blocks * room.f_frsize > 2.8 * 2**30
    assert checkpoint.digests(target / "checkpoint") == digests
    await co.unmount(claim, node)


def _write(device: Path, content: bytes) -> None:
    handle = os.open(device, os.O_WRONLY | os.O_SYNC)
    try:
        os.pwrite(handle, content, 0)
    finally:
        os.close(handle)


def _read(device: Path) -> bytes:
    handle = os.open(device, os.O_RDONLY)
    try:
        return os.pread(handle, 4096, 0)
    finally:
        os.close(handle)
