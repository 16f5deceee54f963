"""Progress on stderr, and patience with other programs."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Final, TypeVar

from hyperpod_ebs.access.console import note
from hyperpod_ebs.driver.model import errors

T = TypeVar("T")

_QUIET: Final = 1.0
_INTERVAL: Final = 10.0
_PAUSE: Final = 0.5
"""Seconds before the first line, between lines, and between attempts."""


@contextmanager
def report_if_slow(doing: str) -> Generator[None]:
    """Print what is being done if the block takes more than a second, and the seconds since then every 10 s."""
    loop = asyncio.get_running_loop()
    start = loop.time()

    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal timer
        elapsed = loop.time() - start
        note(f"{doing} …" if elapsed < _INTERVAL else f"{doing} … ({elapsed:.0f} s)")
        timer = loop.call_later(_INTERVAL, tick)

    timer = loop.call_later(_QUIET, tick)
    try:
        yield
    finally:
        timer.cancel()


async def retry_while_busy(attempt: Callable[[], Awaitable[T]], patience: float) -> T:
    """Repeat an attempt for `patience` seconds while the device does not answer or another program has it.

    Raises:
        Unavailable: It still does not answer, or the device did not appear.
    """
    clock = asyncio.get_running_loop().time
    give_up, printed = clock() + patience, ""
    while True:
        try:
            return await attempt()
        except errors.DeviceNotReady:
            raise
        except errors.Unavailable as error:
            if clock() >= give_up:
                raise
            if printed != (printed := str(error)):
                note(f"{printed} (repeated for up to {patience:g} s)")
        await asyncio.sleep(_PAUSE)
