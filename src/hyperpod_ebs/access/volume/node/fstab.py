"""Lines of /etc/fstab as text (fstab(5)): which line mounts a volume, and what contradicts it.

A line that `volume use --persist` wrote has the volume's id among its options. mount(8) and systemd ignore options
that begin with x-, and the line is recognised without a comment above it, which an editor may move.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.model import mount_options
from hyperpod_ebs.driver.model.mount_options import MountOptions

PATH: Final = Path("/etc/fstab")

_VOLUME: Final = "x-hyperpod-ebs.volume="
_ESCAPED: Final = re.compile(r"[ \t\n\\]")
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")
_FIELD: Final = re.compile(r"[^ \t]+")
_FIELDS: Final = 4
"""Fields that a line with options has at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line that mounts something."""

    line: int
    """Its number in the file."""
    text: str
    source: str
    directory: str
    options: tuple[str, ...]

    @property
    def volume_id(self) -> str:
        """The volume for which `volume use` wrote the line; empty for other lines."""
        marks = (option.removeprefix(_VOLUME) for option in self.options if option.startswith(_VOLUME))
        return next(marks, "")

    def __str__(self) -> str:
        """The line, for messages."""
        return f"line {self.line}: {self.text.strip()}"


def entries(text: str) -> Iterator[Entry]:
    """Each line that mounts something."""
    for number, line in enumerate(text.split("\n"), start=1):
        fields = _FIELD.findall(line)
        if len(fields) > 1 and not fields[0].startswith("#"):
            options = mount_options.split(fields[3]) if len(fields) >= _FIELDS else []
            yield Entry(
                line=number,
                text=line,
                source=_unescape(fields[0]),
                directory=os.path.normpath(_unescape(fields[1])),
                options=tuple(options),
            )


def line_for(volume_id: str, uuid: str, directory: Path, filesystem: str, options: MountOptions) -> str:
    """The line that mounts the volume at boot. With `nofail`, the node boots without the volume too."""
    words = [*sorted(options.flags - {"relatime"}), *options.of_filesystem, "nofail", f"{_VOLUME}{volume_id}"]
    return f"UUID={uuid} {_escape(str(directory))} {filesystem} {','.join(words)} 0 2"


def line_of_volume(text: str, volume_id: str) -> Entry | None:
    """The line that `volume use` wrote for the volume."""
    return next((entry for entry in entries(text) if entry.volume_id == volume_id), None)


def line_for_directory(text: str, directory: Path) -> Entry | None:
    """The line that mounts something at the directory."""
    return next((entry for entry in entries(text) if entry.directory == str(directory)), None)


def contradiction(text: str, volume_id: str, directory: Path, is_volume: Callable[[str], bool]) -> Entry | None:
    """The line of another program or person that mounts something else at the directory, or the volume elsewhere.

    `is_volume` says whether the source of a line, such as `UUID=…`, leads to the volume.
    """
    for entry in entries(text):
        if entry.volume_id != volume_id and (entry.directory == str(directory)) != is_volume(entry.source):
            return entry
    return None


def has_foreign_line(text: str, volume_id: str, directory: Path, is_volume: Callable[[str], bool]) -> bool:
    """Whether a line that `volume use` did not write mounts the volume at the directory."""
    return any(
        entry.volume_id != volume_id and entry.directory == str(directory) and is_volume(entry.source)
        for entry in entries(text)
    )


def with_line(text: str, volume_id: str, line: str) -> str:
    """The text with this line in place of the earlier lines of the volume."""
    if [entry.text for entry in entries(text) if entry.volume_id == volume_id] == [line]:
        return text
    kept = without_lines(text, volume_id)
    newline = "" if not kept or kept.endswith("\n") else "\n"
    return f"{kept}{newline}{line}\n"


def without_lines(text: str, volume_id: str) -> str:
    """The text without the lines that `volume use` wrote for the volume."""
    own = {entry.line for entry in entries(text) if entry.volume_id == volume_id}
    return "\n".join(line for number, line in enumerate(text.split("\n"), start=1) if number not in own)


def _escape(field: str) -> str:
    return _ESCAPED.sub(lambda match: f"\\{ord(match[0]):03o}", field)


def _unescape(field: str) -> str:
    plain = _ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field.encode(errors="surrogateescape"))
    return plain.decode(errors="surrogateescape")
