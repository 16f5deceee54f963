"""Whether anything on the node still uses a volume's device.

The mount table does not show that. umount(2) removes a mount from the table first and writes the filesystem's data
afterwards. Mounts of other mount namespaces and device mappers are not in the table at all. So the device is opened
with O_EXCL: the kernel refuses that with EBUSY while a filesystem or a device mapper has the device (open(2)). A loop
device does not claim the device below it, so sysfs is read for loop devices.
"""

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from hyperpod_ebs.driver.linux import device_lock, mountinfo, system_errors
from hyperpod_ebs.driver.linux.devices import Devices
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.kit import command, files
from hyperpod_ebs.kit.command import CommandFailed

WRITE_DEADLINE: Final = 600.0
"""Seconds to write all cached data: gigabytes, on a slow volume."""

PATIENCE: Final = 3.0
"""Seconds for the last user to go: the kernel ends the mount namespace of a stopped container in the background."""

_PAUSE: Final = 0.02

log = structlog.get_logger()


async def wait_until_free(devices: Devices, device: Device, volume_id: str) -> None:
    """Write the device's cached data, and return when nothing on the node uses the device.

    Raises:
        Unavailable: The device is still in use, or its data was not written in time.
    """
    clock = asyncio.get_running_loop().time
    async with device_lock.open_locked(devices, device, volume_id):
        with system_errors.translate(f"release {device.path} of volume {volume_id}"):
            await write_back(device.path, device.number)
            give_up = clock() + PATIENCE
            while await files.off_loop(_is_used, devices, device, about=device.path):
                if clock() >= give_up:
                    users = await files.off_loop(_visible_users, devices, device)
                    raise errors.Unavailable(busy_message(device, volume_id, users))
                await asyncio.sleep(_PAUSE)


async def write_back(path: Path, number: DeviceNumber, *options: str, keep: Sequence[int] = ()) -> None:
    """Write the cached data of device `number`, or with `--file-system` of its filesystem, which is mounted at `path`.

    `path` may lead through one of the descriptors in `keep`. This is a program and not a call in a thread, because a
    process with a thread that hangs in the kernel cannot end. If the device does not answer, one such program waits
    for it, however often the caller tries again.

    Raises:
        CommandFailed: The data was not written in time, or the program could not run to its end.
    """
    argv, about = ["sync", *options, str(path)], f"writing the data of device {number}"
    try:
        await command.run(argv, deadline=WRITE_DEADLINE, keep=keep, about=about)
    except CommandFailed as error:
        if not error.has_failure_code:
            raise
        # The kernel has given up on this data, and reports so once. A volume with a dead device must be released too.
        log.warning("data was lost: it could not be written", path=str(path), why=str(error))


def is_held(device: Path) -> bool:
    """Whether the device is mounted, or another program has opened it exclusively. Blocks: run it off the loop."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    return False


def busy_message(device: Device, volume_id: str, users: list[str]) -> str:
    """The error for a device that is in use; `users` are those that this process can see."""
    why = ", ".join(users) or "its data is still being written back, or another mount namespace or program has it"
    return f"volume {volume_id} cannot be released: {device.path} is still in use: {why}; try again"


def _is_used(devices: Devices, device: Device) -> bool:
    return is_held(device.path) or bool(devices.holders(device.number))


def _visible_users(devices: Devices, device: Device) -> list[str]:
    points = [mount.mount_point for mount in mountinfo.read() if mount.number == device.number]
    return [f"it is mounted at {point}" for point in points] + [
        f"{name} is on top of it" for name in devices.holders(device.number)
    ]
