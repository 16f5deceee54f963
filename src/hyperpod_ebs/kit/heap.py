"""The C library's heap of this process."""

import ctypes
from contextlib import suppress
from typing import Final

_M_ARENA_MAX: Final = -8
"""/usr/include/malloc.h"""


def use_one_arena() -> None:
    """Let all threads of this process allocate from one arena, if the C library is glibc (mallopt(3)).

    By default glibc makes up to eight arenas for each processor, and memory that was freed in one of them stays
    resident. Threads of Python gain nothing from it, since they take turns.
    """
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
