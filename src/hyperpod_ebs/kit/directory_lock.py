"""One at a time in a directory, among all processes of ours: the kernel lets go when the holder dies."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_directory(directory: Path) -> Generator[int]:
    """Nobody else of ours looks and then acts in `directory` meanwhile; who comes second waits. The lock's handle.

    Raises:
        OSError: The directory cannot be opened.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)
