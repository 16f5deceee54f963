"""An exclusive lock on a directory, between processes; the kernel releases it when its holder ends."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_directory(directory: Path) -> Generator[int]:
    """Hold the lock on `directory` within the block, after waiting for its current holder.

    Yields:
        The lock's descriptor.

    Raises:
        OSError: The directory cannot be opened.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)
