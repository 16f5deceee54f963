"""The call log: a count for each operation, and the latest calls with their outcomes."""

import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Parameters

REMEMBERED: Final = 1000
"""The number of calls that the call log keeps; older calls are only counted."""

_MAX_SHOWN: Final = 10
"""The maximum number of ids that a call's document shows."""

_RESOURCES: Final = (
    *("VolumeId", "VolumeIds", "SnapshotId", "SnapshotIds", "Resources", "InstanceId", "InstanceIds"),
    *("NodeId", "NodeIds", "ClusterArn", "ClusterName", "name"),
)
"""The members of requests and answers that name a call's resources."""

_FILTERS: Final = frozenset({"volume-id", "snapshot-id", "instance-id"})


@dataclass(kw_only=True)
class Entry:
    """One call, running or ended."""

    number: int
    """The call's number; a call that begins later has a greater number."""

    operation: str
    """ec2:CreateVolume."""

    agent: str
    """The request's user agent."""

    began: float
    """Seconds since the epoch."""

    outcome: str = "under way"
    """`under way`, `ok`, the code of the error, `dropped` or `failed`."""

    seconds: float = 0.0
    _resources: dict[str, None] = field(default_factory=dict)

    def add_resources(self, members: Parameters | Answer) -> None:
        """Record the resources that a request or an answer names."""
        self._resources.update(dict.fromkeys(_resources(members)))

    def document(self) -> dict[str, object]:
        """The call as JSON."""
        resources = list(self._resources)
        return {
            "number": self.number,
            "instant": self.began,
            "operation": self.operation,
            "resources": resources[:_MAX_SHOWN],
            "further": max(0, len(resources) - _MAX_SHOWN),
            "outcome": self.outcome,
            "seconds": round(self.seconds, 6),
            "agent": self.agent,
        }


class CallLog:
    """The calls since the start or the last `clear`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._entries: deque[Entry] = deque(maxlen=REMEMBERED)
        self._number = 0

    @contextmanager
    def record(self, operation: str, agent: str) -> Generator[Entry]:
        """Record a call, with the duration and the outcome of the block."""
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
        except ConnectionDropped:
            outcome = "dropped"
            raise
        finally:
            entry.outcome, entry.seconds = outcome, time.monotonic() - began

    def latest(self, count: int, *, after: int = 0) -> list[Entry]:
        """The last `count` calls whose number is greater than `after`, oldest first."""
        return [entry for entry in self._entries if entry.number > after][-count:] if count else []

    def clear(self) -> None:
        """Delete all counts and calls; the numbers continue."""
        self.counts.clear()
        self._entries.clear()


class ConnectionDropped(Exception):  # noqa: N818 - named for what happens
    """A planned fault closes the connection without an answer."""


def _resources(members: Parameters | Answer) -> Iterator[str]:
    for name in _RESOURCES:
        yield from _ids(members.get(name))
    for filter_ in members.get("Filters") or ():
        if filter_.get("Name") in _FILTERS:
            yield from _ids(filter_.get("Values"))


def _ids(value: object) -> Iterable[str]:
    """The ids in a member's value, without the empty text that EC2 writes for a missing id."""
    values = value if isinstance(value, list | tuple) else [value]
    return [id_ for id_ in values if id_ and isinstance(id_, str)]
