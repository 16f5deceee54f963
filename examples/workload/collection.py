"""Many files and one list of their digests, which is written last: no list, no collection.

The content is made up, and always the same for the same name and seed, so that whoever
is interrupted goes on with the next file that is missing. Once the list is there, it is
never made anew: a list that follows the files would call any damage right.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import durable

LIST: Final = "digests.json"

MIB: Final = 2**20


class Damaged(Exception):  # noqa: N818 - reads as what it is
    """What is there is not what was written."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A directory with its list."""

    directory: Path
    digests: Mapping[str, str]

    @property
    def name(self) -> str:
        """A digest of all digests."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum((self.directory / name).stat().st_size for name in self.digests)


def write(directory: Path, *, files: int, mib: int, seed: int) -> Collection:
    """Have a collection in `directory`; what is there of it already is kept.

    Raises:
        Damaged: It was complete, and is not what was written.
    """
    if (directory / LIST).exists():
        return read(directory)
    directory.mkdir(parents=True, exist_ok=True)
    digests = {}
    for number in range(files):
        path = directory / f"part-{number:05d}.bin"
        if path.exists():  # it has its name, so it is whole
            digests[path.name] = durable.digest(path)
        else:
            digests[path.name] = durable.write(path, random.Random(f"{seed}/{number}").randbytes(mib * MIB))
    durable.write(directory / LIST, json.dumps(digests, indent=1).encode())
    return Collection(directory, digests)


def read(directory: Path) -> Collection:
    """The collection in `directory`, each byte of it looked at.

    Raises:
        Damaged: It is not complete, or not what was written.
    """
    try:
        digests: dict[str, str] = json.loads((directory / LIST).read_bytes())
    except FileNotFoundError as error:
        raise Damaged(f"{directory} has no {LIST}: it was never completed") from error
    for name, wanted in digests.items():
        try:
            found = durable.digest(directory / name)
        except FileNotFoundError as error:
            raise Damaged(f"{directory / name} is missing") from error
        if found != wanted:
            raise Damaged(f"{directory / name} has the digest {found}, not {wanted}")
    return Collection(directory, digests)
