"""The call log: a count for each operation, and the latest calls with their callers, decisions and outcomes.

It is in memory, and bounded: each call keeps a few resources and decisions, and no other parameters, so that it
contains no secrets.
"""

import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Parameters, RecordedDecision
from hyperpod_ebs.iam.request import Principal

REMEMBERED: Final = 1000
"""The number of calls that the call log keeps; older calls are only counted."""

MAX_SHOWN: Final = 10
"""The maximum number of resources, and of decisions, that the call log keeps of a call."""

_LONGEST: Final = 300
"""Characters of a resource's id, or of a user agent, that are kept."""

_RUNNING: Final = "under way"

_RESOURCES: Final = (
    *("VolumeId", "VolumeIds", "SnapshotId", "SnapshotIds", "Resources", "InstanceId", "InstanceIds"),
    *(
        "NodeId",
        "NodeIds",
        "ClusterArn",
        "ClusterName",
        "name",
        "RoleArn",
        "UserName",
        "RoleName",
        "PolicyArn",
        "KeyId",
    ),
)
"""The members of requests and answers that name a call's resources."""

_FILTERS: Final = frozenset({"volume-id", "snapshot-id", "instance-id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signed a request, without the secrets."""

    principal: Principal
    user_id: str
    """The UserId of GetCallerIdentity."""

    key_id: str
    issued: float | None = None
    """Seconds since the epoch when temporary credentials were issued; None for long-term ones."""

    has_mfa: bool = False


@dataclass(kw_only=True)
class Entry:
    """One call, running or ended."""

    number: int
    """The call's number; a call that begins later has a greater number."""

    operation: str
    """ec2:CreateVolume; a question mark stands for a service or an operation that AWS does not have."""

    request_id: str = ""
    agent: str = ""
    """The request's user agent."""

    source_ip: str = ""
    began: float
    """Seconds since the epoch."""

    signer: Signer | None = None
    """None for a call that is unsigned, or whose signature is wrong."""

    is_accepted: bool = False
    """Whether the operation is emulated, and the request is signed or needs no signature."""

    outcome: str = _RUNNING
    """`under way`, `ok`, the code of the error, `dropped` or `failed`."""

    seconds: float = 0.0
    decisions: Sequence[RecordedDecision] = ()
    further_decisions: int = 0
    """The number of decisions that are not kept."""

    _resources: dict[str, None] = field(default_factory=dict)
    _further: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether the call has its outcome."""
        return self.outcome != _RUNNING

    @property
    def resources(self) -> Sequence[str]:
        """The first resources that the request and the answer name."""
        return list(self._resources)[:MAX_SHOWN]

    def add_resources(self, members: Parameters | Answer) -> None:
        """Record the resources that a request or an answer names."""
        self._resources.update(dict.fromkeys(_resources(members)))

    def end(self, outcome: str, seconds: float) -> None:
        """Record the outcome, and shorten the lists; a refusal is the last decision, and always kept."""
        self.outcome, self.seconds = outcome, seconds
        kept = self.resources
        self._further, self._resources = len(self._resources) - len(kept), dict.fromkeys(kept)
        self.further_decisions = max(0, len(self.decisions) - MAX_SHOWN)
        refusals = [decision for decision in self.decisions if decision.is_refusal]
        others = [decision for decision in self.decisions if not decision.is_refusal]
        self.decisions = [*refusals, *others][:MAX_SHOWN]

    def document(self) -> dict[str, object]:
        """The call as JSON."""
        return {
            "number": self.number,
            "instant": self.began,
            "operation": self.operation,
            "caller": self.signer.principal.arn if self.signer else None,
            "key_id": self.signer.key_id if self.signer else None,
            "source_ip": self.source_ip,
            "resources": self.resources,
            "further": self._further or max(0, len(self._resources) - MAX_SHOWN),
            "outcome": self.outcome,
            "denied": any(decision.is_refusal for decision in self.decisions),
            "decisions": [decision.document() for decision in self.decisions[:MAX_SHOWN]],
            "further_decisions": self.further_decisions,
            "seconds": round(self.seconds, 6),
            "request_id": self.request_id,
            "agent": self.agent,
        }


class CallLog:
    """The calls since the start or the last `clear`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """The accepted calls of each operation, with those that were throttled."""

        self.throttled: Counter[str] = Counter()
        """The calls of each operation whose token bucket was empty."""

        self._entries: deque[Entry] = deque(maxlen=REMEMBERED)
        self._number = 0

    @property
    def last_number(self) -> int:
        """The number of the latest call; 0 before the first."""
        return self._number

    @contextmanager
    def record(self, operation: str, *, request_id: str = "", agent: str = "", source_ip: str = "") -> Generator[Entry]:
        """Record a call, with the duration and the outcome of the block."""
        self._number += 1
        entry = Entry(
            number=self._number,
            operation=operation,
            request_id=request_id,
            agent=agent[:_LONGEST],
            source_ip=source_ip,
            began=time.time(),
        )
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
            entry.end(outcome, time.monotonic() - began)

    def accept(self, entry: Entry) -> None:
        """Count a call of an operation that is emulated, whose signature is right or not needed."""
        entry.is_accepted = True
        self.counts[entry.operation] += 1

    def count_throttled(self, entry: Entry) -> None:
        """Count an accepted call that its token bucket refuses."""
        self.throttled[entry.operation] += 1

    def latest(self, count: int, *, after: int = 0) -> list[Entry]:
        """The last `count` calls whose number is greater than `after`, oldest first."""
        return [entry for entry in self._entries if entry.number > after][-count:] if count else []

    def clear(self) -> None:
        """Delete all counts and calls; the numbers continue."""
        self.counts.clear()
        self.throttled.clear()
        self._entries.clear()


class ConnectionDropped(Exception):  # noqa: N818 - named for what happens
    """A planned fault closes the connection without an answer."""


def _resources(members: Parameters | Answer) -> Iterator[str]:
    for name in _RESOURCES:
        if value := members.get(name):
            yield from _ids(value)
    for filter_ in members.get("Filters") or ():
        if filter_.get("Name") in _FILTERS:
            yield from _ids(filter_.get("Values"))


def _ids(value: object) -> Iterable[str]:
    """The ids in a member's value, without the empty text that EC2 writes for a missing id."""
    values = value if isinstance(value, list | tuple) else [value]
    return [id_[:_LONGEST] for id_ in values if id_ and isinstance(id_, str)]
