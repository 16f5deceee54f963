"""One watcher for all operations that wait for AWS: it describes their volumes together and wakes each on its own.

A waiting operation registers a volume, a transition, and a condition. A task describes the waited-for volumes together,
as often as their `Pace` finds a call worthwhile, and wakes each operation whose condition is met. Failed polls slow the
pace and do not fail an operation. If IAM denies a poll, each operation fails at once and names the missing permission:
to wait longer does not help. A poll counts only for operations that registered before it began: an answer from an
earlier poll may show what was true before the operation's request to AWS.

EC2 describes volumes and modifications by two actions with a request budget each. So each has its own pace and task.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Generic, Self, TypeVar

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.volume import Modification, Volume
from hyperpod_ebs.driver.volumes.budget import documented_limit
from hyperpod_ebs.driver.volumes.cloud import Cloud, PartlyRead
from hyperpod_ebs.driver.volumes.governor import latest_call_sent_at
from hyperpod_ebs.driver.volumes.pace import (
    BATCH_SIZE,
    PRIORS,
    Belief,
    Pace,
    PendingWait,
    Transition,
)

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Waiter(Generic[T]):
    volume_id: str
    transition: Transition
    is_reached: Callable[[T | None], bool]
    result: asyncio.Future[T | None]
    since: float
    polled: float

    @property
    def wait(self) -> PendingWait:
        return PendingWait(transition=self.transition, since=self.since, polled=self.polled)


class Poller(Generic[T]):
    """Polls all objects of one kind that operations wait for."""

    def __init__(
        self,
        describe: Callable[[Collection[str]], Awaitable[Mapping[str, T]]],
        beliefs: Mapping[Transition, Belief] = PRIORS,
        rate: Callable[[], float] = lambda: documented_limit("DescribeVolumes").rate,
        delay: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Poll by calls of `describe`.

        Args:
            describe: Takes up to 200 ids, and leaves out unknown ones. It waits for its turn to call AWS, and then for
                the answer: all operations wait for it, so a lost answer must not delay it for long.
            beliefs: How long transitions take.
            rate: Returns how many calls of `describe` AWS accepts a second.
            delay: Returns for how many seconds a change waits for its turn at AWS.
        """
        self._describe = describe
        self._pace = Pace(dict(beliefs))
        self._rate = rate
        self._delay = delay
        self._waiters: set[_Waiter[T]] = set()
        self._arrived: set[_Waiter[T]] = set()
        self._arrival = asyncio.Event()
        self._last_poll = -math.inf
        self._has_stopped = False

    async def wait_until(
        self, volume_id: str, transition: Transition, is_reached: Callable[[T | None], bool], *, patience: float
    ) -> T | None:
        """Wait until `is_reached` is true of a description, and return it; None describes an absent object.

        Raises:
            TimeoutError: `patience` seconds have passed.
            Denied: IAM denies the description.
            Unavailable: The poller has stopped.
        """
        if self._has_stopped:
            raise _stopped_error(volume_id)
        loop = asyncio.get_running_loop()
        sent_at = latest_call_sent_at()
        since = loop.time() if sent_at is None else sent_at
        waiter = _Waiter(volume_id, transition, is_reached, loop.create_future(), since, since)
        self._waiters.add(waiter)
        self._arrived.add(waiter)
        self._arrival.set()
        try:
            async with asyncio.timeout(patience):
                return await waiter.result
        finally:
            self._waiters.discard(waiter)
            self._arrived.discard(waiter)

    async def run(self) -> None:
        """Poll whenever it is worthwhile, until cancelled; then fail the operations that still wait."""
        try:
            while True:
                await self._wait_until_due()
                await self._poll()
        finally:
            self._has_stopped = True
            for waiter in self._waiters:
                if not waiter.result.done():
                    waiter.result.set_exception(_stopped_error(waiter.volume_id))

    async def _wait_until_due(self) -> None:
        """Wait until a poll is worthwhile.

        An arrival can only bring the poll forward. So the time for those that waited before is computed once for each
        poll: with thousands of waiting operations, it would cost too much to compute it again at each arrival.
        """
        due = math.inf
        self._arrived = {waiter for waiter in self._waiters if not waiter.result.done()}
        while True:
            due = min(due, self._next_poll(self._arrived))
            self._arrived.clear()
            self._arrival.clear()
            try:
                async with asyncio.timeout_at(due if math.isfinite(due) else None):
                    await self._arrival.wait()
            except TimeoutError:
                if self._waiters:
                    return
                due = math.inf

    def _next_poll(self, arrived: Collection[_Waiter[T]]) -> float:
        """When to poll for operations that have arrived."""
        if not arrived:
            return math.inf
        soonest = self._last_poll + self._pace.min_gap(len(self._waiters), self._rate())
        return self._pace.next_poll([waiter.wait for waiter in arrived], soonest, self._delay())

    async def _poll(self) -> None:
        """Describe waited-for objects in one call, and wake the operations whose condition is met."""
        self._last_poll = asyncio.get_running_loop().time()
        ids = self._likely_complete()
        waiters = [waiter for waiter in self._waiters if waiter.volume_id in ids]
        unread: Collection[str] = ()
        try:
            found = await self._describe(ids)
        except PartlyRead as partly:  # only the waiters of unreadable objects keep waiting
            log.warning("cannot read some of the polled objects", error=str(partly))
            found, unread = partly.found, partly.unread
        except errors.Denied as denied:
            self._pace.note_success()
            self._fail(waiters, denied)
            return
        except errors.Error as error:
            self._pace.note_failure()
            log.warning("poll failed", error=str(error), waiting=len(waiters))
            return
        self._pace.note_success()
        for waiter in waiters:
            if waiter.volume_id in unread:
                self._pace.note_incomplete(waiter.wait)
            else:
                self._wake(waiter, found.get(waiter.volume_id))
            waiter.polled = self._last_poll

    def _likely_complete(self) -> Collection[str]:
        """The ids that the next call describes: those whose transitions are most probably complete."""
        ids = {waiter.volume_id for waiter in self._waiters}
        if len(ids) <= BATCH_SIZE:
            return ids
        unseen = {waiter: self._pace.unseen(waiter.wait, self._last_poll) for waiter in self._waiters}
        ordered = dict.fromkeys(waiter.volume_id for waiter in sorted(unseen, key=unseen.__getitem__, reverse=True))
        return frozenset(islice(ordered, BATCH_SIZE))

    def _wake(self, waiter: _Waiter[T], description: T | None) -> None:
        """Wake the waiter if the description meets its condition."""
        if waiter.result.done():
            return
        try:
            is_reached = waiter.is_reached(description)
        except Exception as error:  # noqa: BLE001 - a bug in one waiter must not stop the others
            waiter.result.set_exception(error)
            return
        if is_reached:
            self._pace.learn(waiter.wait, self._last_poll)
            waiter.result.set_result(description)
        else:
            self._pace.note_incomplete(waiter.wait)

    def _fail(self, waiters: Collection[_Waiter[T]], denied: errors.Denied) -> None:
        for waiter in waiters:
            if not waiter.result.done():
                waiter.result.set_exception(errors.Denied(f"cannot wait for volume {waiter.volume_id}: {denied.why}"))


class Watcher:
    """Waits for volumes and modifications; its tasks run as long as the `async with` block."""

    def __init__(
        self,
        cloud: Cloud,
        beliefs: Mapping[Transition, Belief] = PRIORS,
        rate: Callable[[str], float] = lambda action: documented_limit(action).rate,
        delay: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Wait for the objects of `cloud`.

        Args:
            cloud: Describes the objects.
            beliefs: How long transitions take.
            rate: Returns how many calls of an action AWS accepts a second.
            delay: Returns for how many seconds a change waits for its turn at AWS.
        """
        self._volumes = Poller[Volume](cloud.describe_volumes, beliefs, lambda: rate("DescribeVolumes"), delay)
        self._modifications = Poller[Modification](
            cloud.describe_modifications, beliefs, lambda: rate("DescribeVolumesModifications"), delay
        )
        self._group = asyncio.TaskGroup()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        runs = {"volumes": self._volumes.run(), "modifications": self._modifications.run()}
        self._tasks = tuple(self._group.create_task(run, name=f"poll {what}") for what, run in runs.items())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if isinstance(error, asyncio.CancelledError):  # perhaps from the group, because a poller died
            await self._group.__aexit__(kind, error, trace)
        else:  # an error of the block itself leaves unchanged, outside of an exception group
            await self._group.__aexit__(None, None, None)

    async def wait_for_volume(
        self, volume_id: str, transition: Transition, is_reached: Callable[[Volume | None], bool], *, patience: float
    ) -> Volume | None:
        """Wait until `is_reached` is true of the volume, and return the volume; None stands for no volume.

        Raises:
            TimeoutError: `patience` seconds have passed.
            Denied: IAM denies the description.
            Unavailable: The watcher has stopped.
        """
        return await self._volumes.wait_until(volume_id, transition, is_reached, patience=patience)

    async def wait_for_modification(
        self, volume_id: str, is_reached: Callable[[Modification | None], bool], *, patience: float
    ) -> Modification | None:
        """Wait until `is_reached` is true of the volume's latest modification, and return it; None stands for none.

        Raises:
            TimeoutError: `patience` seconds have passed.
            Denied: IAM denies the description.
            Unavailable: The watcher has stopped.
        """
        return await self._modifications.wait_until(volume_id, Transition.MODIFY, is_reached, patience=patience)


def _stopped_error(volume_id: str) -> errors.Unavailable:
    return errors.Unavailable(f"cannot wait for volume {volume_id}: the controller is stopping; try again")
