"""The governor: every call to AWS waits for its turn here, so that no call is sent that AWS can only throttle.

Each AWS operation has a line of its own, because AWS gives each a token bucket of its own: a throttled operation does
not slow another one. A call is sent when the `Budget` of its operation has a token and few enough calls are on the way.
If calls of several operations could be sent, detachments go first, then attachments, creations and deletions: the
calls that pods wait for come before the others. Within a line, the subjects (volumes, snapshots) take turns, the one
that has waited longest first. A call that AWS throttles goes back to the head of its line; its caller sees nothing of
that. A call that got no answer is repeated at the head, too: until then, the outcome of its first attempt is unknown.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_request import LineState, Request
from hyperpod_ebs.driver.volumes.budget import SPACING, Budget, documented_limit, is_read
from hyperpod_ebs.kit import operations

Result = TypeVar("Result")

MAX_CHANGES: Final = 32
"""Calls on the way to one service that change something. With `MAX_READS`, fewer than the connections to a service."""

MAX_READS: Final = 16
"""Calls on the way to one service that only read: they never wait for a slow change."""

PATIENCE: Final = 3600.0
"""Seconds that a call may wait for its turn; at EC2's documented rates, 18,000 calls are sent in this time."""

LIMITING_FROM: Final = 1.0
"""Seconds until the last call of a line is sent from which on the log reports that the bucket is the limit."""

REPORTED_AGAIN_AFTER: Final = 60.0
"""Seconds in which a bucket was not the limit, after which the log reports again that it is."""

_ORDER: Final = ("Detach", "Attach", "Create", "Modify", "Delete")
"""The kinds of changes, in the order of their turns."""

_SENT_AT: ContextVar[float | None] = ContextVar("sent_at", default=None)

log = structlog.get_logger(__name__)


def latest_call_sent_at() -> float | None:
    """When the latest call of the current task was sent, on the clock of the event loop; None if it made no call.

    AWS may answer a second after it has carried out a request. So a state change that the request began is older than
    the answer. Before it is sent, a call may wait much longer for its turn.
    """
    return _SENT_AT.get()


def take_over_call(sent_at: float | None) -> None:
    """Let a call that another task has sent, at this time, count as the latest call of the current task."""
    _SENT_AT.set(sent_at)


class TurnMeter(Protocol):
    """Measures how long calls wait for their turn."""

    def measure_turn(self, operation: str, seconds: float) -> None:
        """Measure a call of this operation that was sent after waiting for `seconds`."""


@dataclass(slots=True, eq=False)
class _Turn:
    subject: str
    has_come: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the call may be sent. A future would not do: it could be cancelled already when the turn comes."""
    came_at: float = 0.0
    """When the turn came: the call's token was taken then."""

    def come(self, now: float) -> None:
        """Let the call be sent."""
        self.came_at = now
        self.has_come.set()


@dataclass(slots=True)
class _Line:
    """The calls of one operation that wait, and the operation's budget."""

    service: str
    operation: str
    budget: Budget
    on_the_way: int = 0
    throttled: int = 0
    limiting_at: float = float("-inf")
    """When the bucket was last seen to be the limit."""
    _waiting: OrderedDict[str, deque[_Turn]] = field(default_factory=OrderedDict)
    """The turns of each subject; the subject whose turn is next comes first."""
    length: int = 0
    _positions: dict[_Turn, int] | None = None
    """The turns before each turn; None after a change, until a position is asked for."""

    @property
    def is_read(self) -> bool:
        """Whether the operation changes nothing."""
        return is_read(self.operation)

    @property
    def rank(self) -> int:
        """The operation's place in the order of turns."""
        return next((rank for rank, kind in enumerate(_ORDER) if self.operation.startswith(kind)), len(_ORDER))

    def add(self, turn: _Turn) -> None:
        """Add a turn at the end."""
        self._waiting.setdefault(turn.subject, deque()).append(turn)
        self._note_change(1)

    def add_first(self, turn: _Turn) -> None:
        """Add the turn of a call that is repeated, which is the next one."""
        self._waiting.setdefault(turn.subject, deque()).appendleft(turn)
        self._waiting.move_to_end(turn.subject, last=False)
        self._note_change(1)

    def take(self) -> _Turn:
        """Remove the next turn; the subject's further turns come after those of the others."""
        subject, turns = next(iter(self._waiting.items()))
        turn = turns.popleft()
        self._note_change(-1)
        if turns:
            self._waiting.move_to_end(subject)
        else:
            del self._waiting[subject]
        return turn

    def remove(self, turn: _Turn) -> None:
        """Remove a turn whose caller has left."""
        turns = self._waiting[turn.subject]
        turns.remove(turn)
        self._note_change(-1)
        if not turns:
            del self._waiting[turn.subject]

    def position(self, turn: _Turn) -> int:
        """The turns that come before this one, if no further call is made."""
        if self._positions is None:  # computed for all turns at once: thousands of callers may ask at the same time
            self._positions = {each: position for position, each in enumerate(self._turns_in_order())}
        return self._positions[turn]

    def subjects(self) -> Iterator[str]:
        """The subjects, in the order of their turns."""
        return iter(self._waiting)

    def _turns_in_order(self) -> Iterator[_Turn]:
        """All turns, in the order in which they come: one of each subject, then the next one of each."""
        left = [iter(turns) for turns in self._waiting.values()]
        while left:
            subjects, left = left, []
            for turns in subjects:
                if turn := next(turns, None):
                    yield turn
                    left.append(turns)

    def _note_change(self, added: int) -> None:
        self.length += added
        self._positions = None


def calls_per_second(rate: float) -> str:
    """A rate for a message, with two significant digits or all before the point."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"  # noqa: PLR2004 - two digits


class Governor:
    """Decides when each call to AWS is sent, for one account and region."""

    def __init__(self, meter: TurnMeter | None = None) -> None:
        """`meter` measures the waits."""
        self._meter = meter
        self._lines: dict[str, _Line] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def call(
        self, request: Request, attempt: Callable[[], Awaitable[Result]], *, is_repeat: bool = False
    ) -> Result:
        """Wait for the request's turn and make the attempt; repeat both while AWS throttles it.

        Args:
            request: What `attempt` sends.
            attempt: Sends the request once, and raises `Throttled` if AWS throttles it.
            is_repeat: Whether an earlier attempt got no answer. It may have taken effect, so the call comes next, and
                the operation that makes it is not ended while it waits for its turn.

        Raises:
            Throttled: The turn did not come within `PATIENCE` seconds.
            Busy: The operation has to give way.
            Exception: The error of the attempt.
        """
        loop = asyncio.get_running_loop()
        line = self._line(request.operation, request.service)
        began = loop.time()
        turn = _Turn(request.subject)
        (line.add_first if is_repeat else line.add)(turn)
        while True:
            try:
                async with asyncio.timeout_at(began + PATIENCE):
                    await self._wait_for(turn, line, may_give_way=not is_repeat)
            except TimeoutError as late:
                raise errors.Throttled(
                    f"cannot {request.action}: AWS has not accepted the call for {PATIENCE:g} s, because the account "
                    f"makes too many calls of {request.operation}; try again, or ask AWS for a higher limit"
                ) from late
            _SENT_AT.set(turn.came_at)
            if self._meter:
                self._meter.measure_turn(request.operation, turn.came_at - began)
            try:
                return await attempt()
            except errors.Throttled:
                line.throttled += 1
                line.budget.note_throttled(turn.came_at, loop.time())
                turn = _Turn(request.subject)
                line.add_first(turn)
            finally:
                self._end_call(line)

    def rate(self, operation: str) -> float:
        """The calls of this operation that the driver can send a second, as far as it knows."""
        return self._line(operation).budget.rate

    def delay(self, operation: str) -> float:
        """Seconds until a further call of this operation would be sent, as far as is known; 0 if at once."""
        line = self._line(operation)
        return line.budget.delay_of(line.length, asyncio.get_running_loop().time())

    def longest_delay(self) -> float:
        """Seconds until a further call that changes something would be sent, in the longest line."""
        changes = (operation for operation, line in self._lines.items() if not line.is_read)
        return max(map(self.delay, changes), default=0.0)

    def states(self) -> list[LineState]:
        """The lines of all operations that were called, in the order of their turns."""
        now = asyncio.get_running_loop().time()
        return [
            LineState(
                operation=line.operation,
                tokens=line.budget.tokens(now),
                capacity=line.budget.capacity,
                rate=line.budget.rate,
                documented_rate=line.budget.documented.rate,
                waiting=line.length,
                on_the_way=line.on_the_way,
                throttled=line.throttled,
                next_subjects=tuple(subject for subject, _ in zip(line.subjects(), range(10), strict=False)),
            )
            for line in self._lines.values()
        ]

    async def _wait_for(self, turn: _Turn, line: _Line, *, may_give_way: bool) -> None:
        """Wait until the turn has come. Meanwhile, the callers of the operation can learn the turn's position."""
        self._send_due()
        try:
            with operations.waiting(lambda: self._describe(turn, line), may_give_way=may_give_way):
                await turn.has_come.wait()
        except BaseException:
            if turn.has_come.is_set():
                self._end_call(line)  # which is not sent
            else:
                line.remove(turn)
            raise

    def _describe(self, turn: _Turn, line: _Line) -> str:
        """What a call waits for, for the callers of its operation."""
        position = line.position(turn)
        seconds = line.budget.delay_of(position, asyncio.get_running_loop().time())
        return (
            f"the call {line.operation} waits for its turn, with {position} calls before it and for about "
            f"{seconds:.0f} s more: AWS accepts about {calls_per_second(line.budget.rate)} of them a second from this "
            "account"
        )

    def _end_call(self, line: _Line) -> None:
        line.on_the_way -= 1
        self._send_due()

    def _send_due(self) -> None:
        """Let each call go whose turn has come, and return when the next one is due."""
        now = asyncio.get_running_loop().time()
        free: dict[tuple[str, bool], int] = {}
        for line in self._lines.values():
            kind = line.service, line.is_read
            free[kind] = free.get(kind, MAX_READS if line.is_read else MAX_CHANGES) - line.on_the_way
        dues: list[float] = []
        for line in self._lines.values():
            kind = line.service, line.is_read
            while line.length and free[kind] > 0 and line.budget.next_at(now) <= now:
                line.budget.note_sent(now)
                line.on_the_way += 1
                free[kind] -= 1
                line.take().come(now)
            if not line.length:
                line.budget.note_not_limiting(now)
            elif free[kind] > 0:  # otherwise the end of a call leads here
                dues.append(line.budget.next_at(now))
                self._note_limiting(line, now)
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(min(dues), self._send_due) if dues else None

    @staticmethod
    def _note_limiting(line: _Line, now: float) -> None:
        """Note that calls wait for tokens; log it once when the waits become noticeable."""
        line.budget.note_limiting(now)
        seconds = line.budget.delay_of(line.length - 1, now)
        if seconds < LIMITING_FROM:
            return
        if now - line.limiting_at > REPORTED_AGAIN_AFTER:
            log.warning(
                "calls to AWS wait for the account's limit",
                operation=line.operation,
                waiting=line.length,
                calls_per_second=round(line.budget.rate, 2),
                seconds=round(seconds),
            )
        line.limiting_at = now

    def _line(self, operation: str, service: str = "ec2") -> _Line:
        if operation not in self._lines:
            budget = Budget(documented_limit(operation), spacing=0.0 if is_read(operation) else SPACING)
            self._lines[operation] = _Line(service, operation, budget)
            self._lines = dict(sorted(self._lines.items(), key=lambda item: item[1].rank))
        return self._lines[operation]
