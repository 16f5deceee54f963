"""The node's machine as staging and publishing need it: two roles that one host plays.

Every method may raise `Unavailable`, when the kernel or a program does not answer in
time; besides that what it names. None touches anything but what it is given.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from hyperpod_ebs.driver.model.disk import Contents, Device, DeviceNumber, Filesystem, Usage
from hyperpod_ebs.driver.model.formatting import PLAIN, Formatting
from hyperpod_ebs.driver.model.path_state import PathState


class Disks(Protocol):
    """Finds volumes' devices, says what is on them, and makes filesystems."""

    async def device(self, volume_id: str, published: str = "", *, size: int = 0) -> Device:
        """The volume's device, waited for until it is there and has `size` bytes.

        `published` is the name that the controller gave it, a hint only.

        Raises:
            DeviceNotReady: It, or its size, did not come within the host's patience.
        """
        ...

    async def belongs(self, volume_id: str, number: DeviceNumber) -> bool | None:
        """Whether a device is this volume's; None where its identity went with the device."""
        ...

    async def contents(self, device: Device, volume_id: str) -> Contents:
        """What is on the device, read from the device itself.

        Raises:
            Unavailable: It cannot be read, or another program is writing to it.
        """
        ...

    async def format(self, device: Device, volume_id: str, filesystem: str, formatting: Formatting = PLAIN) -> None:
        """Make a filesystem on a device whose contents are `Blank` or `Unfinished`.

        Raises:
            NotReady: mkfs refused.
        """

    async def repair(self, device: Device, volume_id: str, found: Filesystem, *, grow: bool) -> None:
        """Repair a filesystem that is not mounted and, with `grow`, make it as large as its device.

        Raises:
            NotReady: It needs a person.
        """

    async def grow(self, device: Device, place: PathState) -> None:
        """Make the filesystem mounted at `place` as large as its device; nothing runs when it is.

        Raises:
            Unavailable: The kernel would not let it grow.
        """

    async def grows_mounted(self, filesystem: str) -> bool:
        """Whether this process may grow such a filesystem while it is mounted."""
        ...


class Places(Protocol):
    """Looks at paths, mounts and unmounts."""

    async def place(self, path: Path) -> PathState:
        """What is at `path`.

        Raises:
            InvalidRequest: It is not a normal absolute path below the node's root directory.
        """
        ...

    async def mount(self, device: Device, target: Path, filesystem: str, options: Iterable[str]) -> None:
        """Mount the device's filesystem at a directory, which is made where it is absent.

        Raises:
            NotReady: The kernel refused; nothing is mounted.
        """

    async def bind(self, source: Path, target: Path, options: Iterable[str]) -> None:
        """Show `source`, a directory or a device node, at `target` too, with options of its own.

        Raises:
            NotReady: The kernel refused; nothing is mounted.
        """

    async def shown_at(self, source: Path) -> tuple[Path, ...]:
        """Where else below the node's root directory `source` is shown by a bind mount."""
        ...

    async def uses(self, volume_id: str) -> tuple[Path, ...]:
        """Where below the node's root directory the volume is mounted or its device shown, as far as can be told."""
        ...

    async def unmount(self, target: Path) -> None:
        """Take the top mount off `target`; success where nothing is mounted.

        Raises:
            InUse: A process still uses it.
        """

    async def clear(self, target: Path) -> None:
        """Remove an empty directory or empty file; leave everything else."""

    async def usage(self, place: PathState) -> Usage:
        """How full the filesystem at `place` is, or how large the device there."""
        ...


class Host(Disks, Places, Protocol):
    """Both."""
