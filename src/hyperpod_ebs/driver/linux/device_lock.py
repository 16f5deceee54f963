"""Holds a volume's device while it is looked at and written to, so that it stays that volume's.

The kernel gives the number and the name of a disk that went away to the next one that comes,
but not while somebody has it open. So the device is opened first, and proved again after.

The open file carries a lock, which the programs that are started inherit: an mkfs that outlives
its node process keeps it, from before it opens the device for itself alone until it ends. The
next process waits for it instead of racing it. udev heeds the same lock, and takes it for
moments (systemd's "Locking Block Device Access").
"""

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from hyperpod_ebs.driver.linux import system_errors
from hyperpod_ebs.driver.linux.devices import Devices, number_of
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device
from hyperpod_ebs.kit import files

PATIENCE: Final = 3.0
"""Seconds for another holder of the lock, which is udev if it lets go at all soon."""

_PAUSE: Final = 0.02


@asynccontextmanager
async def open_locked(devices: Devices, device: Device, volume_id: str) -> AsyncGenerator[int]:
    """An open file of the device, which is the volume's for as long as the block lasts.

    Raises:
        Unavailable: Another program holds it, or it is the volume's no longer.
    """
    doing = f"claiming {device.path} of volume {volume_id}"
    with system_errors.translate(doing):
        handle = await files.off_loop(_opened, devices, device, volume_id, about=device.path)
    try:
        clock = asyncio.get_running_loop().time
        give_up = clock() + PATIENCE
        while not _locked(handle):
            if clock() >= give_up:
                raise errors.Unavailable(
                    f"{device.path} of volume {volume_id} is held by another program, perhaps by an mkfs; try again"
                )
            await asyncio.sleep(_PAUSE)
        yield handle
    finally:
        with suppress(files.Unresponsive):  # the last to close a device writes back what it has cached
            await files.off_loop(os.close, handle)


def _opened(devices: Devices, device: Device, volume_id: str) -> int:
    handle = os.open(device.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _prove(devices, device, volume_id, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def _prove(devices: Devices, device: Device, volume_id: str, found: os.stat_result) -> None:
    same = stat.S_ISBLK(found.st_mode) and number_of(found) == device.number
    if not (same and devices.still(volume_id, device.number)):
        raise errors.Unavailable(f"{device.path} is no longer the device of volume {volume_id}; try again")


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
