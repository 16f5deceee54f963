"""How full a volume is (NodeGetVolumeStats)."""

from pathlib import Path

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Usage
from hyperpod_ebs.driver.model.path_state import PathState
from hyperpod_ebs.driver.mounts.host import Host


async def usage(host: Host, volume_id: str, path: Path) -> Usage:
    """How full the volume at `path` is; of a raw block volume only how large.

    Raises:
        VolumeNotFound: The volume is not at that path.
        Unavailable: Its device is dead, or does not answer in time.
    """
    return await host.usage(await at(host, volume_id, path))


async def at(host: Host, volume_id: str, path: Path) -> PathState:
    """The place at `path`, where the volume is and answers.

    Raises:
        VolumeNotFound: The volume is not there.
        Unavailable: It is there, but dead.
    """
    try:
        place = await host.place(path)
    except errors.InvalidRequest as error:
        raise errors.VolumeNotFound(f"volume {volume_id} cannot be at {path}: {error}") from error
    if place.top is None or place.number is None:
        raise errors.VolumeNotFound(
            f"volume {volume_id} is not at {path}: {place.kind} is there, and nothing is mounted"
        )
    if await host.belongs(volume_id, place.number) is False:
        raise errors.VolumeNotFound(
            f"volume {volume_id} is not at {path}: {place.top.source} (device {place.number}) is mounted there"
        )
    if place.broken:
        raise errors.Unavailable(f"volume {volume_id} at {path} does not answer: {place.broken}; stage it again")
    return place
