"""One watcher for all operations that wait for AWS: it describes their volumes together and wakes each on its own.

A waiting operation registers a volume, a transition, and a condition. A task describes all waited-for volumes together,
as often as their `Pace` finds a call worthwhile, and wakes each operation whose condition is met. Failed polls slow the
pace and do not fail an operation. If IAM denies a poll, each operation fails at once and names the missing permission:
to wait longer does not help. A poll counts only for operations that registered before it began: an answer from an
earlier poll may show what was true before the operation's request to AWS.

EC2 describes volumes and modifications by two actions with a request budget each. So each has its own pace and task.
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
from hyperpod_ebs.driver.volumes.pace import BATCH_SIZE, PRIORS, Belief, Pace, PendingWait, Transition

T = TypeVar("T")

log = structlog.get_logger(__name__)

POLL_TIMEOUT: Final = 6.0
"""Seconds for one poll: all operations wait for it, so a dead connection must not delay them for long."""


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
    ) -> None:
        """`describe` takes up to 200 ids and leaves out unknown ones; `beliefs` say how long transitions take."""
        self._describe = describe
        self._pace = Pace(dict(beliefs))
        self._waiters: set[_Waiter[T]] = set()
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
        now = loop.time()
        waiter = _Waiter(volume_id, transition, is_reached, loop.create_future(), now, now)
        self._waiters.add(waiter)
        self._arrival.set()
        try:
            async with asyncio.timeout(patience):
                return await waiter.result
        finally:
            self._waiters.discard(waiter)

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
        while True:
            self._arrival.clear()
            waits = [waiter.wait for waiter in self._waiters]
            due = self._pace.next_poll(waits, self._last_poll) if waits else None
            try:
                async with asyncio.timeout_at(due):
                    await self._arrival.wait()
            except TimeoutError:
                return

    async def _poll(self) -> None:
        """Describe all waited-for objects and wake the operations whose condition is met."""
        self._last_poll = asyncio.get_running_loop().time()
        waiters = tuple(self._waiters)
        failure = None
        for ids in _batches({waiter.volume_id for waiter in waiters}):
            readable = ids
            try:
                async with asyncio.timeout(POLL_TIMEOUT):
                    found = await self._describe(ids)
            except PartlyRead as partly:  # only the waiters of unreadable objects keep waiting
                log.warning("cannot read some of the polled objects", error=str(partly))
                found, readable = partly.found, ids - partly.unread
            except errors.Denied as denied:
                self._fail((waiter for waiter in waiters if waiter.volume_id in ids), denied)
                continue
            except (errors.Error, TimeoutError) as error:
                failure = error
                continue
            self._wake((waiter for waiter in waiters if waiter.volume_id in readable), found)
        if failure:
            self._pace.note_failure()
            log.warning("poll failed", error=str(failure), waiting=len(waiters))
        else:
            self._pace.note_success()

    def _wake(self, waiters: Iterator[_Waiter[T]], found: Mapping[str, T]) -> None:
        for waiter in waiters:
            if waiter.result.done():
                continue
            description = found.get(waiter.volume_id)
            try:
                is_reached = waiter.is_reached(description)
            except Exception as error:  # noqa: BLE001 - a bug in one waiter must not stop the others
                waiter.result.set_exception(error)
                continue
            if is_reached:
                self._pace.learn(waiter.wait, self._last_poll)
                waiter.result.set_result(description)
            else:
                self._pace.note_incomplete(waiter.wait)
            waiter.polled = self._last_poll

    def _fail(self, waiters: Iterator[_Waiter[T]], denied: errors.Denied) -> None:
        for waiter in waiters:
            if not waiter.result.done():
                waiter.result.set_exception(errors.Denied(f"cannot wait for volume {waiter.volume_id}: {denied.why}"))


class Watcher:
    """Waits for volumes and modifications; its tasks run as long as the `async with` block."""

    def __init__(self, cloud: Cloud, beliefs: Mapping[Transition, Belief] = PRIORS) -> None:
        self._volumes = Poller[Volume](cloud.describe_volumes, beliefs)
        self._modifications = Poller[Modification](cloud.describe_modifications, beliefs)
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


def _batches(ids: Collection[str]) -> Iterator[frozenset[str]]:
    ordered = sorted(ids)
    return (frozenset(ordered[start : start + BATCH_SIZE]) for start in range(0, len(ordered), BATCH_SIZE))


def _stopped_error(volume_id: str) -> errors.Unavailable:
    return errors.Unavailable(f"cannot wait for volume {volume_id}: the controller is stopping; try again")
