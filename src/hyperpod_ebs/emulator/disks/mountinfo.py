"""What is mounted, as this process sees it (proc(5), mountinfo)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OCTAL: Final = re.compile(r"\\(\d{3})")
"""How a blank or a backslash is written there."""

_TABLE: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system, seen at a point."""

    point: Path
    number: str
    """The device's, as MAJOR:MINOR."""


def mounts() -> list[Mount]:
    """Everything that is mounted."""
    rows = [line.split(" ") for line in _TABLE.read_text(errors="surrogateescape").splitlines()]
    return [Mount(Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), row[4])), row[2]) for row in rows]


def under(directory: Path) -> set[Path]:
    """The mount points in `directory` or below, and it itself if it is one."""
    return {mount.point for mount in mounts() if mount.point.is_relative_to(directory)}
