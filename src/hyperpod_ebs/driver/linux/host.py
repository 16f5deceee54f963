"""The machine under the node service: `mounts.host.Host`, on Linux."""

import asyncio
import errno
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import contents, device_lock, growth, mkfs, mount, paths, system_errors, usage
from hyperpod_ebs.driver.linux.devices import Absent, Devices
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Contents, Device, DeviceNumber, Filesystem, Usage
from hyperpod_ebs.driver.model.formatting import PLAIN, Formatting
from hyperpod_ebs.driver.model.path_state import PathKind, PathState
from hyperpod_ebs.kit import files
from hyperpod_ebs.kit.files import Unresponsive

PATIENCE: Final = 20.0
"""Seconds that a device, or its new size, may take to appear."""

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5
_SLOWER: Final = 1.5


class LinuxHost:
    """One node's devices and paths."""

    def __init__(
        self,
        *,
        devices: Path = Path("/dev"),
        sysfs: Path = Path("/sys"),
        root: Path = Path("/var/lib/kubelet"),
        patience: float = PATIENCE,
        makers: Mapping[str, Sequence[str]] = mkfs.PROGRAMS,
    ) -> None:
        """`devices` is this node's device directory; nothing outside `root` is mounted on or unmounted.

        `makers` are the programs that make each filesystem.
        """
        self._devices = Devices(devices, sysfs)
        self._root = root
        self._patience = patience
        self._makers = makers

    async def device(self, volume_id: str, published: str = "", *, size: int = 0) -> Device:
        """The volume's device, waited for until it is there and has `size` bytes.

        Raises:
            DeviceNotReady: It, or its size, did not come in time.
        """
        clock = asyncio.get_running_loop().time
        give_up, pause = clock() + self._patience, _FIRST_PAUSE
        while True:
            found = await self._look(volume_id, published)
            if isinstance(found, Device) and found.size >= size:
                return found
            if clock() >= give_up:
                raise errors.DeviceNotReady(self._late(volume_id, found, size))
            await asyncio.sleep(pause)
            pause = min(pause * _SLOWER, _LONGEST_PAUSE)

    async def belongs(self, volume_id: str, number: DeviceNumber) -> bool | None:
        """Whether a device is this volume's; None where its identity went with the device."""
        with system_errors.translate(f"asking whose device {number} is"):
            return await files.off_loop(self._devices.belongs, volume_id, number)

    async def contents(self, device: Device, volume_id: str) -> Contents:
        """What is on the device."""
        async with device_lock.open_locked(self._devices, device, volume_id):
            return await contents.contents(device, volume_id)

    async def format(self, device: Device, volume_id: str, filesystem: str, formatting: Formatting = PLAIN) -> None:
        """Make a filesystem on a device that is blank, or where making one was cut off."""
        async with device_lock.open_locked(self._devices, device, volume_id) as lock:
            program = [*self._makers[filesystem], *mkfs.flags(filesystem, formatting)]
            await mkfs.make(device, volume_id, program, filesystem, lock)

    async def repair(self, device: Device, volume_id: str, found: Filesystem, *, grow: bool) -> None:
        """Repair a filesystem that is not mounted, and grow it."""
        async with device_lock.open_locked(self._devices, device, volume_id) as lock:
            await growth.repair(device, volume_id, found, lock, grow=grow)

    async def grow(self, device: Device, place: PathState) -> None:
        """Make the filesystem mounted at `place` as large as its device."""
        if place.top:
            await growth.grow(device, place, place.top)

    async def grows_mounted(self, filesystem: str) -> bool:
        """Whether this process may grow such a filesystem while it is mounted."""
        with system_errors.translate(f"asking whether a mounted {filesystem} may grow"):
            return await files.off_loop(growth.may_grow_mounted, filesystem)

    async def place(self, path: Path) -> PathState:
        """What is at `path`."""
        with system_errors.translate(f"looking at {path}"):
            spot = await files.off_loop(paths.spot, path, self._root)
            if spot.mounts and not await self._alive(spot.mounts[-1].number):
                return paths.place(spot, paths.Nature(PathKind.UNKNOWN, broken="its device is gone"))
            try:
                nature = await files.off_loop(paths.nature, spot.path, about=spot.path)
            except Unresponsive as error:
                nature = paths.Nature(PathKind.UNKNOWN, broken=str(error))
            if nature.node and not await self._alive(nature.node):
                nature = paths.Nature(PathKind.UNKNOWN, node=nature.node, broken="its device is gone")
        return paths.place(spot, nature)

    async def mount(self, device: Device, target: Path, filesystem: str, options: Iterable[str]) -> None:
        """Mount the device's filesystem at a directory."""
        await mount.mount(device, target, filesystem, options)

    async def bind(self, source: Path, target: Path, options: Iterable[str]) -> None:
        """Show `source` at `target` too."""
        await mount.bind(source, target, options)

    async def shown_at(self, source: Path) -> tuple[Path, ...]:
        """Where else `source` is shown by a bind mount."""
        with system_errors.translate(f"looking where {source} is shown"):
            return await files.off_loop(paths.shown_at, source, self._root)

    async def uses(self, volume_id: str) -> tuple[Path, ...]:
        """Where the volume is mounted or its device shown; nowhere that can be told where it has no device."""
        found = await self._look(volume_id, "")
        if isinstance(found, Absent):
            return ()
        with system_errors.translate(f"looking where volume {volume_id} is used"):
            return await files.off_loop(paths.uses, found, self._root)

    async def unmount(self, target: Path) -> None:
        """Take the top mount off `target`."""
        await mount.unmount(target)

    async def clear(self, target: Path) -> None:
        """Remove an empty directory or empty file."""
        with system_errors.translate(f"removing {target}"):
            await files.off_loop(paths.clear, target)

    async def usage(self, place: PathState) -> Usage:
        """How full the filesystem at `place` is, or how large the device there."""
        with system_errors.translate(f"measuring {place.path}"):
            await self._answering(place)
            if place.device_node:
                return await files.off_loop(usage.of_device, place.path, about=place.path, deadline=usage.DEADLINE)
            return await files.off_loop(usage.of_filesystem, place.path, about=place.path, deadline=usage.DEADLINE)

    async def _look(self, volume_id: str, published: str) -> Device | Absent:
        with system_errors.translate(f"looking for the device of volume {volume_id}"):
            try:
                return await files.off_loop(self._devices.find, volume_id, published)
            except Absent as reason:
                return reason

    async def _answering(self, place: PathState) -> None:
        """A read past every cache: a filesystem answers from memory long after its device died.

        Raises:
            OSError: The device does not read.
        """
        number = place.number
        path = await files.off_loop(self._devices.path_of, number) if number else None
        if path and not await files.read_direct(path, deadline=usage.DEADLINE):
            raise OSError(errno.EIO, "the device does not read")

    async def _alive(self, number: DeviceNumber) -> bool:
        return await files.off_loop(self._devices.alive, number)

    def _late(self, volume_id: str, found: Device | Absent, size: int) -> str:
        if isinstance(found, Device):
            return (
                f"device {found.path} of volume {volume_id} has {found.size} bytes, not {size}, "
                f"after {self._patience:g} s; try again"
            )
        return f"no device of volume {volume_id} came within {self._patience:g} s; looked in sysfs and at: {found}"
