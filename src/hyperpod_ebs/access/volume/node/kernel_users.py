"""What in the kernel keeps a mount busy without a process: mounts below it, loop devices and swap on its files."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import mountinfo

_LOOPS: Final = Path("/sys/block")
_CLASS: Final = Path("/sys/class/block")
_SWAPS: Final = Path("/proc/swaps")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def find(directory: Path) -> list[str]:
    """Find what uses the mount at a directory, in words. Blocks."""
    mounts = [mount.mount_point for mount in mountinfo.read()]
    return [
        *(f"{point} is mounted below it" for point in mounts if directory in point.parents),
        *(f"loop device {name} shows its file {path}" for name, path in _loops() if directory in path.parents),
        *(f"{path} is swap space" for path in _swap_files() if directory in path.parents),
    ]


def mounted_partitions(names: Iterable[str]) -> list[str]:
    """Find the mounts of a device's partitions, in words. Blocks."""
    numbers = {(_CLASS / name / "dev").read_text().strip(): name for name in names}
    return [
        f"its partition {numbers[str(mount.number)]} is mounted at {mount.mount_point}"
        for mount in mountinfo.read()
        if str(mount.number) in numbers
    ]


def _loops() -> list[tuple[str, Path]]:
    """The loop devices and their files."""
    loops = []
    for entry in sorted(_LOOPS.glob("loop*/loop/backing_file")):
        try:
            loops.append((entry.parts[-3], Path(entry.read_text(errors="surrogateescape").rstrip("\n"))))
        except OSError:
            continue  # it was released just now
    return loops


def _swap_files() -> list[Path]:
    lines = _SWAPS.read_text(errors="surrogateescape").splitlines()[1:]
    return [Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), line.split()[0])) for line in lines]
