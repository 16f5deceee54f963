"""The mount table as this process sees it (proc_pid_mountinfo(5))."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
"""How the table writes a space, tab, newline or backslash."""

_TABLE: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """A row of the mount table."""

    point: Path
    device: str
    """The device number as MAJOR:MINOR."""

    id: int


def mounts(table: bytes | None = None) -> list[Mount]:
    """The mounts in `table`, or in this process's own table."""
    # Not splitlines(), which also ends a line at a carriage return: the kernel does not escape one in a path.
    lines = (_TABLE.read_bytes() if table is None else table).split(b"\n")
    return [_mount(line.split(b" ")) for line in lines if line]


def find(point: Path) -> Mount | None:
    """The mount that a process sees at `point`; unlike stat(2), this also finds one whose filesystem failed."""
    return next((mount for mount in reversed(mounts()) if mount.point == point), None)


def mount_points(directory: Path) -> set[Path]:
    """The mount points below `directory`, and `directory` itself if it is one."""
    return {mount.point for mount in mounts() if mount.point.is_relative_to(directory)}


def _mount(fields: list[bytes]) -> Mount:
    point = _OCTAL.sub(lambda octal: bytes([int(octal[1], 8)]), fields[4])
    return Mount(Path(os.fsdecode(point)), fields[2].decode(), int(fields[0]))
