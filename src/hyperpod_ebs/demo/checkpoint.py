"""What a training job writes: checkpoint files, and a journal whose lines count only once they are on disk."""

import hashlib
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

from hyperpod_ebs.kit import files

FILES: Final = 8
FILE_SIZE: Final = 4 * 2**20
"""Bytes of each file of a checkpoint."""

_LINE: Final = 64
"""Bytes of one line of the journal: its number and a digest of it."""


def write(directory: Path) -> dict[str, str]:
    """Write a checkpoint and sync it to disk; the SHA-256 of each file by name."""
    directory.mkdir(parents=True, exist_ok=True)
    written: dict[str, str] = {}
    for path in (directory / f"shard-{n}.bin" for n in range(FILES)):
        content = os.urandom(FILE_SIZE)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written[path.name] = hashlib.sha256(content).hexdigest()
    return written


def digests(directory: Path) -> dict[str, str]:
    """The SHA-256 by name of the files that are in `directory` now."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


class Journal:
    """A file that grows until it is stopped; `written` lines are on disk."""

    def __init__(self, path: Path) -> None:
        """Use `Journal.start`."""
        self.path = path
        self.written = 0
        self.error: OSError | None = None
        """Why writing stopped, if it failed."""
        self._stop = threading.Event()

    @classmethod
    @asynccontextmanager
    async def start(cls, path: Path) -> AsyncGenerator[Self]:
        """A journal that a thread writes until the block ends."""
        journal = cls(path)
        thread = threading.Thread(target=journal._write, name="journal", daemon=True)
        thread.start()
        try:
            yield journal
        finally:
            journal._stop.set()
            await files.off_loop(thread.join)

    def _write(self) -> None:
        try:
            with self.path.open("ab", buffering=0) as file:
                while not self._stop.is_set():
                    file.write(_line(self.written))
                    os.fsync(file.fileno())
                    self.written += 1
        except OSError as error:
            self.error = error


def count_lines(path: Path) -> int:
    """The number of intact lines at the start of a journal, each with its own number and digest."""
    content = path.read_bytes()
    count = 0
    while content[count * _LINE : (count + 1) * _LINE] == _line(count):
        count += 1
    return count


def _line(number: int) -> bytes:
    head = f"{number:012d} "
    return (head + hashlib.sha256(head.encode()).hexdigest()[: _LINE - len(head) - 1] + "\n").encode()
