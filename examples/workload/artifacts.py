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
    try:
        if asked.act == "publish":
            publish(asked.directory, asked.version, asked.mib)
        else:
            use(asked.directory)
    except (collection.Damaged, FileNotFoundError) as damaged:
        durable.say(event="damaged", reason=str(damaged))
        return 1
    return 0


def publish(directory: Path, version: int, mib: int) -> None:
    """Have this version, and make it the latest.

    Raises:
        Damaged: It was published before, and is not what it was.
    """
    made = collection.write(directory / _name(version), files=FILES, mib=mib, seed=version)
    durable.write(directory / "latest", _name(version).encode())
    durable.say(event="published", version=version, bytes=made.size, digest=made.name)


def use(directory: Path) -> None:
    """Look at every byte of the latest version.

    Raises:
        Damaged: It is not what was published.
        FileNotFoundError: Nothing was.
    """
    latest = (directory / "latest").read_text()
    found = collection.read(directory / latest)
    durable.say(event="used", version=int(latest.removeprefix("version-")), bytes=found.size, digest=found.name)


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
