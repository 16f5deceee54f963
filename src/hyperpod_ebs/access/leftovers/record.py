"""The record of what a run deletes: a line of JSON on disk before each act, and another one after it.

If the process is killed in between, the first line stays without the second: then the outcome is not known.
"""

import errno
import json
import os
import stat
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hyperpod_ebs.driver.model import errors

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def default_record(now: datetime) -> Path:
    """A new file for this run, below the user's state directory."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "hyperpod-ebs" / "leftovers" / f"{now:%Y%m%dT%H%M%SZ}-{os.getpid()}.jsonl"


def _open_private(path: Path) -> int:
    """Open a file, which only its user can read from now on; a device keeps its mode."""
    file = os.open(path, _FLAGS, 0o600)
    try:
        if stat.S_ISREG(os.fstat(file).st_mode):
            os.fchmod(file, 0o600)
    except BaseException:
        os.close(file)
        raise
    return file


class Record:
    """An open record, which only its user can read."""

    def __init__(self, path: Path) -> None:
        """Open the file; lines are appended.

        Raises:
            Refused: It cannot be opened.
        """
        self.path = path
        self.is_broken = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = _open_private(path)
        except OSError as error:
            raise errors.Refused(f"cannot open the record {path}: {error.strerror}; nothing was deleted") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def write(self, line: Mapping[str, object]) -> None:
        """Write a line and wait until it is on disk.

        Raises:
            Refused: The disk does not take it.
        """
        text = json.dumps({"time": datetime.now(UTC).isoformat(), **line}, default=str, ensure_ascii=True)
        try:
            self._append(f"{text}\n".encode())
        except OSError as error:
            self.is_broken = True
            raise errors.Refused(f"cannot write the record {self.path}: {error.strerror}") from error

    def _append(self, line: bytes) -> None:
        if os.write(self._file, line) < len(line):  # the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._file)

    @contextmanager
    def act(self, what: str, id_: str, details: Mapping[str, object]) -> Generator[None]:
        """Write that the act in the block begins, and then how it ended.

        Raises:
            Refused: The first line cannot be written; then the block is not run.
        """
        self.write({"act": what, "id": id_, "phase": "begins", **details})
        try:
            yield
        except (errors.VolumeNotFound, errors.SnapshotNotFound) as error:
            self.write({"act": what, "id": id_, "phase": "ended", "result": "not there", "error": str(error)})
            raise
        except errors.Unavailable as error:
            self.write({"act": what, "id": id_, "phase": "ended", "result": "not known", "error": str(error)})
            raise
        except errors.Error as error:
            self.write({"act": what, "id": id_, "phase": "ended", "result": "refused", "error": str(error)})
            raise
        except BaseException as error:
            self.write({"act": what, "id": id_, "phase": "ended", "result": "not known", "error": type(error).__name__})
            raise
        self.write({"act": what, "id": id_, "phase": "ended", "result": "done"})
