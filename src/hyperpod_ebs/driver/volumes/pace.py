"""When to look next: arithmetic over what is waited for, and no I/O.

A call costs something, and so does a state that is there and not yet seen. Each
waiting operation adds the time for which it has probably been done unseen, from
what is known of how long such a transition takes; the next look is due when these
add up to the price of a call. One that waits alone is looked at ever more closely
as its time comes; many share a call and so are looked at together, a little later.

The times are log-normal, as EC2's are in the wild, and learned as they are seen. A look
tells only that a time lies between two ages: what is learned is what such a time is to
be expected to be (the moments of a truncated normal, as in the EM algorithm of Dempster,
Laird and Rubin, 1977). The midpoint instead would take what a first look finds for
earlier than it was, spread the belief, and cost a call a life.

For T log-normal, E[max(t - T, 0)] is t F(t) - E[T] F'(t), where F' is F with its
logarithm moved by the variance: the formula of a put option (Black and Scholes, 1973).
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

PRICE: Final = 0.029
"""Seconds of being done unseen that are worth a call."""

EARLY: Final = 0.05
"""Seconds until the first look of all for a kind of transition: one call tells whether the cloud is an instant one."""

BUDGET: Final = 5.0
"""Calls a second at most: a quarter of what EC2 refills for one Describe action (20 a second)."""

CROWD: Final = 0.037
"""Seconds between looks for each operation that waits for a state of which the time has come."""

CALM: Final = 1.2
"""The most that a crowd of any size puts between two looks."""

LONGEST: Final = 15.0
"""Seconds between looks, however long nothing has come."""

FIRST_BACKOFF: Final = 0.5
"""Seconds after a look that failed; doubled at each that follows."""

BATCH: Final = 200
"""Volumes that one call describes: what a filter's values may be."""


class Transition(StrEnum):
    """What is waited for."""

    CREATE = "create"
    ATTACH = "attach"
    DETACH = "detach"
    MODIFY = "modify"


# Beyond this many deviations a belief is no longer trusted: the operation is stuck, or times have changed.
_TRUSTED: Final = 2.33
# How many observations the prior is worth, and the most that are remembered.
_PRIOR: Final = 8
_MEMORY: Final = 40
# One observation moves a belief no further than if it had been this many deviations off.
_OUTLIER: Final = 3.0
_SPREADS: Final = (0.25, 1.2)
# What has less chance than this is far outside of what is believed.
_HARDLY: Final = 1e-6
_SOONEST: Final = 0.001
_P95: Final = 1.645


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """How long a transition takes: log-normal, with the mean and deviation of the logarithm of seconds."""

    mean: float
    deviation: float
    weight: float = _PRIOR

    @classmethod
    def of(cls, *, median: float, p95: float) -> "Belief":
        """The belief with these two marks, in seconds."""
        return cls(mean=math.log(median), deviation=math.log(p95 / median) / _P95)

    @property
    def late(self) -> float:
        """Seconds after which a transition is out of the ordinary."""
        return math.exp(self.mean + _TRUSTED * self.deviation)

    def unseen(self, looked: float, now: float) -> float:
        """Expected seconds for which it has been done at the age `now`, when at `looked` it was not."""
        if now <= looked:
            return 0.0
        if looked >= self.late:
            # Nothing is known any more but its age: take one end in as much time again (a constant rate of 1/age).
            return (now - looked) - looked * -math.expm1(-(now - looked) / looked)
        done = self._done(looked)
        return (self._waste(now) - self._waste(looked) - (now - looked) * done) / (1 - done)

    def learned(self, low: float, high: float) -> "Belief":
        """The belief after a transition that was done between two ages, in seconds."""
        off, square = _between(self._place(low), self._place(max(high, _SOONEST)))
        off, square = min(max(off, -_OUTLIER), _OUTLIER), min(square, _OUTLIER**2)
        part = 1 / (self.weight + 1)
        spread = self.deviation * math.sqrt((1 - part) + part * square - (part * off) ** 2)
        return Belief(
            mean=self.mean + part * off * self.deviation,
            deviation=min(max(spread, _SPREADS[0]), _SPREADS[1]),
            weight=min(self.weight + 1, _MEMORY),
        )

    def refuted(self, high: float) -> bool:
        """Whether next to nothing would be done as early as at the age `high`."""
        return self._done(high) < _HARDLY

    def _place(self, age: float) -> float:
        """The age, in deviations from the mean."""
        return (math.log(age) - self.mean) / self.deviation if age > 0 else -math.inf

    def _done(self, age: float) -> float:
        """The chance that it is done at `age`."""
        return _normal(self._place(age))

    def _waste(self, age: float) -> float:
        """Expected seconds for which it has been done at `age`."""
        if age <= 0:
            return 0.0
        place = self._place(age)
        whole = math.exp(self.mean + self.deviation**2 / 2)
        return age * _normal(place) - whole * _normal(place - self.deviation)


PRIORS: Final[Mapping[Transition, Belief]] = {
    Transition.CREATE: Belief.of(median=1.6, p95=3.5),
    Transition.ATTACH: Belief.of(median=2.1, p95=4.0),
    Transition.DETACH: Belief.of(median=2.1, p95=5.0),
    Transition.MODIFY: Belief.of(median=3.0, p95=10.0),
}
"""Times as measured in the wild, until our own are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One operation that waits, on the clock of the loop."""

    transition: Transition
    since: float
    """When the cloud was asked for it."""
    looked: float
    """When it was last seen not to be done; `since` where nobody has looked."""


@dataclass(slots=True)
class Pace:
    """The beliefs, and how the last looks went."""

    beliefs: dict[Transition, Belief] = field(default_factory=lambda: dict(PRIORS))
    """What is known of the times; learned as they are seen."""
    untried: set[Transition] = field(default_factory=lambda: set(Transition))
    """Kinds that nobody has looked for yet."""
    failures: int = 0

    def next_look(self, waiting: Collection[Waiting], last: float) -> float:
        """When to look at those waiting, after a look at `last`; there is at least one."""
        soonest = last + self._gap(waiting)
        due = self._due(waiting, max(soonest, min(one.looked for one in waiting)))
        early = [one.since + EARLY for one in waiting if one.transition in self.untried]
        return max(soonest, min(due, *early)) if early else due

    def learn(self, one: Waiting, seen: float) -> None:
        """Take note that a look at `seen` found it done."""
        belief, age = self.beliefs[one.transition], max(seen - one.since, _SOONEST)
        if one.transition in self.untried and belief.refuted(age):
            # Not the cloud that was believed in. One look says so, and a few others can take it back.
            self.beliefs[one.transition] = replace(Belief.of(median=age / 2, p95=age), weight=1)
        else:
            self.beliefs[one.transition] = belief.learned(one.looked - one.since, age)
        self.untried.discard(one.transition)

    def missed(self, one: Waiting) -> None:
        """Take note that a look found it not done."""
        self.untried.discard(one.transition)

    def failed(self) -> None:
        """A look brought no answer: go slower."""
        self.failures += 1

    def succeeded(self) -> None:
        """A look brought an answer."""
        self.failures = 0

    def _due(self, waiting: Collection[Waiting], earliest: float) -> float:
        """When, from `earliest` on, a look is worth its price."""
        latest = earliest + LONGEST
        if self._worth(waiting, earliest):
            return earliest
        near, far = earliest, earliest + _SOONEST
        while far < latest and not self._worth(waiting, far):
            near, far = far, far + 2 * (far - earliest)
        while far - near > 0.01:  # noqa: PLR2004 - a hundredth of a second is as near as matters
            middle = (near + far) / 2
            near, far = (near, middle) if self._worth(waiting, middle) else (middle, far)
        return min(far, latest)

    def _gap(self, waiting: Collection[Waiting]) -> float:
        """The least time between two looks."""
        calls = -(-len(waiting) // BATCH)
        expected = sum(1 for one in waiting if one.looked - one.since < self.beliefs[one.transition].late)
        gap = max(calls / BUDGET, min(CROWD * expected, CALM))
        if self.failures:
            gap = max(gap, min(FIRST_BACKOFF * 2 ** (self.failures - 1), LONGEST))
        return gap

    def _worth(self, waiting: Collection[Waiting], at: float) -> bool:
        """Whether a look then is worth its price."""
        total = 0.0
        for one in waiting:
            total += self.beliefs[one.transition].unseen(one.looked - one.since, at - one.since)
            if total >= PRICE:
                return True
        return False


def _normal(place: float) -> float:
    """The normal distribution's share below `place` deviations."""
    return math.erfc(-place / math.sqrt(2)) / 2


def _density(place: float) -> float:
    """The normal distribution's density at `place` deviations."""
    return math.exp(-place * place / 2) / math.sqrt(2 * math.pi)


def _between(low: float, high: float) -> tuple[float, float]:
    """The mean, and the mean square, of a normal place that lies between two places."""
    share = _normal(high) - _normal(low)
    if share < _HARDLY:  # so far out that it is the end nearer to the middle
        nearest = low if low > 0 else high
        return nearest, nearest * nearest
    before, after = _density(low), _density(high)
    slope = (low * before if before else 0.0) - high * after
    return (before - after) / share, 1 + slope / share
