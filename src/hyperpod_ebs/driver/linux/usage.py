"""How full a volume is."""

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.model.disk import Amount, Usage

DEADLINE: Final = 5.0
"""Seconds. Short, because kubelet asks every minute, for one volume after the other."""

_BLKGETSIZE64: Final = 0x80081272


def filesystem_usage(path: Path) -> Usage:
    """How full the filesystem mounted at `path` is. Blocks: run it off the loop."""
    stats = os.statvfs(path)
    return Usage(
        bytes=Amount(
            total=stats.f_blocks * stats.f_frsize,
            used=(stats.f_blocks - stats.f_bfree) * stats.f_frsize,
            available=stats.f_bavail * stats.f_frsize,
        ),
        inodes=Amount(total=stats.f_files, used=stats.f_files - stats.f_ffree, available=stats.f_favail),
    )


def device_usage(path: Path) -> Usage:
    """How large the block device at `path` is. Blocks: run it off the loop."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size: int = struct.unpack("Q", fcntl.ioctl(handle, _BLKGETSIZE64, bytes(8)))[0]
    finally:
        os.close(handle)
    return Usage(Amount(total=size))
