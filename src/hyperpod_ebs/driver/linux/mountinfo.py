"""The kernel's mount table, parsed (proc_pid_mountinfo(5)).

A line is `36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/x rw,errors=continue`. In paths a space, tab, newline
or backslash is written as a backslash and three octal digits.

A node may have thousands of mounts, and kubelet asks for the statistics of each volume every minute. So a line is
parsed once, and the kernel is asked whether the table changed: poll(2) reports mounts, unmounts and new options. It
reports neither that a directory above a mount was renamed, nor what a filesystem changes by itself.
"""

import os
import re
import select
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.model import mount_options
from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry

TABLE: Final = Path("/proc/self/mountinfo")

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")
_FIXED: Final = 6
"""Number of fields before the optional ones, which a lone dash ends."""


class MountTable:
    """The mounts that this process sees, with the lines that were parsed already."""

    def __init__(self) -> None:
        """Reads nothing yet."""
        self._lock = threading.Lock()
        self._parsed: dict[bytes, MountEntry] = {}
        self._entries: tuple[MountEntry, ...] = ()
        self._changes: select.poll | None = None

    def read(self) -> tuple[MountEntry, ...]:
        """Read the mounts, in the kernel's order."""
        with self._lock:
            return self._read()

    def read_if_changed(self) -> tuple[MountEntry, ...]:
        """The mounts, read again only after a mount, an unmount or a change of options."""
        with self._lock:
            return self._read() if self._ask_for_changes() else self._entries

    def _read(self) -> tuple[MountEntry, ...]:
        known = self._parsed
        lines = [line for line in TABLE.read_bytes().split(b"\n") if line]
        self._parsed = {line: known.get(line) or _parse_line(line) for line in lines}
        self._entries = tuple(self._parsed.values())
        return self._entries

    def _ask_for_changes(self) -> bool:
        """Ask before the table is read: a change in between is then reported next time."""
        if self._changes is None:
            self._changes = select.poll()
            self._changes.register(os.open(TABLE, os.O_RDONLY | os.O_CLOEXEC), select.POLLPRI)
            return True
        return bool(self._changes.poll(0))


_table: Final = MountTable()
"""One for the process: all its threads see the same mounts."""

read: Final = _table.read
read_if_changed: Final = _table.read_if_changed


def parse(table: bytes) -> tuple[MountEntry, ...]:
    """Each mount, in the kernel's order."""
    return tuple(_parse_line(line) for line in table.split(b"\n") if line)


def stack(mounts: Iterable[MountEntry], top: int) -> tuple[MountEntry, ...]:
    """The mount with the id `top` and the mounts below it at the same path, the top one last; empty without that mount.

    The order of the lines means nothing, because the kernel sorts them by mount id and reuses ids. What counts is that
    the parent of each mount is the mount below it.
    """
    by_id = {mount.id: mount for mount in mounts}
    pile: list[MountEntry] = []
    mount = by_id.get(top)
    while mount and mount not in pile and (not pile or mount.mount_point == pile[0].mount_point):
        pile.insert(0, mount)
        mount = by_id.get(mount.parent)
    return tuple(pile)


def _parse_line(line: bytes) -> MountEntry:
    fields = line.split(b" ")
    dash = fields.index(b"-", _FIXED)
    filesystem, source, super_options = fields[dash + 1 : dash + 4]
    return MountEntry(
        id=int(fields[0]),
        parent=int(fields[1]),
        number=DeviceNumber.parse(fields[2].decode()),
        root=_unescape(fields[3]),
        mount_point=Path(_unescape(fields[4])),
        options=_parse_options(fields[5]),
        filesystem=_unescape(filesystem),
        source=_unescape(source),
        super_options=_parse_options(super_options),
    )


def _unescape(field: bytes) -> str:
    plain = _ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)
    return plain.decode(errors="surrogateescape")


def _parse_options(field: bytes) -> frozenset[str]:
    # Split first: a comma inside an option is escaped, or the option is in quotes (SELinux's context).
    options = mount_options.split(field.decode(errors="surrogateescape"))
    return frozenset(_unescape(option.encode(errors="surrogateescape")) for option in options)
