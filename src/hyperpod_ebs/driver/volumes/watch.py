"""One watcher for all that waits on AWS: everyone described together, woken one by one.

A waiting operation says which volume, which transition, and what it hopes to see.
A task asks AWS for all of these volumes together, as often as their `Pace` finds it
worth a call, and wakes each operation whose hope came true. Looks that fail slow the
pace and harm nobody. A look serves only those who registered before it began: an
older answer may show what was true before the cloud was asked.

Volumes and modifications are described by two actions of EC2, each with a budget of
its own, and so with a pace and a task of its own.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.volume import Modification, Volume
from hyperpod_ebs.driver.volumes.cloud import Cloud, PartlyRead
from hyperpod_ebs.driver.volumes.pace import BATCH, PRIORS, Belief, Pace, Transition, Waiting

T = TypeVar("T")

log = structlog.get_logger(__name__)

ANSWER: Final = 6.0
"""Seconds that one look may take: everyone waits for it, so that one dead connection must not hold them up for long."""


@dataclass(slots=True, eq=False)
class _Waiter(Generic[T]):
    volume_id: str
    transition: Transition
    reached: Callable[[T | None], bool]
    woken: asyncio.Future[T | None]
    since: float
    looked: float

    @property
    def waiting(self) -> Waiting:
        return Waiting(transition=self.transition, since=self.since, looked=self.looked)


class Watched(Generic[T]):
    """Those who wait for one kind of object."""

    def __init__(
        self,
        describe: Callable[[Collection[str]], Awaitable[Mapping[str, T]]],
        beliefs: Mapping[Transition, Belief] = PRIORS,
    ) -> None:
        """`describe` answers up to 200 ids, and an unknown one is absent; `beliefs` is what is known of the times."""
        self._describe = describe
        self._pace = Pace(dict(beliefs))
        self._waiters: set[_Waiter[T]] = set()
        self._arrival = asyncio.Event()
        self._last = -math.inf
        self._stopped = False

    async def wait(
        self, volume_id: str, transition: Transition, reached: Callable[[T | None], bool], *, patience: float
    ) -> T | None:
        """What was seen of `volume_id` when `reached` was first true; None stands for nothing at all.

        Raises:
            TimeoutError: It was not within `patience` seconds.
            Unavailable: The watcher has stopped.
        """
        if self._stopped:
            raise _stopped(volume_id)
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiter = _Waiter(volume_id, transition, reached, loop.create_future(), now, now)
        self._waiters.add(waiter)
        self._arrival.set()
        try:
            async with asyncio.timeout(patience):
                return await waiter.woken
        finally:
            self._waiters.discard(waiter)

    async def run(self) -> None:
        """Look whenever it is worth it, for ever; whoever still waits at the end is told."""
        try:
            while True:
                await self._due()
                await self._look()
        finally:
            self._stopped = True
            for waiter in self._waiters:
                if not waiter.woken.done():
                    waiter.woken.set_exception(_stopped(waiter.volume_id))

    async def _due(self) -> None:
        """Return when the next look is due."""
        while True:
            self._arrival.clear()
            waiting = [waiter.waiting for waiter in self._waiters]
            due = self._pace.next_look(waiting, self._last) if waiting else None
            try:
                async with asyncio.timeout_at(due):
                    await self._arrival.wait()
            except TimeoutError:
                return

    async def _look(self) -> None:
        """Describe all that are waited for and wake those whose state has come."""
        self._last = asyncio.get_running_loop().time()
        asked = tuple(self._waiters)
        failed = None
        for ids in _batches({waiter.volume_id for waiter in asked}):
            shown = ids
            try:
                async with asyncio.timeout(ANSWER):
                    seen = await self._describe(ids)
            except PartlyRead as some:  # the others' waiting is not to suffer
                log.warning("some of what is waited for cannot be read", error=str(some))
                seen, shown = some.found, ids - some.unread
            except (errors.Error, TimeoutError) as error:
                failed = error
                continue
            self._wake((waiter for waiter in asked if waiter.volume_id in shown), seen)
        if failed:
            self._pace.failed()
            log.warning("look at waiting volumes failed", error=str(failed), waiting=len(asked))
        else:
            self._pace.succeeded()

    def _wake(self, waiters: Iterator[_Waiter[T]], seen: Mapping[str, T]) -> None:
        for waiter in waiters:
            if waiter.woken.done():
                continue
            found = seen.get(waiter.volume_id)
            try:
                reached = waiter.reached(found)
            except Exception as error:  # noqa: BLE001 - one waiter's mistake is its own, not the watcher's death
                waiter.woken.set_exception(error)
                continue
            if reached:
                self._pace.learn(waiter.waiting, self._last)
                waiter.woken.set_result(found)
            else:
                self._pace.missed(waiter.waiting)
            waiter.looked = self._last


class Watcher:
    """All waiting on AWS. The tasks live as long as the `async with`."""

    def __init__(self, cloud: Cloud, beliefs: Mapping[Transition, Belief] = PRIORS) -> None:
        self._volumes = Watched[Volume](cloud.volumes, beliefs)
        self._modifications = Watched[Modification](cloud.modifications, beliefs)
        self._group = asyncio.TaskGroup()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        runs = {"volumes": self._volumes.run(), "modifications": self._modifications.run()}
        self._tasks = tuple(self._group.create_task(run, name=f"watch {what}") for what, run in runs.items())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if isinstance(error, asyncio.CancelledError):  # by the group, if one of ours died; it knows which
            await self._group.__aexit__(kind, error, trace)
        else:  # the block's own error leaves as it is, in no group
            await self._group.__aexit__(None, None, None)

    async def volume(
        self, volume_id: str, transition: Transition, reached: Callable[[Volume | None], bool], *, patience: float
    ) -> Volume | None:
        """The volume as it was when `reached` was first true of it; None where that was its absence.

        Raises:
            TimeoutError: It was not within `patience` seconds.
            Unavailable: The watcher has stopped.
        """
        return await self._volumes.wait(volume_id, transition, reached, patience=patience)

    async def modification(
        self, volume_id: str, reached: Callable[[Modification | None], bool], *, patience: float
    ) -> Modification | None:
        """The volume's latest modification as it was when `reached` was first true of it.

        Raises:
            TimeoutError: It was not within `patience` seconds.
            Unavailable: The watcher has stopped.
        """
        return await self._modifications.wait(volume_id, Transition.MODIFY, reached, patience=patience)


def _batches(ids: Collection[str]) -> Iterator[frozenset[str]]:
    ordered = sorted(ids)
    return (frozenset(ordered[start : start + BATCH]) for start in range(0, len(ordered), BATCH))


def _stopped(volume_id: str) -> errors.Unavailable:
    return errors.Unavailable(f"volume {volume_id} is no longer watched: the controller is stopping; try again")
