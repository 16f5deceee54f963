"""Measure the first staging of a blank volume: the proof that it is blank, and all that is not mkfs and mount.

Each round makes two sparse volumes, one after the other, behind a loop device on an XFS, whose files may be larger than
16 TiB. On one it runs mkfs.ext4 and mount alone, the driver stages the other one. The benchmark prints medians. A loop
device answers from memory, so the benchmark also prints the number of reads: on EBS each takes 0.5 ms to 1 ms.

    sudo .venv/bin/python bench/stage.py --rounds 10
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import blank_proof, mkfs
from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.linux.probe_offsets import probe_offsets
from hyperpod_ebs.driver.model.capability import AccessMode, Capability, Mount
from hyperpod_ebs.driver.mounts.stage import Staging, stage
from hyperpod_ebs.kit import command
from hyperpod_ebs.sandbox.sandbox import Sandbox

GIB: Final = 2**30
VOLUME: Final = "vol-0123456789abcdef0"
_POOL_SIZE: Final = 64 * GIB
_BLOCK_NODE: Final = 0o060600
_LOOP_MAJOR: Final = 7
"""https://www.kernel.org/doc/Documentation/admin-guide/devices.txt"""


class Volume:
    """A sparse volume on a node of its own."""

    def __init__(self, directory: Path, pool: Path, size: int) -> None:
        """`pool` is the directory of the volume's backing file."""
        self.image = pool / "image"
        self.size = size
        self.root = directory / "kubelet"
        self.target = self.root / "staging"
        self.host = LinuxHost(devices=directory / "dev", root=self.root)
        self.device = directory / "dev" / "nvme1n1"
        self._loop = ""

    async def attach(self) -> None:
        """Make the volume blank and attach it."""
        with self.image.open("wb") as file:
            file.truncate(self.size)
        finished = await command.run(["losetup", "--find", "--show", "--direct-io=on", str(self.image)])
        self._loop = finished.out.strip()
        number = os.makedev(_LOOP_MAJOR, int(self._loop.removeprefix("/dev/loop")))
        os.mknod(self.device, _BLOCK_NODE, number)

    async def detach(self) -> None:
        """Unmount and detach the volume."""
        await command.run(["umount", str(self.target)])
        self.device.unlink()
        await command.run(["losetup", "-d", self._loop])
        self.image.unlink()

    async def make_and_mount(self) -> None:
        """Run the two programs alone, as the driver runs them."""
        self.target.mkdir(parents=True, exist_ok=True)
        await command.run([*mkfs.PROGRAMS["ext4"], str(self.device)], deadline=mkfs.DEADLINE)
        await command.run(["mount", "-t", "ext4", str(self.device), str(self.target)])

    async def stage(self) -> None:
        """Stage the volume with the driver."""
        capability = Capability(Mount("ext4"), AccessMode.SINGLE_NODE_WRITER)
        await stage(self.host, Staging(volume_id=VOLUME, target=self.target, capability=capability))

    async def prove_blank(self) -> None:
        """Read what the driver reads before it formats the volume."""
        device = await self.host.find_device(VOLUME)
        if await blank_proof.find_data(device):
            raise SystemExit("the blank volume is not blank")


async def seconds(act: Awaitable[None]) -> float:
    """The seconds that `act` takes."""
    begin = time.perf_counter()
    await act
    return time.perf_counter() - begin


async def measure(directory: Path, pool: Path, size: int, rounds: int) -> str:
    """Measure volumes of `size` bytes; the line to print."""
    volume = Volume(directory, pool, size)
    alone, staged, proofs = [], [], []
    for number in range(rounds):
        for by_driver in (True, False) if number % 2 else (False, True):
            await volume.attach()
            if by_driver:
                proofs.append(await seconds(volume.prove_blank()))
                staged.append(await seconds(volume.stage()))
            else:
                alone.append(await seconds(volume.make_and_mount()))
            await volume.detach()
    more = statistics.median(mine - other for mine, other in zip(staged, alone, strict=True))
    ratio = statistics.median(mine / other for mine, other in zip(staged, alone, strict=True))
    return (
        f"{size // GIB:6d} GiB: proof {statistics.median(proofs):.3f} s in {len(probe_offsets(size))} reads of 4 KiB; "
        f"mkfs and mount alone {statistics.median(alone):.3f} s, staged in {statistics.median(staged):.3f} s: "
        f"{more * 1000:+.0f} ms, {ratio:.2f} times\n"
    )


async def main() -> None:
    """Measure each size, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="volumes of each size to stage")
    parser.add_argument("--gib", type=int, nargs="*", default=[4, 100, 16384], help="sizes of the volumes")
    arguments = parser.parse_args()
    async with Sandbox.open("hp-bench") as sandbox:
        links = sandbox.path / "dev" / "disk" / "by-id"
        links.mkdir(parents=True)
        (links / f"nvme-Amazon_Elastic_Block_Store_{VOLUME.replace('-', '')}").symlink_to("../../nvme1n1")
        pool, file = sandbox.path / "pool", sandbox.path / "pool.xfs"
        pool.mkdir()
        with file.open("wb") as opened:
            opened.truncate(_POOL_SIZE)
        await command.run(["mkfs.xfs", "-q", str(file)])
        await command.run(["mount", "-o", "loop", str(file), str(pool)])
        for gib in arguments.gib:
            sys.stdout.write(await measure(sandbox.path, pool, gib * GIB, arguments.rounds))
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
