"""The root key, under which the emulator stores the material of KMS keys; it is in a file of its own."""

import os
import secrets
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.state.store import RESTORE, StateRefused

SIZE: Final = 32
"""Bytes of the key, for AES-256."""


def load_or_create(state: Path, *, is_needed: bool) -> bytes:
    """Load the root key of the state directory, or create it at the directory's first use.

    Args:
        state: The state directory.
        is_needed: Whether the store has KMS keys, which only the existing root key can decrypt.

    Raises:
        StateRefused: The file is needed and missing, or it is damaged.
        OSError: The file cannot be written.
    """
    file = state / "kms_root.key"
    if not file.exists():
        if is_needed:
            raise StateRefused(f"{file} is missing, and the KMS keys cannot be decrypted without it: {RESTORE}")
        _save(secrets.token_bytes(SIZE), file)
    key = file.read_bytes()
    if len(key) != SIZE:  # not in the message: the file contains a secret
        raise StateRefused(f"{file} is damaged: {RESTORE}")
    return key


def _save(key: bytes, file: Path) -> None:
    """Write the file so that a crash leaves all of it or nothing."""
    unfinished = file.with_suffix(".new")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(key)
        out.flush()
        os.fsync(handle)
    unfinished.rename(file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
