"""A training data set: written once, and then verified byte by byte by every pod that mounts the volume."""

import argparse
import sys
import time
from pathlib import Path

import events
import file_set


def main() -> int:
    """Write the data set, or verify it."""
    options = arguments().parse_args()
    began = time.monotonic()
    try:
        if options.action == "write" and not (options.directory / file_set.LIST).exists():
            files = file_set.write(options.directory, files=options.files, mib=options.mib, seed=options.seed)
        else:
            if options.action == "write":  # a repeated Job
                events.report(event="present")
            files = file_set.read(options.directory)
    except file_set.Damaged as damaged:
        events.report(event="damaged", reason=str(damaged))
        return 1
    events.report(
        event="written" if options.action == "write" else "verified",
        files=len(files.digests),
        bytes=files.size,
        digest=files.digest,
        seconds=round(time.monotonic() - began, 3),
    )
    return 0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["write", "verify"])
    parser.add_argument("--directory", type=Path, required=True, help="the directory of the data set")
    parser.add_argument("--files", type=int, default=16, help="write: number of files")
    parser.add_argument("--mib", type=int, default=4, help="write: size of each file")
    parser.add_argument("--seed", type=int, default=1, help="write: seed of the content")
    return parser


if __name__ == "__main__":
    sys.exit(main())
