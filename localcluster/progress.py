"""What is being done, told as it is done: in lines of JSON to a process that waits, or in words to a person."""

import json
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

Step = Callable[[str], AbstractContextManager[None]]
"""Tells that a thing is done, when the block that does it ends."""


@contextmanager
def in_json(what: str) -> Generator[None]:
    """Tell it on stdout, to the process that waits."""
    start = time.monotonic()
    yield
    tell(done=what, seconds=round(time.monotonic() - start, 1))


@contextmanager
def in_words(what: str) -> Generator[None]:
    """Tell it on stderr, to a person."""
    start = time.monotonic()
    yield
    sys.stderr.write(line(what, time.monotonic() - start))


def line(what: str, seconds: float) -> str:
    """How a person is told."""
    return f"{seconds:7.2f} s  {what}\n"


def tell(**said: object) -> None:
    """Tell one thing on stdout."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
