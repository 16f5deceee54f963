"""The kernel's mount table, parsed (proc_pid_mountinfo(5)).

A line is `36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/x rw,errors=continue`. In paths a space, tab, newline
or backslash is written as a backslash and three octal digits.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry

TABLE: Final = Path("/proc/self/mountinfo")

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")
_FIXED: Final = 6
"""Number of fields before the optional ones, which a lone dash ends."""


def read() -> tuple[MountEntry, ...]:
    """Read the mounts that this process sees, in the kernel's order."""
    return parse(TABLE.read_bytes())


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
    return frozenset(_unescape(option) for option in field.split(b","))
