"""Measure the memory of a node process with many mounts and with many calls at once.

The benchmark starts a node process, attaches loop devices to it, and adds bind mounts in a mount namespace of its own,
so that the process sees as many mounts as on a full node. Then it stages, publishes, measures, unpublishes and unstages
all volumes at once, in rounds. It prints the resident memory at the start, the highest since, and that at the end.

    sudo unshare --mount .venv/bin/python -m bench.node_memory --volumes 20 --mounts 400 --rounds 20
"""

import argparse
import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import grpc

from bench.many_mounts import add_mounts
from bench.process_usage import memory_mib
from hyperpod_ebs.kit import command
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from hyperpod_ebs.sandbox.sandbox import Sandbox

_SIZE: Final = 4 * 2**30

WRITER: Final = csi_pb2.VolumeCapability(
    mount=csi_pb2.VolumeCapability.MountVolume(fs_type="ext4"),
    access_mode=csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER),
)


async def attach(directory: Path, number: int) -> str:
    """Attach a blank volume; its id."""
    volume = f"vol-{number:017x}"
    image, links = directory / volume, directory / "dev" / "disk" / "by-id"
    with image.open("wb") as file:
        file.truncate(_SIZE)
    loop = (await command.run(["losetup", "--find", "--show", str(image)])).out.strip()
    await command.run(["cp", "-a", loop, str(directory / "dev" / f"nvme{number + 1}n1")])
    name = f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    (links / name).symlink_to(f"../../nvme{number + 1}n1")
    return volume


async def use_all(node: Any, root: Path, volumes: Iterable[str]) -> None:  # a generated stub
    """Stage, publish, measure, unpublish and unstage the volumes, with each step for all volumes at once."""

    async def stage(volume: str) -> None:
        staging = str(root / volume / "stage")
        await node.NodeStageVolume(
            csi_pb2.NodeStageVolumeRequest(volume_id=volume, staging_target_path=staging, volume_capability=WRITER)
        )

    async def publish(volume: str) -> None:
        staging, target = str(root / volume / "stage"), str(root / volume / "target")
        await node.NodePublishVolume(
            csi_pb2.NodePublishVolumeRequest(
                volume_id=volume, staging_target_path=staging, target_path=target, volume_capability=WRITER
            )
        )

    async def measure(volume: str) -> None:
        path = str(root / volume / "target")
        await node.NodeGetVolumeStats(csi_pb2.NodeGetVolumeStatsRequest(volume_id=volume, volume_path=path))

    async def unpublish(volume: str) -> None:
        target = str(root / volume / "target")
        await node.NodeUnpublishVolume(csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume, target_path=target))

    async def unstage(volume: str) -> None:
        staging = str(root / volume / "stage")
        await node.NodeUnstageVolume(csi_pb2.NodeUnstageVolumeRequest(volume_id=volume, staging_target_path=staging))

    for step in (stage, publish, *[measure] * 5, unpublish, unstage):
        async with asyncio.TaskGroup() as tasks:
            for volume in volumes:
                tasks.create_task(step(volume))


async def main() -> None:
    """Run the rounds and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=20, help="volumes that are used at once")
    parser.add_argument("--mounts", type=int, default=400, help="other mounts on the node")
    parser.add_argument("--rounds", type=int, default=20, help="how often each volume is staged")
    arguments = parser.parse_args()
    async with Sandbox.open("hp-bench") as sandbox:
        (sandbox.path / "dev" / "disk" / "by-id").mkdir(parents=True)
        root = sandbox.path / "kubelet"
        root.mkdir()
        volumes = [await attach(sandbox.path, number) for number in range(arguments.volumes)]
        for volume in volumes:
            (root / volume).mkdir()
        add_mounts(sandbox.path, arguments.mounts)
        socket = sandbox.path / "csi.sock"
        argv = [sys.executable, "-m", "hyperpod_ebs.cli", "node", f"--endpoint=unix://{socket}"]
        argv += ["--node-id=i-0123456789abcdef0", "--zone=us-west-2a", "--instance-type=m5.large"]
        argv += [f"--device-directory={sandbox.path / 'dev'}", f"--kubelet-root={root}"]
        process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.DEVNULL)
        try:
            async with grpc.aio.insecure_channel(f"unix://{socket}") as channel:
                node = csi_pb2_grpc.NodeStub(channel)
                await node.NodeGetInfo(csi_pb2.NodeGetInfoRequest(), wait_for_ready=True)
                begin = memory_mib(process.pid, "VmRSS")
                for _ in range(arguments.rounds):
                    await use_all(node, root, volumes)
                highest, end = memory_mib(process.pid, "VmHWM"), memory_mib(process.pid, "VmRSS")
        finally:
            process.terminate()
            await process.wait()
    sys.stdout.write(f"resident: {begin:.1f} MiB at the start, at most {highest:.1f} MiB, {end:.1f} MiB at the end\n")


if __name__ == "__main__":
    asyncio.run(main())
