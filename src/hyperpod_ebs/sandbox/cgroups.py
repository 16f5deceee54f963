"""Control groups called like the sandbox that they belong to, in every hierarchy of the machine.

Version 1 has one hierarchy for each controller, version 2 a single one, in which a group has the
controllers that the one above it passes on (cgroups(7)). What the root has to pass on for ours is
noted on ours, and taken back when the last of them goes.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from hyperpod_ebs.sandbox import kernel_tables

_PLACES: Final = ("cpuset.cpus", "cpuset.mems")
"""What a group of version 1 has to be given before it takes processes; in version 2 it has that of the one above."""

_CONTROLLERS: Final = frozenset({"cpu", "cpuset", "hugetlb", "memory", "pids"})
"""Those of version 2 without which kubelet takes no group for its own, where the machine has them."""

_LENT: Final = "trusted.hyperpod_ebs.lent"
"""The attribute of a group in which stands what the root passes on for its sake."""


def hierarchies() -> list[Path]:
    """The root of each hierarchy."""
    return sorted({mount.point for mount in kernel_tables.mounts() if mount.filesystem in {"cgroup", "cgroup2"}})


def make(group: Path) -> None:
    """Have the relative path `group` as a group in each hierarchy."""
    for root in hierarchies():
        _lend(root, group.parts[0])
        parent = root
        for name in group.parts:
            _pass_on(parent)
            below = parent / name
            below.mkdir(exist_ok=True)
            give_places(parent, below)
            parent = below


def give_places(parent: Path, below: Path) -> None:
    """Give a group the places of the one above it, where it has none; the root of version 2 has no such files."""
    for file in _PLACES:
        if (parent / file).exists() and (below / file).exists() and not (below / file).read_text().strip():
            (below / file).write_text((parent / file).read_text())


def remove(name: str) -> None:
    """Remove the group `name` and those in it; one that still has processes stays, with those around it."""
    for root in hierarchies():
        lent = _lent(root / name)
        for directory, _, _ in os.walk(root / name, topdown=False):
            with suppress(OSError):
                Path(directory).rmdir()
        if not (root / name).exists():
            _take_back(root, lent)


def left(name: str) -> list[Path]:
    """The groups called `name`."""
    return [root / name for root in hierarchies() if (root / name).is_dir()]


def _lend(root: Path, name: str) -> None:
    """Note on the group `name` what the root does not pass on by itself, or does for another of ours."""
    lacking = _lacking(root).union(*(_lent(group) for group in root.iterdir() if group.is_dir()))
    (root / name).mkdir(exist_ok=True)
    if lacking:
        os.setxattr(root / name, _LENT, " ".join(sorted(lacking)).encode())


def _lent(group: Path) -> frozenset[str]:
    with suppress(OSError):  # nothing is noted on it, or it is gone
        return frozenset(os.getxattr(group, _LENT).decode().split())
    return frozenset()


def _take_back(root: Path, lent: frozenset[str]) -> None:
    """Let the root pass on what it did before; what somebody else has come to use, stays (the kernel says busy)."""
    for controller in lent:
        with suppress(OSError):
            (root / "cgroup.subtree_control").write_text(f"-{controller}")


def _pass_on(group: Path) -> None:
    """Let the groups in this one have what kubelet wants."""
    for controller in _lacking(group):
        (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _lacking(group: Path) -> frozenset[str]:
    """What a group has of that, and does not pass on; version 1 has no such thing."""
    if not (group / "cgroup.subtree_control").exists():
        return frozenset()
    has, passes_on = ((group / f"cgroup.{name}").read_text().split() for name in ("controllers", "subtree_control"))
    return _CONTROLLERS.intersection(has) - set(passes_on)
