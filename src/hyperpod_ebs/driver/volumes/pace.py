"""When to poll AWS next: arithmetic over the waiting operations.

A poll costs an AWS call, and a state that has come but is not seen yet costs its caller time. For each waiting
operation, the pace estimates for how long its transition has been complete and unseen, from what it knows of the
duration of such transitions. The next poll is due when these estimates add up to the price of a call. So an operation
is polled more and more often as its expected time comes. The price rises with the number of operations that the call
may wake: many operations are polled together, somewhat more often than a single one near its expected time. For a
single operation, no schedule wastes much less time with as many calls (decision 0050).

However many operations wait, their polls use up only a share of the calls that AWS allows, and of a processor. If more
operations wait than one call describes, it describes those that are most probably complete. While changes wait for
their turn at AWS, a call has to save more time: an operation that sees its state earlier has to wait for its next turn.

Durations are log-normal, as EC2's are, and the pace learns them. A poll shows only that a duration lies between two
ages. So the pace learns the expected duration in this interval, by the moments of a truncated normal distribution, as
in the EM algorithm (Dempster, Laird and Rubin, 1977). The midpoint of the interval would be too early for transitions
that the first poll finds complete: it broadens the belief, and costs one more call for each volume's life.

For a log-normal T, E[max(t - T, 0)] is t F(t) - E[T] F'(t), where F' is F with its logarithm shifted by the variance.
This is the formula for a put option (Black and Scholes, 1973).
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

CALL_PRICE: Final = 0.03
"""Seconds of complete and unseen transitions that are worth a call, if one operation waits."""

WAIT_PRICE: Final = 0.012
"""Seconds that each further operation adds to the price of a call."""

DELAY_PRICE: Final = 0.005
"""The least price of a call in seconds, for each operation and each second for which changes wait for their turn."""

FIRST_POLL_AGE: Final = 0.05
"""Age in seconds of the first poll for each kind of transition: one call shows whether the cloud is instant."""

RATE_SHARE: Final = 0.25
"""The share of the calls that AWS accepts of the Describe action; the rest is for other users of the account."""

CPU_SHARE: Final = 0.1
"""The share of one processor that polls may use."""

CALL_CPU: Final = 0.002
"""Processor time of a poll in seconds: to sign the request, to send it, and to receive the answer."""

VOLUME_CPU: Final = 0.0001
"""Processor time in seconds for each volume in the answer of a poll."""

MAX_GAP: Final = 15.0
"""Seconds between two polls, for however long nothing has come."""

FIRST_BACKOFF: Final = 0.5
"""Seconds after a failed poll; doubled after each further failure."""

BATCH_SIZE: Final = 200
"""Volumes that one call describes: EC2 accepts 200 values in a filter."""


class Transition(StrEnum):
    """The kind of change that an operation waits for."""

    CREATE = "create"
    ATTACH = "attach"
    DETACH = "detach"
    MODIFY = "modify"


# Later than this many deviations, the belief is not trusted: the operation is stuck, or durations have changed.
_TRUSTED: Final = 2.33
# How many observations the prior is worth, and the most that are remembered.
_PRIOR_WEIGHT: Final = 8
_MAX_WEIGHT: Final = 40
# An observation that is further off than this many deviations counts as if it were this far off.
_OUTLIER: Final = 3.0
_DEVIATIONS: Final = (0.25, 1.2)
# A probability below this is out of the belief's range.
_NEGLIGIBLE: Final = 1e-6
_MIN_AGE: Final = 0.001
_Z_OF_P95: Final = 1.645


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """How long a transition takes: log-normal, with the mean and the deviation of the logarithm of seconds."""

    mean: float
    deviation: float
    weight: float = _PRIOR_WEIGHT

    @classmethod
    def from_quantiles(cls, *, median: float, p95: float) -> "Belief":
        """The belief with this median and 95th percentile, in seconds."""
        return cls(mean=math.log(median), deviation=math.log(p95 / median) / _Z_OF_P95)

    @property
    def late(self) -> float:
        """The age in seconds after which a transition is unusually late."""
        return math.exp(self.mean + _TRUSTED * self.deviation)

    def unseen(self, polled: float, age: float) -> float:
        """Expected seconds for which a transition is complete at `age`, if it was not complete at the age `polled`."""
        if age <= polled:
            return 0.0
        if polled >= self.late:
            # Only the age is known: expect the end after as much time again (a constant rate of 1/age).
            return (age - polled) - polled * -math.expm1(-(age - polled) / polled)
        complete = self._probability(polled)
        return (self._time_complete(age) - self._time_complete(polled) - (age - polled) * complete) / (1 - complete)

    def posterior(self, low: float, high: float) -> "Belief":
        """The belief after an observed transition, which became complete between two ages in seconds."""
        offset, square = _truncated_moments(self._z(low), self._z(max(high, _MIN_AGE)))
        offset, square = min(max(offset, -_OUTLIER), _OUTLIER), min(square, _OUTLIER**2)
        share = 1 / (self.weight + 1)
        deviation = self.deviation * math.sqrt((1 - share) + share * square - (share * offset) ** 2)
        return Belief(
            mean=self.mean + share * offset * self.deviation,
            deviation=min(max(deviation, _DEVIATIONS[0]), _DEVIATIONS[1]),
            weight=min(self.weight + 1, _MAX_WEIGHT),
        )

    def excludes(self, age: float) -> bool:
        """Whether practically no transition is complete at `age`."""
        return self._probability(age) < _NEGLIGIBLE

    def _z(self, age: float) -> float:
        """The distance of `age` from the mean, in deviations."""
        return (math.log(age) - self.mean) / self.deviation if age > 0 else -math.inf

    def _probability(self, age: float) -> float:
        """The probability that a transition is complete at `age`."""
        return _normal_share(self._z(age))

    def _time_complete(self, age: float) -> float:
        """Expected seconds for which a transition has been complete at `age`."""
        z = self._z(age)
        expected_duration = math.exp(self.mean + self.deviation**2 / 2)
        return age * _normal_share(z) - expected_duration * _normal_share(z - self.deviation)


PRIORS: Final[Mapping[Transition, Belief]] = {
    Transition.CREATE: Belief.from_quantiles(median=1.6, p95=3.5),
    Transition.ATTACH: Belief.from_quantiles(median=2.1, p95=4.0),
    Transition.DETACH: Belief.from_quantiles(median=2.1, p95=5.0),
    Transition.MODIFY: Belief.from_quantiles(median=3.0, p95=10.0),
}
"""Durations measured at AWS, which hold until the driver has learned its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingWait:
    """An operation that waits; times are on the clock of the event loop."""

    transition: Transition
    since: float
    """When the operation requested the transition."""
    polled: float
    """When the latest poll that did not show the transition complete began; `since` before the first poll."""


@dataclass(slots=True)
class Pace:
    """The beliefs, and the outcomes of the latest polls."""

    beliefs: dict[Transition, Belief] = field(default_factory=lambda: dict(PRIORS))
    """What the pace knows of the durations."""
    never_polled: set[Transition] = field(default_factory=lambda: set(Transition))
    """Kinds of transition that no poll has looked for yet."""
    failures: int = 0
    """Failed polls since the last successful one."""

    def next_poll(self, waits: Collection[PendingWait], soonest: float, delay: float = 0.0) -> float:
        """When to poll.

        Args:
            waits: The operations that wait; at least one.
            soonest: The time before which no poll may come.
            delay: Seconds for which a change waits for its turn at AWS.
        """
        price = self._price(waits, delay)
        due = self._next_worthwhile(waits, max(soonest, min(wait.polled for wait in waits)), price)
        early = [wait.since + FIRST_POLL_AGE for wait in waits if wait.transition in self.never_polled]
        return max(soonest, min(due, *early)) if early else due

    def min_gap(self, waiting: int, rate: float) -> float:
        """The least time in seconds between two polls while so many operations wait.

        Args:
            waiting: How many operations wait.
            rate: How many calls of the action AWS accepts a second.
        """
        cpu = CALL_CPU + VOLUME_CPU * min(waiting, BATCH_SIZE)
        gap = max(1 / (RATE_SHARE * rate), cpu / CPU_SHARE)
        if self.failures:
            gap = max(gap, min(FIRST_BACKOFF * 2 ** (self.failures - 1), MAX_GAP))
        return gap

    def unseen(self, wait: PendingWait, at: float) -> float:
        """Expected seconds for which the transition is complete and unseen at a time."""
        return self.beliefs[wait.transition].unseen(wait.polled - wait.since, at - wait.since)

    def learn(self, wait: PendingWait, polled: float) -> None:
        """Learn from a poll at `polled` that found the transition complete."""
        belief, age = self.beliefs[wait.transition], max(polled - wait.since, _MIN_AGE)
        if wait.transition in self.never_polled and belief.excludes(age):
            # This is not the cloud that the prior describes. One poll shows that; a few others can correct it.
            self.beliefs[wait.transition] = replace(Belief.from_quantiles(median=age / 2, p95=age), weight=1)
        else:
            self.beliefs[wait.transition] = belief.posterior(wait.polled - wait.since, age)
        self.never_polled.discard(wait.transition)

    def note_incomplete(self, wait: PendingWait) -> None:
        """Note that a poll found the transition not complete."""
        self.never_polled.discard(wait.transition)

    def note_failure(self) -> None:
        """Note that a poll failed, so that the next one comes later."""
        self.failures += 1

    def note_success(self) -> None:
        """Note that a poll succeeded."""
        self.failures = 0

    def _next_worthwhile(self, waits: Collection[PendingWait], earliest: float, price: float) -> float:
        """When, from `earliest` on, a poll is worth its price."""
        latest = earliest + MAX_GAP
        if self._is_worthwhile(waits, earliest, price):
            return earliest
        near, far = earliest, earliest + _MIN_AGE
        while far < latest and not self._is_worthwhile(waits, far, price):
            near, far = far, far + 2 * (far - earliest)
        while far - near > 0.01:  # noqa: PLR2004 - a hundredth of a second is precise enough
            middle = (near + far) / 2
            near, far = (near, middle) if self._is_worthwhile(waits, middle, price) else (middle, far)
        return min(far, latest)

    def _price(self, waits: Collection[PendingWait], delay: float) -> float:
        """The price of a call; operations that are unusually late do not raise it."""
        expected = sum(1 for wait in waits if wait.polled - wait.since < self.beliefs[wait.transition].late)
        count = min(max(expected, 1), BATCH_SIZE)
        return max(CALL_PRICE + (count - 1) * WAIT_PRICE, count * delay * DELAY_PRICE)

    def _is_worthwhile(self, waits: Collection[PendingWait], at: float, price: float) -> bool:
        """Whether a poll at this time is worth its price."""
        total = 0.0
        for wait in waits:
            total += self.unseen(wait, at)
            if total >= price:
                return True
        return False


def _normal_share(z: float) -> float:
    """The share of the normal distribution below `z` deviations."""
    return math.erfc(-z / math.sqrt(2)) / 2


def _normal_density(z: float) -> float:
    """The density of the normal distribution at `z` deviations."""
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _truncated_moments(low: float, high: float) -> tuple[float, float]:
    """The mean and the mean square of a normal variable that lies between `low` and `high`."""
    share = _normal_share(high) - _normal_share(low)
    if share < _NEGLIGIBLE:  # far out, nearly all of it lies at the end that is nearer to the mean
        nearest = low if low > 0 else high
        return nearest, nearest * nearest
    density_low, density_high = _normal_density(low), _normal_density(high)
    slope = (low * density_low if density_low else 0.0) - high * density_high
    return (density_low - density_high) / share, 1 + slope / share
