"""Files that are whole or not there, and what is said about them.

A file is written beside its name, brought to the disk, renamed, and the rename brought
to the disk: whoever is killed at any moment leaves the old file or the new one. A crash
of the machine is no different, since each step is on the disk before the next.
"""

import hashlib
import json
import os
import sys
from pathlib import Path


def write(path: Path, content: bytes) -> str:
    """Have `content` in the file `path`, on the disk; its SHA-256."""
    unready = path.with_name(f".{path.name}.new")
    with unready.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unready.rename(path)
    sync_directory(path.parent)
    return hashlib.sha256(content).hexdigest()


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: Path) -> str:
    """The SHA-256 of what is in a file now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def say(**facts: object) -> None:
    """Tell in one line of JSON, at once: what `kubectl logs` shows."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
