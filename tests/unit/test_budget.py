"""The budget of an AWS operation: calls go as fast as AWS accepts them, and hardly one is throttled.

EC2 Developer Guide, "Request throttling for the Amazon EC2 API": token buckets, per operation, account and region.
"""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.volumes.budget import (
    FORGOTTEN_AFTER,
    SPACING,
    Budget,
    Limit,
    documented_limit,
)

ATTACH = documented_limit("AttachVolume")
CREATE = documented_limit("CreateVolume")


@dataclass
class Bucket:
    """AWS's bucket, of which the driver sees only whether a call is throttled."""

    limit: Limit
    tokens: float = -1.0
    counted_at: float = 0.0

    def __post_init__(self) -> None:
        if self.tokens < 0:
            self.tokens = self.limit.capacity

    def accepts(self, now: float) -> bool:
        """Whether AWS accepts a call; it then takes a token."""
        self.tokens = min(self.limit.capacity, self.tokens + self.limit.rate * (now - self.counted_at))
        self.counted_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Outcome:
    """What became of many calls."""

    seconds: float
    throttled: int


def send_calls(budget: Budget, bucket: Bucket, count: int, *, began: float = 0.0, jitter: float = 0.0) -> Outcome:
    """Send calls as soon as the budget allows, until AWS has accepted `count`; each is answered at once.

    `jitter` is by how many seconds the calls arrive late, in turns more and less.
    """
    now, accepted, sent = began, 0, 0
    while accepted < count:
        due = budget.next_at(now)
        if due > now + SPACING:
            budget.note_limiting(now)
            due = budget.next_at(now)
        now = due
        budget.note_sent(now)
        sent += 1
        if bucket.accepts(now + jitter * (sent % 3) / 2):
            accepted += 1
        else:
            budget.note_throttled(now, now)
    return Outcome(now - began, sent - accepted)


def arithmetic(limit: Limit, count: int) -> float:
    """The seconds in which a bucket accepts `count` calls."""
    return (count - limit.capacity) / limit.rate


@pytest.mark.parametrize("limit", [ATTACH, CREATE])
@pytest.mark.parametrize("jitter", [0.0, 0.1])
def test_a_burst_behind_the_documented_limit_is_as_fast_as_it_allows_without_a_throttled_call(
    limit: Limit, jitter: float
) -> None:
    outcome = send_calls(Budget(limit), Bucket(limit), 300, jitter=jitter)

    assert outcome.throttled == 0
    assert outcome.seconds <= arithmetic(limit, 300) + 1


@pytest.mark.parametrize("documented", [ATTACH, CREATE])
def test_a_neighbour_who_uses_a_part_of_the_bucket_costs_few_throttled_calls(documented: Limit) -> None:
    left = Limit(documented.capacity * 0.7, documented.rate * 0.7)

    outcome = send_calls(Budget(documented), Bucket(left), 500)

    assert outcome.throttled <= 15
    assert outcome.seconds <= 1.03 * arithmetic(left, 500)


@given(
    st.floats(min_value=0.05, max_value=1.0),
    st.integers(min_value=5, max_value=100),
    st.floats(min_value=0, max_value=1),
)
def test_whatever_is_left_of_the_bucket_is_used_and_few_calls_are_throttled(
    share: float, capacity: int, filled: float
) -> None:
    left = Limit(capacity, share * ATTACH.rate)

    outcome = send_calls(Budget(ATTACH), Bucket(left, tokens=filled * capacity), 300)

    at_once = min(filled * capacity, ATTACH.capacity)
    assert outcome.throttled <= 45
    assert outcome.seconds <= 1.1 * arithmetic(Limit(at_once, left.rate), 300) + 5


def test_an_account_with_a_higher_limit_gets_the_use_of_it() -> None:
    """Service Quotas: EC2's request rates can be raised."""
    raised = Limit(200, 50)
    budget, bucket = Budget(ATTACH), Bucket(raised)

    send_calls(budget, bucket, 2000)
    later = send_calls(budget, bucket, 500, began=bucket.counted_at)

    assert budget.rate >= 40
    assert later.throttled <= 10


def test_the_rate_rises_again_when_the_neighbour_stops() -> None:
    left = Limit(20, 1)
    budget, bucket = Budget(ATTACH), Bucket(left)
    send_calls(budget, bucket, 100)

    bucket.limit = ATTACH
    outcome = send_calls(budget, bucket, 1000, began=bucket.counted_at)

    assert budget.rate >= 0.9 * ATTACH.rate
    assert outcome.throttled <= 20


@given(st.floats(0, 2000), st.integers(1, 60))
def test_a_rate_is_not_taken_for_low_because_few_calls_were_made(pause: float, calls: int) -> None:
    """Calls that pause: meanwhile the bucket fills up, and is then emptied again."""
    budget, bucket = Budget(ATTACH), Bucket(ATTACH)
    send_calls(budget, bucket, 60)
    bucket.tokens = 0.5  # a neighbour took the others
    send_calls(budget, bucket, 3, began=bucket.counted_at)
    send_calls(budget, bucket, calls, began=bucket.counted_at + pause)
    bucket.tokens = 0.5

    send_calls(budget, bucket, 20, began=bucket.counted_at)

    assert budget.rate >= 0.6 * ATTACH.rate


@pytest.mark.parametrize("seconds", [5.0, 20.0, 60.0])
def test_the_rate_recovers_soon_after_others_have_used_up_everything(seconds: float) -> None:
    """Another controller may empty the buckets of the account, and AWS then throttles every call of this one."""
    bucket = Bucket(ATTACH, tokens=0.0, counted_at=seconds)

    outcome = send_calls(Budget(ATTACH), bucket, 200)

    assert outcome.seconds <= seconds + 200 / ATTACH.rate + 45
    assert outcome.throttled <= 40


def test_a_lower_rate_is_forgotten_after_a_while_without_throttled_calls() -> None:
    budget = Budget(ATTACH)
    send_calls(budget, Bucket(Limit(10, 0.5)), 40)
    assert budget.rate < 1

    budget.note_not_limiting(200.0)
    budget.note_sent(200.0 + FORGOTTEN_AFTER)

    assert budget.rate == ATTACH.rate


def test_calls_that_aws_never_accepts_are_sent_more_and_more_rarely() -> None:
    budget, now, sent = Budget(ATTACH), 0.0, 0
    while now < 600:
        now = budget.next_at(now)
        budget.note_sent(now)
        budget.note_throttled(now, now)
        sent += 1

    assert budget.rate <= 0.2
    assert sent <= 150


@pytest.mark.parametrize(
    ("operation", "limit"),
    [
        ("CreateVolume", (100, 5)),
        ("DeleteSnapshot", (100, 5)),
        ("CreateTags", (100, 10)),
        ("ModifyVolume", (50, 5)),
        ("DetachClusterNodeVolume", (50, 5)),
        ("DescribeVolumes", (100, 20)),
    ],
)
def test_each_operation_starts_with_its_documented_limit(operation: str, limit: tuple[float, float]) -> None:
    assert documented_limit(operation) == Limit(*limit)
