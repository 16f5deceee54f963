"""The kernel's mount and loop device tables, read by the sandbox itself.

The driver and the emulator have readers of their own. The sandbox checks what those two
leave behind, so it shares no reader with them: a fault in one would otherwise hide a leak.

Sources: proc_pid_mountinfo(5), Linux Documentation/ABI/testing/sysfs-block-loop, uapi/linux/loop.h.
"""

import fcntl
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNT_TABLE: Final = Path("/proc/self/mountinfo")
LOOP_MAJOR: Final = 7
"""The major device number of loop devices (Linux Documentation/admin-guide/devices.txt)."""

_SYSFS: Final = Path("/sys/block")
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
"""How mountinfo writes a space, tab, newline or backslash."""

_BLKROSET: Final = 0x125D
_LOOP_CLR_FD: Final = 0x4C01
_LOOP_GET_STATUS64: Final = 0x4C05
_STATUS: Final = struct.Struct("=5Q 4I 64s 64s 32s 2Q")
"""struct loop_info64; lo_rdevice is its third field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of the mount table."""

    point: Path
    filesystem: str
    major: int
    """Major number of the mounted device."""


def mounts(table: bytes | None = None) -> list[Mount]:
    """The mounts in `table`, or in this process's own table."""
    # Not splitlines(), which also ends a line at a carriage return: the kernel does not escape one in a path.
    lines = (MOUNT_TABLE.read_bytes() if table is None else table).split(b"\n")
    return [_mount(line.split(b" ")) for line in lines if line]


def _mount(fields: list[bytes]) -> Mount:
    point = _OCTAL.sub(lambda octal: bytes([int(octal[1], 8)]), fields[4])
    return Mount(
        point=Path(os.fsdecode(point)),
        filesystem=os.fsdecode(fields[fields.index(b"-") + 1]),
        major=int(fields[2].partition(b":")[0]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopDevice:
    """A bound loop device, as sysfs shows it."""

    path: Path
    file: Path
    """The backing file; it may have been deleted."""
    number: int
    """Its device number; 0 if it was freed meanwhile."""

    def backing_device(self) -> int:
        """The number of the block device under it; 0 if its backing file is a regular file or it is free."""
        status = bytearray(_STATUS.size)
        with suppress(OSError):
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(handle, _LOOP_GET_STATUS64, status)
            finally:
                os.close(handle)
        return int(_STATUS.unpack(status)[2])

    def free(self) -> None:
        """Clear the backing file, unless the device was bound to another file meanwhile.

        The kernel frees a busy device at its last close.

        Raises:
            OSError: The device is free already, or gone.
        """
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Checked while the device is open: until it is closed, no process can free and rebind it.
            if _backing_file(_SYSFS / self.path.name) == self.file:
                # The kernel keeps write protection on the loop device for the next file that is bound to it.
                fcntl.ioctl(handle, _BLKROSET, struct.pack("=i", 0))
                fcntl.ioctl(handle, _LOOP_CLR_FD, 0)
        finally:
            os.close(handle)


def loop_devices() -> Iterator[LoopDevice]:
    """The loop devices that are bound to a file."""
    for entry in sorted(_SYSFS.glob("loop*")):
        if file := _backing_file(entry):
            yield LoopDevice(path=Path("/dev") / entry.name, file=file, number=_device_number(entry))


def _backing_file(entry: Path) -> Path | None:
    with suppress(OSError):  # the device is free
        # Bytes, because read_text() turns a carriage return in the path into a newline, and needs valid UTF-8.
        file = os.fsdecode((entry / "loop" / "backing_file").read_bytes())
        return Path(file.removesuffix("\n").removesuffix(" (deleted)"))
    return None


def _device_number(entry: Path) -> int:
    with suppress(OSError):  # the device is gone
        major, _, minor = (entry / "dev").read_text().strip().partition(":")
        return os.makedev(int(major), int(minor))
    return 0
