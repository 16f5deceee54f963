"""Progress reports: JSON lines for a process that reads them, or text for a person."""

import json
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

Step = Callable[[str], AbstractContextManager[None]]
"""Reports a step, with its duration, when the block that does it ends."""


@contextmanager
def json_step(name: str) -> Generator[None]:
    """Report the step on stdout in JSON."""
    start = time.monotonic()
    yield
    print_event(done=name, seconds=round(time.monotonic() - start, 1))


@contextmanager
def text_step(name: str) -> Generator[None]:
    """Report the step on stderr in text."""
    start = time.monotonic()
    yield
    sys.stderr.write(text_line(name, time.monotonic() - start))


def text_line(name: str, seconds: float) -> str:
    """The report of a step in text."""
    return f"{seconds:7.2f} s  {name}\n"


def print_event(**fields: object) -> None:
    """Print a line of JSON on stdout."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
