"""Deletion of a state directory, with the mounts and loop devices that its emulator left on the machine."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from hyperpod_ebs.emulator.disks import loop_devices, mountinfo, pool
from hyperpod_ebs.kit import files


async def delete_state(state: Path) -> list[str]:
    """Delete the locked state directory, unless a part of it is in use.

    Returns:
        A sentence about each part that is in use; an empty list if the directory was deleted.
    """
    in_use = await files.off_loop(lambda: list(_describe_mounts(state)))
    if in_use:
        return in_use
    disks = state / "disks"
    await files.off_loop(loop_devices.free_all, disks)
    if in_use := await pool.close(state):
        return in_use
    await files.off_loop(shutil.rmtree, state, deadline=60)
    return []


def _describe_mounts(state: Path) -> Iterator[str]:
    """A sentence about each mount point in the state directory, and about each volume of it that is mounted."""
    disks = state / "disks"
    for point in sorted(mountinfo.mount_points(state) - {disks, state}):
        yield f"{point} is mounted in the state directory"
    for loop, file in loop_devices.find_in(disks):
        if loop.is_in_use():
            points = [str(mount.point) for mount in mountinfo.mounts() if mount.device == loop.device]
            where = ", ".join(points) or "a mount point that this process cannot see"
            yield f"volume {file.stem} on {loop.path} is mounted at {where}"
