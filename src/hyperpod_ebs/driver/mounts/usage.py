"""How full a volume is, and whether it can be used (NodeGetVolumeStats)."""

from pathlib import Path

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.health import Health, HealthStatus, Statistics
from hyperpod_ebs.driver.model.path_state import PathState
from hyperpod_ebs.driver.mounts import health
from hyperpod_ebs.driver.mounts.host import Host


async def measure(host: Host, volume_id: str, path: Path) -> Statistics:
    """Measure how full the volume at `path` is, and judge its health.

    Raises:
        VolumeNotFound: The volume is not at that path.
    """
    try:
        state = await find_volume(host, volume_id, path)
        usage = await host.measure_usage(state)
    except errors.Unavailable as error:
        return Statistics(None, Health(HealthStatus.INACCESSIBLE, "NotAnswering", str(error)))
    return Statistics(usage, await health.judge_writes(host, volume_id, state))


async def judge_health(host: Host, volume_id: str, path: Path | None) -> Health:
    """Judge the health of the volume at `path`, or without a path at the first place where it is mounted on this node.

    Raises:
        VolumeNotFound: The volume is not there.
    """
    points = [path] if path else await host.find_mounts(volume_id)
    if not points:
        raise errors.VolumeNotFound(f"volume {volume_id} is not mounted on this node")
    return (await measure(host, volume_id, points[0])).health


async def find_volume(host: Host, volume_id: str, path: Path) -> PathState:
    """Return the state of `path` after checking that the volume is mounted there and answers.

    Raises:
        VolumeNotFound: The volume is not there.
        Unavailable: The volume is there, but its mount is dead.
    """
    try:
        state = await host.inspect_path(path, cached=True)
    except errors.InvalidRequest as error:
        raise errors.VolumeNotFound(f"volume {volume_id} cannot be at {path}: {error}") from error
    if state.top is None:
        raise errors.VolumeNotFound(
            f"volume {volume_id} is not at {path}: {state.kind} is there, and nothing is mounted"
        )
    if state.number and await host.is_device_of(volume_id, state.number) is False:
        raise errors.VolumeNotFound(
            f"volume {volume_id} is not at {path}: {state.top.source} (device {state.number}) is mounted there"
        )
    if state.broken:
        raise errors.Unavailable(
            f"volume {volume_id} at {path} does not answer: {state.broken}; end its pods on this node, so that kubelet "
            "stages it again"
        )
    return state
