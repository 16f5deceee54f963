"""A process on the machine that keeps replacing a directory with a symbolic link."""

import ctypes
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


def exchange(one: Path, other: Path) -> None:
    """Exchange two names in one step, so that both always exist (rename(2), RENAME_EXCHANGE)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(one))


@contextmanager
def keep_swapping(directory: Path, link: Path) -> Generator[None]:
    """Exchange a directory and a symbolic link again and again while the block runs; at the end both are in place."""
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(directory, link)
            exchange(directory, link)

    thread = threading.Thread(target=swap, name="swap")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
