"""Artifacts that several jobs share: one publishes versions, others use the one of a moment.

Publishing goes on while others work: they have a snapshot, which stays as it was.
"""

import argparse
import sys
from pathlib import Path

import collection
import durable

FILES = 4


def main() -> int:
    """Publish a version, or use the latest one."""
    asked = arguments().parse_args()
    if asked.act == "publish":
        made = collection.write(asked.directory / _name(asked.version), files=FILES, mib=asked.mib, seed=asked.version)
        durable.write(asked.directory / "latest", _name(asked.version).encode())
        durable.say(event="published", version=asked.version, bytes=made.size, digest=made.name)
        return 0
    try:
        latest = (asked.directory / "latest").read_text()
        found = collection.read(asked.directory / latest)
    except (collection.Damaged, FileNotFoundError) as damaged:
        durable.say(event="damaged", reason=str(damaged))
        return 1
    durable.say(event="used", version=int(latest.removeprefix("version-")), bytes=found.size, digest=found.name)
    return 0


def arguments() -> argparse.ArgumentParser:
    """What it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("act", choices=["publish", "use"])
    parser.add_argument("--directory", type=Path, required=True, help="where the versions are")
    parser.add_argument("--version", type=int, default=1, help="the version to publish")
    parser.add_argument("--mib", type=int, default=4, help="size of each of its files")
    return parser


def _name(version: int) -> str:
    return f"version-{version}"


if __name__ == "__main__":
    sys.exit(main())
