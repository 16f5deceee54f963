"""What an emulator that no longer runs has left on the machine, and how to be rid of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from hyperpod_ebs.emulator.disks import loop_devices, mountinfo, pool
from hyperpod_ebs.emulator.disks.loop_devices import LoopDevice
from hyperpod_ebs.kit import files


async def removed(state: Path) -> list[str]:
    """Delete the locked directory `state`; what is still in use and keeps it from going, in words."""
    in_use = await files.off_loop(lambda: list(_in_use(state)))
    if in_use:
        return in_use
    await files.off_loop(loop_devices.free_all, state / "disks")
    if not await pool.close(state):
        return [f"{state / 'disks'} cannot be unmounted: something has a file in it open"]
    await files.off_loop(shutil.rmtree, state, deadline=60)
    return []


def _in_use(state: Path) -> Iterator[str]:
    disks = state / "disks"
    for point in sorted(mountinfo.mount_points(state) - {disks, state}):
        yield f"{point} is mounted in the state directory"
    for loop, file in loop_devices.find_in(disks):
        if loop.is_in_use():
            yield f"{file.stem} on {loop.path} is mounted at {_points(loop) or 'a place not seen from here'}"


def _points(loop: LoopDevice) -> str:
    """Where the device is mounted, as far as this process can see."""
    number = f"{loop.rdev >> 8}:{loop.rdev & 255}"
    return ", ".join(str(mount.point) for mount in mountinfo.mounts() if mount.device == number)
