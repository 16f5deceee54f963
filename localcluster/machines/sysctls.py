"""Kernel settings that no namespace isolates: a machine has files of its own mounted over them.

When kubelet starts, it reads six settings and writes those that differ from what it needs (setupKernelTunables in
pkg/kubelet/cm of Kubernetes): a panic on every oops, a reboot after a panic, and unlimited memory overcommitment.
Each machine's /proc has files with these values mounted over the settings, so kubelet does not change the kernel's.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

KUBELET_VALUES: Final = {
    "kernel/keys/root_maxbytes": 25_000_000,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
}

_PROC_SYS: Final = Path("/proc/sys")


def current_values() -> dict[str, str]:
    """The values of these settings in this process's /proc."""
    return {name: (_PROC_SYS / name).read_text().strip() for name in KUBELET_VALUES}


def write_files(directory: Path) -> None:
    """Write a file with kubelet's value for each setting."""
    for name, value in KUBELET_VALUES.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")


def mount_commands(directory: Path) -> Iterator[list[str]]:
    """The commands that mount the files over the settings."""
    for name in KUBELET_VALUES:
        yield ["mount", "--bind", str(directory / name), str(_PROC_SYS / name)]
