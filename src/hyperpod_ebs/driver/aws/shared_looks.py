"""One call to AWS for all callers that ask for objects of one kind at about the same time (decision 0047).

A caller asks for a key: an id, or a name. If no call of the kind is running, the call is sent at once. Otherwise the
keys gather for some milliseconds, longer with each call that follows a running one, or until the call is full. A look
that is followed by something that has to wait anyway can be patient, and gather longer.

An answer counts only for callers that asked before its call was sent: it may show what was true a moment ago. So a call
takes its keys when it is sent. Until then, further callers join it, however long it waits for its turn.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit import operations

Shape = TypeVar("Shape")

FIRST_GATHERING: Final = 0.005
"""Seconds for which keys gather while a call that did not have to gather keys is running."""

GATHERING: Final = 0.05
"""Seconds for which keys gather, at most, while other calls of the kind are running.

EC2 refills the budget of a describing action by 20 calls a second (EC2 developer guide, "Request throttling").
"""

PATIENT_SHARE: Final = 0.25
"""The part of the wait that follows a patient look for which its keys gather."""

MAX_PATIENCE: Final = 5.0
"""Seconds for which the keys of a patient look gather, at most."""

MAX_KEYS: Final = 200
"""Values that EC2 accepts in a filter."""

TakeKeys = Callable[[], Collection[str]]
"""Returns the keys of a call when it is sent, and the same keys when the call is repeated."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call, from its first caller to its end."""

    keys: set[str] = field(default_factory=set)
    callers: int = 0
    is_open: bool = True
    """Whether callers can join the call, because it is not sent yet."""
    patience: float = 0.0
    """Seconds for which keys gather even if no other call of the kind is running."""
    is_full: asyncio.Event = field(default_factory=asyncio.Event)


class SharedLooks(Generic[Shape]):
    """The looks at objects of one kind. A call ends when it is answered, or when its last caller leaves."""

    def __init__(
        self,
        action: str,
        describe: Callable[[TakeKeys], Awaitable[Iterable[tuple[str, Shape]]]],
        wait_after: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Share the calls that `describe` makes.

        Args:
            action: What `describe` does, as its messages say it after "cannot": `describe volumes`.
            describe: Returns what AWS shows of each key. It takes the keys when it sends its first request.
            wait_after: Returns the seconds for which the callers will have to wait after their look.
        """
        self._wait_after = wait_after
        self._action = action
        self._describe = describe
        self._gathering = FIRST_GATHERING
        self._tasks: dict[_Call, asyncio.Task[Mapping[str, list[Shape]]]] = {}

    async def look(self, key: str, action: str) -> list[Shape]:
        """What AWS shows of the key in a call that is sent after this request; empty if AWS shows nothing.

        Args:
            key: What the caller asks for.
            action: What the caller does, for messages that begin with "cannot": `describe volume vol-1`.

        Raises:
            Busy: The operation that looks has to give way.
            Error: As the call does, with the caller's action in the message.
        """

        def describe_wait() -> str:
            return f"the call to {self._action} waits for its turn" if call.is_open else ""

        call = self._open_call(key) or self._start_call()
        task = self._tasks[call]
        call.keys.add(key)
        call.callers += 1
        if len(call.keys) == MAX_KEYS:
            call.is_full.set()
        try:
            with operations.waiting(describe_wait, may_give_way=True):
                return (await asyncio.shield(task)).get(key, [])
        except errors.Error as error:
            message = str(error).replace(f"cannot {self._action}: ", f"cannot {action}: ", 1)
            raise error.with_message(message) from error
        finally:
            call.callers -= 1
            if not call.callers and not task.done():
                call.is_open = False
                task.cancel()
                await asyncio.wait([task])

    def _open_call(self, key: str) -> _Call | None:
        """The call that a caller of this key joins: one that asks for the key already, or one with room."""
        calls = [call for call in self._tasks if call.is_open]
        same = (call for call in calls if key in call.keys)
        return next(same, None) or next((call for call in calls if len(call.keys) < MAX_KEYS), None)

    def _start_call(self) -> _Call:
        call = _Call(patience=min(PATIENT_SHARE * self._wait_after(), MAX_PATIENCE))
        self._tasks[call] = task = asyncio.get_running_loop().create_task(self._run(call), name=self._action)
        task.add_done_callback(lambda _: self._end(call))
        return call

    async def _run(self, call: _Call) -> Mapping[str, list[Shape]]:
        if gathering := call.patience or self._lengthen_gathering():
            with suppress(TimeoutError):
                async with asyncio.timeout(gathering):
                    await call.is_full.wait()

        def take_keys() -> Collection[str]:
            call.is_open = False
            return call.keys

        found: defaultdict[str, list[Shape]] = defaultdict(list)
        for key, shape in await self._describe(take_keys):
            found[key].append(shape)
        return found

    def _lengthen_gathering(self) -> float:
        """Return how many seconds to gather keys: none if no call is running, else twice as many each time."""
        if all(call.is_open for call in self._tasks):
            self._gathering = FIRST_GATHERING
            return 0.0
        gathering, self._gathering = self._gathering, min(2 * self._gathering, GATHERING)
        return gathering

    def _end(self, ended: _Call) -> None:
        """Forget the call."""
        task = self._tasks.pop(ended)
        if not task.cancelled():
            task.exception()  # retrieve it: if the last caller has just left, asyncio would log it as never retrieved
