"""Copies of backing files: clones where the filesystem shares blocks between files, plain copies elsewhere."""

import fcntl
import os
import tempfile
from enum import Enum
from pathlib import Path
from typing import Final

_FICLONE: Final = 0x40049409


class CopyMethod(Enum):
    """How a backing file is copied."""

    HOST = "clones on the state directory's own filesystem"
    XFS = "clones on an XFS in a file"
    COPY = "plain copies: slow, and not an exact point in time while a node writes"


def can_clone(directory: Path) -> bool:
    """Whether the filesystem of the directory shares blocks between files."""
    with tempfile.TemporaryFile(dir=directory) as source, tempfile.TemporaryFile(dir=directory) as target:
        try:
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        except OSError:
            return False
    return True


def copy(source: Path, target: Path, *, method: CopyMethod, size: int) -> None:
    """Copy `source` to `target`, extended to `size` bytes; `target` appears only when it is complete on disk."""
    unready = target.with_suffix(".new")
    try:
        with source.open("rb") as old, unready.open("wb") as new:
            os.fchmod(new.fileno(), 0o600)
            if method is CopyMethod.COPY:
                _copy(old.fileno(), new.fileno())
            else:
                fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            os.ftruncate(new.fileno(), size)
            os.fsync(new.fileno())
    except OSError:  # mostly a full disk, which a partial copy must not fill further
        unready.unlink(missing_ok=True)
        raise
    unready.rename(target)
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Flush the directory entries of `path` to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy(old: int, new: int) -> None:
    """Copy everything except holes."""
    end, at = os.fstat(old).st_size, 0
    os.ftruncate(new, end)
    while at < end:
        try:
            start = os.lseek(old, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole follows
            return
        at = os.lseek(old, start, os.SEEK_HOLE)
        _copy_range(old, new, start, at - start)


def _copy_range(old: int, new: int, offset: int, count: int) -> None:
    while count:
        done = os.copy_file_range(old, new, count, offset, offset)
        if not done:
            return
        offset, count = offset + done, count - done
