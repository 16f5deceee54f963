"""A training data set: written once, then read by whichever pod has the volume, and compared byte by byte."""

import argparse
import sys
import time
from pathlib import Path

import collection
import durable


def main() -> int:
    """Write it, or verify it."""
    asked = arguments().parse_args()
    began = time.monotonic()
    try:
        found = _present(asked) if asked.act == "write" else collection.read(asked.directory)
    except collection.Damaged as damaged:
        durable.say(event="damaged", reason=str(damaged))
        return 1
    durable.say(
        event="written" if asked.act == "write" else "verified",
        files=len(found.digests),
        bytes=found.size,
        digest=found.name,
        seconds=round(time.monotonic() - began, 3),
    )
    return 0


def arguments() -> argparse.ArgumentParser:
    """What it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("act", choices=["write", "verify"])
    parser.add_argument("--directory", type=Path, required=True, help="where the data set is")
    parser.add_argument("--files", type=int, default=16, help="files that are written")
    parser.add_argument("--mib", type=int, default=4, help="size of each of them")
    parser.add_argument("--seed", type=int, default=1, help="what their content is made from")
    return parser


def _present(asked: argparse.Namespace) -> collection.Collection:
    """The data set, written now unless it is there: a Job that is run again harms nothing."""
    if (asked.directory / collection.LIST).exists():
        durable.say(event="present")
        return collection.read(asked.directory)
    return collection.write(asked.directory, files=asked.files, mib=asked.mib, seed=asked.seed)


if __name__ == "__main__":
    sys.exit(main())
