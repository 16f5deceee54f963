"""What the demo needs of the machine, said before anything is begun."""

import os
import re
import shutil
import tempfile
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
"""The Debian package of each program that is run."""

ROOM: Final = 256 << 20
"""Bytes that the demo writes at most: two checkpoints, a few filesystems, and what they share."""

_LONGEST: Final = 60
"""Bytes that the path of the directory for temporary files may have, for sockets in a sandbox in it (unix(7))."""

_SYS_ADMIN: Final = 21  # <linux/capability.h>


def wants() -> Iterator[str]:
    """Each thing that is missing, and what to do about it; the first is the one to mend first."""
    if os.geteuid() != 0:
        yield "the demo makes loop devices and mounts filesystems, which takes root: run it with sudo"
        return
    if not _has(_SYS_ADMIN):
        yield "this root may not mount (CAP_SYS_ADMIN is withheld): run it on a machine, or in a privileged container"
    if not loop_devices.usable():
        control = loop_devices.CONTROL
        yield f"{control} is not there or not ours: load the module loop, or let the container have the device"
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            yield f"{program} is not on PATH: install {package}, or add /usr/sbin to PATH"
    yield from _of_directory()


def _of_directory() -> Iterator[str]:
    try:
        directory = sandbox.parent_directory().resolve()
        free = shutil.disk_usage(directory).free
    except OSError as error:
        yield f"there is no directory for temporary files ({error.strerror or error}): name one with TMPDIR"
        return
    if not sandbox.allows_devices(directory):
        yield f"devices cannot be opened in {directory} (mounted nodev): name another directory with TMPDIR"
    if free < ROOM:
        yield (
            f"{directory} has {free >> 20} MiB free, and the demo wants {ROOM >> 20}: "
            "make room, or name another directory with TMPDIR"
        )
    if (length := len(os.fsencode(directory))) > _LONGEST:
        yield (
            f"the path {tempfile.gettempdir()} has {length} bytes, and sockets below it leave {_LONGEST}: "
            "name a shorter one with TMPDIR"
        )


def _has(capability: int) -> bool:
    effective = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> capability & 1)
