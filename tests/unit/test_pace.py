"""When the watcher looks: arithmetic, checked against drawn times and against its own promises."""

import math
import random
import statistics
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from hyperpod_ebs.driver.volumes.pace import (
    BATCH,
    BUDGET,
    CALM,
    EARLY,
    LONGEST,
    PRIORS,
    Belief,
    Pace,
    Transition,
    Waiting,
)

ages = st.floats(0, 3600)
beliefs = st.builds(Belief, mean=st.floats(-3, 5), deviation=st.floats(0.25, 1.2), weight=st.floats(8, 40))


def waiting(age_looked: float, *, now: float = 1000.0, transition: Transition = Transition.ATTACH) -> Waiting:
    """One that was asked for so long ago, and has just been looked at."""
    return Waiting(transition=transition, since=now - age_looked, looked=now)


def test_the_expected_time_unseen_is_that_of_drawn_times() -> None:
    """Ours: the formula is the right one."""
    chance = random.Random(7)  # noqa: S311 - a simulation
    belief = PRIORS[Transition.DETACH]
    drawn = [chance.lognormvariate(belief.mean, belief.deviation) for _ in range(200_000)]

    open_at_two = [took for took in drawn if took > 2]
    simulated = statistics.fmean(max(2.5 - took, 0) for took in open_at_two)

    assert math.isclose(belief.unseen(2, 2.5), simulated, rel_tol=0.05)


@given(beliefs, ages, st.floats(0, 60), st.floats(0, 60))
def test_time_unseen_grows_and_never_faster_than_time(
    belief: Belief, looked: float, first: float, second: float
) -> None:
    """Arithmetic: nothing is wasted for longer than it has been."""
    near, far = belief.unseen(looked, looked + first), belief.unseen(looked, looked + first + second)

    assert -1e-6 <= near <= first + 1e-6
    assert near - 1e-6 <= far <= near + second + 1e-6


@given(st.lists(ages, min_size=1, max_size=300), st.integers(0, 10))
def test_looks_keep_within_the_budget_and_come_at_last(asked: list[float], failures: int) -> None:
    """AWS: Describe calls refill at 20 a second; the watcher takes a quarter of it at most."""
    pace = Pace(failures=failures)
    crowd = [waiting(age) for age in asked]

    due = pace.next_look(crowd, last=1000.0)

    calls = -(-len(crowd) // BATCH)
    assert calls / BUDGET - 1e-6 <= due - 1000.0 <= 2 * LONGEST + calls / BUDGET


def test_a_lone_one_is_looked_at_closely_when_its_time_comes_and_seldom_when_it_is_stuck() -> None:
    """Ours: waste is bounded, and what never comes costs little."""
    pace = Pace(untried=set())

    near = pace.next_look([waiting(2.1)], last=1000.0) - 1000.0
    minutes = pace.next_look([waiting(120)], last=1000.0) - 1000.0
    hour = pace.next_look([waiting(3600)], last=1000.0) - 1000.0

    assert near < 0.35
    assert 1 < minutes < 5 < hour <= LONGEST + 1


def test_nobody_looks_before_a_state_can_have_come() -> None:
    """Ours: a create in the wild takes more than half a second."""
    asked = Waiting(transition=Transition.CREATE, since=1000.0, looked=1000.0)

    assert 0.5 < Pace(untried=set()).next_look([asked], last=-math.inf) - 1000.0 < 1.2


def test_the_first_look_of_a_kind_is_early_and_only_that_one() -> None:
    """Ours: one call tells an instant cloud from AWS."""
    asked = Waiting(transition=Transition.CREATE, since=1000.0, looked=1000.0)
    pace = Pace()

    first = pace.next_look([asked], last=-math.inf) - 1000.0
    pace.missed(asked)
    second = pace.next_look([asked], last=-math.inf) - 1000.0

    assert math.isclose(first, EARLY)
    assert 0.5 < second < 1.2
    assert pace.beliefs == PRIORS


def test_an_instant_cloud_is_known_by_one_look() -> None:
    """Ours: nobody waits a second where nothing takes one."""
    asked = Waiting(transition=Transition.CREATE, since=1000.0, looked=1000.0)
    pace = Pace()

    pace.learn(asked, 1000.0 + EARLY)

    assert pace.next_look([asked], last=-math.inf) - 1000.0 < 2 * EARLY


@given(st.integers(0, 2**32))
def test_a_cloud_that_was_instant_once_by_chance_is_soon_known_again(seed: int) -> None:
    """Ours: what an earlier process began is done at the first look, and says nothing of the cloud."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    asked = Waiting(transition=Transition.ATTACH, since=0.0, looked=0.0)
    pace, truth = Pace(), PRIORS[Transition.ATTACH]
    pace.learn(asked, EARLY)

    for _ in range(12):
        took = chance.lognormvariate(truth.mean, truth.deviation)
        pace.learn(replace(asked, looked=took * 0.95), took * 1.05)

    assert pace.next_look([asked], last=-math.inf) > 0.25


@given(st.integers(0, 2**32))
def test_looks_far_apart_do_not_make_a_belief_broader_or_earlier(seed: int) -> None:
    """Ours: a midpoint would; it cost a call a life."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    truth = belief = PRIORS[Transition.CREATE]
    looks = [0.0, 1.2, 1.8, 2.6, 4.0, 1000.0]

    for _ in range(600):
        took = chance.lognormvariate(truth.mean, truth.deviation)
        high = next(place for place, look in enumerate(looks) if look >= took)
        belief = belief.learned(looks[high - 1], looks[high] if high < 5 else 6.0)

    assert abs(belief.mean - truth.mean) < 0.35
    assert 0.5 < belief.deviation / truth.deviation < 1.5


def test_a_crowd_shares_its_looks() -> None:
    """Ours: together calls are dear and waiting is cheap."""
    pace = Pace()

    gap = pace.next_look([waiting(2.1)] * 100, last=1000.0) - 1000.0

    assert math.isclose(gap, CALM)


def test_the_stuck_do_not_slow_down_a_newcomer() -> None:
    """Ours: one whose time has long passed is no part of the crowd."""
    pace = Pace()

    gap = pace.next_look([waiting(300)] * 50 + [waiting(2.1)], last=1000.0) - 1000.0

    assert gap < 0.35


def test_failed_looks_slow_the_pace_until_one_succeeds() -> None:
    """AWS: a throttle asks for a slower pace."""
    pace = Pace()
    gaps = []

    for _ in range(4):
        gaps.append(pace.next_look([waiting(2.1)], last=1000.0) - 1000.0)
        pace.failed()
    pace.succeeded()

    assert gaps == sorted(set(gaps))
    assert gaps[-1] >= 2
    assert pace.next_look([waiting(2.1)], last=1000.0) - 1000.0 == gaps[0]


@given(st.floats(0.2, 30), st.floats(0.25, 0.8), st.integers(0, 2**32))
def test_times_are_learned(median: float, deviation: float, seed: int) -> None:
    """Ours: another cloud's times become known by looking, though only between two looks."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    belief = PRIORS[Transition.ATTACH]

    for _ in range(300):
        took = chance.lognormvariate(math.log(median), deviation)
        belief = belief.learned(took * 0.9, took * 1.1)

    assert abs(belief.mean - math.log(median)) < 1
    assert 0.25 <= belief.deviation <= 1.2


@given(beliefs, st.floats(0, 10_000), st.floats(0, 10_000))
def test_one_observation_cannot_carry_a_belief_away(belief: Belief, low: float, more: float) -> None:
    """Ours: a volume that was still mounted for an hour says nothing about detaching."""
    assume(more > 0)

    after = belief.learned(low, low + more)

    assert abs(after.mean - belief.mean) <= 3 * belief.deviation / belief.weight + 1e-9
