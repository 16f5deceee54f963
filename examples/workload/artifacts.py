"""Artifacts that several jobs share: one job publishes versions, and others use the latest version.

The other jobs work on a snapshot, so their version does not change while the next one is published.
"""

import argparse
import sys
from pathlib import Path

import atomic_file
import events
import file_set

FILES = 4


def publish(directory: Path, version: int, mib: int) -> None:
    """Write this version if it does not exist, and make it the latest.

    Raises:
        Damaged: The version exists, but is not what was published.
    """
    name = f"version-{version}"
    files = file_set.write(directory / name, files=FILES, mib=mib, seed=version)
    atomic_file.write(directory / "latest", name.encode())
    events.report(event="published", version=version, bytes=files.size, digest=files.digest)


def use(directory: Path) -> None:
    """Read every byte of the latest version.

    Raises:
        Damaged: It is not what was published.
        FileNotFoundError: No version was published.
    """
    latest = (directory / "latest").read_text()
    files = file_set.read(directory / latest)
    version = int(latest.removeprefix("version-"))
    events.report(event="used", version=version, bytes=files.size, digest=files.digest)


def main() -> int:
    """Publish a version, or use the latest one."""
    options = arguments().parse_args()
    try:
        if options.action == "publish":
            publish(options.directory, options.version, options.mib)
        else:
            use(options.directory)
    except (file_set.Damaged, FileNotFoundError) as damaged:
        events.report(event="damaged", reason=str(damaged))
        return 1
    return 0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["publish", "use"])
    parser.add_argument("--directory", type=Path, required=True, help="the directory of the versions")
    parser.add_argument("--version", type=int, default=1, help="the version to publish")
    parser.add_argument("--mib", type=int, default=4, help="size of each of its files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
