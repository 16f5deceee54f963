"""An inference server's event log that loses no event: not by a kill, a full disk or a rotation.

Events are numbered. Each line begins with a digest of itself and of all lines before it.
Events are written in batches, and a batch is acknowledged only when it is on the disk. A full
segment is sealed: a second file has its first and last event and its digest.

Only one writer has the log at a time. Two pods of one claim can run on the same node for a
moment, and each would overwrite what the other has acknowledged.

A kill leaves at most one batch after the last complete line. More data than that means that
the log is damaged; the writer then changes nothing.
"""

import argparse
import errno
import fcntl
import hashlib
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import atomic_file
import events
import shutdown

NO_LINES: Final = "0" * 64
"""The digest before the first line."""

RETRY_INTERVAL: Final = 0.5
"""Seconds until a write to a full disk, or a lock that another writer has, is tried again."""

OVERHEAD: Final = 256
"""The largest size of a line without its answer, in bytes."""


class Lost(Exception):  # noqa: N818 - reads as what happened
    """Events are missing or damaged."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of the log: the number of its last event, and the digest of all lines."""

    number: int = 0
    chain: str = NO_LINES


@dataclass(slots=True)
class Log:
    """A log that is open for writing."""

    directory: Path
    segment_bytes: int
    end: End
    lock: int
    """The directory's lock; the process has it until it ends."""

    handle: int
    first: int
    size: int

    @classmethod
    def open(cls, directory: Path, segment_bytes: int, batch_bytes: int) -> Self:
        """Open the log in `directory` at its last complete line, when no other writer has it.

        An unfinished batch after that line was never acknowledged; it is copied and cut off.

        Raises:
            Lost: There is more data after that line than a kill leaves, or a segment is missing.
        """
        directory.mkdir(parents=True, exist_ok=True)
        lock = _wait_for_lock(directory)
        sealed = [_read_seal(path) for path in sorted(directory.glob("*.sealed"))]
        previous = sealed[-1] if sealed else End()
        path = _segment(directory, previous.number + 1)
        if (last := max(directory.glob("*.log"), default=path)) > path:
            raise Lost(f"{last.name} exists, but {path.name} is not sealed")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        end, size, rest = _read(path, previous)
        if rest > batch_bytes:
            raise _damage(path, end, rest)
        log = cls(directory, segment_bytes, end, lock, handle, previous.number + 1, size)
        if rest:
            log._cut(rest)
        os.fsync(handle)
        atomic_file.sync_directory(directory)
        return log

    def append(self, answers: list[str]) -> None:
        """Write the events to the disk; while the disk is full, wait."""
        end, lines = self.end, []
        for answer in answers:
            body = json.dumps({"n": end.number + 1, "at": round(time.time(), 3), "answer": answer})
            end = _next_end(end, body)
            lines.append(f"{end.chain} {body}\n")
        data = "".join(lines).encode()
        while not self._write(data):
            self._wait_for_space()
        self.end, self.size = end, self.size + len(data)
        while self.size >= self.segment_bytes and not self._rotate():
            self._wait_for_space()

    def _cut(self, rest: int) -> None:
        """Copy the data after the last complete line, and cut it off."""
        content = os.pread(self.handle, rest, self.size)
        name = f"events-{self.end.number + 1:012d}-{hashlib.sha256(content).hexdigest()[:8]}.torn"
        while not _store(self.directory / name, content):
            self._wait_for_space()
        os.ftruncate(self.handle, self.size)
        events.report(event="cut", after=self.end.number, bytes=rest, kept=name)

    def _wait_for_space(self) -> None:
        events.report(event="full", waiting_at=self.end.number)
        if shutdown.is_requested_within(RETRY_INTERVAL):
            sys.exit(shutdown.EXIT_CODE)  # the batch was not acknowledged

    def _write(self, data: bytes) -> bool:
        """Write and sync all of the data; on a full disk, write nothing and return False."""
        try:
            done = 0
            while done < len(data):
                done += os.write(self.handle, data[done:])
            os.fsync(self.handle)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            os.ftruncate(self.handle, self.size)
            return False
        return True

    def _rotate(self) -> bool:
        """Seal the segment and begin the next one; False if the disk is full."""
        seal = {"first": self.first, "last": self.end.number, "chain": self.end.chain}
        path = _segment(self.directory, self.first).with_suffix(".sealed")
        if not _store(path, json.dumps(seal).encode()):
            return False
        try:
            following = _segment(self.directory, self.end.number + 1)
            handle = os.open(following, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        os.close(self.handle)
        self.handle, self.first, self.size = handle, self.end.number + 1, 0
        events.report(event="rotated", sealed=seal)
        return True


def _wait_for_lock(directory: Path) -> int:
    """Wait until no other process has the directory's lock, and take it."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for tries in itertools.count():
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not tries:
                events.report(event="locked", reason="another writer has the log; waiting until its pod ends")
        if shutdown.is_requested_within(RETRY_INTERVAL):
            sys.exit(shutdown.EXIT_CODE)
    return handle


def _store(path: Path, content: bytes) -> bool:
    """Write a file atomically; False if the disk is full."""
    try:
        atomic_file.write(path, content)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def verify(directory: Path, batch_bytes: int) -> tuple[End, int]:
    """Check every line from the first event on; the end of the log, and the number of its segments.

    Raises:
        Lost: Events are missing or damaged.
    """
    end, segments = End(), sorted(directory.glob("*.log"))
    for path in segments:
        if path != _segment(directory, end.number + 1):
            raise Lost(f"the next segment is {path.name}, but the next event is {end.number + 1}")
        end, _, rest = _read(path, end)
        seal = path.with_suffix(".sealed")
        if seal.exists() and _read_seal(seal) != end:
            raise Lost(f"{path.name} ends with event {end.number}, which does not match its seal")
        if rest > (batch_bytes if path == segments[-1] else 0):
            raise _damage(path, end, rest)
    return end, len(segments)


def _read(path: Path, end: End) -> tuple[End, int, int]:
    """The end of the log after a segment, the size of its complete lines, and the size of the rest."""
    file_size, size = path.stat().st_size, 0  # before the lines, because a writer may append meanwhile
    for line, line_end in _lines(path, end):
        end, size = line_end, size + len(line)
    return end, size, max(0, file_size - size)


def _damage(path: Path, end: End, rest: int) -> Lost:
    return Lost(f"{path.name} is damaged after event {end.number}: {rest} bytes follow that are not valid events")


def _lines(path: Path, end: End) -> Iterator[tuple[bytes, End]]:
    """The complete lines of a segment that continue the log after `end`, each with the end of the log there."""
    with path.open("rb") as file:
        for line in file:
            chain, _, body = line.decode(errors="replace").rstrip("\n").partition(" ")
            end = _next_end(end, body)
            if not line.endswith(b"\n") or end.chain != chain:
                return
            yield line, end


def _next_end(end: End, body: str) -> End:
    return End(end.number + 1, hashlib.sha256(f"{end.chain} {body}".encode()).hexdigest())


def _read_seal(path: Path) -> End:
    try:
        seal = json.loads(path.read_bytes())
        return End(seal["last"], seal["chain"])
    except (ValueError, KeyError) as error:
        raise Lost(f"{path.name} is not a valid seal") from error


def _segment(directory: Path, first: int) -> Path:
    return directory / f"events-{first:012d}.log"


def write(options: argparse.Namespace) -> None:
    """Generate answers and log each of them, until the log has the requested number of events.

    Raises:
        Lost: Events are missing or damaged.
    """
    log = Log.open(options.directory, options.segment_mib * 2**20, _batch_bytes(options))
    events.report(event="opened", last=log.end.number)
    while log.end.number < options.events:
        numbers = range(log.end.number + 1, min(log.end.number + options.batch, options.events) + 1)
        log.append([random.Random(number).randbytes(options.event_bytes // 2).hex() for number in numbers])
        events.report(event="acknowledged", last=log.end.number)
        if shutdown.is_requested_within(options.pace):
            return
    events.report(event="done", events=log.end.number, chain=log.end.chain)
    if options.stay:
        shutdown.wait()


def _batch_bytes(options: argparse.Namespace) -> int:
    return int(options.batch * (options.event_bytes + OVERHEAD))


def main() -> int:
    """Write or verify."""
    options = arguments().parse_args()
    try:
        if options.action == "write":
            shutdown.block_signals()
            write(options)
            return 0
        end, segments = verify(options.directory, _batch_bytes(options))
    except Lost as lost:
        events.report(event="lost", reason=str(lost))
        return 1
    events.report(event="verified", events=end.number, segments=segments, chain=end.chain)
    return 0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["write", "verify"])
    parser.add_argument("--directory", type=Path, required=True, help="the directory of the log")
    parser.add_argument("--events", type=int, default=1000, help="write: the number of events in the finished log")
    parser.add_argument("--event-bytes", type=int, default=16384, help="size of an answer")
    parser.add_argument("--batch", type=int, default=64, help="events that are written and acknowledged together")
    parser.add_argument("--segment-mib", type=int, default=64, help="write: size at which a segment is sealed")
    parser.add_argument("--pace", type=float, default=0.0, help="write: seconds between two batches")
    parser.add_argument("--stay", action="store_true", help="write: keep running after the last event")
    return parser


if __name__ == "__main__":
    sys.exit(main())
