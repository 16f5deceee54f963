"""How full a volume is, told in time or not at all."""

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.model.disk import Amount, Usage

DEADLINE: Final = 5.0
"""Seconds. kubelet asks each minute, for all volumes one after the other."""

_BLKGETSIZE64: Final = 0x80081272


def of_filesystem(path: Path) -> Usage:
    """How full the filesystem mounted at `path` is. Blocks: run it off the loop."""
    seen = os.statvfs(path)
    return Usage(
        bytes=Amount(
            total=seen.f_blocks * seen.f_frsize,
            used=(seen.f_blocks - seen.f_bfree) * seen.f_frsize,
            available=seen.f_bavail * seen.f_frsize,
        ),
        inodes=Amount(total=seen.f_files, used=seen.f_files - seen.f_ffree, available=seen.f_favail),
    )


def of_device(path: Path) -> Usage:
    """How large the block device at `path` is. Blocks: run it off the loop."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size: int = struct.unpack("Q", fcntl.ioctl(handle, _BLKGETSIZE64, bytes(8)))[0]
    finally:
        os.close(handle)
    return Usage(Amount(total=size))
