"""The arithmetic of the account's token buckets: how long a number of calls takes at least."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, as the emulator's page `/_emulator/throttle` has it."""

    capacity: float
    """Tokens of a full bucket."""
    refill: float
    """Tokens that it gets a second."""
    neighbour: float
    """The share of both that others use up, from 0 to 1."""
    tokens: float
    """Tokens that are left."""

    def seconds_for(self, calls: int) -> float:
        """The seconds until the last of `calls` that are made at once has a token, if the bucket is full before."""
        own = 1 - self.neighbour
        return max(0.0, calls - self.capacity * own) / (self.refill * own)


Buckets = Mapping[str, Bucket]
"""By operation: `ec2:CreateVolume`."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The least time for some calls."""

    arithmetic_seconds: float
    binding_bucket: str
    """The bucket that takes longest."""


def least_time(buckets: Buckets, calls: Mapping[str, int]) -> Bound:
    """The least time for these numbers of calls, by operation, which are all made at once; 0 without buckets."""
    bounds = [Bound(buckets[name].seconds_for(count), name) for name, count in calls.items() if name in buckets]
    return max(bounds, key=lambda bound: bound.arithmetic_seconds, default=Bound(0.0, "none"))
