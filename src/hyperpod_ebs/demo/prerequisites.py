"""What the demo needs of the machine, checked before it starts anything."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.disks import loop_devices
from hyperpod_ebs.sandbox import sandbox

PACKAGES: Final = {
    "blkid": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mount": "mount",
    "umount": "mount",
}
"""The Debian package of each program that the demo runs."""

NEEDED_SPACE: Final = 256 << 20
"""Bytes that the demo writes at most: two checkpoints, a few filesystems, and their metadata."""

_LONGEST_PATH: Final = 60
"""The most bytes that the path of the sandboxes' directory may have: sockets below it have a limit of 107 (unix(7))."""

_SYS_ADMIN: Final = 21  # <linux/capability.h>


def problems() -> Iterator[str]:
    """A sentence for each missing prerequisite, with what to do about it; the one to fix first comes first."""
    if os.geteuid() != 0:
        yield "the demo needs root to create loop devices and mount filesystems; run it with sudo"
        return
    if not _has_capability(_SYS_ADMIN):
        yield "root has no CAP_SYS_ADMIN, so it cannot mount; run the demo on a host or in a privileged container"
    if not loop_devices.usable():
        control = loop_devices.CONTROL
        yield f"{control} cannot be opened; load the kernel module loop, or allow the container to use the device"
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            yield f"{program} is not on PATH; install the package {package}, or add /usr/sbin to PATH"
    yield from _directory_problems()


def _directory_problems() -> Iterator[str]:
    try:
        directory = sandbox.parent_directory().resolve()
        free = shutil.disk_usage(directory).free
    except OSError as error:
        reason = error.strerror or error
        yield f"no directory for temporary files can be used ({reason}); set TMPDIR to a writable directory"
        return
    if not sandbox.allows_devices(directory):
        yield f"devices in {directory} cannot be opened (it is mounted with nodev); set TMPDIR to another directory"
    if free < NEEDED_SPACE:
        yield (
            f"{directory} has {free >> 20} MiB free, but the demo needs {NEEDED_SPACE >> 20} MiB; "
            "free some space, or set TMPDIR to another directory"
        )
    if (length := len(os.fsencode(directory))) > _LONGEST_PATH:
        yield (
            f"the path {directory} has {length} bytes, but the demo's sockets below it need a path of at most "
            f"{_LONGEST_PATH}; set TMPDIR to a shorter path"
        )


def _has_capability(capability: int) -> bool:
    effective = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> capability & 1)
