"""Takes a volume's mounts off a path, and nobody else's."""

from pathlib import Path

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.path_state import PathState
from hyperpod_ebs.driver.mounts.host import Host


async def unmount_and_remove(host: Host, volume_id: str, target: Path) -> None:
    """Leave nothing of the volume at `target`, not even the empty directory; success where nothing is.

    Raises:
        NotReady: What is mounted there is somebody else's.
        InUse: A process still uses it.
    """
    place = await host.place(target)
    place = await unmount_all(host, volume_id, place)
    await host.clear(place.path)


async def unmount_all(host: Host, volume_id: str, place: PathState) -> PathState:
    """The place with no mounts left on it, however many were stacked.

    Raises:
        NotReady: One of them is somebody else's.
        InUse: A process still uses one.
    """
    for _ in place.mounts:
        await refuse_foreign_mount(host, volume_id, place)
        await host.unmount(place.path)
        place = await host.place(place.path)
    if place.top:
        raise errors.Unavailable(f"{place.path} was mounted again while it was unmounted; try again")
    return place


async def refuse_foreign_mount(host: Host, volume_id: str, place: PathState) -> None:
    """Accept what is this volume's, or was before its device went away.

    Raises:
        NotReady: It is known to be somebody else's.
    """
    if place.top and place.number and await host.belongs(volume_id, place.number) is False:
        raise errors.NotReady(
            f"{place.path} is a mount of {place.top.source} (device {place.number}), not of volume {volume_id}; "
            "whoever mounted it has to unmount it"
        )
