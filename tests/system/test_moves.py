"""Repeated calls, volumes in use elsewhere, and moves between nodes, on HyperPod and EC2 nodes with real devices.

The tests of csi-sanity do not cover these cases.
"""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from hyperpod_ebs.demo import checkpoint
from hyperpod_ebs.demo.orchestrator import Claim, block_capability, filesystem_capability
from hyperpod_ebs.pb import csi_pb2
from tests.support.device_links import volume_link
from tests.support.driver_fleet import Fleet, Kind
from tests.support.waiting import retry_while_unavailable

pytestmark = [pytest.mark.root, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

KINDS: tuple[Kind, ...] = ("hyperpod", "ec2")
NODE_KINDS = [pytest.param(kind, marks=pytest.mark.xdist_group(f"moves on {kind} nodes")) for kind in KINDS]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=NODE_KINDS)
async def fleet_of_two_nodes(request: pytest.FixtureRequest) -> AsyncGenerator[Fleet]:
    """A fleet of two nodes, shared by all tests for one kind of node; each test has its own volume."""
    async with Fleet.start(kind=request.param) as running:
        yield running


@dataclass(frozen=True)
class Case:
    """The fleet, and the name of the test's volume."""

    fleet: Fleet
    name: str


@pytest.fixture
def case(fleet_of_two_nodes: Fleet, request: pytest.FixtureRequest) -> Case:
    """The shared fleet, and a unique name for this test's volume."""
    return Case(fleet_of_two_nodes, request.node.name)


@pytest.mark.requirement("calls.same-answer", "csi.publish-volume.idempotent")
async def test_a_repeated_attach_returns_the_first_response(case: Case) -> None:
    """CSI spec, ControllerPublishVolume is idempotent, although SageMaker refuses a second attach."""
    co, node = case.fleet.orchestrator, case.fleet.orchestrator.nodes["node-1"]
    claim = await co.create(case.name, gib=1, capability=filesystem_capability("ext4"))

    answers = [await co.attach(claim, node) for _ in range(3)]

    assert answers == [answers[0]] * 3


@pytest.mark.requirement("csi.publish-volume.elsewhere")
async def test_an_attach_of_a_volume_in_use_elsewhere_names_its_node(case: Case) -> None:
    """CSI spec, ControllerPublishVolume: FAILED_PRECONDITION for a volume that is published to another node."""
    co = case.fleet.orchestrator
    claim = await co.create(case.name, gib=1, capability=filesystem_capability("ext4"))
    await co.attach(claim, co.nodes["node-1"])

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await co.attach(claim, co.nodes["node-2"])

    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert co.nodes["node-1"].id in (refusal.value.details() or "")


async def test_a_volume_moves_with_its_data(case: Case) -> None:
    """README.md: a training job loses its node and continues on another from its checkpoint."""
    co = case.fleet.orchestrator
    claim = await co.create(case.name, gib=1, capability=filesystem_capability("ext4"))
    target = await co.mount(claim, co.nodes["node-1"], await co.attach(claim, co.nodes["node-1"]))
    digests = checkpoint.write(target / "checkpoint")
    await co.unmount(claim, co.nodes["node-1"])
    await co.detach(claim, co.nodes["node-1"])

    target = await co.mount(claim, co.nodes["node-2"], await co.attach(claim, co.nodes["node-2"]))

    assert checkpoint.digests(target / "checkpoint") == digests
    await co.unmount(claim, co.nodes["node-2"])


@pytest.mark.requirement("csi.publish-volume.usable")
async def test_a_device_appears_on_its_own_node_and_on_no_other(case: Case) -> None:
    """A node must not see the devices of another node."""
    co = case.fleet.orchestrator
    claim = await co.create(case.name, gib=1, capability=block_capability())

    await co.attach(claim, co.nodes["node-1"])

    link = volume_link(Path("dev"), claim.id)
    nodes = case.fleet.emulator_client.state / "nodes"
    holder = co.nodes["node-1"].id
    assert [holder.endswith(found.parents[3].name) for found in nodes.glob(f"*/{link}")] == [True]
    await co.detach(claim, co.nodes["node-1"])
    assert not list(nodes.glob(f"*/{link}"))


@pytest.mark.requirement("csi.list-volumes.nodes")
async def test_an_attached_volume_without_tags_is_listed_with_its_node(case: Case) -> None:
    """CSI spec, ListVolumes: published_node_ids. The external-attacher attaches volumes again that are not listed."""
    co, node = case.fleet.orchestrator, case.fleet.orchestrator.nodes["node-1"]
    volume_id = await case.fleet.emulator_client.create_volume(case.fleet.zone, gib=1)
    claim = Claim(id=volume_id, capability=filesystem_capability("ext4"), context={})
    await retry_while_unavailable(lambda: co.attach(claim, node))

    listed = await co._controller.ListVolumes(csi_pb2.ListVolumesRequest())

    nodes = {entry.volume.volume_id: list(entry.status.published_node_ids) for entry in listed.entries}
    assert nodes[volume_id] == [node.id]
    await co.detach(claim, node)


@pytest.mark.requirement("csi.unpublish-volume.idempotent")
async def test_a_repeated_detach_or_delete_succeeds(case: Case) -> None:
    """CSI spec, ControllerUnpublishVolume is idempotent."""
    co, node = case.fleet.orchestrator, case.fleet.orchestrator.nodes["node-1"]
    claim = await co.create(case.name, gib=1, capability=filesystem_capability("ext4"))
    await co.attach(claim, node)

    await co.detach(claim, node)
    await co.detach(claim, node)
    await co.delete(claim)
    await co.detach(claim, node)
    await co.delete(claim)


async def test_a_raw_device_keeps_its_data(case: Case) -> None:
    """Kubernetes documentation, "Raw Block Volume Support"."""
    co, node = case.fleet.orchestrator, case.fleet.orchestrator.nodes["node-1"]
    claim = await co.create(case.name, gib=1, capability=block_capability())
    device = await co.mount(claim, node, await co.attach(claim, node))
    _write(device, b"x" * 4096)
    await co.unmount(claim, node)

    device = await co.mount(claim, node, await co.attach(claim, node))

    assert _read(device) == b"x" * 4096
    await co.unmount(claim, node)


@pytest.mark.requirement("csi.expand-volume.online")
async def test_xfs_grows_while_it_is_written_to(case: Case) -> None:
    """Kubernetes documentation, "Expanding Persistent Volumes Claims": an in-use claim grows while the pod runs."""
    co, node = case.fleet.orchestrator, case.fleet.orchestrator.nodes["node-1"]
    claim = await co.create(case.name, gib=1, capability=filesystem_capability("xfs"))
    target = await co.mount(claim, node, await co.attach(claim, node))

    async with checkpoint.Journal.start(target / "journal") as journal:
        size = await co.grow(claim, node, gib=3)

    room = os.statvfs(target)
    assert size == 3 * 2**30
    assert room.f_blocks * room.f_frsize > 2.9 * 2**30
    assert journal.error is None
    assert checkpoint.count_lines(target / "journal") == journal.written
    await co.unmount(claim, node)


@pytest.mark.online_ext4_growth
async def test_ext4_grows_while_it_is_written_to(case: Case) -> None:
    """Kubernetes documentation, "Expanding Persistent Volumes Claims": an in-use claim grows while the pod runs."""
    co, node = case.fleet.orchestrator, case.fleet.orchestrator.nodes["node-1"]
    claim = await co.create(case.name, gib=1, capability=filesystem_capability("ext4"))
    target = await co.mount(claim, node, await co.attach(claim, node))

    async with checkpoint.Journal.start(target / "journal") as journal:
        size = await co.grow(claim, node, gib=3)

    room = os.statvfs(target)
    assert size == 3 * 2**30
    assert room.f_blocks * room.f_frsize > 2.8 * 2**30
    assert journal.error is None
    await co.unmount(claim, node)


async def test_ext4_grows_at_the_next_stage_after_its_volume_grew(case: Case) -> None:
    """Some kernels refuse to grow a mounted ext4; staging then grows it before the mount."""
    co, node = case.fleet.orchestrator, case.fleet.orchestrator.nodes["node-1"]
    claim = await co.create(case.name, gib=1, capability=filesystem_capability("ext4"))
    target = await co.mount(claim, node, await co.attach(claim, node))
    digests = checkpoint.write(target / "checkpoint")
    await co.unmount(claim, node)
    await co.grow_volume_only(claim, gib=3)

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
