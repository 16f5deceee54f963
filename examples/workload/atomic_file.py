"""Files that are complete or absent, also after a kill or a crash.

A file is written under a temporary name, synced and renamed, and then its directory is
synced. A process that is killed leaves the old file or the new one. A machine that crashes
does too, because each step is on the disk before the next one begins.
"""

import hashlib
import os
from pathlib import Path


def write(path: Path, content: bytes) -> str:
    """Write `content` to the file and sync it; the content's SHA-256."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)
    return hashlib.sha256(content).hexdigest()


def sync_directory(path: Path) -> None:
    """Sync the entries of a directory."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The SHA-256 of the file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
