"""Filesystem calls that may hang, run off the event loop and with a deadline.

A dead block device hangs `stat` for ever, and a hanging thread cannot be ended. So each call gets a daemon thread of
its own: the loop continues when the deadline passes, and a stuck thread neither exhausts a pool nor delays exit. While
a thread is stuck on a path, further calls about that path fail at once. Otherwise a caller that asks every minute would
leave another stuck thread each time.
"""

import asyncio
import mmap
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DEADLINE: Final = 10.0
"""Seconds a filesystem call may take if the caller sets no other deadline."""

BLOCK: Final = 4096
"""Bytes of one direct read: a multiple of every logical block size in use."""


class Unresponsive(Exception):  # noqa: N818 - reads as what happened
    """A filesystem call did not come back within its deadline."""


async def off_loop(
    act: Callable[[*Ts], T],
    *args: *Ts,
    about: Path | str | None = None,
    deadline: float = DEADLINE,
    discard: Callable[[T], object] | None = None,
) -> T:
    """Call `act(*args)` in a thread of its own and return its result.

    Args:
        act: A function that may block.
        args: Its positional arguments.
        about: The path that the call may hang on, if the path may be on a dead device; or words for what may hang.
        deadline: Seconds after which the call is abandoned.
        discard: Called in a thread with the result of an abandoned call, to close what the call has opened.

    Raises:
        Unresponsive: The call did not return within `deadline` seconds and may still be running, or an earlier
            call about the same path is still stuck.
        Exception: Any exception of `act`.
    """
    stuck = f"stuck on {about}"
    # The names of the running threads are the register of stuck paths: a thread that ends leaves the register.
    if about and any(thread.name == stuck for thread in threading.enumerate()):
        raise Unresponsive(f"an earlier call about {about} still has no answer from the filesystem")
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[None] = loop.create_future()
    outcome: Future[T] = Future()

    def settle() -> None:
        if not answer.done():
            answer.set_result(None)

    def call() -> None:
        try:
            outcome.set_result(act(*args))
        except BaseException as raised:  # noqa: BLE001 - passed to the caller
            outcome.set_exception(raised)
        with suppress(RuntimeError):  # the loop is closed, and no caller waits any more
            loop.call_soon_threadsafe(settle)

    thread = threading.Thread(target=call, daemon=True, name="files")
    thread.start()
    try:
        async with asyncio.timeout(deadline):
            await answer
    except BaseException as error:
        if discard:
            _discard_off_loop(outcome, discard)
        if not isinstance(error, TimeoutError):
            raise
        thread.name = stuck
        raise Unresponsive(f"no answer from the filesystem within {deadline:g} s") from error
    return outcome.result()


def _discard_off_loop(outcome: Future[T], discard: Callable[[T], object]) -> None:
    """Discard the result, if there is one, as soon as it is there: in a new thread, or in the thread of the call."""

    def take(done: Future[T]) -> None:
        if done.exception() is None:
            discard(done.result())

    threading.Thread(target=outcome.add_done_callback, args=(take,), daemon=True, name="files").start()


async def read_direct(device: Path, *, offset: int = 0, size: int = BLOCK, deadline: float = DEADLINE) -> bytes:
    """Read `size` bytes of `device` from `offset`, bypassing the page cache; fewer at the device's end.

    `offset` and `size` are multiples of `BLOCK`.

    Raises:
        OSError: The device cannot be opened or read.
        Unresponsive: The device does not answer.
    """

    def read() -> bytes:
        handle = os.open(device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            with mmap.mmap(-1, size) as buffer:  # O_DIRECT needs page-aligned memory
                count = os.preadv(handle, [buffer], offset)
                return buffer[:count]
        finally:
            os.close(handle)

    return await off_loop(read, about=device, deadline=deadline)
