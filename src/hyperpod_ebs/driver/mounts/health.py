"""Whether a mounted volume can be used: a filesystem that stopped writing after an error stays mounted."""

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.health import HEALTHY, Health, HealthStatus
from hyperpod_ebs.driver.model.path_state import PathState
from hyperpod_ebs.driver.mounts.host import Host


async def judge_writes(host: Host, volume_id: str, state: PathState) -> Health:
    """Find out whether a volume that answers at a path also accepts writes, and whether its filesystem is sound."""
    try:
        reason = await host.find_write_refusal(state)
    except errors.Unavailable as error:
        return Health(HealthStatus.DEGRADED, "WritesNotAnswered", f"volume {volume_id}: {error}")
    if reason:
        return Health(HealthStatus.DEGRADED, "WritesRefused", refusal(volume_id, state, reason))
    if count := await host.count_recorded_errors(state):
        return Health(HealthStatus.DEGRADED, "ErrorsRecorded", _errors(volume_id, state, count))
    return HEALTHY


async def refuse_failed_filesystem(host: Host, volume_id: str, state: PathState, *, writing: bool = False) -> None:
    """Accept the mounted volume unless its filesystem refuses the writes that its mount allows.

    With `writing`, the mount must allow them.

    Raises:
        Unavailable: The filesystem refuses writes, or does not answer. The error is retryable, because after a final
            error kubelet would forget an existing mount (Kubernetes, csi_client.go, isFinalError).
    """
    is_read_only = state.top is not None and "ro" in state.top.options
    reason = "it is mounted read-only" if writing and is_read_only else await host.find_write_refusal(state)
    if reason:
        raise errors.Unavailable(refusal(volume_id, state, reason))


def refusal(volume_id: str, state: PathState, reason: str) -> str:
    """The message about a filesystem that refuses writes."""
    return (
        f"{_subject(volume_id, state)} refuses writes: {reason}; delete the volume's pods on this node, so that "
        "kubelet unmounts the volume and the driver checks and mounts it again"
    )


def _errors(volume_id: str, state: PathState, count: int) -> str:
    return (
        f"{_subject(volume_id, state)} accepts writes, but has found {count} {'error' if count == 1 else 'errors'} in "
        "itself; delete the volume's pods on this node, so that kubelet unmounts the volume and the driver checks and "
        "mounts it again"
    )


def _subject(volume_id: str, state: PathState) -> str:
    what = state.top.filesystem if state.top and not state.device_node else "the device"
    return f"{what} of volume {volume_id} at {state.path}"
