"""The machine under the node service: `mounts.host.Host` on Linux."""

import asyncio
import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import (
    contents,
    device_lock,
    device_use,
    growth,
    mkfs,
    mount,
    mount_points,
    paths,
    system_errors,
    usage,
    writable,
    write_protection,
)
from hyperpod_ebs.driver.linux.devices import Absent, Devices
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Contents, Device, DeviceNumber, Filesystem, Usage
from hyperpod_ebs.driver.model.formatting import PLAIN, Formatting
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.model.path_state import MountEntry, PathKind, PathState
from hyperpod_ebs.kit import files
from hyperpod_ebs.kit.files import Unresponsive

PATIENCE: Final = 20.0
"""Seconds to wait for a device, or for its new size."""

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
        mkfs_programs: Mapping[str, Sequence[str]] = mkfs.PROGRAMS,
    ) -> None:
        """`devices` is this node's device directory; paths outside `root` are neither mounted on nor unmounted.

        `mkfs_programs` has the program and its flags for each filesystem.
        """
        self._devices = Devices(devices, sysfs)
        self._root = root
        self._patience = patience
        self._mkfs_programs = mkfs_programs

    async def find_device(self, volume_id: str, published: str = "", *, size: int = 0) -> Device:
        """Wait until the volume's device exists and has at least `size` bytes, and return it.

        Raises:
            DeviceNotReady: The device or its size did not appear in time.
        """
        clock = asyncio.get_running_loop().time
        give_up, pause = clock() + self._patience, _FIRST_PAUSE
        while True:
            found = await self._look_for_device(volume_id, published)
            if isinstance(found, Device) and found.size >= size:
                return found
            if clock() >= give_up:
                break
            await asyncio.sleep(pause)
            pause = min(pause * _SLOWER, _LONGEST_PAUSE)
        if isinstance(found, Device):
            raise errors.DeviceNotReady(
                f"device {found.path} of volume {volume_id} has {found.size} bytes, not {size}, "
                f"after {self._patience:g} s: the kernel does not show the new size yet; try again"
            )
        raise errors.DeviceNotReady(
            f"no device of volume {volume_id} appeared within {self._patience:g} s; looked in sysfs and at: {found}; "
            "check that the volume is attached to this node"
        )

    async def is_device_of(self, volume_id: str, number: DeviceNumber) -> bool | None:
        """Whether a device is this volume's; None if nothing identifies the device any more."""
        with system_errors.translate(f"identify device {number}"):
            return await files.off_loop(self._devices.is_device_of, volume_id, number)

    async def read_contents(self, device: Device, volume_id: str) -> Contents:
        """Find out what is on the device."""
        async with device_lock.open_locked(self._devices, device, volume_id):
            return await contents.read_contents(device, volume_id)

    async def format(self, device: Device, volume_id: str, filesystem: str, formatting: Formatting = PLAIN) -> None:
        """Make a filesystem on a device that is blank, or that an interrupted mkfs left unfinished."""
        async with device_lock.open_locked(self._devices, device, volume_id) as lock:
            program = [*self._mkfs_programs[filesystem], *mkfs.flags(filesystem, formatting)]
            await mkfs.make_filesystem(device, volume_id, program, filesystem, lock)

    async def repair(self, device: Device, volume_id: str, found: Filesystem, *, grow: bool) -> None:
        """Repair an unmounted filesystem and, with `grow`, make it as large as its device."""
        async with device_lock.open_locked(self._devices, device, volume_id) as lock:
            await growth.repair(device, volume_id, found, lock, grow=grow)

    async def grow(self, device: Device, state: PathState) -> None:
        """Make the filesystem mounted at a path as large as its device."""
        if state.top:
            await growth.grow(device, state.path, self._root, state.top)

    async def can_grow_mounted(self, filesystem: str) -> bool:
        """Whether this process may grow such a filesystem while it is mounted."""
        with system_errors.translate(f"find out whether a mounted {filesystem} may grow"):
            return await files.off_loop(growth.can_grow_mounted, filesystem)

    async def inspect_path(self, path: Path, *, cached: bool = False) -> PathState:
        """Find out what is at `path` and what is mounted there."""
        with system_errors.translate(f"inspect {path}"):
            found = await files.off_loop(lambda: paths.read_mounts(path, self._root, cached=cached))
            if found.mounts and not await self._is_present(found.mounts[-1].number):
                inode = paths.Inode(PathKind.UNKNOWN, broken="its device was removed")
            else:
                inode = await self._inspect_inode(found.path)
        state = paths.path_state(found, inode)
        return replace(state, broken="its device was removed") if state.is_removed_node else state

    async def read_options(self, mounted: MountEntry) -> frozenset[str]:
        """Read all options of a mounted filesystem."""
        with system_errors.translate(f"read the options of {mounted.mount_point}"):
            return await files.off_loop(self._devices.options_in_force, mounted)

    async def mount(self, device: Device, volume_id: str, target: Path, filesystem: str, options: MountOptions) -> None:
        """Mount the device's filesystem at a directory."""
        async with device_lock.open_locked(self._devices, device, volume_id) as lock:
            await mount.mount(device, target, self._root, filesystem, options, lock=lock)

    async def bind_mount(self, source: Path, number: DeviceNumber, target: Path, options: Iterable[str]) -> None:
        """Bind-mount `source` at `target`."""
        await mount.bind(source, number, target, self._root, options)

    async def find_bind_mounts(self, source: Path) -> tuple[Path, ...]:
        """Find the bind mounts of `source`."""
        with system_errors.translate(f"find the bind mounts of {source}"):
            return await files.off_loop(paths.bind_mounts_of, source, self._root)

    async def find_mounts(self, volume_id: str) -> tuple[Path, ...]:
        """Find the mounts of the volume and the bind mounts of its device node; empty if its device is not found."""
        found = await self._look_for_device(volume_id, "")
        if isinstance(found, Absent):
            return ()
        with system_errors.translate(f"find the mounts of volume {volume_id}"):
            return await files.off_loop(paths.mounts_of_device, found, self._root)

    async def unmount(self, target: Path) -> None:
        """Unmount the top mount at `target`."""
        await mount.unmount(target, self._root)

    async def wait_until_free(self, volume_id: str, published: str = "") -> None:
        """Wait until nothing on the node uses the volume's device; succeed if the device is not found."""
        device = await self._look_for_device(volume_id, published)
        if isinstance(device, Device):
            await device_use.wait_until_free(self._devices, device, volume_id)

    async def remove_empty(self, path: Path) -> None:
        """Remove an empty directory or an empty file."""
        with system_errors.translate(f"remove {path}"):
            await files.off_loop(mount_points.remove_empty, path, self._root)

    async def measure_usage(self, state: PathState) -> Usage:
        """Measure how full the filesystem at a path is, or how large the device there is."""
        with system_errors.translate(f"measure the usage of {state.path}"):
            if (number := state.number) is None:
                raise OSError(errno.ENODEV, "nothing is mounted there, or a device that was removed")
            await self._check_device_answers(number)
            return await files.off_loop(
                usage.measure_usage, state.path, self._root, number, about=state.path, deadline=usage.DEADLINE
            )

    async def find_attached_device(self, volume_id: str, published: str = "") -> Device | None:
        """Find the volume's device without waiting for it."""
        found = await self._look_for_device(volume_id, published)
        return found if isinstance(found, Device) else None

    async def set_write_protection(self, device: Device, volume_id: str, *, on: bool) -> None:
        """Let the kernel refuse all writes to the device, or allow them again."""
        with system_errors.translate(f"change the write protection of {device.path} of volume {volume_id}"):
            act = partial(write_protection.set_write_protection, self._devices, device, volume_id, on=on)
            await files.off_loop(act, about=device.path)

    async def find_write_refusal(self, state: PathState) -> str:
        """Find out why the filesystem at a path refuses writes; empty if it accepts them or is mounted read-only."""
        if state.top is None or state.number is None:
            return ""
        if "ro" not in state.top.options and await files.off_loop(self._devices.is_write_protected, state.number):
            return f"the kernel write-protects its device {state.number} (blockdev --setrw ends that)"
        if state.device_node:
            return ""
        # Words of their own for the register of stuck calls: a frozen filesystem takes no writes, but is not dead. One
        # thread waits for it, although each of its mounts may be asked.
        number, about = state.top.number, f"a write to the filesystem on device {state.top.number}"
        with system_errors.translate(f"find out whether {state.top.filesystem} at {state.path} accepts writes"):
            return await files.off_loop(
                writable.find_refusal, state.path, self._root, number, about=about, deadline=writable.DEADLINE
            )

    async def count_recorded_errors(self, state: PathState) -> int:
        """Count the errors that the filesystem at a path has found in itself; 0 if it does not count them."""
        if state.top is None or state.device_node:
            return 0
        with system_errors.translate(f"count the errors of {state.top.filesystem} at {state.path}"):
            return await files.off_loop(self._devices.recorded_errors, state.top.number, state.top.filesystem)

    async def _look_for_device(self, volume_id: str, published: str) -> Device | Absent:
        with system_errors.translate(f"look for the device of volume {volume_id}"):
            try:
                return await files.off_loop(self._devices.find, volume_id, published)
            except Absent as reason:
                return reason

    async def _check_device_answers(self, number: DeviceNumber) -> None:
        """Read from the device past every cache: a filesystem answers from memory long after its device failed.

        Raises:
            OSError: The device cannot be read.
        """
        path = await files.off_loop(self._devices.path_of, number)
        if path and not await files.read_direct(path, deadline=usage.DEADLINE):
            raise OSError(errno.EIO, "the device cannot be read")

    async def _inspect_inode(self, path: Path) -> paths.Inode:
        try:
            inode = await files.off_loop(paths.read_inode, path, self._root, about=path)
        except Unresponsive as error:
            return paths.Inode(PathKind.UNKNOWN, broken=str(error))
        if inode.device_node and not await self._is_present(inode.device_node):
            return paths.Inode(PathKind.UNKNOWN, device_node=inode.device_node, broken="its device was removed")
        return inode

    async def _is_present(self, number: DeviceNumber) -> bool:
        return await files.off_loop(self._devices.is_present, number)
