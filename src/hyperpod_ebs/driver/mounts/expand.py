"""Growth of a volume in use to the size that the controller gave it (NodeExpandVolume)."""

from pathlib import Path

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.mounts.health import refuse_failed_filesystem
from hyperpod_ebs.driver.mounts.host import Host
from hyperpod_ebs.driver.mounts.usage import find_volume


async def expand(host: Host, volume_id: str, path: Path, *, wanted: int, block: bool = False) -> int:
    """Grow the volume's filesystem to the size of its device, and return the device's bytes.

    The filesystem stays as it is if it already has that size, or is mounted read-only.

    Args:
        host: The node's machine.
        volume_id: The volume.
        path: Where it is published or staged.
        wanted: Bytes that the device must have at least; 0 for any size.
        block: The volume is known to be a raw block volume, which may have nothing at its staging path.

    Raises:
        Unavailable: The volume is not at that path, its mount is dead, or its filesystem refuses writes.
        DeviceNotReady: The device does not have the wanted size yet.
    """
    try:
        state = await host.inspect_path(path) if block else await find_volume(host, volume_id, path)
    except errors.VolumeNotFound as error:
        # After NOT_FOUND kubelet marks the expansion infeasible and never retries it.
        raise errors.Unavailable(f"{error}; stage it, then try again") from error
    device = await host.find_device(volume_id, size=wanted)
    if not block and state.number != device.number:
        raise errors.Unavailable(
            f"the mount at {state.path} is of device {state.number}, but volume {volume_id} is now device "
            f"{device.number}; end its pods on this node, so that kubelet stages it again"
        )
    if not block and state.device_node is None:
        await refuse_failed_filesystem(host, volume_id, state)
        # A filesystem without a writable mount cannot grow now, and kubelet would retry for ever. Staging grows it once
        # the volume is staged for writing; kubelet itself does not grow a volume that is read-only for its pod.
        if state.top and "ro" not in state.top.super_options:
            await host.grow(device, state)
    return device.size
