"""One operation per object at a time, shared by everyone who asks for the same.

The CO gives up on a slow call and asks again. The second call joins the first's
operation instead of queueing behind it or being told to go away; a call for
something else is refused with what runs and for how long. The operation belongs
to the driver, not to the call that began it: a cancelled call leaves it running
to be joined.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operation:
    """What is asked: two calls are identical when both fields are equal."""

    name: str
    terms: Hashable = ()


class Busy(Exception):  # noqa: N818 - reads as what happened
    """Another operation holds the object."""


@dataclass(slots=True)
class _Running:
    what: Operation
    task: asyncio.Task[Any]  # each key's operation has a result type of its own
    under: Hashable
    since: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        return f"{self.what.name} for {time.monotonic() - self.since:.1f} s"


class Operations(Generic[K]):
    """The operations under way; `async with` it, so that none outlives its owner.

    Between the look and the store there is no await, so a plain dict needs no lock.
    """

    def __init__(self) -> None:
        self._running: dict[K, _Running] = {}
        self._closed = False

    async def __aenter__(self) -> "Operations[K]":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel what still runs and wait for it; call `drain` first to let it finish."""
        self._closed = True
        while self._running:
            tasks = [running.task for running in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def run(
        self, key: K, what: Operation, act: Callable[[], Coroutine[Any, Any, T]], *, under: K | None = None
    ) -> T:
        """The result of `act`, or of the identical operation already under way on `key`.

        With `under`, `key` is a part of that object: parts are free of one another, but none is worked on while
        an operation holds the whole, nor the whole while one holds a part.

        Raises:
            Busy: A different operation holds `key`, its whole or a part of it, or the owner is closing.
            Exception: Whatever the operation raises, to each who joined it.
        """
        running = self._running.get(key)
        if running is None:
            if self._closed:
                raise Busy(f"{what.name} of {key}: stopping")
            if other := self._in_the_way(key, under):
                raise Busy(f"{what.name} of {key} has to wait: {other} is under way")
            task = asyncio.get_running_loop().create_task(act(), name=f"{what.name} {key}")
            running = self._running[key] = _Running(what, task, under)
            task.add_done_callback(lambda done: self._finish(key, done))
        elif running.what != what:
            raise Busy(f"{what.name} of {key} has to wait: {running} is under way")
        return cast("T", await asyncio.shield(running.task))

    async def drain(self, seconds: float) -> bool:
        """Start nothing new and wait for what runs; whether all of it finished in time."""
        self._closed = True
        if tasks := [running.task for running in self._running.values()]:
            await asyncio.wait(tasks, timeout=seconds)
        return not self._running

    def _in_the_way(self, key: K, under: K | None) -> _Running | None:
        """What holds the whole that `key` is a part of, or a part of `key`."""
        whole = self._running.get(under) if under is not None else None
        return whole or next((one for one in self._running.values() if one.under == key), None)

    def _finish(self, key: K, task: asyncio.Task[Any]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # someone may have stopped listening; that is no unretrieved error

    def __repr__(self) -> str:
        return "; ".join(f"{key}: {running}" for key, running in self._running.items()) or "idle"
