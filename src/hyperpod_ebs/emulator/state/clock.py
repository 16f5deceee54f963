"""Why nothing in the cloud is ready at once: states ripen on a clock.

A change to come is a `Due` in the store, so it outlives the process. When its time
is there it is carried out by one ticker, and before any look at the state, so that
an answer is never older than the clock. What it does to disks and devices happens
only after the intent is committed and may be repeated after a crash: each step's
action brings about an end, whatever it finds.

Times of the `aws` profile are drawn log-normal around what is seen in the wild,
except for volume modifications, which take AWS minutes to hours and are compressed
to seconds here.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, Literal

from hyperpod_ebs.emulator.records import Due
from hyperpod_ebs.emulator.state.store import Store

log = logging.getLogger(__name__)

Profile = Literal["instant", "aws", "chaos"]

Act = Callable[[str], Awaitable[None]]
"""Carries out a step for the id that it is given."""

AGAIN: Final = 1.0
"""Seconds after which a step that failed is tried again."""

_P95: Final = 1.6448536269514722
"""Standard deviations above the median at which 95 in 100 lie."""

_LONG: Final = 12.0
"""By how much chaos stretches the odd attachment."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long a step takes, in seconds."""

    median: float
    p95: float

    def draw(self, chance: random.Random) -> float:
        """One time, log-normal."""
        return self.median * math.exp(chance.gauss(0, math.log(self.p95 / self.median) / _P95))


AWS: Final = {
    "volume available": Times(1.6, 3.5),
    "volume gone": Times(0.6, 1.5),
    "attached": Times(2.1, 4.0),
    "detached": Times(2.1, 5.0),
    "snapshot completed": Times(6, 15),
    "optimizing": Times(3, 7),
    "modified": Times(20, 60),
    "instance running": Times(2, 4),
    "instance terminated": Times(2, 4),
    "cluster in service": Times(2, 3),
    "cluster gone": Times(2, 3),
    "eks active": Times(1, 2),
}
"""Each step of the cloud and the time it takes."""

LAST: Final = "instance terminated"
"""The step that ends others' steps, and so comes after those that are due with it."""


class Clock:
    """When each thing changes its state, and what that takes."""

    def __init__(self, store: Store, *, profile: Profile, seed: int) -> None:
        self.profile = profile
        self.ended = asyncio.Event()
        """Set when nothing ripens any more: at the end, or because the store cannot be written."""

        self.chance = random.Random(seed)  # noqa: S311 - repeatable is what it is for
        self._store = store
        self._acts: dict[str, Act] = {}
        self._heap = [(due.at, due.id) for due in store.dues.values()]
        heapify(self._heap)
        self._lock = asyncio.Lock()
        self._sooner = asyncio.Event()
        self._stopping = False

    def on(self, step: str, act: Act) -> None:
        """Have `act` carry out `step`."""
        self._acts[step] = act

    def ripens(self, subject: str, step: str, *, extra: float = 0.0) -> float:
        """Let `step` happen to `subject` after its time and `extra` seconds; the instant at which it will."""
        return self.at(subject, step, time.time() + self._takes(step, extra))

    def at(self, subject: str, step: str, instant: float) -> float:
        """Let `step` happen to `subject` at `instant`, in place of what else was to happen to it."""
        self._store.dues.put(Due(id=subject, step=step, at=instant))
        heappush(self._heap, (instant, subject))
        self._sooner.set()
        return instant

    def never(self, subject: str) -> None:
        """Let nothing happen to `subject` any more."""
        self._store.dues.drop(subject)

    async def settle(self) -> None:
        """Carry out all that is due.

        When it returns, nothing is half-way, and stays so until the next await.
        """
        async with self.still():
            pass

    @asynccontextmanager
    async def still(self) -> AsyncGenerator[None]:
        """Carry out all that is due, and nothing more until the block is left."""
        async with self._lock:
            while ripe := self._ripe(time.time()):
                await self._store.commit()  # intents before effects
                for last in (False, True):
                    async with asyncio.TaskGroup() as group:
                        for due in ripe:
                            if (due.step == LAST) is last:
                                group.create_task(self._carry_out(due))
            yield

    @asynccontextmanager
    async def ticking(self) -> AsyncGenerator[None]:
        """Carry out each thing when its time comes, until the block is left.

        What is being carried out then is finished, not cut short.

        Raises:
            sqlite3.Error: The store could not be written, and `ended` came early.
        """
        ticker = asyncio.get_running_loop().create_task(self._tick())  # a group would wrap what the block raises
        ticker.add_done_callback(lambda _: self.ended.set())
        try:
            yield
        finally:
            self._stopping = True
            self._sooner.set()
            await ticker

    async def _tick(self) -> None:
        while not self._stopping:
            self._sooner.clear()
            await self.settle()
            await self._store.commit()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._heap[0][0] - time.time() if self._heap else None):
                    await self._sooner.wait()

    def _takes(self, step: str, extra: float) -> float:
        if self.profile == "instant":
            return 0.0
        drawn = AWS[step].draw(self.chance) + extra
        if self.profile == "aws":
            return drawn
        stretched = drawn * self.chance.uniform(0.05, 4.0)
        return stretched * _LONG if step == "attached" and self.chance.random() < 1 / 16 else stretched

    def _ripe(self, now: float) -> list[Due]:
        """What is due, oldest first; what was put off or called off since is passed over."""
        ripe: dict[str, Due] = {}
        while self._heap and self._heap[0][0] <= now:
            at, subject = heappop(self._heap)
            due = self._store.dues.get(subject)
            if due is not None and due.at == at:
                ripe[subject] = due
        return list(ripe.values())

    async def _carry_out(self, due: Due) -> None:
        try:
            await self._acts[due.step](due.id)
        except Exception:
            log.exception("%s: %s failed, and is tried again", due.id, due.step)
            self.at(due.id, due.step, time.time() + AGAIN)
        if self._store.dues.get(due.id) is due:
            self._store.dues.drop(due.id)
