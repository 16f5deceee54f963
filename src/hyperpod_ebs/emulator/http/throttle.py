"""The account's token buckets: a call takes a token from the bucket of its operation, or is refused.

The buckets are in memory, and full at each start. The emulator is one account in one region, as each bucket is.
"""

import time
from collections.abc import Callable, Mapping

from hyperpod_ebs.emulator.http.account_limits import EVERY, Changes, Limits, bucket_name, limits_after
from hyperpod_ebs.emulator.http.token_bucket import Bucket, bucket_after_call, bucket_at, full_bucket
from hyperpod_ebs.emulator.wire.operations import AwsFault, Call, Parameters


class Throttle:
    """The buckets of all operations that have a limit."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        """Fill all buckets.

        Args:
            limits: The limits at the start, to which `restore` returns; empty for no limits.
            clock: The current instant in seconds.
        """
        self._configured = limits
        self._clock = clock
        self._limits: Limits = {}
        self._buckets: dict[str, Bucket] = {}
        self.restore()

    def take(self, call: Call, parameters: Parameters) -> AwsFault | None:
        """Take a token for the call; return the service's error if its bucket is empty."""
        if not self._limits:
            return None
        name = bucket_name(call.service, call.operation, parameters)
        if (limit := self._limits.get(name)) is None:
            return None
        if (after := bucket_after_call(self._clock(), self._buckets[name], limit)) is None:
            return _refusal(call.service)
        self._buckets[name] = after
        return None

    def change(self, changes: Changes) -> None:
        """Change limits; a new capacity fills its bucket, otherwise a bucket keeps the tokens that still fit.

        Raises:
            BadLimits: The changes would have no effect.
        """
        limits, now = limits_after(changes, self._limits), self._clock()
        for name, limit in limits.items():
            former = self._limits.get(name)
            if former is None or "capacity" in {**changes.get(EVERY, {}), **changes.get(name, {})}:
                self._buckets[name] = full_bucket(limit, now)
            else:
                self._buckets[name] = bucket_at(now, bucket_at(now, self._buckets[name], former), limit)
        self._limits = limits

    def restore(self) -> None:
        """Return to the limits at the start, and fill all buckets."""
        now = self._clock()
        self._limits = self._configured
        self._buckets = {name: full_bucket(limit, now) for name, limit in self._limits.items()}

    def document(self) -> Mapping[str, Mapping[str, float]]:
        """Each bucket as JSON: its limit, and the tokens left."""
        now = self._clock()
        return {
            name: {
                "capacity": limit.capacity,
                "refill": limit.refill,
                "neighbour": limit.neighbour,
                "tokens": round(bucket_at(now, self._buckets[name], limit).tokens, 3),
            }
            for name, limit in self._limits.items()
        }


def _refusal(service: str) -> AwsFault:
    """The error of a throttled call, as the service's protocol has it."""
    if service == "ec2":
        return AwsFault("RequestLimitExceeded", "Request limit exceeded.", 503)
    return AwsFault("ThrottlingException", "Rate exceeded", 400)
