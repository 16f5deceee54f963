"""The state of the machine that a local cluster must not change, and the leftovers of a cluster."""

import re
import tempfile
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

_SYSTEM_DIRECTORIES: Final = ("/boot", "/dev", "/etc", "/opt", "/proc", "/run", "/sys", "/usr", "/var/lib")


def machine_state() -> dict[str, object]:
    """The state of the machine, without what other emulators, clusters and tests change meanwhile."""
    return {
        "interfaces": {interface.name for interface in Path("/sys/class/net").iterdir()},
        "network namespaces": {entry.name for entry in Path("/run/netns").glob("*")},
        "devices": {entry.name for entry in Path("/dev").iterdir() if not re.match(r"loop\d", entry.name)},
        "run": {entry.name for entry in Path("/run").iterdir()},
        "mounts": sorted(_mounts_of_test()),
        **kubernetes_state(),
    }


def _mounts_of_test() -> list[str]:
    """The mount points in the system's directories, and each mount of the test's directory.

    An emulator or a cluster that another user runs mounts only below its own directory.
    """
    directory = tempfile.gettempdir().encode()
    lines = [line for line in kernel_tables.MOUNT_TABLE.read_bytes().split(b"\n") if line]
    return [
        str(mount.point)
        for line in lines
        for mount in kernel_tables.mounts(line)
        if directory in line or any(mount.point.is_relative_to(parent) for parent in _SYSTEM_DIRECTORIES)
    ]


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
