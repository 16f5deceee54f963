"""The state of the machine that a local cluster must not change, and the leftovers of a cluster."""

import re
from pathlib import Path
from typing import Final

from hyperpod_ebs.sandbox import cgroups, janitor, kernel_tables
from localcluster.machines import sysctls

_KUBERNETES_DIRECTORIES: Final = (
    "/opt/containerd",
    "/usr/libexec/kubernetes",
    "/etc/cni",
    "/var/lib/cni",
    "/var/lib/kubelet",
)
"""Where Kubernetes' programs write by default."""


def machine_state() -> dict[str, object]:
    """The state of the machine, without loop devices and mounts that sandboxes of other processes change."""
    points = [mount.point for mount in kernel_tables.mounts()]
    return {
        "interfaces": {interface.name for interface in Path("/sys/class/net").iterdir()},
        "network namespaces": {entry.name for entry in Path("/run/netns").glob("*")},
        "devices": {entry.name for entry in Path("/dev").iterdir() if not re.match(r"loop\d", entry.name)},
        "run": {entry.name for entry in Path("/run").iterdir()},
        "mounts": sorted(
            str(point) for point in points if not any((parent / janitor.LOCK_FILE).exists() for parent in point.parents)
        ),
        **kubernetes_state(),
    }


def kubernetes_state() -> dict[str, object]:
    """The part of the machine's state that only Kubernetes' programs would change."""
    return {
        "kernel settings": sysctls.current_values(),
        "Kubernetes' directories": {
            str(entry)
            for root in _KUBERNETES_DIRECTORIES
            for entry in (Path(root), *Path(root).rglob("*"))
            if entry.exists()
        },
    }


def cluster_leftovers(directory: Path) -> list[str]:
    """What is left of the cluster in a directory."""
    return [
        *(f"process {pid}" for pid in janitor.processes_of(directory)),
        *(f"mount {point}" for point in janitor.mounts_below(directory)),
        *(f"loop device {loop}" for loop in janitor.loops_below(directory)),
        *(f"control group {group}" for group in cgroups.groups(directory.name)),
        *([str(directory)] if directory.exists() else []),
    ]
