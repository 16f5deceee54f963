"""What an emulator that no longer runs has left on the machine, and how to be rid of it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.disks import loops, pool
from hyperpod_ebs.emulator.disks.loops import Loop
from hyperpod_ebs.kit import files

_OCTAL: Final = re.compile(r"\\(\d{3})")
"""How mountinfo writes a blank or a backslash (proc(5))."""

_MOUNTS: Final = Path("/proc/self/mountinfo")


async def removed(state: Path) -> list[str]:
    """Delete the locked directory `state`; what is still in use and keeps it from going, in words."""
    in_use = await files.off_loop(lambda: list(_in_use(state)))
    if in_use:
        return in_use
    await files.off_loop(lambda: _free(state))
    if not await pool.closed(state):
        return [f"{state / 'disks'} cannot be unmounted: something has a file in it open"]
    await files.off_loop(lambda: shutil.rmtree(state), deadline=60)
    return []


def _in_use(state: Path) -> Iterator[str]:
    mounts = [line.split(" ") for line in _MOUNTS.read_text().splitlines()]
    disks = state / "disks"
    for mount in mounts:
        point = Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), mount[4]))
        if state in point.parents and point != disks:
            yield f"{point} is mounted in the state directory"
    for loop, file in loops.under(disks):
        if loop.held():
            yield f"{file.stem} on {loop.path} is mounted at {_points(loop, mounts) or 'a place not seen from here'}"


def _points(loop: Loop, mounts: list[list[str]]) -> str:
    """Where the device is mounted, as far as this process can see."""
    number = f"{loop.rdev >> 8}:{loop.rdev & 255}"
    return ", ".join(mount[4] for mount in mounts if mount[2] == number)


def _free(state: Path) -> None:
    for loop, file in loops.under(state / "disks"):
        loop.free(file, force=True)
