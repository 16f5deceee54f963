"""Which processes use a filesystem, in all mount namespaces, found in /proc (proc(5)). Every function blocks.

The path of an open file is only text, and to look at the file itself hangs if its filesystem does. So an open file is
recognised by the id of the mount in which it was opened, which the kernel gives without asking any filesystem.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.driver.linux.pinned_path import read_mount_id
from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry

DEADLINE: Final = 60.0
"""Seconds to look at all processes of a node."""

_PROC: Final = Path("/proc")
_NAMED: Final = 10
"""A message has room for so many uses."""
_MAP_FIELDS: Final = 6


@dataclass(frozen=True, slots=True, order=True)
class ProcessUse:
    """A process that keeps a filesystem busy."""

    pid: int
    command: str
    how: str
    path: str

    def __str__(self) -> str:
        """For messages."""
        return f"process {self.pid} {self.command} ({self.how} {self.path})"


@dataclass(frozen=True, slots=True, order=True)
class OtherMount:
    """A mount in another mount namespace, and a process there."""

    pid: int
    command: str
    mount_point: Path

    def __str__(self) -> str:
        """For messages."""
        return f"{self.mount_point} in the mount namespace of process {self.pid} {self.command}"


def listing(uses: Iterable[object]) -> str:
    """The first uses, for a message."""
    texts = [printable(str(use)) for use in uses]
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return f"{', '.join(texts[:_NAMED])}{more}"


def printable(text: str) -> str:
    """The text without characters that control a terminal: any user names processes and files."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def find_uses(number: DeviceNumber) -> list[ProcessUse]:
    """Find the processes with an open file, a mapped file or a directory of their own on the device's filesystem."""
    tables = {namespace: mounts for namespace, (_, mounts) in _mount_tables().items()}
    known = {mount.id: mount.number for mounts in tables.values() for mount in mounts}
    uses: set[ProcessUse] = set()
    for pid in _pids():
        if pid != os.getpid():
            command = _command(pid)
            uses |= {ProcessUse(pid, command, how, path) for how, path in _uses_of(pid, number, known)}
    return sorted(uses)


def find_other_mounts(number: DeviceNumber) -> list[OtherMount]:
    """Find the mounts of the device in other mount namespaces, each with the first process there."""
    here = _namespace("self")
    return [
        OtherMount(pid, _command(pid), mount.mount_point)
        for namespace, (pid, mounts) in _mount_tables().items()
        for mount in mounts
        if namespace != here and mount.number == number
    ]


def find_numbers_mounted_elsewhere(directory: Path) -> set[DeviceNumber]:
    """Find the devices that are mounted at this path in other mount namespaces."""
    here = _namespace("self")
    return {
        mount.number
        for namespace, (_, mounts) in _mount_tables().items()
        for mount in mounts
        if namespace != here and mount.mount_point == directory
    }


def _mount_tables() -> Mapping[str, tuple[int, tuple[MountEntry, ...]]]:
    """For each mount namespace a process in it, and its mounts."""
    tables: dict[str, tuple[int, tuple[MountEntry, ...]]] = {}
    for pid in _pids():
        with suppress(OSError):  # the process has ended
            if (namespace := _namespace(str(pid))) not in tables:
                tables[namespace] = pid, mountinfo.parse((_PROC / str(pid) / "mountinfo").read_bytes())
    return tables


def _uses_of(pid: int, number: DeviceNumber, known: Mapping[int, DeviceNumber]) -> Iterator[tuple[str, str]]:
    for name, how in (("cwd", "current directory"), ("root", "root directory")):
        with suppress(OSError):
            link = _PROC / str(pid) / name
            handle = os.open(link, os.O_PATH | os.O_CLOEXEC)
            try:
                if known.get(read_mount_id(handle)) == number:
                    yield how, str(link.readlink())
            finally:
                os.close(handle)
    with suppress(OSError):
        for path in _mapped_paths(pid, number):
            yield "mapped file", path
    with suppress(OSError):
        for entry in os.scandir(_PROC / str(pid) / "fd"):
            with suppress(OSError, StopIteration):
                path = str(Path(entry.path).readlink())
                if path.startswith("/") and _number_of_open_file(pid, entry.name, known) == number:
                    yield "open file", path


def _number_of_open_file(pid: int, descriptor: str, known: Mapping[int, DeviceNumber]) -> DeviceNumber:
    """The device of the filesystem on which the file is."""
    lines = (_PROC / str(pid) / "fdinfo" / descriptor).read_text().splitlines()
    mount = int(next(line.removeprefix("mnt_id:") for line in lines if line.startswith("mnt_id:")))
    if mount in known:
        return known[mount]
    found = (_PROC / str(pid) / "fd" / descriptor).stat()  # its mount was detached (umount --lazy)
    return DeviceNumber(os.major(found.st_dev), os.minor(found.st_dev))


def _mapped_paths(pid: int, number: DeviceNumber) -> set[str]:
    """The files of the device's filesystem in the process's memory, also its program."""
    wanted = f"{number.major:02x}:{number.minor:02x}"
    maps = (_PROC / str(pid) / "maps").read_bytes().decode(errors="surrogateescape")
    fields = (line.split(" ", _MAP_FIELDS - 1) for line in maps.split("\n"))
    return {parts[5].strip(" ") for parts in fields if len(parts) == _MAP_FIELDS and parts[3] == wanted}


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir(_PROC) if name.isdecimal())  # noqa: PTH208 - names, not paths


def _namespace(pid: str) -> str:
    return str((_PROC / pid / "ns" / "mnt").readlink())


def _command(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "(ended)"
