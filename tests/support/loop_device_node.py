"""A node for one test: a device directory with loop devices, as on an emulated node, and a directory for mounts."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.model.disk import Amount
from hyperpod_ebs.driver.model.path_state import MountEntry
from hyperpod_ebs.driver.mounts.usage import measure
from hyperpod_ebs.kit import command
from tests.support.device_links import volume_link

VOLUME: Final = "vol-0123456789abcdef0"
OTHER: Final = "vol-0fedcba9876543210"
GIB: Final = 2**30
_BLOCK_NODE: Final = 0o060600


@dataclass
class LoopNode:
    """A node with loop devices as its volumes, and the driver's `LinuxHost` on it."""

    directory: Path
    host: LinuxHost
    loops: dict[str, Path] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def create(cls, directory: Path) -> AsyncGenerator[Self]:
        """Create a node; at the end remove every mount and loop device, even after a failed test."""
        (directory / "dev" / "disk" / "by-id").mkdir(parents=True)
        (directory / "kubelet").mkdir()
        node = cls(directory, LinuxHost(devices=directory / "dev", root=directory / "kubelet", patience=0.3))
        try:
            yield node
        finally:
            for mounted in reversed(mountinfo.parse(mountinfo.TABLE.read_bytes())):
                if mounted.mount_point.is_relative_to(directory):
                    await command.run(["umount", "-l", str(mounted.mount_point)], ok=frozenset({0, 32}))
            for loop in node.loops.values():
                await release(loop)

    def image(self, volume_id: str = VOLUME) -> Path:
        """The backing file of a volume."""
        return self.directory / f"{volume_id}.img"

    def staging(self, volume_id: str = VOLUME) -> Path:
        """The staging path of a volume."""
        return self.directory / "kubelet" / f"staging-{volume_id}"

    def target(self, name: str = "pod") -> Path:
        """The target path of a volume in a pod."""
        return self.directory / "kubelet" / name

    async def attach(self, volume_id: str = VOLUME, *, size: int = GIB, direct_io: bool = True) -> Path:
        """Create a volume unless its image exists, and attach it; return its loop device."""
        image = self.image(volume_id)
        if not image.exists():
            with image.open("wb") as file:
                file.truncate(size)
        finished = await command.run(
            ["losetup", "--find", "--show", f"--direct-io={'on' if direct_io else 'off'}", str(image)]
        )
        loop = self.loops[volume_id] = Path(finished.out.strip())
        self._name_device(volume_id, loop)
        return loop

    async def detach(self, volume_id: str = VOLUME) -> None:
        """Remove the volume's device and its names."""
        link = self.link(volume_id)
        link.resolve().unlink()
        link.unlink()
        await release(self.loops.pop(volume_id))

    def pass_device_on(self, volume_id: str, other: str | None) -> None:
        """Remove the volume's device, and give its number to the device of another volume or of none."""
        link = self.link(volume_id)
        link.resolve().unlink()
        link.unlink()
        loop = self.loops.pop(volume_id)
        self.loops[other or str(loop)] = loop
        if other:
            self._name_device(other, loop)

    async def write_protect(self, volume_id: str = VOLUME) -> None:
        """Set the kernel's write protection of the volume's device."""
        await command.run(["blockdev", "--setro", str(self.loops[volume_id])])

    async def resize(self, size: int, volume_id: str = VOLUME) -> None:
        """Change the volume's size."""
        os.truncate(self.image(volume_id), size)
        await command.run(["losetup", "-c", str(self.loops[volume_id])])

    def link(self, volume_id: str = VOLUME) -> Path:
        """The volume's by-id link."""
        return volume_link(self.directory / "dev", volume_id)

    def _name_device(self, volume_id: str, loop: Path) -> None:
        """Give the device the names that it has on an EC2 instance."""
        dev = self.directory / "dev"
        name = f"nvme{1 + len(list(dev.glob('nvme*')))}n1"
        os.mknod(dev / name, _BLOCK_NODE, loop.stat().st_rdev)
        self.link(volume_id).symlink_to(f"../../{name}")


async def measure_bytes(host: LinuxHost, volume_id: str, path: Path) -> Amount:
    """How full the volume at a path is, as NodeGetVolumeStats reports it."""
    found = await measure(host, volume_id, path)
    assert found.usage, found.health.message
    return found.usage.bytes


async def release(loop: Path) -> None:
    """Free the loop device, without write protection, which the kernel would leave for the device's next user."""
    await command.run(["blockdev", "--setrw", str(loop)])
    await command.run(["losetup", "-d", str(loop)])


def mounts_at(path: Path) -> tuple[MountEntry, ...]:
    """The mounts at `path`, the top one last."""
    here = [mount for mount in mountinfo.parse(mountinfo.TABLE.read_bytes()) if mount.mount_point == path]
    ids = {mount.id for mount in here}
    stack = [mount for mount in here if mount.parent not in ids]
    for _ in here[1:]:
        stack += [mount for mount in here if mount.parent == stack[-1].id]
    return tuple(stack)


def mount_points_below(path: Path) -> tuple[Path, ...]:
    """The mount points at and below `path`."""
    table = mountinfo.parse(mountinfo.TABLE.read_bytes())
    return tuple(mount.mount_point for mount in table if mount.mount_point.is_relative_to(path))
