"""Machines that end while their volumes are in use, and device directories that are a whole /dev of a node."""

import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.kit import command
from tests.support.emulator_clients import GROUP, Aws, cloud

pytestmark = pytest.mark.root

NULL: Final = os.makedev(1, 3)


@asynccontextmanager
async def mounted(*words: str, at: Path) -> AsyncGenerator[Path]:
    """What `words` mount at a directory that is made for it."""
    at.mkdir(exist_ok=True)
    await command.run(["mount", *words, str(at)])
    try:
        yield at
    finally:
        await command.run(["umount", str(at)])


async def attached(aws: Aws, cluster: str, node: str, volume: str) -> None:
    """Attach to a HyperPod node."""
    await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=cluster, NodeId=node, VolumeId=volume)


async def detached(aws: Aws, cluster: str, node: str, volume: str) -> None:
    """Detach from it."""
    await aws("sagemaker", "detach_cluster_node_volume", ClusterArn=cluster, NodeId=node, VolumeId=volume)


def furnish(dev: Path) -> set[str]:
    """Put into a device directory what else a machine has there; the names."""
    os.mknod(dev / "null", stat.S_IFCHR | 0o666, NULL)
    (dev / "stdin").symlink_to("/proc/self/fd/0")
    (dev / "disk" / "by-uuid").mkdir()
    (dev / "disk" / "by-id" / "nvme-local").symlink_to("../../nvme0n1")
    (dev / "mqueue").mkdir()
    return {"null", "stdin", "disk", "disk/by-id", "disk/by-uuid", "disk/by-id/nvme-local", "mqueue"}


def names(dev: Path) -> set[str]:
    """Everything below a device directory, but for what is in shm."""
    return {str(path.relative_to(dev)) for path in dev.rglob("*")} - {"shm", "shm/theirs"}


@pytest.mark.requirement("emulator.own-entries-only")
async def test_what_else_a_live_node_has_in_its_directory_stays_whatever_the_emulator_does(short_path: Path) -> None:
    """Ours: a node's directory may be its whole /dev, bound there, with file systems mounted in it."""
    async with cloud(short_path / "state") as (emulator, aws):
        volume = await aws.volume()
        cluster, (node,) = await aws.cluster()
        dev = emulator.device_directory(node)
        foreign = furnish(dev)

    async with (
        mounted("-t", "tmpfs", "none", at=dev / "shm") as shm,
        mounted("--rbind", str(dev), at=short_path / "dev") as bound,
    ):
        (shm / "theirs").write_text("kept")
        async with cloud(short_path / "state") as (_, aws):
            await attached(aws, cluster, node, volume)
            during = names(bound)
            await detached(aws, cluster, node, volume)
            await attached(aws, cluster, node, volume)
            await detached(aws, cluster, node, volume)
        await command.run(["umount", str(bound / "shm")])

        assert during - foreign == {
            *("nvme1n1", "xvdb"),
            f"disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}",
            f"disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}_1",
        }
        assert names(dev) == foreign
        assert (dev / "null").stat().st_rdev == NULL
        assert (shm / "theirs").read_text() == "kept"


@pytest.mark.requirement("emulator.own-entries-only")
async def test_a_node_that_goes_takes_its_directory_along_but_nothing_that_is_mounted_there(short_path: Path) -> None:
    """Ours: what somebody mounted is not the emulator's, however it came there."""
    async with cloud(short_path / "state") as (emulator, aws):
        cluster, (gone, stays) = await aws.cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])
        volume = await aws.volume()
        await attached(aws, cluster, gone, volume)
        dev = emulator.device_directory(gone)
        furnish(dev)
        (dev / "zero").touch()
        async with mounted("-t", "tmpfs", "none", at=dev / "shm") as shm, mounted("--bind", str(shm), at=dev / "pts"):
            (shm / "theirs").write_text("kept")
            await command.run(["mount", "--bind", "/dev/zero", str(dev / "zero")])
            await aws("sagemaker", "batch_delete_cluster_nodes", ClusterName="hp", NodeIds=[gone])
            await attached(aws, cluster, stays, volume)
            left = {str(path.relative_to(dev)) for path in dev.iterdir()}
            theirs = (shm / "theirs").read_text()
            await command.run(["umount", str(dev / "zero")])

        assert left == {"shm", "pts", "zero"}
        assert theirs == "kept"

    async with cloud(short_path / "state"):
        assert not dev.parent.exists()


async def test_a_node_replaced_in_the_middle_of_its_work_frees_its_volume_with_all_that_was_synced(
    short_path: Path,
) -> None:
    """EC2: volumes are detached when their machine ends; what the old one still writes is lost."""
    async with cloud(short_path / "state") as (emulator, aws):
        cluster, (lost, other) = await aws.cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])
        volume = await aws.volume()
        await attached(aws, cluster, lost, volume)
        await command.run(["mkfs.xfs", "-q", str(device(emulator, lost))])
        async with mounted(str(device(emulator, lost)), at=short_path / "old") as old:
            (old / "before").write_text("kept")
            await command.run(["sync", "-f", str(old)])

            await aws("sagemaker", "batch_replace_cluster_nodes", ClusterName="hp", NodeIds=[lost])
            state = await aws.state(volume)
            (old / "after").write_text("lost")

        await attached(aws, cluster, other, volume)
        async with mounted(str(device(emulator, other)), at=short_path / "new") as new:
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
