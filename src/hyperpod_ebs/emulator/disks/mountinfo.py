"""The mount table as this process sees it (proc(5), mountinfo)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OCTAL: Final = re.compile(r"\\(\d{3})")
"""How the table writes a space or a backslash."""

_TABLE: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """A row of the mount table."""

    point: Path
    device: str
    """The device number as MAJOR:MINOR."""


def mounts() -> list[Mount]:
    """All mounts."""
    rows = [line.split(" ") for line in _TABLE.read_text(errors="surrogateescape").splitlines()]
    return [Mount(Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), row[4])), row[2]) for row in rows]


def mount_points(directory: Path) -> set[Path]:
    """The mount points below `directory`, and `directory` itself if it is one."""
    return {mount.point for mount in mounts() if mount.point.is_relative_to(directory)}
