"""A lock on a volume's device that lasts while the device is read, formatted, mounted or released.

The kernel gives the number and the name of a removed disk to the next disk that appears, but not while the removed
disk is still open. So the device is opened first, and its identity is verified after that.

The lock belongs to the open file, and the programs that the driver starts inherit it. An mkfs or a mount that outlives
its node process keeps the lock from before it opens the device exclusively until it ends. The next node process waits
for the lock: it neither races with that mkfs, nor releases a volume that is about to be mounted. udev respects the same
lock and takes it for moments (systemd, "Locking Block Device Access").
"""

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from hyperpod_ebs.driver.linux import system_errors
from hyperpod_ebs.driver.linux.devices import Devices, device_number
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device
from hyperpod_ebs.kit import files

PATIENCE: Final = 3.0
"""Seconds to wait for the lock: udev releases it sooner, an mkfs does not."""

_PAUSE: Final = 0.02


@asynccontextmanager
async def open_locked(devices: Devices, device: Device, volume_id: str) -> AsyncGenerator[int]:
    """Open and lock the device; within the block it stays the device of this volume.

    Yields:
        The open file's descriptor, for the programs that are to inherit the lock.

    Raises:
        Unavailable: Another program holds the lock, or the device is no longer the volume's.
    """
    with system_errors.translate(f"open {device.path} of volume {volume_id}"):
        handle = await files.off_loop(open_verified, devices, device, volume_id, about=device.path, discard=os.close)
    try:
        clock = asyncio.get_running_loop().time
        give_up = clock() + PATIENCE
        while not _try_lock(handle):
            if clock() >= give_up:
                raise device_in_use_error(device, volume_id)
            await asyncio.sleep(_PAUSE)
        yield handle
    finally:
        with suppress(files.Unresponsive):  # the last close of a device writes back its cached data
            await files.off_loop(os.close, handle)


def device_in_use_error(device: Device, volume_id: str) -> errors.Unavailable:
    """The error for a device that another program uses: an orphan, or a process of another container."""
    return errors.Unavailable(
        f"{device.path} of volume {volume_id} is in use by another program, possibly an mkfs or a mount that still "
        "runs; try again"
    )


def open_verified(devices: Devices, device: Device, volume_id: str, *, exclusively: bool = False) -> int:
    """Open the device and verify through the open file that it is the volume's. Blocks: run it off the loop.

    Raises:
        OSError: It cannot be opened; EBUSY if it is to be opened exclusively and another program has done so.
    """
    handle = os.open(device.path, os.O_RDONLY | os.O_CLOEXEC | (os.O_EXCL if exclusively else 0))
    try:
        _verify(devices, device, volume_id, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def _verify(devices: Devices, device: Device, volume_id: str, opened: os.stat_result) -> None:
    same = stat.S_ISBLK(opened.st_mode) and device_number(opened) == device.number
    if not (same and devices.is_still_device_of(volume_id, device.number)):
        raise errors.Unavailable(f"{device.path} is no longer the device of volume {volume_id}; try again")


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
