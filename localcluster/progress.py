"""What is being done, told line by line as JSON: by the process that holds a cluster to the one that waits for it."""

import json
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def step(what: str) -> Generator[None]:
    """Tell that the block begins, and when it is done how long it took."""
    start = time.monotonic()
    tell(step=what)
    yield
    tell(done=what, seconds=round(time.monotonic() - start, 1))


def tell(**said: object) -> None:
    """Tell one thing."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
