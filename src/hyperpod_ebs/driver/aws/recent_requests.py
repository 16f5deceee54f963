"""What was requested a moment ago, and EC2's lists and searches may not show yet (decision 0036)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from hyperpod_ebs.driver.model import errors

Found = TypeVar("Found")

FOUND_WITHIN: Final = 3.0
"""Seconds within which EC2 finds a new object by its tags, with a margin. EC2 promises no limit; a second is usual."""

LISTED_AFTER_DELETION: Final = 15.0
"""Seconds for which EC2 may still list an object whose deletion it has acknowledged."""

PAUSE: Final = 1.0
"""Seconds between two searches."""

STARTED: Final = time.monotonic()
"""When this process started, or a moment later."""


@dataclass(slots=True)
class RecentRequests:
    """The names or ids of requests that AWS has acknowledged, or perhaps carried out, in the last `seconds`."""

    seconds: float
    ends: dict[str, float] = field(default_factory=dict)
    """When each request stops to be recent."""

    def note(self, key: str) -> None:
        """Note a request for this name or id."""
        now = time.monotonic()
        self.ends = {each: end for each, end in self.ends.items() if end > now} | {key: now + self.seconds}

    @contextmanager
    def note_if_carried_out(self, key: str) -> Generator[None]:
        """Note the request that the block sends for this name or id, unless AWS refuses it.

        A request whose outcome is not known may have been carried out, so it is noted too.
        """
        try:
            yield
        except errors.OutcomeUnknown:
            self.note(key)
            raise
        self.note(key)

    def ends_at(self, key: str) -> float:
        """When the request for this name or id stops to be recent; 0 if there was none."""
        return self.ends.get(key, 0.0)

    def __contains__(self, key: str) -> bool:
        return self.ends_at(key) > time.monotonic()


async def wait_for_predecessors_requests() -> None:
    """Wait until EC2 shows what another process may have requested just before it was killed and this one started."""
    await asyncio.sleep(STARTED + FOUND_WITHIN - time.monotonic())


async def search(settles_at: float, find: Callable[[], Awaitable[Sequence[Found]]]) -> Sequence[Found]:
    """Search until something is found; find nothing only once a search has begun after `settles_at`.

    A name has no id to ask for, so only time proves that nothing has it.
    """
    await wait_for_predecessors_requests()
    while True:
        is_settled = time.monotonic() >= settles_at
        if (found := await find()) or is_settled:
            return found
        await asyncio.sleep(PAUSE)
