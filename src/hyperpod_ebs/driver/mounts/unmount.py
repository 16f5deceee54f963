"""Unmount a volume from a path, and refuse to unmount anything else."""

from pathlib import Path

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.path_state import PathState
from hyperpod_ebs.driver.mounts.host import Host


async def unmount_and_remove(host: Host, volume_id: str, target: Path) -> None:
    """Unmount the volume from `target` and remove the empty mount point; succeed if nothing is there.

    Raises:
        NotReady: Something other than the volume is mounted there.
        InUse: A process still uses the mount.
    """
    state = await unmount_all(host, volume_id, await host.inspect_path(target))
    await host.remove_empty(state.path)


async def unmount_all(host: Host, volume_id: str, state: PathState) -> PathState:
    """Unmount all the stacked mounts of the volume at a path, and return the path's new state.

    Raises:
        NotReady: One of the mounts is not the volume's.
        InUse: A process still uses one of them.
    """
    for _ in state.mounts:
        await refuse_foreign_mount(host, volume_id, state)
        await host.unmount(state.path)
        state = await host.inspect_path(state.path)
    if state.top:
        raise errors.Unavailable(f"cannot unmount {state.path}: another process has mounted something there; try again")
    return state


async def refuse_foreign_mount(host: Host, volume_id: str, state: PathState) -> None:
    """Accept a mount of this volume, and a mount of a removed device that may have been this volume's.

    Raises:
        NotReady: The mount is known not to be this volume's.
    """
    if state.top and state.number and await host.is_device_of(volume_id, state.number) is False:
        raise errors.NotReady(
            f"{state.path} is a mount of {state.top.source} (device {state.number}), not of volume {volume_id}; "
            "the program that mounted it must unmount it"
        )
