"""Ctrl-C and SIGTERM: the first signal ends the work, and later signals do not disturb the cleanup."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Self

_NAMES: Final = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interruption:
    """Whether the user or the system has asked this process to stop."""

    def __init__(self) -> None:
        """Use `Interruption.listen`."""
        self._received: signal.Signals | None = None
        self._scope: asyncio.Timeout | None = None

    @classmethod
    @contextmanager
    def listen(cls) -> Generator[Self]:
        """Listen for signals until the block ends; ignore them from then on if one was received."""
        interruption, loop = cls(), asyncio.get_running_loop()
        for number in _NAMES:
            loop.add_signal_handler(number, interruption._receive, number)
        try:
            yield interruption
        finally:
            for number in _NAMES:
                loop.remove_signal_handler(number)
                if interruption._received:  # the process is ending already
                    signal.signal(number, signal.SIG_IGN)

    @asynccontextmanager
    async def scope(self) -> AsyncGenerator[None]:
        """A block that a signal ends with a TimeoutError, at once if the signal came before the block."""
        async with asyncio.timeout(None) as scope:
            self._scope = scope
            self._end_scope()
            try:
                yield
            finally:
                self._scope = None

    @property
    def cause(self) -> str | None:
        """The signal received, as users call it; None if there was none."""
        return _NAMES[self._received] if self._received else None

    @property
    def exit_code(self) -> int:
        """The exit code of an interrupted program, by the shells' convention; 0 without a signal."""
        return 128 + self._received if self._received else 0

    def _receive(self, number: signal.Signals) -> None:
        if self._received is None:
            self._received = number
            self._end_scope()

    def _end_scope(self) -> None:
        if self._received and self._scope:
            self._scope.reschedule(asyncio.get_running_loop().time())
