"""Control groups named after their sandbox, in every cgroup hierarchy of the machine.

Version 1 has one hierarchy for each controller. Version 2 has a single hierarchy, in which a
group has the controllers that its parent enables in cgroup.subtree_control (cgroups(7)). The
controllers that the root did not enable before are recorded on the sandbox's group, and are
disabled again when the last sandbox that needs them is removed.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from hyperpod_ebs.sandbox import kernel_tables

_CPUSET_FILES: Final = ("cpuset.cpus", "cpuset.mems")
"""What a group of version 1 must have before it accepts processes; in version 2 it is inherited."""

_KUBELET_CONTROLLERS: Final = frozenset({"cpu", "cpuset", "hugetlb", "memory", "pids"})
"""The controllers of version 2 that kubelet requires of its root group, if the machine has them."""

_RECORD: Final = "trusted.hyperpod_ebs.lent"
"""The extended attribute that records on a group which controllers the root enables because of that group."""


def hierarchies() -> list[Path]:
    """The root of each hierarchy."""
    return sorted({mount.point for mount in kernel_tables.mounts() if mount.filesystem in {"cgroup", "cgroup2"}})


def create(group: Path) -> None:
    """Create the group at the relative path `group` in each hierarchy."""
    for root in hierarchies():
        _record_controllers(root, group.parts[0])
        parent = root
        for name in group.parts:
            for controller in _missing_controllers(parent):
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")
            child = parent / name
            child.mkdir(exist_ok=True)
            copy_cpuset(parent, child)
            parent = child


def copy_cpuset(parent: Path, child: Path) -> None:
    """Give a group its parent's CPUs and memory nodes, if it has none; the root of version 2 has no such files."""
    for file in _CPUSET_FILES:
        if (parent / file).exists() and (child / file).exists() and not (child / file).read_text().strip():
            (child / file).write_text((parent / file).read_text())


def remove(name: str) -> None:
    """Remove the group `name` and its children; a group that still has processes stays, and so do its parents."""
    for root in hierarchies():
        controllers = _recorded_controllers(root / name)
        for directory, _, _ in os.walk(root / name, topdown=False):
            with suppress(OSError):
                Path(directory).rmdir()
        if not (root / name).exists():
            for controller in controllers:
                with suppress(OSError):  # EBUSY: another group uses the controller
                    (root / "cgroup.subtree_control").write_text(f"-{controller}")


def groups(name: str) -> list[Path]:
    """The groups called `name`."""
    return [root / name for root in hierarchies() if (root / name).is_dir()]


def _record_controllers(root: Path, name: str) -> None:
    """Record on the group `name` the controllers that the root lacks, or enables because of another sandbox."""
    recorded = (_recorded_controllers(group) for group in root.iterdir() if group.is_dir())
    controllers = _missing_controllers(root).union(*recorded)
    (root / name).mkdir(exist_ok=True)
    if controllers:
        os.setxattr(root / name, _RECORD, " ".join(sorted(controllers)).encode())


def _recorded_controllers(group: Path) -> frozenset[str]:
    with suppress(OSError):  # the group has no record, or does not exist
        return frozenset(os.getxattr(group, _RECORD).decode().split())
    return frozenset()


def _missing_controllers(group: Path) -> frozenset[str]:
    """Kubelet's controllers that a group has but does not enable for its children; none in version 1."""
    if not (group / "cgroup.subtree_control").exists():
        return frozenset()
    available, enabled = ((group / f"cgroup.{name}").read_text().split() for name in ("controllers", "subtree_control"))
    return _KUBELET_CONTROLLERS.intersection(available) - set(enabled)
