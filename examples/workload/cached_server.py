"""A server whose first start is slow, because it prepares artifacts; later starts find them in its cache.

The artifacts stand for compiled kernels, a quantised model or unpacked layers: they take long
to make and fit on a disk. Each start is timed, and the second one reports both times.
"""

import argparse
import json
import lzma
import random
import sys
import time
from pathlib import Path
from typing import Final

import atomic_file
import events
import shutdown

STARTS: Final = "starts.json"
"""The file with the seconds of each start."""


def prepare(cache: Path, number: int, kib: int) -> bool:
    """Prepare an artifact, unless the cache has it; whether it had."""
    path, digest = cache / f"artifact-{number:03d}.xz", cache / f"artifact-{number:03d}.sha256"
    if digest.exists() and path.exists() and atomic_file.sha256(path) == digest.read_text():
        return True
    # Weights with a few levels only, so that they can be compressed.
    weights = bytes(random.Random(number).choices(range(0, 256, 5), k=kib * 1024))
    digest.unlink(missing_ok=True)
    sha256 = atomic_file.write(path, lzma.compress(weights))
    atomic_file.write(digest, sha256.encode())
    return False


def main() -> int:
    """Start, and serve until a signal; with --crash-once, the first start ends with an error instead."""
    options = arguments().parse_args()
    shutdown.block_signals()
    began = time.monotonic()
    cached = sum(prepare(options.cache, number, options.kib) for number in range(options.artifacts))
    seconds = round(time.monotonic() - began, 4)
    record = options.cache / STARTS
    starts: list[float] = [*(json.loads(record.read_bytes()) if record.exists() else ()), seconds]
    atomic_file.write(record, json.dumps(starts).encode())
    prepared = options.artifacts - cached
    events.report(event="ready", start=len(starts), seconds=seconds, prepared=prepared, cached=cached)
    if len(starts) == 1:
        if options.crash_once:
            events.report(event="crashing", reason="--crash-once: the next start shows what the cache saves")
            return 1
    else:
        events.report(
            event="compared",
            first_seconds=starts[0],
            second_seconds=starts[1],
            times_faster=round(starts[0] / max(starts[1], 1e-4), 1),
        )
    shutdown.wait()
    return 0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="the directory of the prepared artifacts")
    parser.add_argument("--artifacts", type=int, default=8, help="number of artifacts")
    parser.add_argument("--kib", type=int, default=384, help="size of each artifact before compression")
    parser.add_argument("--crash-once", action="store_true", help="end with an error after the first start")
    return parser


if __name__ == "__main__":
    sys.exit(main())
