"""Write protection of a block device by the kernel (BLKROSET).

The flag belongs to the device, so it holds for all its users, also for those that have opened it for writing before.
Data that was written earlier still reaches the device. The flag lasts until it is cleared or the device is removed.
"""

import errno
import fcntl
import os
import struct
from typing import Final

from hyperpod_ebs.driver.linux import device_lock
from hyperpod_ebs.driver.linux.devices import Devices
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device

_BLKROSET: Final = 0x125D


def set_write_protection(devices: Devices, device: Device, volume_id: str, *, on: bool) -> None:
    """Set or clear the flag of the volume's device. Blocks: run it off the loop.

    Raises:
        InUse: A filesystem or another exclusive user has the device, and would fail if it could not write any more.
        OSError: The kernel refused.
    """
    try:
        handle = device_lock.open_verified(devices, device, volume_id, exclusively=on)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise errors.InUse(
                f"cannot write-protect {device.path} of volume {volume_id}: a mounted filesystem or another program "
                "has the device; end that use first"
            ) from error
        raise
    try:
        fcntl.ioctl(handle, _BLKROSET, struct.pack("=i", on))
    finally:
        os.close(handle)
