"""Client tokens, derived from a volume's name so that any process finds the same ones.

The sequence is upstream's, so that a driver which takes over from it in the middle
of a create meets the same volume: the name's digest, then that of name-2, name-3...
"""

import hashlib
from collections.abc import Iterator
from typing import Final

MOST: Final = 64
"""Tokens tried for one name; each was spent by a volume that AWS took back."""


def tokens(name: str) -> Iterator[str]:
    """The tokens for `name`, in order; EC2 takes 64 characters, and so many are there."""
    yield _digest(name)
    for number in range(2, MOST + 1):
        yield _digest(f"{name}-{number}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
