"""A server whose first start is slow: what it prepares then is kept on the pod's own volume, for its next start.

The preparation stands for compiled kernels, a quantised model, unpacked layers: much
work, whose result fits on a disk. Each start is timed, and the second one tells both.
"""

import argparse
import json
import lzma
import random
import sys
import time
from pathlib import Path
from typing import Final

import durable
import ending

STARTS: Final = "starts.json"


def prepared(cache: Path, number: int, kib: int) -> bool:
    """Have the artifact of this number ready; whether the cache had it."""
    path, stated = cache / f"artifact-{number:03d}.xz", cache / f"artifact-{number:03d}.sha256"
    if stated.exists() and path.exists() and durable.digest(path) == stated.read_text():
        return True
    # Weights come from a few levels only, so there is something to compress.
    weights = bytes(random.Random(number).choices(range(0, 256, 5), k=kib * 1024))
    stated.unlink(missing_ok=True)
    stated_now = durable.write(path, lzma.compress(weights))
    durable.write(stated, stated_now.encode())
    return False


def main() -> int:
    """Start once; after the first start, end as a server that crashes if so asked, else stay."""
    asked = arguments().parse_args()
    ending.heed()
    began = time.monotonic()
    cached = sum(prepared(asked.cache, number, asked.kib) for number in range(asked.artifacts))
    seconds = round(time.monotonic() - began, 4)
    record = asked.cache / STARTS
    starts: list[float] = [*(json.loads(record.read_bytes()) if record.exists() else ()), seconds]
    durable.write(record, json.dumps(starts).encode())
    durable.say(event="ready", start=len(starts), seconds=seconds, prepared=asked.artifacts - cached, cached=cached)
    if len(starts) == 1:
        if asked.crash_once:
            durable.say(event="crashing", reason="to show what a restart costs")
            return 1
    else:
        durable.say(
            event="compared",
            first_seconds=starts[0],
            second_seconds=starts[1],
            times_faster=round(starts[0] / max(starts[1], 1e-4), 1),
        )
    ending.wait()
    return 0


def arguments() -> argparse.ArgumentParser:
    """What it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="where what was prepared is kept")
    parser.add_argument("--artifacts", type=int, default=8, help="how many there are")
    parser.add_argument("--kib", type=int, default=384, help="size of each before it is prepared")
    parser.add_argument("--crash-once", action="store_true", help="end after the first start, to be started again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
