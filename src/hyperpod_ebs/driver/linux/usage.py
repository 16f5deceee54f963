"""How full a volume is."""

import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import paths
from hyperpod_ebs.driver.model.disk import Amount, DeviceNumber, Usage

DEADLINE: Final = 5.0
"""Seconds. Short, because kubelet asks every minute, for one volume after the other."""

_BLKGETSIZE64: Final = 0x80081272


def measure_usage(path: Path, root: Path, number: DeviceNumber) -> Usage:
    """How full the filesystem on device `number` is, which is mounted at `path`, or how large the device node there.

    Blocks: run it off the loop.
    """
    with paths.open_volume(path, root, number) as handle:
        is_node = stat.S_ISBLK(os.fstat(handle).st_mode)
        return _device_usage(handle) if is_node else _filesystem_usage(handle)


def _filesystem_usage(handle: int) -> Usage:
    stats = os.fstatvfs(handle)
    return Usage(
        bytes=Amount(
            total=stats.f_blocks * stats.f_frsize,
            used=(stats.f_blocks - stats.f_bfree) * stats.f_frsize,
            available=stats.f_bavail * stats.f_frsize,
        ),
        inodes=Amount(total=stats.f_files, used=stats.f_files - stats.f_ffree, available=stats.f_favail),
    )


def _device_usage(node: int) -> Usage:
    handle = os.open(f"/proc/self/fd/{node}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        size: int = struct.unpack("Q", fcntl.ioctl(handle, _BLKGETSIZE64, bytes(8)))[0]
    finally:
        os.close(handle)
    return Usage(Amount(total=size))
