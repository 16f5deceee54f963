"""Machines that terminate while their volumes are in use, and device directories that are a node's whole /dev."""

import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.kit import command
from tests.support.emulator_clients import GROUP, cloud

pytestmark = pytest.mark.root

NULL: Final = os.makedev(1, 3)


@asynccontextmanager
async def mount(*words: str, at: Path) -> AsyncGenerator[Path]:
    """Run `mount` with these options at a directory, which is created; unmount at the end."""
    at.mkdir(exist_ok=True)
    await command.run(["mount", *words, str(at)])
    try:
        yield at
    finally:
        await command.run(["umount", str(at)])


def add_other_entries(dev: Path) -> set[str]:
    """Create entries that a machine's /dev has besides its volumes; their names."""
    os.mknod(dev / "null", stat.S_IFCHR | 0o666, NULL)
    (dev / "stdin").symlink_to("/proc/self/fd/0")
    (dev / "disk" / "by-uuid").mkdir()
    (dev / "disk" / "by-id" / "nvme-local").symlink_to("../../nvme0n1")
    (dev / "mqueue").mkdir()
    return {"null", "stdin", "disk", "disk/by-id", "disk/by-uuid", "disk/by-id/nvme-local", "mqueue"}


def names(dev: Path) -> set[str]:
    """All names below a device directory, except shm and its content."""
    return {str(path.relative_to(dev)) for path in dev.rglob("*")} - {"shm", "shm/other-file"}


@pytest.mark.requirement("emulator.own-entries-only")
async def test_the_emulator_keeps_other_entries_in_the_device_directory_of_a_live_node(short_path: Path) -> None:
    """The directory can be bind-mounted as a node's whole /dev, with filesystems mounted in it."""
    async with cloud(short_path / "state") as (emulator, aws):
        volume = await aws.create_volume()
        cluster, (node,) = await aws.create_cluster()
        dev = emulator.device_directory(node)
        other = add_other_entries(dev)

    async with (
        mount("-t", "tmpfs", "none", at=dev / "shm") as shm,
        mount("--rbind", str(dev), at=short_path / "dev") as bound,
    ):
        (shm / "other-file").write_text("kept")
        async with cloud(short_path / "state") as (_, aws):
            await aws.attach_to_node(cluster, node, volume)
            during = names(bound)
            await aws.detach_from_node(cluster, node, volume)
            await aws.attach_to_node(cluster, node, volume)
            await aws.detach_from_node(cluster, node, volume)
        await command.run(["umount", str(bound / "shm")])

        assert during - other == {
            *("nvme1n1", "xvdb"),
            f"disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}",
            f"disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}_1",
        }
        assert names(dev) == other
        assert (dev / "null").stat().st_rdev == NULL
        assert (shm / "other-file").read_text() == "kept"


@pytest.mark.requirement("emulator.own-entries-only")
async def test_a_deleted_nodes_device_directory_is_deleted_except_for_mounts(short_path: Path) -> None:
    """A mount in the directory belongs to another process, which may still use it."""
    async with cloud(short_path / "state") as (emulator, aws):
        cluster, (deleted, other) = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])
        volume = await aws.create_volume()
        await aws.attach_to_node(cluster, deleted, volume)
        dev = emulator.device_directory(deleted)
        add_other_entries(dev)
        (dev / "zero").touch()
        async with mount("-t", "tmpfs", "none", at=dev / "shm") as shm, mount("--bind", str(shm), at=dev / "pts"):
            (shm / "other-file").write_text("kept")
            await command.run(["mount", "--bind", "/dev/zero", str(dev / "zero")])
            await aws("sagemaker", "batch_delete_cluster_nodes", ClusterName="hp", NodeIds=[deleted])
            await aws.attach_to_node(cluster, other, volume)
            remaining = {str(path.relative_to(dev)) for path in dev.iterdir()}
            content = (shm / "other-file").read_text()
            await command.run(["umount", str(dev / "zero")])

        assert remaining == {"shm", "pts", "zero"}
        assert content == "kept"

    async with cloud(short_path / "state"):
        assert not dev.parent.exists()


async def test_a_replaced_node_frees_its_mounted_volume_with_all_synced_data(
    short_path: Path,
) -> None:
    """EC2 API reference, TerminateInstances: attached volumes are detached and keep their data."""
    async with cloud(short_path / "state") as (emulator, aws):
        cluster, (lost, other) = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])
        volume = await aws.create_volume()
        await aws.attach_to_node(cluster, lost, volume)
        await command.run(["mkfs.xfs", "-q", str(device(emulator, lost))])
        async with mount(str(device(emulator, lost)), at=short_path / "old") as old:
            (old / "before").write_text("kept")
            await command.run(["sync", "-f", str(old)])

            await aws("sagemaker", "batch_replace_cluster_nodes", ClusterName="hp", NodeIds=[lost])
            state = await aws.volume_state(volume)
            (old / "after").write_text("lost")

        await aws.attach_to_node(cluster, other, volume)
        async with mount(str(device(emulator, other)), at=short_path / "new") as new:
            kept = sorted(path.name for path in new.iterdir())

        nodes = (await aws("sagemaker", "list_cluster_nodes", ClusterName="hp"))["ClusterNodeSummaries"]
        directories = {path.name for path in (short_path / "state" / "nodes").iterdir()}
        assert state == "available"
        assert kept == ["before"]
        assert directories == {node["InstanceId"] for node in nodes}
        assert lost not in directories
        assert len(directories) == 2


def device(emulator: Emulator, node: str) -> Path:
    """The first device of a node."""
    return emulator.device_directory(node) / "xvdb"
