"""What staging and publishing need of the node's machine: three roles, which one host has.

Every method may raise `Unavailable` if the kernel or a program does not answer in time, besides the errors that it
names. No method touches anything except its arguments.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from hyperpod_ebs.driver.model.disk import Contents, Device, DeviceNumber, Filesystem, Usage
from hyperpod_ebs.driver.model.formatting import PLAIN, Formatting
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.model.path_state import MountEntry, PathState


class Disks(Protocol):
    """Finds the devices of volumes, reads what is on them, and makes filesystems."""

    async def find_device(self, volume_id: str, published: str = "", *, size: int = 0) -> Device:
        """Wait until the volume's device exists and has at least `size` bytes, and return it.

        `published` is the device name that the controller returned, a hint only.

        Raises:
            DeviceNotReady: The device or its size did not appear within the host's patience.
        """
        ...

    async def is_device_of(self, volume_id: str, number: DeviceNumber) -> bool | None:
        """Whether a device is this volume's; None if nothing identifies the device any more."""
        ...

    async def read_contents(self, device: Device, volume_id: str) -> Contents:
        """Find out what is on the device, by reading the device itself.

        Raises:
            Unavailable: The device cannot be read, or another program uses it.
        """
        ...

    async def format(self, device: Device, volume_id: str, filesystem: str, formatting: Formatting = PLAIN) -> None:
        """Make a filesystem on a device whose contents are `Blank` or `Unfinished`.

        Raises:
            NotReady: mkfs failed.
        """

    async def repair(self, device: Device, volume_id: str, found: Filesystem, *, grow: bool) -> None:
        """Repair an unmounted filesystem and, with `grow`, make it as large as its device.

        Raises:
            NotReady: The repair needs a person's decisions.
        """

    async def grow(self, device: Device, state: PathState) -> None:
        """Make the filesystem mounted at a path as large as its device; do nothing if it already is.

        Raises:
            Unavailable: The kernel refused.
        """

    async def can_grow_mounted(self, filesystem: str) -> bool:
        """Whether this process may grow such a filesystem while it is mounted."""
        ...

    async def wait_until_free(self, volume_id: str, published: str = "") -> None:
        """Write the device's cached data, and return when nothing on the node uses the device.

        Succeed if the device is not found. `published` is a name that the device may have, a hint only.

        Raises:
            Unavailable: The device is still in use, or its data was not written in time.
        """


class Paths(Protocol):
    """Looks at paths, mounts and unmounts."""

    async def inspect_path(self, path: Path, *, cached: bool = False) -> PathState:
        """Find out what is at `path` and what is mounted there.

        With `cached`, the options of the filesystem and the names of other mount points may be those of the node's last
        mount or unmount.

        Raises:
            InvalidRequest: It is not a normal absolute path below the node's root directory.
        """
        ...

    async def read_options(self, mounted: MountEntry) -> frozenset[str]:
        """Read all options of a mounted filesystem, also those that the mount table leaves out as defaults."""
        ...

    async def mount(self, device: Device, volume_id: str, target: Path, filesystem: str, options: MountOptions) -> None:
        """Mount the device's filesystem at a directory; create the directory if it is absent.

        Raises:
            NotReady: The kernel refused; nothing is mounted.
            Unavailable: The device is no longer the volume's, or another one was mounted; nothing is mounted.
        """

    async def bind_mount(self, source: Path, number: DeviceNumber, target: Path, options: Iterable[str]) -> None:
        """Bind-mount `source`, a directory of the device with this number or its node, with options of its own.

        Raises:
            Unavailable: The kernel refused, or `source` is of another device; nothing is mounted.
        """

    async def find_bind_mounts(self, source: Path) -> tuple[Path, ...]:
        """Find the bind mounts of `source` below the node's root directory."""
        ...

    async def find_mounts(self, volume_id: str) -> tuple[Path, ...]:
        """Find the mounts of the volume and the bind mounts of its device node below the node's root directory.

        Empty if the volume's device is not found.
        """
        ...

    async def unmount(self, target: Path) -> None:
        """Unmount the top mount at `target`, after its data is written; succeed if nothing is mounted.

        Raises:
            InUse: A process still uses the mount.
            Unavailable: The data was not written in time; the filesystem stays mounted.
        """

    async def remove_empty(self, path: Path) -> None:
        """Remove an empty directory or an empty file; leave everything else."""

    async def measure_usage(self, state: PathState) -> Usage:
        """Measure how full the filesystem at a path is, or how large the device there is."""
        ...


class Writes(Protocol):
    """Knows whether a volume accepts writes, and protects it from them."""

    async def find_attached_device(self, volume_id: str, published: str = "") -> Device | None:
        """Find the volume's device without waiting for it."""
        ...

    async def set_write_protection(self, device: Device, volume_id: str, *, on: bool) -> None:
        """Let the kernel refuse all writes to the device, or allow them again.

        Raises:
            InUse: A mounted filesystem or another exclusive user has the device.
        """

    async def find_write_refusal(self, state: PathState) -> str:
        """Find out why the filesystem at a path refuses writes; empty if it accepts them or is mounted read-only.

        Raises:
            Unavailable: The filesystem does not answer: it is frozen, or its device is dead.
        """
        ...

    async def count_recorded_errors(self, state: PathState) -> int:
        """Count the errors that the filesystem at a path has found in itself; 0 if it does not count them."""
        ...


class Host(Disks, Paths, Writes, Protocol):
    """All roles."""
