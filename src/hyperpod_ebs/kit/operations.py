"""Run one operation per object at a time, and share it among all callers that ask for the same.

A container orchestrator gives up on a slow call and repeats it. The repeated call joins the operation of the first
call; it does not queue behind it and is not refused. A call for something else is refused, with the name and the start
of the running operation. The operation belongs to the driver and not to the call that started it: if the call is
cancelled, the operation continues, and a repeated call can join it.

An operation that no caller waits for must not hold up what undoes it. So a call may pre-empt such an operation, which
then ends where its `Interruption` allows it: between its requests, and never while the effect of one is unknown.

A part of an operation that waits can say what it waits for (`waiting`). A caller that gives up learns it from
`joined_wait`. An operation that runs another one waits for the same as that one.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Generator, Hashable
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operation:
    """What a call asks for: two calls are identical if both fields are equal."""

    name: str
    terms: Hashable = ()


class Busy(Exception):  # noqa: N818 - named for what happened
    """Another operation holds the object."""


class Interruption:
    """Ends an operation, but only while it does nothing but wait."""

    def __init__(self) -> None:
        self._waiting_task: asyncio.Task[Any] | None = None
        self.is_requested = False

    @contextmanager
    def allow(self) -> Generator[None]:
        """Let the operation be ended while the block waits.

        Raises:
            Busy: The operation has to give way.
        """
        if self.is_requested:
            raise Busy("the operation has given way to another one; try again")
        outer, self._waiting_task = self._waiting_task, asyncio.current_task()
        try:
            yield
        finally:
            self._waiting_task = outer

    def request(self) -> None:
        """End the operation now if it waits, otherwise before it waits the next time."""
        self.is_requested = True
        if self._waiting_task is not None:
            self._waiting_task.cancel()


@dataclass(slots=True)
class _Running:
    operation: Operation
    task: asyncio.Task[Any]  # each key's operation has a result type of its own
    part_of: Hashable
    interruption: Interruption | None
    callers: int = 0
    describe_wait: Callable[[], str] | None = None
    """Returns what the operation waits for now."""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def current_wait(self) -> str:
        """What the operation waits for now; empty if it does not say."""
        return self.describe_wait() if self.describe_wait else ""

    def __str__(self) -> str:
        # A time instead of an age: Kubernetes counts an event that repeats only if its text stays the same.
        return f"{self.operation.name} has been running since {self.since:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True)
class OperationState:
    """A running operation at one moment."""

    name: str
    key: str
    since: datetime
    callers: int
    waits_for: str
    """A clause, if the operation waits for its turn; otherwise empty."""


_OPERATION: ContextVar[_Running | None] = ContextVar("operation", default=None)
"""The operation of which the current code is a part."""

_JOINED: ContextVar[_Running | None] = ContextVar("joined", default=None)
"""The operation that the current task has joined last."""


@contextmanager
def waiting(describe: Callable[[], str], *, may_give_way: bool) -> Generator[None]:
    """Say what the operation waits for while the block waits; outside of an operation's own task, do nothing.

    Args:
        describe: Returns what the operation waits for, as a clause for an error message.
        may_give_way: Whether the operation may be ended by its `Interruption` meanwhile.

    Raises:
        Busy: The operation has to give way.
    """
    running = _OPERATION.get()
    if running is None or running.task is not asyncio.current_task():
        yield
        return
    running.describe_wait = describe
    try:
        with running.interruption.allow() if may_give_way and running.interruption else nullcontext():
            yield
    finally:
        running.describe_wait = None


def has_joined() -> bool:
    """Whether the current task has joined an operation."""
    return _JOINED.get() is not None


def joined_wait() -> str:
    """What the operation waits for that the current task has joined last; empty if it does not say."""
    running = _JOINED.get()
    return running.current_wait() if running else ""


class Operations(Generic[K]):
    """The running operations; with `async with`, none of them outlives its owner.

    No await separates the check of the dict from its change, so the dict needs no lock.
    """

    def __init__(self) -> None:
        self._running: dict[K, _Running] = {}
        self._is_closed = False

    async def __aenter__(self) -> "Operations[K]":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel the running operations and wait for them; call `drain` first to let them finish."""
        self._is_closed = True
        while self._running:
            tasks = [running.task for running in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def run(  # noqa: PLR0913 - the last three are rarely given
        self,
        key: K,
        operation: Operation,
        act: Callable[[], Coroutine[Any, Any, T]],
        *,
        part_of: K | None = None,
        interruption: Interruption | None = None,
        preempts: Collection[str] = (),
    ) -> T:
        """Run `act`, or join the identical operation that is running on `key`; the result.

        With `part_of`, `key` is a part of that object. Operations on two parts run at the same time, but no operation
        on a part runs together with one on the whole object.

        With `preempts`, a running operation of one of these names ends first, if it has an interruption and no caller
        waits for it.

        Raises:
            Busy: A different operation holds `key`, its whole or a part of it, or the owner is closing.
            Exception: The error of the operation, for each caller that joined it.
        """
        await self._preempt(key, operation, preempts)
        running = self._running.get(key)
        if running is None:
            if self._is_closed:
                raise Busy(f"cannot start {operation.name} of {key}: the process is stopping")
            if other := self._conflict(key, part_of):
                raise Busy(f"{operation.name} of {key} has to wait: {other}")
            context, name = copy_context(), f"{operation.name} {key}"
            task = asyncio.get_running_loop().create_task(act(), name=name, context=context)
            running = self._running[key] = _Running(operation, task, part_of, interruption)
            context.run(_OPERATION.set, running)  # before the task starts
            task.add_done_callback(lambda finished: self._remove(key, finished))
        elif running.operation != operation or (running.interruption and running.interruption.is_requested):
            raise Busy(f"{operation.name} of {key} has to wait: {running}")
        _JOINED.set(running)
        running.callers += 1
        try:
            with waiting(running.current_wait, may_give_way=False):
                return cast("T", await asyncio.shield(running.task))
        finally:
            running.callers -= 1

    def states(self) -> list[OperationState]:
        """The running operations, the oldest first."""
        return [
            OperationState(
                name=running.operation.name,
                key=str(key),
                since=running.since,
                callers=running.callers,
                waits_for=running.current_wait(),
            )
            for key, running in self._running.items()
        ]

    async def drain(self, seconds: float) -> bool:
        """Start nothing new and wait for the running operations; whether all of them finished in time."""
        self._is_closed = True
        if tasks := [running.task for running in self._running.values()]:
            await asyncio.wait(tasks, timeout=seconds)
        return not self._running

    async def _preempt(self, key: K, operation: Operation, names: Collection[str]) -> None:
        """End the operation on `key` that no caller waits for, if it has one of these names, and wait for its end."""
        while (
            (running := self._running.get(key))
            and running.operation.name in names
            and running.operation != operation
            and running.interruption
            and not running.callers
        ):
            running.interruption.request()
            await asyncio.wait([running.task])

    def _conflict(self, key: K, part_of: K | None) -> _Running | None:
        """The operation that holds the whole of which `key` is a part, or a part of `key`."""
        whole = self._running.get(part_of) if part_of is not None else None
        return whole or next((running for running in self._running.values() if running.part_of == key), None)

    def _remove(self, key: K, task: asyncio.Task[Any]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # retrieve it: if no caller listens any more, asyncio would log it as never retrieved

    def __repr__(self) -> str:
        return "; ".join(f"{key}: {running}" for key, running in self._running.items()) or "idle"
