"""An event loop whose clock jumps to the next timer.

Waits of minutes take no time, and end at exact instants.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class JumpingSelector(selectors.DefaultSelector):
    """A selector that never waits: it moves its clock forward by the timeout instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The files that are ready now."""
        self.now += max(timeout or 0.0, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with the clock of a `JumpingSelector`."""

    def __init__(self) -> None:
        self._selector_with_clock = JumpingSelector()
        super().__init__(self._selector_with_clock)

    def time(self) -> float:
        """Seconds of virtual time since the loop was created."""
        return self._selector_with_clock.now


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a clock that starts at 0; its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def now() -> float:
    """The time of the running loop."""
    return asyncio.get_running_loop().time()
