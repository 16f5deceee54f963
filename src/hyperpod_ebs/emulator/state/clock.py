"""The clock that makes resources change their state some time after a request, as AWS does.

A pending step is a `Due` in the store, so it survives the process. A ticker runs each step
when it is due. Every request also runs the due steps before it reads the state, so an
answer never shows a state that should already have changed. A step touches disks and
devices only after its `Due` is committed, and may run again after a crash: every action is
idempotent, and leads to the same end from any state that a crash can leave.

The durations of the `aws` profile are log-normal, with medians and 95th percentiles as
observed on AWS. Volume modifications are the exception: they take minutes to hours on AWS
and seconds here.
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

Action = Callable[[str], Awaitable[None]]
"""Carries out a step; the argument is the subject's id."""

RETRY: Final = 1.0
"""Seconds until a failed step is tried again."""

_P95: Final = 1.6448536269514722
"""The 95th percentile of the normal distribution, in standard deviations."""

_STUCK_FACTOR: Final = 12.0
"""The factor by which the chaos profile stretches one attachment in sixteen."""


@dataclass(frozen=True, slots=True)
class Duration:
    """The distribution of a step's duration, in seconds."""

    median: float
    p95: float

    def draw(self, generator: random.Random) -> float:
        """A random duration from the log-normal distribution."""
        return self.median * math.exp(generator.gauss(0, math.log(self.p95 / self.median) / _P95))


AWS_DURATIONS: Final = {
    "volume available": Duration(1.6, 3.5),
    "volume gone": Duration(0.6, 1.5),
    "attached": Duration(2.1, 4.0),
    "detached": Duration(2.1, 5.0),
    "snapshot completed": Duration(6, 15),
    "snapshot copied": Duration(6, 15),
    "optimizing": Duration(3, 7),
    "modified": Duration(20, 60),
    "instance running": Duration(2, 4),
    "instance stopped": Duration(2, 4),
    "instance terminated": Duration(2, 4),
    "cluster in service": Duration(2, 3),
    "cluster gone": Duration(2, 3),
    "eks active": Duration(1, 2),
    "eks gone": Duration(1, 2),
    "addon active": Duration(1, 2),
    "addon gone": Duration(1, 2),
}
"""Each step's duration in the `aws` profile."""

LAST: Final = "instance terminated"
"""The step that runs after all other due steps, because it cancels steps of other subjects."""


class Clock:
    """The pending state changes of all resources, and the actions that carry them out."""

    def __init__(self, store: Store, *, profile: Profile, seed: int) -> None:
        self.profile = profile
        self.ended = asyncio.Event()
        """Set when the ticker has ended: after a stop, or because the store cannot be written."""

        self.random = random.Random(seed)  # noqa: S311 - must be repeatable
        self._store = store
        self._actions: dict[str, Action] = {}
        self._heap = [(due.at, due.id) for due in store.dues.values()]
        heapify(self._heap)
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stopping = False

    def register(self, step: str, action: Action) -> None:
        """Carry out `step` by calling `action`."""
        self._actions[step] = action

    def schedule(self, subject: str, step: str, *, extra: float = 0.0) -> float:
        """Schedule `step` for `subject` after the step's duration and `extra` seconds; return that instant."""
        return self.schedule_at(subject, step, time.time() + self._duration(step, extra))

    def schedule_at(self, subject: str, step: str, instant: float) -> float:
        """Schedule `step` for `subject` at `instant`, in place of the subject's pending step; return `instant`."""
        self._store.dues.put(Due(id=subject, step=step, at=instant))
        heappush(self._heap, (instant, subject))
        self._wake.set()
        return instant

    def cancel(self, subject: str) -> None:
        """Cancel the pending step of `subject`."""
        self._store.dues.drop(subject)

    async def run_due_steps(self) -> None:
        """Carry out every step that is due.

        When this returns, no step is half done, and none starts before the caller's next await.
        """
        async with self.pause():
            pass

    @asynccontextmanager
    async def pause(self) -> AsyncGenerator[None]:
        """Carry out every step that is due, then run no further step inside the block."""
        async with self._lock:
            while due_steps := self._pop_due_steps(time.time()):
                await self._store.commit()  # intents before effects
                for last in (False, True):
                    async with asyncio.TaskGroup() as group:
                        for due in due_steps:
                            if (due.step == LAST) is last:
                                group.create_task(self._carry_out(due))
            yield

    @asynccontextmanager
    async def start_ticker(self) -> AsyncGenerator[None]:
        """Carry out each step when it is due, until the block ends.

        A step that is running at the end of the block is finished first.

        Raises:
            sqlite3.Error: The store could not be written; `ended` was set at that moment, before the end of the block.
        """
        ticker = asyncio.get_running_loop().create_task(self._tick())  # a TaskGroup would wrap the block's errors
        ticker.add_done_callback(lambda _: self.ended.set())
        try:
            yield
        finally:
            self._stopping = True
            self._wake.set()
            await ticker

    async def _tick(self) -> None:
        while not self._stopping:
            self._wake.clear()
            await self.run_due_steps()
            await self._store.commit()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._heap[0][0] - time.time() if self._heap else None):
                    await self._wake.wait()

    def _duration(self, step: str, extra: float) -> float:
        if self.profile == "instant":
            return 0.0
        drawn = AWS_DURATIONS[step].draw(self.random) + extra
        if self.profile == "aws":
            return drawn
        stretched = drawn * self.random.uniform(0.05, 4.0)
        return stretched * _STUCK_FACTOR if step == "attached" and self.random.random() < 1 / 16 else stretched

    def _pop_due_steps(self, now: float) -> list[Due]:
        """Take the due steps off the heap, oldest first, without those that were postponed or cancelled since."""
        steps: dict[str, Due] = {}
        while self._heap and self._heap[0][0] <= now:
            at, subject = heappop(self._heap)
            due = self._store.dues.get(subject)
            if due is not None and due.at == at:
                steps[subject] = due
        return list(steps.values())

    async def _carry_out(self, due: Due) -> None:
        try:
            await self._actions[due.step](due.id)
        except Exception:
            log.exception("%s: step %r failed; retrying in %g s", due.id, due.step, RETRY)
            self.schedule_at(due.id, due.step, time.time() + RETRY)
        if self._store.dues.get(due.id) is due:
            self._store.dues.drop(due.id)
