"""A node whose volume disappears under a mount, as EC2's forced detach takes a device away on Nitro."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hyperpod_ebs.demo.orchestrator import Claim, Node, block_capability, filesystem_capability
from hyperpod_ebs.pb import csi_pb2
from tests.support.driver_fleet import Fleet
from tests.support.waiting import retry_while_unavailable

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

FILESYSTEMS = ("ext4", "xfs")


@pytest.fixture
async def fleet() -> AsyncGenerator[Fleet]:
    async with Fleet.start(kind="ec2", count=1) as running:
        yield running


def write_and_sync(file: Path, text: str) -> None:
    """Write `text` to `file` and flush it to the disk."""
    with file.open("w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


async def mount_and_pull_out(fleet: Fleet, filesystem: str) -> tuple[Claim, Node, Path]:
    """Mount a volume with a file on it for a pod, and take its device away; the pod's path is the last value."""
    co, node = fleet.orchestrator, fleet.orchestrator.nodes["node-1"]
    claim = await co.create("pulled-out", gib=1, capability=filesystem_capability(filesystem))
    target = await co.mount(claim, node, await co.attach(claim, node))
    await asyncio.to_thread(write_and_sync, target / "kept", "data")
    await pull_out(fleet, claim)
    with pytest.raises(OSError, match="Input/output error"):
        await asyncio.to_thread(write_and_sync, target / "lost", "data")
    return claim, node, target


async def pull_out(fleet: Fleet, claim: Claim) -> None:
    """Take the volume's device away from its node."""
    async with fleet.emulator_client.client("ec2") as ec2:
        await ec2.detach_volume(VolumeId=claim.id, Force=True)


async def condition_of(claim: Claim, node: Node, target: Path) -> csi_pb2.VolumeCondition:
    """The volume's condition in its statistics."""
    request = csi_pb2.NodeGetVolumeStatsRequest(volume_id=claim.id, volume_path=str(target))
    return (await node.csi.NodeGetVolumeStats(request)).volume_condition


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_statistics_say_that_the_volume_is_gone_and_it_is_unstaged_and_staged_again(
    fleet: Fleet, filesystem: str
) -> None:
    """CSI spec, NodeGetVolumeStats: volume_condition. NodeUnpublishVolume and NodeUnstageVolume must still succeed."""
    claim, node, target = await mount_and_pull_out(fleet, filesystem)
    co = fleet.orchestrator

    condition = await condition_of(claim, node, target)
    await co.unmount(claim, node)
    await co.detach(claim, node)
    target = await co.mount(claim, node, await retry_while_unavailable(lambda: co.attach(claim, node)))

    assert (condition.abnormal, "its device was removed" in condition.message) == (True, True), condition
    assert (target / "kept").read_text() == "data"
    await asyncio.to_thread(write_and_sync, target / "new", "data")
    await co.unmount(claim, node)


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_volume_that_came_back_replaces_the_mount_of_its_lost_device(fleet: Fleet, filesystem: str) -> None:
    """CSI spec, NodeStageVolume: OK means that the volume can be used, and the mount of the lost device cannot."""
    claim, node, old_target = await mount_and_pull_out(fleet, filesystem)
    co = fleet.orchestrator

    target = await co.mount(claim, node, await retry_while_unavailable(lambda: co.attach(claim, node)))

    assert target == old_target
    assert (target / "kept").read_text() == "data"
    await asyncio.to_thread(write_and_sync, target / "new", "data")
    await co.unmount(claim, node)


async def test_a_raw_block_volume_that_is_gone_is_reported_and_unstaged(fleet: Fleet) -> None:
    """CSI spec, NodeGetVolumeStats and NodeUnstageVolume."""
    co, node = fleet.orchestrator, fleet.orchestrator.nodes["node-1"]
    claim = await co.create("pulled-out", gib=1, capability=block_capability())
    target = await co.mount(claim, node, await co.attach(claim, node))
    with target.open("rb"):  # the pod uses the device
        await pull_out(fleet, claim)

        conditions = [await condition_of(claim, node, target) for _ in range(3)]
    conditions.append(await condition_of(claim, node, target))
    await co.unmount(claim, node)
    await co.detach(claim, node)

    for condition in conditions:
        assert (condition.abnormal, "its device was removed" in condition.message) == (True, True), condition
