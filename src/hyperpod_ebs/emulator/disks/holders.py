"""The processes that keep a filesystem in use: through open files, directories, or a mount namespace of their own.

Everything is read from /proc, without touching a file of the filesystem, which may have failed. Every function blocks.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.disks import mountinfo

_MOUNT_ID: Final = re.compile(r"^mnt_id:\s*([0-9]+)$", re.MULTILINE)

_PROC: Final = Path("/proc")


def describe_holders(device: str) -> list[str]:
    """A phrase for each process that uses the filesystem on `device` (MAJOR:MINOR), and for each mount namespace."""
    namespaces = {_namespace(_PROC / "self")}
    phrases = []
    for process in sorted(_PROC.glob("[0-9]*"), key=lambda entry: int(entry.name)):
        with suppress(OSError):  # the process has ended, or is a zombie
            table = (process / "mountinfo").read_bytes()
            points = {mount.id: mount.point for mount in mountinfo.mounts(table) if mount.device == device}
            if not points:
                continue
            name = f"process {process.name} ({(process / 'comm').read_text().strip()})"
            if (namespace := _namespace(process)) not in namespaces:
                namespaces.add(namespace)
                phrases.append(f"{name} has it mounted at {min(points.values())} in another mount namespace")
            elif _has_open_file(process, points) or _is_inside(process, points):
                phrases.append(f"{name} has a file or directory in it open")
    return phrases


def _namespace(process: Path) -> Path:
    return (process / "ns" / "mnt").readlink()


def _has_open_file(process: Path, points: dict[int, Path]) -> bool:
    return any(_mount_id(entry) in points for entry in (process / "fdinfo").iterdir())


def _mount_id(entry: Path) -> int | None:
    with suppress(OSError):
        found = _MOUNT_ID.search(entry.read_text())
        return int(found[1]) if found else None
    return None


def _is_inside(process: Path, points: dict[int, Path]) -> bool:
    return any(path.is_relative_to(point) for path in _directories(process) for point in points.values())


def _directories(process: Path) -> Iterator[Path]:
    """The working directory and the root directory of the process."""
    return ((process / name).readlink() for name in ("cwd", "root"))
