"""Control groups called like the sandbox that they belong to, in every hierarchy of the machine.

Version 1 has one hierarchy for each controller, version 2 a single one (cgroups(7)).
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from hyperpod_ebs.linux import mountinfo

_PLACES: Final = ("cpuset.cpus", "cpuset.mems")
"""What a group of version 1 has to be given before it takes processes."""


def hierarchies() -> list[Path]:
    """The root of each hierarchy."""
    mounts = mountinfo.parse(mountinfo.TABLE.read_bytes())
    return sorted({mount.point for mount in mounts if mount.filesystem in {"cgroup", "cgroup2"}})


def make(group: Path) -> None:
    """Have the relative path `group` as a group in each hierarchy."""
    for root in hierarchies():
        parent = root
        for name in group.parts:
            below = parent / name
            below.mkdir(exist_ok=True)
            for file in _PLACES:
                if (below / file).exists() and not (below / file).read_text().strip():
                    (below / file).write_text((parent / file).read_text())
            parent = below


def remove(name: str) -> None:
    """Remove the group `name` and those in it; one that still has processes stays, with those around it."""
    for root in hierarchies():
        for directory, _, _ in os.walk(root / name, topdown=False):
            with suppress(OSError):
                Path(directory).rmdir()


def left(name: str) -> list[Path]:
    """The groups called `name`."""
    return [root / name for root in hierarchies() if (root / name).is_dir()]
