"""A set of files with a list of their digests.

The list is written last, so a set without a list is incomplete. The content depends only on
the seed and the file's number: after an interruption, the next writer continues with the
first missing file. A complete set never gets a new list, because a list made from damaged
files would match the damage.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import atomic_file

LIST: Final = "digests.json"

MIB: Final = 2**20


class Damaged(Exception):  # noqa: N818 - reads as what it is
    """The files are incomplete, or their digests do not match the list."""


@dataclass(frozen=True, slots=True)
class FileSet:
    """A directory with files and their digests."""

    directory: Path
    digests: Mapping[str, str]
    """By file name."""

    @property
    def digest(self) -> str:
        """The digest of the list of digests."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum((self.directory / name).stat().st_size for name in self.digests)


def write(directory: Path, *, files: int, mib: int, seed: int) -> FileSet:
    """Write the files that are missing in `directory`; a complete set is only verified.

    Raises:
        Damaged: The set is complete, but its files do not match the list.
    """
    if (directory / LIST).exists():
        return read(directory)
    directory.mkdir(parents=True, exist_ok=True)
    digests = {}
    for number in range(files):
        path = directory / f"part-{number:05d}.bin"
        if path.exists():  # files are written atomically, so this one is complete
            digests[path.name] = atomic_file.sha256(path)
        else:
            digests[path.name] = atomic_file.write(path, random.Random(f"{seed}/{number}").randbytes(mib * MIB))
    atomic_file.write(directory / LIST, json.dumps(digests, indent=1).encode())
    return FileSet(directory, digests)


def read(directory: Path) -> FileSet:
    """The set in `directory`, after every byte was compared.

    Raises:
        Damaged: The set is incomplete, or its files do not match the list.
    """
    try:
        digests: dict[str, str] = json.loads((directory / LIST).read_bytes())
    except FileNotFoundError as error:
        raise Damaged(f"{directory} has no {LIST}: it was never completed") from error
    for name, expected in digests.items():
        try:
            actual = atomic_file.sha256(directory / name)
        except FileNotFoundError as error:
            raise Damaged(f"{directory / name} is missing") from error
        if actual != expected:
            raise Damaged(f"{directory / name} has the digest {actual}, not {expected}")
    return FileSet(directory, digests)
