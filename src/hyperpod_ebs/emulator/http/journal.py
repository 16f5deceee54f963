"""What was called: how often each operation, and the latest calls one by one with what became of them."""

import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault

REMEMBERED: Final = 1000
"""Calls that are told one by one; of older ones only the counts are left."""

_SHOWN: Final = 10
"""Ids that one call is told with."""

_SUBJECTS: Final = (
    *("VolumeId", "VolumeIds", "SnapshotId", "SnapshotIds", "Resources", "InstanceId", "InstanceIds"),
    *("NodeId", "NodeIds", "ClusterArn", "ClusterName", "name"),
)
"""The members of requests and answers that say what a call is about."""

_FILTERS: Final = frozenset({"volume-id", "snapshot-id", "instance-id"})


@dataclass(kw_only=True)
class Entry:
    """One call, under way or ended."""

    number: int
    """Each call's is larger than those of the calls that began before it."""

    operation: str
    """ec2:CreateVolume."""

    agent: str
    """Who says that it is calling: the request's user agent."""

    began: float
    """Seconds since the epoch."""

    outcome: str = "under way"
    """`ok`, the code of the refusal, `dropped` or `failed`."""

    seconds: float = 0.0
    _subjects: dict[str, None] = field(default_factory=dict)

    def concerns(self, members: Asked | Answer) -> None:
        """Take down what a request or an answer is about."""
        self._subjects.update(dict.fromkeys(_subjects(members)))

    def document(self) -> dict[str, object]:
        """The call as JSON."""
        subjects = list(self._subjects)
        return {
            "number": self.number,
            "instant": self.began,
            "operation": self.operation,
            "resources": subjects[:_SHOWN],
            "further": max(0, len(subjects) - _SHOWN),
            "outcome": self.outcome,
            "seconds": round(self.seconds, 6),
            "agent": self.agent,
        }


class Journal:
    """The calls since the start, or since they were last forgotten."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._entries: deque[Entry] = deque(maxlen=REMEMBERED)
        self._number = 0

    @contextmanager
    def entry(self, operation: str, agent: str) -> Generator[Entry]:
        """The entry of a call that lasts as long as the block, and ends as the block does."""
        self.counts[operation] += 1
        self._number += 1
        entry = Entry(number=self._number, operation=operation, agent=agent, began=time.time())
        self._entries.append(entry)
        began, outcome = time.monotonic(), "failed"
        try:
            yield entry
            outcome = "ok"
        except AwsFault as fault:
            outcome = fault.code
            raise
        except Dropped:
            outcome = "dropped"
            raise
        finally:
            entry.outcome, entry.seconds = outcome, time.monotonic() - began

    def latest(self, count: int, *, after: int = 0) -> list[Entry]:
        """The last `count` calls in their order, of those with a number over `after`."""
        return [entry for entry in self._entries if entry.number > after][-count:] if count else []

    def forget(self) -> None:
        """Begin anew; the numbers go on."""
        self.counts.clear()
        self._entries.clear()


class Dropped(Exception):  # noqa: N818 - reads as what becomes of the connection
    """The connection is to be closed with no answer."""


def _subjects(members: Asked | Answer) -> Iterator[str]:
    for name in _SUBJECTS:
        yield from _texts(members.get(name))
    for one in members.get("Filters") or ():
        if one.get("Name") in _FILTERS:
            yield from _texts(one.get("Values"))


def _texts(value: object) -> Iterable[str]:
    """The ids in a member's value; EC2 writes the empty text for none."""
    values = value if isinstance(value, list | tuple) else [value]
    return [one for one in values if one and isinstance(one, str)]
