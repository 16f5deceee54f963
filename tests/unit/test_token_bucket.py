"""Token buckets: AWS's EC2 developer guide, "Request throttling for the Amazon EC2 API", describes how they work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.emulator.http.token_bucket import Bucket, Limit, bucket_after_call, bucket_at, full_bucket

LIMITS = st.builds(
    Limit,
    capacity=st.floats(0, 1000),
    refill=st.floats(0, 100),
    neighbour=st.floats(0, 1),
)
STEPS = st.lists(st.floats(0, 100), max_size=200)
"""Seconds between calls."""


def calls_allowed(limit: Limit, steps: list[float]) -> list[float]:
    """The instants of the calls that get a token, of those that come so many seconds after each other."""
    now, bucket, allowed = 0.0, full_bucket(limit, 0), []
    for step in steps:
        now += step
        if (after := bucket_after_call(now, bucket, limit)) is not None:
            bucket = after
            allowed.append(now)
    return allowed


def test_a_full_bucket_allows_a_burst_and_then_as_many_calls_per_second_as_come_back() -> None:
    """The documented example: 100 calls in a second, then 20 calls a second."""
    limit = Limit(capacity=100, refill=20)

    burst = calls_allowed(limit, [0.0] * 120)
    sustained = calls_allowed(limit, [0.0] * 100 + [0.0125] * 800)

    assert len(burst) == 100
    assert len(sustained) == pytest.approx(100 + 20 * 10, abs=1)


def test_a_neighbour_reduces_the_burst_and_the_rate() -> None:
    limit = Limit(capacity=50, refill=5, neighbour=0.3)

    allowed = calls_allowed(limit, [0.0] * 50 + [0.1] * 100)

    assert allowed.count(0.0) == 35
    assert len(allowed) == pytest.approx(35 + 3.5 * 10, abs=1)


@pytest.mark.parametrize(("neighbour", "calls"), [(0.3, 1), (1, 0)])
def test_a_bucket_of_one_token_still_has_it_unless_the_neighbour_uses_it_all(neighbour: float, calls: int) -> None:
    assert len(calls_allowed(Limit(capacity=1, refill=0, neighbour=neighbour), [0.0] * 3)) == calls


@given(LIMITS, STEPS)
def test_no_sequence_of_calls_gets_more_than_the_burst_and_the_refill(limit: Limit, steps: list[float]) -> None:
    allowed = calls_allowed(limit, steps)

    assert len(allowed) <= limit.own_capacity + sum(steps) * limit.own_refill + 1e-6


@given(LIMITS, st.floats(0, 1000), st.floats(0, 1000))
def test_tokens_never_exceed_the_capacity_and_never_vanish(limit: Limit, tokens: float, passed: float) -> None:
    bucket = Bucket(min(tokens, limit.own_capacity), 0)

    later = bucket_at(passed, bucket, limit)

    assert bucket.tokens <= later.tokens <= limit.own_capacity


@given(LIMITS, st.floats(0, 100), st.floats(0, 100))
def test_it_does_not_matter_how_often_one_looks(limit: Limit, first: float, second: float) -> None:
    empty = Bucket(0, 0)

    in_two_looks = bucket_at(first + second, bucket_at(first, empty, limit), limit)

    assert in_two_looks.tokens == pytest.approx(bucket_at(first + second, empty, limit).tokens)


def test_a_clock_that_goes_back_takes_no_tokens_away() -> None:
    assert bucket_at(5, Bucket(3, 10), Limit(capacity=10, refill=1)).tokens == 3
