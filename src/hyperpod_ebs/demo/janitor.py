"""Ends what was started in a sandbox, when its owner is done or has died by whatever signal.

`python -m hyperpod_ebs.demo.janitor DIRECTORY` waits until its standard input
closes. Then it ends the processes that carry the sandbox's mark in their
environment (children inherit it, so there is no list to keep and no moment in
which one is missing from it), unmounts what is mounted below the directory,
detaches the loop devices whose files lie in it, and removes it.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit import command, files
from hyperpod_ebs.linux import mountinfo

MARK: Final = "HYPERPOD_EBS_SANDBOX"
"""The variable that holds the sandbox's directory in all that runs in it."""

_GRACE: Final = 15.0
"""Seconds that processes have to stop by themselves."""

_LOOK: Final = 0.02
"""Seconds between two looks at something that is going."""

_TRIES: Final = 100
"""Rounds of unmounting and detaching before giving up."""


def processes_of(path: Path) -> list[int]:
    """Ids of the processes that were started in the sandbox at `path`, and of theirs."""
    mark = f"{MARK}={path}".encode()
    found: list[int] = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended since
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return sorted(found)


def mounts_below(path: Path) -> list[Path]:
    """Mount points below `path`, the last mounted first."""
    points = [mount.point for mount in mountinfo.parse(mountinfo.TABLE.read_bytes())]
    return [point for point in reversed(points) if point.is_relative_to(path)]


def loops_below(path: Path) -> Iterator[Path]:
    """Loop devices whose backing file lies below `path`, deleted or not."""
    for backing in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        with suppress(OSError):
            if Path(backing.read_text().strip().removesuffix(" (deleted)")).is_relative_to(path):
                yield Path("/dev") / backing.parent.parent.name


async def clean(path: Path) -> None:
    """End, unmount, detach and remove, in that order."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_of(path):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        await _until(lambda: not processes_of(path))
    await files.off_loop(os.sync, deadline=60)
    for _ in range(_TRIES):
        # An emulator's own filesystem lies below the loop devices of its volumes: so both, by turns.
        if not await _let_go(path):
            break
        await asyncio.sleep(_LOOK)
    await files.off_loop(lambda: shutil.rmtree(path, ignore_errors=True), deadline=60)


async def _let_go(path: Path) -> bool:
    """Unmount and detach what can be; whether there was anything."""
    mounts, loops = mounts_below(path), list(loops_below(path))
    for argv in (*(["umount", str(point)] for point in mounts), *(["losetup", "-d", str(loop)] for loop in loops)):
        with suppress(command.CommandFailed):
            await command.run(argv)
    return bool(mounts or loops)


async def _until(done: Callable[[], bool]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            while not done():  # noqa: ASYNC110 - other processes end without telling us
                await asyncio.sleep(_LOOK)


def main() -> None:
    """Wait for the owner's end, then clean."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    asyncio.run(clean(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
