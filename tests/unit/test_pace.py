"""When the watcher polls: arithmetic, checked against simulated durations and against its own bounds."""

import math
import random
import statistics
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hyperpod_ebs.driver.volumes import pace
from hyperpod_ebs.driver.volumes.pace import (
    PRIORS,
    Belief,
    Pace,
    PendingWait,
    Transition,
)

ages = st.floats(0, 3600)
beliefs = st.builds(Belief, mean=st.floats(-3, 5), deviation=st.floats(0.25, 1.2), weight=st.floats(8, 40))


def a_wait(age: float, *, polled: float = 1000.0) -> PendingWait:
    """An operation that has waited for `age` seconds at the time 1000.0; when it was polled."""
    return PendingWait(transition=Transition.ATTACH, since=1000.0 - age, polled=polled)


def test_the_formula_for_the_unseen_time_agrees_with_simulated_durations() -> None:
    chance = random.Random(7)  # noqa: S311 - a simulation
    belief = PRIORS[Transition.DETACH]
    durations = [chance.lognormvariate(belief.mean, belief.deviation) for _ in range(200_000)]

    longer_than_two = [duration for duration in durations if duration > 2]
    simulated = statistics.fmean(max(2.5 - duration, 0) for duration in longer_than_two)

    assert math.isclose(belief.unseen(2, 2.5), simulated, rel_tol=0.05)


@given(beliefs, ages, st.floats(0, 60), st.floats(0, 60))
def test_the_unseen_time_grows_and_not_faster_than_time_itself(
    belief: Belief, polled: float, first: float, second: float
) -> None:
    near, far = belief.unseen(polled, polled + first), belief.unseen(polled, polled + first + second)

    assert -1e-6 <= near <= first + 1e-6
    assert near - 1e-6 <= far <= near + second + 1e-6


def gap(pace: Pace, waits: list[PendingWait], rate: float = 20.0) -> float:
    """Seconds until the next poll, if the last one was at 1000.0."""
    return pace.next_poll(waits, 1000.0 + pace.min_gap(len(waits), rate)) - 1000.0


@given(st.lists(ages, min_size=1, max_size=300), st.integers(0, 10), st.floats(0.1, 1000))
def test_polls_keep_within_the_budget_and_come_in_time(waiting_ages: list[float], failures: int, rate: float) -> None:
    """EC2 developer guide, request throttling: the watcher uses a quarter of the rate that the account has."""
    due = gap(Pace(failures=failures), [a_wait(age) for age in waiting_ages], rate)

    least = 1 / (0.25 * rate)
    assert least - 1e-6 <= due <= 30 + least


@given(st.integers(1, 10_000), st.floats(0.1, 1000))
def test_polls_use_a_tenth_of_a_processor_at_most(waiting: int, rate: float) -> None:
    described = min(waiting, 200)

    assert 0.002 + 0.0001 * described <= 0.1 * Pace().min_gap(waiting, rate) + 1e-9


def test_a_single_wait_is_polled_often_at_its_expected_time_and_seldom_when_it_is_stuck() -> None:
    pace = Pace(never_polled=set())

    near, minutes, hour, never = (gap(pace, [a_wait(age)]) for age in (2.1, 120, 3600, 10**6))

    assert near < 0.35
    assert 1 < minutes < 5 < hour < never
    assert math.isclose(never, 15.2)


def test_no_poll_comes_before_the_state_can_have_come() -> None:
    """At AWS, the creation of a volume takes more than half a second."""
    wait = PendingWait(transition=Transition.CREATE, since=1000.0, polled=1000.0)

    assert 0.5 < Pace(never_polled=set()).next_poll([wait], -math.inf) - 1000.0 < 1.2


def test_only_the_first_poll_for_a_kind_of_transition_comes_early() -> None:
    """One call distinguishes an instant cloud from AWS."""
    wait = PendingWait(transition=Transition.CREATE, since=1000.0, polled=1000.0)
    pace = Pace()

    first = pace.next_poll([wait], -math.inf) - 1000.0
    pace.note_incomplete(wait)
    second = pace.next_poll([wait], -math.inf) - 1000.0

    assert math.isclose(first, 0.05)
    assert 0.5 < second < 1.2
    assert pace.beliefs == PRIORS


def test_one_poll_recognizes_an_instant_cloud() -> None:
    """A caller must not wait a second where no transition takes one."""
    wait = PendingWait(transition=Transition.CREATE, since=1000.0, polled=1000.0)
    pace = Pace()

    pace.learn(wait, 1000.05)

    assert pace.next_poll([wait], -math.inf) - 1000.0 < 0.1


@given(st.integers(0, 2**32))
def test_the_pace_recovers_from_a_first_transition_that_was_instant_by_chance(seed: int) -> None:
    """A transition that an earlier process began is complete at the first poll, at AWS too."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    wait = PendingWait(transition=Transition.ATTACH, since=0.0, polled=0.0)
    pace, truth = Pace(), PRIORS[Transition.ATTACH]
    pace.learn(wait, 0.05)

    for _ in range(12):
        took = chance.lognormvariate(truth.mean, truth.deviation)
        pace.learn(replace(wait, polled=took * 0.95), took * 1.05)

    assert pace.next_poll([wait], -math.inf) > 0.25


@given(st.integers(0, 2**32))
def test_polls_that_are_far_apart_make_a_belief_neither_broader_nor_earlier(seed: int) -> None:
    """Learning the midpoint of two polls would, and would cost one more call for each volume's life."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    truth = belief = PRIORS[Transition.CREATE]
    polls = [0.0, 1.2, 1.8, 2.6, 4.0, 1000.0]

    for _ in range(600):
        took = chance.lognormvariate(truth.mean, truth.deviation)
        high = next(index for index, poll in enumerate(polls) if poll >= took)
        belief = belief.posterior(polls[high - 1], polls[high] if high < 5 else 6.0)

    assert abs(belief.mean - truth.mean) < 0.35
    assert 0.5 < belief.deviation / truth.deviation < 1.5


@given(st.integers(2, 200))
def test_many_waits_share_a_call_and_none_of_them_waits_longer_for_it(count: int) -> None:
    pace = Pace(never_polled=set())

    single, crowd = (pace.next_poll([a_wait(2.1)] * waiting, 1000.0) - 1000.0 for waiting in (1, count))

    assert single / 2 < crowd <= single + 0.01


def test_a_crowd_is_polled_as_often_as_the_account_allows() -> None:
    pace = Pace(never_polled=set())
    crowd = [a_wait(2.1, polled=999.0)] * 100

    gaps = [gap(pace, crowd, rate) for rate in (4.0, 20.0, 40.0, 1000.0)]

    assert gaps == pytest.approx([1.0, 0.2, 0.12, 0.12])


@given(st.lists(ages, min_size=1, max_size=50), st.floats(0, 3600), st.floats(0, 3600))
def test_no_poll_comes_earlier_because_changes_wait_longer(
    waiting_ages: list[float], delay: float, more: float
) -> None:
    pace, crowd = Pace(), [a_wait(age) for age in waiting_ages]

    assert pace.next_poll(crowd, 1000.2, delay) <= pace.next_poll(crowd, 1000.2, delay + more) + 0.01


def test_a_wait_is_polled_less_often_while_changes_wait_for_their_turn() -> None:
    """An operation that sees its state earlier would only wait longer for its next turn."""
    pace = Pace(never_polled=set())

    gaps = [pace.next_poll([a_wait(2.1)], 1000.2, delay) - 1000.0 for delay in (0.0, 5.0, 20.0, 80.0)]

    assert gaps[0] == gaps[1] < 0.35 < gaps[2] < gaps[3] < 2


def test_waits_that_are_stuck_do_not_slow_down_a_new_wait() -> None:
    pace = Pace(never_polled=set())

    alone, among_stuck = (gap(pace, [a_wait(2.1), *[a_wait(300)] * stuck]) for stuck in (0, 50))

    assert among_stuck <= alone < 0.35


def test_failed_polls_slow_the_pace_until_one_succeeds() -> None:
    """EC2 developer guide, request throttling: retry with increasing delays."""
    pace = Pace()
    gaps = []

    for _ in range(8):
        gaps.append(gap(pace, [a_wait(2.1)]))
        pace.note_failure()
    pace.note_success()

    assert gaps[1:] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert gap(pace, [a_wait(2.1)]) == gaps[0]


@given(st.floats(0.2, 30), st.floats(0.25, 0.8), st.integers(0, 2**32))
def test_the_pace_learns_the_durations_of_another_cloud(median: float, deviation: float, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a simulation
    belief = PRIORS[Transition.ATTACH]

    for _ in range(300):
        took = chance.lognormvariate(math.log(median), deviation)
        belief = belief.posterior(took * 0.9, took * 1.1)

    assert abs(belief.mean - math.log(median)) < 1
    assert 0.25 <= belief.deviation <= 1.2


@given(beliefs, st.floats(0, 10_000), st.floats(0, 10_000))
def test_a_single_observation_moves_a_belief_only_a_little(belief: Belief, low: float, more: float) -> None:
    """A volume that stayed mounted for an hour says nothing about the duration of a detachment."""
    assume(more > 0)

    after = belief.posterior(low, low + more)

    assert abs(after.mean - belief.mean) <= 3 * belief.deviation / belief.weight + 1e-9


@given(low=st.floats(-4, 3), width=st.floats(0.1, 5))
def test_the_moments_of_a_truncated_normal_distribution_are_those_of_its_integral(low: float, width: float) -> None:
    """The definition, as a sum over thin slices."""
    slices = [low + width * (number + 0.5) / 4000 for number in range(4000)]
    weights = [math.exp(-z * z / 2) for z in slices]
    mean = sum(z * weight for z, weight in zip(slices, weights, strict=True)) / sum(weights)
    square = sum(z * z * weight for z, weight in zip(slices, weights, strict=True)) / sum(weights)

    assert pace._truncated_moments(low, low + width) == pytest.approx((mean, square), abs=1e-3)
