"""Lets a volume that is in use have the size that it was given (NodeExpandVolume)."""

from pathlib import Path

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.path_state import PathState
from hyperpod_ebs.driver.mounts.host import Host
from hyperpod_ebs.driver.mounts.usage import at


async def expand(host: Host, volume_id: str, path: Path, *, wanted: int, block: bool = False) -> int:
    """The bytes that the volume has, its filesystem grown to them; nothing runs where it is so already.

    Args:
        host: The node's machine.
        volume_id: The volume.
        path: Where it is published or staged.
        wanted: Bytes that it should have at least; 0 for whatever the device has.
        block: It is known to be a raw block volume, which may have nothing at its staging path.

    Raises:
        Unavailable: The volume is not at that path, or dead.
        DeviceNotReady: The device has not the wanted size yet.
    """
    place = await host.place(path) if block else await _mounted(host, volume_id, path)
    device = await host.device(volume_id, size=wanted)
    if not block and place.number != device.number:
        raise errors.Unavailable(
            f"the mount at {place.path} is of device {place.number}, and volume {volume_id} is now {device.number}; "
            "stage it again"
        )
    if not block and place.device_node is None:
        await host.grow(device, place)
    return device.size


async def _mounted(host: Host, volume_id: str, path: Path) -> PathState:
    try:
        return await at(host, volume_id, path)
    except errors.VolumeNotFound as error:
        # kubelet calls a growth infeasible after NOT_FOUND, and never tries again.
        raise errors.Unavailable(f"{error}; stage it, then try again") from error
