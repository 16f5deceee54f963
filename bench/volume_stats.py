"""Measure the CPU time of NodeGetVolumeStats on a node with many mounts.

The benchmark stages and publishes one volume, makes bind mounts in a mount namespace of its own, and asks for the
volume's statistics again and again. It prints the CPU time of a call without other mounts and with them.

    sudo unshare --mount .venv/bin/python -m bench.volume_stats --mounts 3000
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Final

from bench.many_mounts import add_mounts
from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.model.capability import AccessMode, Capability, Mount
from hyperpod_ebs.driver.mounts.publish import Publishing, publish
from hyperpod_ebs.driver.mounts.stage import Staging, stage
from hyperpod_ebs.driver.mounts.usage import measure
from hyperpod_ebs.kit import command
from hyperpod_ebs.sandbox.sandbox import Sandbox

VOLUME: Final = "vol-0123456789abcdef0"
_GIB: Final = 2**30
_CALLS: Final = 100


async def publish_volume(directory: Path) -> tuple[LinuxHost, Path]:
    """Attach, stage and publish a volume; the node and the target path."""
    links, root = directory / "dev" / "disk" / "by-id", directory / "kubelet"
    links.mkdir(parents=True)
    root.mkdir()
    image = directory / "image"
    with image.open("wb") as file:
        file.truncate(_GIB)
    loop = (await command.run(["losetup", "--find", "--show", str(image)])).out.strip()
    await command.run(["cp", "-a", loop, str(directory / "dev" / "nvme1n1")])
    (links / f"nvme-Amazon_Elastic_Block_Store_{VOLUME.replace('-', '')}").symlink_to("../../nvme1n1")
    host, staging, target = LinuxHost(devices=directory / "dev", root=root), root / "staging", root / "target"
    capability = Capability(Mount("ext4"), AccessMode.SINGLE_NODE_WRITER)
    await stage(host, Staging(volume_id=VOLUME, target=staging, capability=capability))
    await publish(host, Publishing(volume_id=VOLUME, staging=staging, target=target, capability=capability))
    return host, target


async def cpu_milliseconds(host: LinuxHost, target: Path) -> float:
    """The CPU time of one call, on average."""
    await measure(host, VOLUME, target)
    begin = time.process_time()
    for _ in range(_CALLS):
        await measure(host, VOLUME, target)
    return (time.process_time() - begin) * 1000 / _CALLS


async def main() -> None:
    """Measure before and after the mounts are added, and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mounts", type=int, default=3000, help="mounts to add")
    count = parser.parse_args().mounts
    async with Sandbox.open("hp-bench") as sandbox:
        host, target = await publish_volume(sandbox.path)
        before = await cpu_milliseconds(host, target)
        add_mounts(sandbox.path, count)
        after = await cpu_milliseconds(host, target)
    sys.stdout.write(f"CPU time of a call: {before:.2f} ms, with {count} more mounts {after:.2f} ms\n")


if __name__ == "__main__":
    asyncio.run(main())
