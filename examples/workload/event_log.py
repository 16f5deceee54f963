"""An inference server's event log, of which no event is lost: not by a kill, not by a full disk, not by rotation.

Events are numbered, and each line begins with a digest of itself and of all lines before
it. They are written in batches; a batch counts when it is on the disk, and only then is it
acknowledged. A segment that is full is sealed: its bounds are told by a file of their own.

One writer has the log at a time: two on one node, as pods of one claim may be for a moment,
would each write over what the other has acknowledged. And since a kill leaves a batch at the
most, more than that after the last whole line is damage, which no writer takes upon itself.
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

import durable
import ending

BEGIN: Final = "0" * 64
"""What stands for all lines before the first."""

AGAIN: Final = 0.5
"""Seconds until a full disk, or a log that another has, is tried again."""

BESIDE: Final = 256
"""Bytes of a line beside its answer, at the most."""


class Lost(Exception):  # noqa: N818 - reads as what happened
    """The log is not what was written."""


@dataclass(frozen=True, slots=True)
class End:
    """Where the log ends: the number of its last event, and the digest of everything."""

    number: int = 0
    chain: str = BEGIN


@dataclass(slots=True)
class Log:
    """A log that is written to."""

    directory: Path
    segment_bytes: int
    end: End
    lock: int
    """Of the directory; it is the process's for as long as that lives."""

    handle: int
    first: int
    size: int

    @classmethod
    def opened(cls, directory: Path, segment_bytes: int, batch_bytes: int) -> Self:
        """The log in `directory` at its last whole line, once no other writer has it.

        What a kill left after that line was never acknowledged; it is cut, and a copy kept.

        Raises:
            Lost: More is there than a kill leaves.
        """
        directory.mkdir(parents=True, exist_ok=True)
        lock = _alone(directory)
        sealed = [_bounds(path) for path in sorted(directory.glob("*.sealed"))]
        before = sealed[-1] if sealed else End()
        path = _segment(directory, before.number + 1)
        if (last := max(directory.glob("*.log"), default=path)) > path:
            raise Lost(f"{last.name} is there, but nothing says where {path.name} was sealed")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        end, size, torn = _read(path, before)
        if torn > batch_bytes:
            raise _damaged(path, end, torn)
        log = cls(directory, segment_bytes, end, lock, handle, before.number + 1, size)
        if torn:
            log._cut(torn)
        os.fsync(handle)
        durable.sync_directory(directory)
        return log

    def append(self, answers: list[str]) -> None:
        """Have the events on the disk, however long that takes."""
        end, lines = self.end, []
        for answer in answers:
            body = json.dumps({"n": end.number + 1, "at": round(time.time(), 3), "answer": answer})
            end = _after(end, body)
            lines.append(f"{end.chain} {body}\n")
        data = "".join(lines).encode()
        while not self._written(data):
            self._wait_for_room()
        self.end, self.size = end, self.size + len(data)
        while self.size >= self.segment_bytes and not self._rotated():
            self._wait_for_room()

    def _cut(self, torn: int) -> None:
        """Take off what follows the last whole line, when there is a copy of it."""
        content = os.pread(self.handle, torn, self.size)
        name = f"events-{self.end.number + 1:012d}-{hashlib.sha256(content).hexdigest()[:8]}.torn"
        while not _stored(self.directory / name, content):
            self._wait_for_room()
        os.ftruncate(self.handle, self.size)
        durable.say(event="cut", after=self.end.number, bytes=torn, kept=name)

    def _wait_for_room(self) -> None:
        durable.say(event="full", waiting_at=self.end.number)
        if ending.within(AGAIN):
            sys.exit(ending.TOLD)  # the batch was not acknowledged

    def _written(self, data: bytes) -> bool:
        """Whether all of it is on the disk; where there is no room, none of it is."""
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

    def _rotated(self) -> bool:
        """Seal the segment and begin the next; False where there is no room."""
        bounds = {"first": self.first, "last": self.end.number, "chain": self.end.chain}
        seal = _segment(self.directory, self.first).with_suffix(".sealed")
        if not _stored(seal, json.dumps(bounds).encode()):
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
        durable.say(event="rotated", sealed=bounds)
        return True


def _alone(directory: Path) -> int:
    """The directory's lock, once no other process has it."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for tries in itertools.count():
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not tries:
                durable.say(event="held", reason="another writer has the log: its pod has to end first")
        if ending.within(AGAIN):
            sys.exit(ending.TOLD)
    return handle


def _stored(path: Path, content: bytes) -> bool:
    """Whether it is on the disk now; False where there is no room."""
    try:
        durable.write(path, content)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def verified(directory: Path, batch_bytes: int) -> tuple[End, int]:
    """The end of a log that is whole from its first event, and the number of its segments.

    Raises:
        Lost: It is not whole.
    """
    end, segments = End(), sorted(directory.glob("*.log"))
    for path in segments:
        if path != _segment(directory, end.number + 1):
            raise Lost(f"the log goes on with {path.name}, not with event {end.number + 1}")
        end, _, torn = _read(path, end)
        stated = path.with_suffix(".sealed")
        if stated.exists() and _bounds(stated) != end:
            raise Lost(f"{path.name} ends with event {end.number}, not as it was sealed")
        if torn > (batch_bytes if path == segments[-1] else 0):
            raise _damaged(path, end, torn)
    return end, len(segments)


def _read(path: Path, end: End) -> tuple[End, int, int]:
    """Where the log ends with a segment, the bytes until there, and those of what follows."""
    there, size = path.stat().st_size, 0  # first: it may be written to meanwhile
    for line, reached in _lines(path, end):
        end, size = reached, size + len(line)
    return end, size, max(0, there - size)


def _damaged(path: Path, end: End, bytes_: int) -> Lost:
    return Lost(f"{path.name} is damaged after event {end.number}: {bytes_} bytes follow that do not belong to it")


def _lines(path: Path, end: End) -> Iterator[tuple[bytes, End]]:
    """Each whole line of a segment that follows `end`, and where the log ends with it."""
    with path.open("rb") as file:
        for line in file:
            chain, _, body = line.decode(errors="replace").rstrip("\n").partition(" ")
            end = _after(end, body)
            if not line.endswith(b"\n") or end.chain != chain:
                return
            yield line, end


def _after(end: End, body: str) -> End:
    return End(end.number + 1, hashlib.sha256(f"{end.chain} {body}".encode()).hexdigest())


def _bounds(path: Path) -> End:
    try:
        found = json.loads(path.read_bytes())
        return End(found["last"], found["chain"])
    except (ValueError, KeyError) as error:
        raise Lost(f"{path.name} is not what was written") from error


def _segment(directory: Path, first: int) -> Path:
    return directory / f"events-{first:012d}.log"


def write(asked: argparse.Namespace) -> None:
    """Answer requests, which are made up, and log each answer, until so many events are in the log.

    Raises:
        Lost: The log is not whole.
    """
    log = Log.opened(asked.directory, asked.segment_mib * 2**20, _batch_bytes(asked))
    durable.say(event="opened", last=log.end.number)
    while log.end.number < asked.events:
        following = range(log.end.number + 1, min(log.end.number + asked.batch, asked.events) + 1)
        log.append([random.Random(number).randbytes(asked.event_bytes // 2).hex() for number in following])
        durable.say(event="acknowledged", last=log.end.number)
        if ending.within(asked.pace):
            return
    durable.say(event="done", events=log.end.number, chain=log.end.chain)
    if asked.stay:
        ending.wait()


def _batch_bytes(asked: argparse.Namespace) -> int:
    return int(asked.batch * (asked.event_bytes + BESIDE))


def main() -> int:
    """Write or verify."""
    asked = arguments().parse_args()
    try:
        if asked.act == "write":
            ending.heed()
            write(asked)
            return 0
        end, segments = verified(asked.directory, _batch_bytes(asked))
    except Lost as lost:
        durable.say(event="lost", reason=str(lost))
        return 1
    durable.say(event="verified", events=end.number, segments=segments, chain=end.chain)
    return 0


def arguments() -> argparse.ArgumentParser:
    """What it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("act", choices=["write", "verify"])
    parser.add_argument("--directory", type=Path, required=True, help="where the log is")
    parser.add_argument("--events", type=int, default=1000, help="write: events that the log is to have in the end")
    parser.add_argument("--event-bytes", type=int, default=16384, help="size of an answer")
    parser.add_argument("--batch", type=int, default=64, help="events that go to the disk together")
    parser.add_argument("--segment-mib", type=int, default=64, help="write: size at which a segment is sealed")
    parser.add_argument("--pace", type=float, default=0.0, help="write: seconds between batches")
    parser.add_argument("--stay", action="store_true", help="write: stay until told to end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
