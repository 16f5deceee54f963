"""Ctrl-C and SIGTERM: the first ends what is under way, and no second one disturbs the cleaning up."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Self

_WORDS: Final = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interruption:
    """Whether somebody wants us to stop."""

    def __init__(self) -> None:
        """Use `expected`."""
        self._by: signal.Signals | None = None
        self._scope: asyncio.Timeout | None = None

    @classmethod
    @contextmanager
    def expected(cls) -> Generator[Self]:
        """Signals are listened to until the block is left, and ignored from then on where one has come."""
        interruption, loop = cls(), asyncio.get_running_loop()
        for number in _WORDS:
            loop.add_signal_handler(number, interruption._come, number)
        try:
            yield interruption
        finally:
            for number in _WORDS:
                loop.remove_signal_handler(number)
                if interruption._by:  # we are ending already: a further one has nothing to add
                    signal.signal(number, signal.SIG_IGN)

    @asynccontextmanager
    async def ends(self) -> AsyncGenerator[None]:
        """A block that a signal ends, with a TimeoutError; one that came before, ends it at once."""
        async with asyncio.timeout(None) as scope:
            self._scope = scope
            self._end()
            try:
                yield
            finally:
                self._scope = None

    @property
    def words(self) -> str | None:
        """By what it came, for people; None while it has not."""
        return _WORDS[self._by] if self._by else None

    @property
    def code(self) -> int:
        """The exit code of a program that was ended so, as shells have it."""
        return 128 + self._by if self._by else 0

    def _come(self, number: signal.Signals) -> None:
        if self._by is None:
            self._by = number
            self._end()

    def _end(self) -> None:
        if self._by and self._scope:
            self._scope.reschedule(asyncio.get_running_loop().time())
