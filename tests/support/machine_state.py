"""What a cluster on this machine has to leave as it was, and what is left of one."""

import re
from pathlib import Path
from typing import Final

from hyperpod_ebs.sandbox import cgroups, janitor, kernel_tables
from localcluster.machines import sysctls

_KUBERNETES: Final = ("/opt/containerd", "/usr/libexec/kubernetes", "/etc/cni", "/var/lib/cni", "/var/lib/kubelet")
"""Where its programs would write by themselves."""


def of_the_machine() -> dict[str, object]:
    """All of it; loop devices, and mounts in the sandboxes of others, come and go meanwhile."""
    points = [mount.point for mount in kernel_tables.mounts()]
    return {
        "interfaces": {interface.name for interface in Path("/sys/class/net").iterdir()},
        "network namespaces": {entry.name for entry in Path("/run/netns").glob("*")},
        "devices": {entry.name for entry in Path("/dev").iterdir() if not re.match(r"loop\d", entry.name)},
        "run": {entry.name for entry in Path("/run").iterdir()},
        "mounts": sorted(
            str(point) for point in points if not any((above / janitor.LOCK_FILE).exists() for above in point.parents)
        ),
        **of_kubernetes(),
    }


def of_kubernetes() -> dict[str, object]:
    """What nobody else changes, however long the cluster runs."""
    return {
        "settings of the kernel": sysctls.current_values(),
        "Kubernetes' directories": {
            str(entry) for root in _KUBERNETES for entry in (Path(root), *Path(root).rglob("*")) if entry.exists()
        },
    }


def left_of(directory: Path) -> list[str]:
    """What is left of the cluster in a directory."""
    return [
        *(f"process {pid}" for pid in janitor.processes_of(directory)),
        *(f"mount {point}" for point in janitor.mounts_below(directory)),
        *(f"loop device {loop}" for loop in janitor.loops_below(directory)),
        *(f"control group {group}" for group in cgroups.groups(directory.name)),
        *([str(directory)] if directory.exists() else []),
    ]
