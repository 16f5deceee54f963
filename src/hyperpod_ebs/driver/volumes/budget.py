"""When AWS accepts the next call of an operation: arithmetic over its token bucket.

EC2 gives each operation of an account and region a bucket of tokens. A call takes one; a call without a token is
throttled. The bucket starts full and gets tokens at a constant rate (EC2 Developer Guide, "Request throttling for the
Amazon EC2 API"). The driver cannot see the bucket: other users of the account take tokens too, and the account's limits
may have been raised. So a `Budget` starts from the documented limit and learns the rate from what AWS answers.

A throttled call shows that the bucket is empty. Between two such moments, AWS has accepted as many calls as tokens
came, plus or minus one. So the rate is at most the calls accepted between them plus one, divided by the time. This
holds only if the bucket was never full between them: a full bucket gets no tokens.

A rate that is too low shows nothing of itself. So a bucket that has been the limit for a while without a throttled call
is tried at a higher rate. If AWS throttles a call soon after, the rate goes back, and the next trial comes later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SPACING: Final = 0.008
"""Seconds between two changes of one kind: so that few calls are on the way when AWS throttles the first of them."""

RESERVE: Final = 1.0
"""Tokens that the driver leaves in each bucket, because calls do not arrive exactly as far apart as they were sent."""

MIN_RATE: Final = 1 / 30
"""Calls a second that are sent however often AWS throttles them; one of them finds out when that ends."""

TRIAL_STEP: Final = 0.05
"""The first increase of the rate in a trial, as a share of the rate; doubled after each successful trial.

Below the documented rate, it is a share of that one: a rate near zero would otherwise take an hour to recover.
"""

MAX_TRIAL_STEP: Final = 0.4
"""The largest increase of the rate in one trial, as a share of the same rate."""

TRIAL_TOKENS: Final = 2.0
"""A trial has succeeded after as many calls more than the former rate allows: the bucket holds less than one token."""

FIRST_TRIAL_AFTER: Final = 60.0
"""Seconds for which a bucket with the documented rate has to be the limit before the first trial."""

TRIAL_AFTER_THROTTLE: Final = 20.0
"""Seconds without a throttled call before the next trial, if AWS has throttled calls below the documented rate."""

MAX_TRIAL_PAUSE: Final = 600.0
"""The most seconds between two trials."""

MEASURED_FOR: Final = 60.0
"""Seconds after which a measurement of the rate begins again, so that it follows what others use."""

FORGOTTEN_AFTER: Final = 600.0
"""Seconds without a throttled call after which a rate below the documented one is forgotten."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The size of a token bucket, in calls, and the calls that it gets a second."""

    capacity: float
    rate: float


_CREATE_OR_DELETE: Final = Limit(100, 5)
_TAGS: Final = Limit(100, 10)
_CHANGE: Final = Limit(50, 5)
_READ: Final = Limit(100, 20)

DOCUMENTED: Final[Mapping[str, Limit]] = {
    "CreateVolume": _CREATE_OR_DELETE,
    "DeleteVolume": _CREATE_OR_DELETE,
    "CreateSnapshot": _CREATE_OR_DELETE,
    "DeleteSnapshot": _CREATE_OR_DELETE,
    "CreateTags": _TAGS,
    "DeleteTags": _TAGS,
}
"""EC2's limits for operations that do not have the limit of their kind.

SageMaker publishes none. Its two operations call EC2's AttachVolume and DetachVolume, so they start with the limit of
those.
"""


def documented_limit(operation: str) -> Limit:
    """EC2's published limit of an operation."""
    return DOCUMENTED.get(operation, _READ if is_read(operation) else _CHANGE)


def is_read(operation: str) -> bool:
    """Whether an operation changes nothing."""
    return operation.startswith(("Describe", "Get", "List"))


@dataclass(frozen=True, slots=True)
class _Trial:
    """A rate that is being tried, in calls a second, and when the trial succeeds if no call is throttled until then."""

    rate: float
    ends_at: float


@dataclass(slots=True)
class Budget:
    """What the driver knows of an operation's bucket. Times are in seconds, on any clock that does not go back."""

    documented: Limit
    spacing: float = SPACING
    """Seconds between two calls, at least."""
    _rate: float = field(init=False)
    """Tokens a second, as far as is known."""
    _tokens: float = field(init=False)
    """Tokens at `_counted_at`; negative after a throttled call, if other calls were on the way."""
    _counted_at: float = 0.0
    _sent_at: float = float("-inf")
    _throttled_at: float | None = None
    """When AWS last throttled a call."""
    _may_hold: float = 0.0
    """Tokens that AWS's bucket holds at most, since AWS last throttled a call."""
    _empty_at: float | None = None
    """When the measurement of the rate began: AWS throttled a call then, and the bucket cannot have been full since."""
    _sent: int = 0
    """Calls that were sent since `_empty_at` and not throttled."""
    _limiting_since: float | None = None
    """Since when the bucket has been the limit without a throttled call; None while it is not the limit."""
    _trial: _Trial | None = None
    _trial_step: float = TRIAL_STEP
    _trial_pause: float = FIRST_TRIAL_AFTER

    def __post_init__(self) -> None:
        self._rate = self.documented.rate
        self._tokens = self.capacity

    @property
    def capacity(self) -> float:
        """The calls that can be sent at once."""
        return max(self.documented.capacity - RESERVE, 1.0)

    @property
    def rate(self) -> float:
        """The calls a second that are sent for as long as calls wait."""
        return self._trial.rate if self._trial else self._rate

    def tokens(self, now: float) -> float:
        """The calls that can be sent at once now."""
        return min(self.capacity, self._tokens + self.rate * (now - self._counted_at))

    def next_at(self, now: float) -> float:
        """When the next call can be sent: `now`, or later."""
        lacking = 1.0 - self.tokens(now)
        return max(now + max(lacking, 0.0) / self.rate, self._sent_at + self.spacing)

    def delay_of(self, position: int, now: float) -> float:
        """Seconds until the call can be sent that has `position` calls before it."""
        return max((position + 1 - self.tokens(now)) / self.rate, 0.0)

    def note_sent(self, now: float) -> None:
        """Take the token of a call that is being sent."""
        self._count(now)
        if self._throttled_at is not None and now - self._throttled_at > FORGOTTEN_AFTER:
            self._forget()
        self._tokens -= 1.0
        self._may_hold -= 1.0
        self._sent_at = now
        self._sent += 1

    def note_throttled(self, sent_at: float, now: float) -> None:
        """Note that AWS has throttled a call: the bucket is empty. `sent_at` is what `note_sent` got for it."""
        self._count(now)
        self._tokens = min(self._tokens, 0.0)
        self._may_hold = 1.0
        if self._empty_at is not None and sent_at > self._empty_at:
            self._sent -= 1
        if self._trial:
            self._trial = None
            self._trial_step = TRIAL_STEP
            self._trial_pause = min(2 * self._trial_pause, MAX_TRIAL_PAUSE)
        elif self._empty_at is None:
            self._begin_measurement(now)
        else:
            self._measure(now - self._empty_at, now)
        self._throttled_at = now
        self._limiting_since = None

    def note_limiting(self, now: float) -> None:
        """Note that a call waits for a token; try a higher rate if none was throttled for long enough."""
        self._count(now)
        if self._limiting_since is None:
            self._limiting_since = now
        if self._trial and now >= self._trial.ends_at:
            self._accept(self._trial)
            self._begin_trial(now)
        elif not self._trial and now - self._limiting_since >= self._trial_pause:
            self._begin_trial(now)

    def note_not_limiting(self, now: float) -> None:
        """Note that no call waits for a token."""
        self._count(now)
        self._limiting_since = None
        self._trial = None

    def _count(self, now: float) -> None:
        """Count the tokens before the rate may change."""
        # While calls wait for tokens, none gather in AWS's bucket; otherwise they may, also if others stop to take any.
        rate = self.rate if self._limiting_since is not None else max(self.rate, self.documented.rate)
        self._may_hold += rate * (now - self._counted_at)
        if self._may_hold > self.documented.capacity / 2:  # others may have left us as little as that
            self._empty_at = None
        self._tokens, self._counted_at = self.tokens(now), now

    def _begin_measurement(self, now: float) -> None:
        self._empty_at, self._sent = now, 0

    def _measure(self, seconds: float, now: float) -> None:
        """Correct the rate by the calls that AWS accepted in these seconds, at whose ends the bucket was empty."""
        if seconds > 0:
            self._rate = max(min(self._rate, (self._sent + 1) / seconds), MIN_RATE)
        if self._rate < self.documented.rate:
            self._trial_pause = min(self._trial_pause, TRIAL_AFTER_THROTTLE)
        if seconds > MEASURED_FOR:
            self._begin_measurement(now)

    def _begin_trial(self, now: float) -> None:
        more = max(self._rate, self.documented.rate) * self._trial_step
        self._trial = _Trial(self._rate + more, now + TRIAL_TOKENS / more)

    def _accept(self, trial: _Trial) -> None:
        """Keep the rate of a trial. What was measured before does not hold any more."""
        self._rate = trial.rate
        self._trial_step = min(2 * self._trial_step, MAX_TRIAL_STEP)
        self._empty_at = None

    def _forget(self) -> None:
        """Believe in the documented rate again: others may have stopped using the budget."""
        self._rate = max(self._rate, self.documented.rate)
        self._throttled_at = None
        self._trial_step, self._trial_pause = TRIAL_STEP, FIRST_TRIAL_AFTER
