"""What a training job writes: checkpoint files, and a log whose every line is on the disk before it counts."""

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
"""Bytes of one line of the log: its number and a digest of it."""


def write(directory: Path) -> dict[str, str]:
    """SHA-256 by name of the files of a checkpoint, once they are on the disk."""
    directory.mkdir(parents=True, exist_ok=True)
    return {path.name: _written(path) for path in (directory / f"shard-{n}.bin" for n in range(FILES))}


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 by name of the files that are in `directory` now."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def _written(path: Path) -> str:
    content = os.urandom(FILE_SIZE)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


class Journal:
    """A log that grows until it is stopped; `written` lines are on the disk."""

    def __init__(self, path: Path) -> None:
        """`path` is made; use `writing`."""
        self.path = path
        self.written = 0
        self.error: OSError | None = None
        self._stop = threading.Event()

    @classmethod
    @asynccontextmanager
    async def writing(cls, path: Path) -> AsyncGenerator[Self]:
        """A log that is being written, by a thread, for as long as the block lasts."""
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
        except OSError as error:  # told by whoever reads the journal's end
            self.error = error


def lines(path: Path) -> int:
    """How many lines of a log are whole, each with its own number and digest, up to the first that is not."""
    content = path.read_bytes()
    count = 0
    while content[count * _LINE : (count + 1) * _LINE] == _line(count):
        count += 1
    return count


def _line(number: int) -> bytes:
    head = f"{number:012d} "
    return (head + hashlib.sha256(head.encode()).hexdigest()[: _LINE - len(head) - 1] + "\n").encode()
