"""A growth that fails or is killed never costs the volume: it is mounted at its old size, and grows later."""

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Capability, Mount
from hyperpod_ebs.driver.model.disk import Device, Filesystem
from hyperpod_ebs.driver.model.formatting import PLAIN, Formatting
from hyperpod_ebs.driver.model.health import HEALTHY
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.mounts.expand import expand
from hyperpod_ebs.driver.mounts.publish import Publishing, publish, unpublish
from hyperpod_ebs.driver.mounts.stage import Staging, stage, unstage
from hyperpod_ebs.driver.mounts.usage import measure
from hyperpod_ebs.kit import command
from tests.support.loop_device_node import GIB, OTHER, VOLUME, LoopNode, measure_bytes, mounts_at
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

WRITER = AccessMode.SINGLE_NODE_WRITER
BIGALLOC = Formatting.parse({"ext4bigalloc": "true"})


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[LoopNode]:
    async with LoopNode.create(tmp_path / "node") as running:
        await running.attach()
        yield running


def staging(
    node: LoopNode, *flags: str, filesystem: str = "ext4", volume_id: str = VOLUME, formatting: Formatting = PLAIN
) -> Staging:
    capability = Capability(Mount(filesystem, MountOptions.parse(flags)), WRITER)
    return Staging(volume_id=volume_id, target=node.staging(volume_id), capability=capability, formatting=formatting)


async def write_file_while_small(node: LoopNode, wanted: Staging) -> Device:
    """Write a file to the volume, then make the volume larger than its filesystem while it is unstaged."""
    await stage(node.host, wanted)
    (node.staging() / "kept").write_text("data")
    await unstage(node.host, VOLUME, node.staging())
    await node.resize(2 * GIB)
    return await node.host.find_device(VOLUME)


async def filesystem_size(node: LoopNode, volume_id: str = VOLUME) -> int:
    return (await measure_bytes(node.host, volume_id, node.staging(volume_id))).total


def replace_program(name: str, directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the driver run a shell script instead of a program."""
    directory.mkdir()
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


@pytest.mark.requirement("data.growth-costs-nothing")
@pytest.mark.parametrize("size", [2 * GIB, 3 * GIB], ids=["same size", "larger"])
async def test_a_snapshot_that_was_taken_during_a_killed_growth_is_staged(
    node: LoopNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A killed resize2fs leaves damage that e2fsck does not repair with -p (e2fsck(8)); the copy has another id."""
    device = await write_file_while_small(node, staging(node))
    found = await node.host.read_contents(device, VOLUME)
    assert isinstance(found, Filesystem)
    damaged = tmp_path / "damaged"
    script = f'debugfs -w -R "clri <7>" "$1"; debugfs -w -R "ssv state 3" "$1"; touch {damaged}; kill -STOP $$'
    replace_program("resize2fs", tmp_path / "bin", script, monkeypatch)

    async with asyncio.TaskGroup() as group:
        growing = group.create_task(node.host.repair(device, VOLUME, found, grow=True))
        await wait_until(lambda: asyncio.sleep(0, damaged.exists()))
        growing.cancel()
    monkeypatch.undo()
    await command.run(["cp", "--sparse=always", str(node.image()), str(node.image(OTHER))])
    os.truncate(node.image(OTHER), size)
    await node.attach(OTHER)
    await stage(node.host, staging(node, volume_id=OTHER))

    assert (node.staging(OTHER) / "kept").read_text() == "data"


@pytest.mark.requirement("data.growth-costs-nothing")
async def test_a_bigalloc_ext4_that_cannot_grow_is_staged_at_its_old_size(node: LoopNode) -> None:
    """resize2fs refuses to grow it while it is unmounted; while it is mounted, that needs CAP_SYS_RESOURCE."""
    wanted = staging(node, formatting=BIGALLOC)
    await write_file_while_small(node, wanted)

    await stage(node.host, wanted)
    await stage(node.host, wanted)

    assert (node.staging() / "kept").read_text() == "data"
    if not await node.host.can_grow_mounted("ext4"):
        assert await filesystem_size(node) < GIB
        with pytest.raises(errors.Unavailable, match="CAP_SYS_RESOURCE"):
            await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB)


@pytest.mark.requirement("data.growth-costs-nothing")
@pytest.mark.parametrize(
    ("filesystem", "replaced"),
    [("ext4", ("resize2fs", "exit 1")), ("xfs", ("mount", 'truncate -s 1G {image}; exec /usr/bin/mount "$@"'))],
    ids=["resize2fs fails", "the end of the device cannot be read"],
)
async def test_a_volume_whose_growth_fails_is_staged_at_its_old_size(
    node: LoopNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filesystem: str, replaced: tuple[str, str]
) -> None:
    """The next stage grows it."""
    wanted = staging(node, filesystem=filesystem)
    await write_file_while_small(node, wanted)

    with monkeypatch.context() as patch:
        program, script = replaced
        replace_program(program, tmp_path / "bin", script.format(image=node.image()), patch)
        await stage(node.host, wanted)
    os.truncate(node.image(), 2 * GIB)
    assert (node.staging() / "kept").read_text() == "data"
    assert await filesystem_size(node) < GIB
    await unstage(node.host, VOLUME, node.staging())
    await stage(node.host, wanted)

    assert (node.staging() / "kept").read_text() == "data"
    assert await filesystem_size(node) > 1.8 * GIB


@pytest.mark.requirement("data.growth-costs-nothing")
async def test_a_filesystem_that_a_failed_growth_damaged_is_repaired_before_it_is_mounted(
    node: LoopNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """resize2fs(8) may fail half-way, for example when the device does."""
    await write_file_while_small(node, staging(node))
    refuse_mounted = f"mountpoint -q {node.staging()} && exit 1"
    script = f'{refuse_mounted}; debugfs -w -R "ssv state 3" "$1"; debugfs -w -R "ssv error_count 1" "$1"; exit 1'

    with monkeypatch.context() as patch:
        replace_program("resize2fs", tmp_path / "bin", script, patch)
        await stage(node.host, staging(node))

    assert (await measure(node.host, VOLUME, node.staging())).health is HEALTHY
    assert (node.staging() / "kept").read_text() == "data"


@pytest.mark.requirement("csi.node-expand.idempotent")
async def test_a_filesystem_that_is_mounted_read_only_grows_when_it_is_staged_for_writing(node: LoopNode) -> None:
    """An expansion that fails for ever would block the claim, and kubelet itself skips volumes that are read-only."""
    await write_file_while_small(node, staging(node, filesystem="xfs"))
    await stage(node.host, staging(node, "ro", filesystem="xfs"))

    assert await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB) == 2 * GIB
    assert await filesystem_size(node) < GIB
    await unstage(node.host, VOLUME, node.staging())
    await stage(node.host, staging(node, filesystem="xfs"))

    assert await filesystem_size(node) > 1.8 * GIB


@pytest.mark.requirement("csi.node-expand.while-used")
async def test_a_filesystem_grows_although_the_pod_has_it_read_only(node: LoopNode) -> None:
    """The kernel refuses to grow through a mount that is read-only; the staging mount is not."""
    await stage(node.host, staging(node, filesystem="xfs"))
    capability = Capability(Mount("xfs"), WRITER)
    await publish(
        node.host,
        Publishing(
            volume_id=VOLUME, staging=node.staging(), target=node.target(), capability=capability, read_only=True
        ),
    )
    await node.resize(2 * GIB)

    await expand(node.host, VOLUME, node.target(), wanted=2 * GIB)

    assert await filesystem_size(node) > 1.8 * GIB
    await unpublish(node.host, VOLUME, node.target())


async def test_an_ext4_is_checked_before_it_grows_unmounted(node: LoopNode) -> None:
    """resize2fs(8) demands a check since the last mount; within one second it takes mkfs for one."""
    device = await write_file_while_small(node, staging(node))
    await command.run(["tune2fs", "-T", "20200101", str(device.path)])
    found = await node.host.read_contents(device, VOLUME)
    assert isinstance(found, Filesystem)

    await node.host.repair(device, VOLUME, found, grow=True)
    grown = await node.host.read_contents(device, VOLUME)
    await stage(node.host, staging(node))

    assert grown == replace(found, size=2 * GIB), "no mark of an unfinished growth is left"
    assert await filesystem_size(node) > 1.8 * GIB


async def test_an_expansion_waits_for_the_new_size_of_the_device(node: LoopNode) -> None:
    """EC2 shows the new size to the node some time after the modification has begun."""
    await stage(node.host, staging(node, filesystem="xfs"))

    with pytest.raises(errors.DeviceNotReady, match=f"has {GIB} bytes, not {2 * GIB}"):
        await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB)


async def test_a_mount_of_a_device_that_is_no_longer_the_volumes_is_not_grown(node: LoopNode) -> None:
    """The volume was detached under the mount, and attached again as another device."""
    await stage(node.host, staging(node, filesystem="xfs"))
    stale = node.loops.pop(VOLUME)
    node.link().unlink()
    (node.directory / "dev" / "nvme1n1").unlink()
    await node.attach()
    await node.resize(2 * GIB)

    with pytest.raises(errors.Unavailable, match="is now device"):
        await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB)

    await command.run(["umount", str(node.staging())])
    await command.run(["losetup", "-d", str(stale)])
    assert not mounts_at(node.staging())
