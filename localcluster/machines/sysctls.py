"""Settings of the kernel that no namespace holds: a machine reads its own, and what is written there reaches nobody.

kubelet reads six of them when it starts, and writes those that are not as it wants (setupKernelTunables in its
pkg/kubelet/cm): a panic on every oops and a reboot after it, memory that may be promised without end. Files with just
what it wants lie over them in a machine's own /proc.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

WANTED: Final = {
    "kernel/keys/root_maxbytes": 25_000_000,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
}

_ALL: Final = Path("/proc/sys")


def of_the_kernel() -> dict[str, str]:
    """What they are where nothing lies over them."""
    return {name: (_ALL / name).read_text().strip() for name in WANTED}


def written(directory: Path) -> None:
    """Write the files."""
    for name, value in WANTED.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")


def mounts(directory: Path) -> Iterator[list[str]]:
    """The commands that lay the files over the settings."""
    for name in WANTED:
        yield ["mount", "--bind", str(directory / name), str(_ALL / name)]
