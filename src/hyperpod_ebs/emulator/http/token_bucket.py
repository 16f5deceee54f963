"""Token buckets: how many calls can be made at once, and how many per second after that.

These functions only compute. Instants are seconds of any clock, and come from the caller. Tokens come back
continuously; AWS adds them once per second (EC2 developer guide, "Request throttling for the Amazon EC2 API").
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The size of a bucket, and the share of it that is used up by others."""

    capacity: float
    """Tokens in a full bucket."""

    refill: float
    """Tokens that come back per second."""

    neighbour: float = 0.0
    """The share that other users of the account use up, from 0 to 1; it reduces both capacity and refill."""

    @property
    def own_capacity(self) -> float:
        """Tokens that a full bucket has for us: at least one of those that it has, unless the neighbour uses it all."""
        if self.neighbour >= 1:
            return 0.0
        return max(self.capacity * (1 - self.neighbour), min(self.capacity, 1.0))

    @property
    def own_refill(self) -> float:
        """Tokens that come back for us per second."""
        return self.refill * (1 - self.neighbour)


@dataclass(frozen=True, slots=True)
class Bucket:
    """The tokens that a bucket had at an instant."""

    tokens: float
    instant: float
    """Seconds."""


def full_bucket(limit: Limit, now: float) -> Bucket:
    """A bucket with all the tokens that `limit` allows."""
    return Bucket(limit.own_capacity, now)


def bucket_at(now: float, bucket: Bucket, limit: Limit) -> Bucket:
    """The bucket at a later instant, with the tokens that came back since."""
    passed = max(0.0, now - bucket.instant)
    return Bucket(min(limit.own_capacity, bucket.tokens + passed * limit.own_refill), now)


def bucket_after_call(now: float, bucket: Bucket, limit: Limit) -> Bucket | None:
    """The bucket after a call at `now` has taken one token; None if no whole token is left."""
    current = bucket_at(now, bucket, limit)
    return Bucket(current.tokens - 1, now) if current.tokens >= 1 else None
