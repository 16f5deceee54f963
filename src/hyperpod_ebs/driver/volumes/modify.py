"""Change volumes in place: their size, type, IOPS and throughput, and their tags.

The driver requests only what differs, and joins a running modification that leads to what is wanted. No expansion
fails with an error after which the resizer stops for good: `csi.status` says what each error does to a claim.
"""

from typing import Final

from hyperpod_ebs.driver.model import errors, iops, sizes
from hyperpod_ebs.driver.model.modification import earliest_retry, leads_elsewhere, leads_to, missing_change
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.tags import TagChanges
from hyperpod_ebs.driver.model.volume import Change, Modification, ModificationState, Volume
from hyperpod_ebs.driver.volumes.absence import get_volume
from hyperpod_ebs.driver.volumes.cloud import Cloud
from hyperpod_ebs.driver.volumes.watch import Watcher

PATIENCE: Final = 180.0
"""Seconds that a modification may take to be usable before the caller has to retry."""

_NO_TAG_CHANGES: Final = TagChanges()
_RUNNING: Final = frozenset({ModificationState.MODIFYING, ModificationState.OPTIMIZING})


async def expand_volume(cloud: Cloud, watcher: Watcher, volume_id: str, size: SizeRange) -> GiB:
    """Grow the volume to a size in `size` and wait until that size is usable; return the size, which never shrinks.

    Raises:
        VolumeNotFound: The volume does not exist.
        OutOfRange: The volume is larger than the limit, or EC2 or the account's quota does not allow the size.
        Busy: Another modification of the volume is running.
        RateLimited: The volume was modified too often; the message has the earliest time for a retry.
        Unavailable: The caller has to retry.
    """
    await cloud.wait_until_changes_show(volume_id)
    volume = await get_volume(cloud, volume_id)
    wanted = GiB(max(size.wanted, volume.size))
    if not size.allows(wanted):
        raise errors.OutOfRange(
            f"volume {volume_id} has {volume.size} GiB ({sizes.to_bytes(volume.size)} bytes), more than the limit of "
            f"{size.limit} bytes, and volumes cannot shrink"
        )
    try:
        grown_iops = iops.after_growth(volume.type, volume.tags, wanted) if wanted > volume.size else None
        return (await _apply_change(cloud, watcher, volume, Change(size=size.wanted, iops=grown_iops))) or wanted
    except (errors.QuotaReached, errors.InvalidRequest) as refusal:
        raise errors.OutOfRange(f"volume {volume_id} cannot grow to {wanted} GiB: {refusal}") from refusal
    except (errors.Refused, errors.NoRoom, errors.Conflict) as refusal:
        # The codes of these errors would stop the resizer for as long as a pod uses the claim.
        raise errors.Unavailable(f"volume {volume_id} cannot grow to {wanted} GiB now: {refusal}") from refusal


async def modify_volume(
    cloud: Cloud, watcher: Watcher, volume_id: str, change: Change, tags: TagChanges = _NO_TAG_CHANGES
) -> None:
    """Change the volume's tags and its other properties, and wait until the new properties are usable.

    Raises:
        VolumeNotFound: The volume does not exist.
        InvalidRequest: EC2 does not allow the IOPS or the throughput, at least not with this type and size.
        QuotaReached: The account has reached a limit.
        Busy: Another modification of the volume is running.
        RateLimited: The volume was modified too often; the message has the earliest time for a retry.
        Unavailable: The caller has to retry.
    """
    await cloud.wait_until_changes_show(volume_id)
    volume = await get_volume(cloud, volume_id)
    if removed := sorted(key for key in tags.remove - tags.put.keys() if key in volume.tags):
        await cloud.untag_volume(volume_id, removed)
    if new := {key: value for key, value in tags.put.items() if volume.tags.get(key) != value}:
        await cloud.tag_volume(volume_id, new)
    await _apply_change(cloud, watcher, volume, change)


async def _apply_change(cloud: Cloud, watcher: Watcher, volume: Volume, change: Change) -> GiB | None:
    """Change the volume and wait until the change is usable; return the modification's new size, if it has one."""
    missing = missing_change(change, volume)
    if missing == Change():
        running = await cloud.describe_modification(volume.id)
        if running is None or running.state is not ModificationState.MODIFYING:
            return None
        # EC2 may show the new values before they are usable, and the old values until then.
        if leads_elsewhere(running, change):
            raise errors.Busy(f"volume {volume.id} waits for another modification: the running one sets other values")
        return await _wait_until_usable(watcher, running)
    try:
        return await _wait_until_usable(watcher, await cloud.modify_volume(volume.id, missing))
    except errors.Busy as busy:
        running = await cloud.describe_modification(volume.id)
        if running is None or running.state not in _RUNNING or not leads_to(running, missing):
            raise errors.Busy(f"volume {volume.id} waits for another modification: {busy}") from busy
        return await _wait_until_usable(watcher, running)
    except errors.RateLimited as limited:
        earliest = earliest_retry(await cloud.describe_modification(volume.id), str(limited))
        raise errors.RateLimited(str(limited), earliest=earliest) from limited


async def _wait_until_usable(watcher: Watcher, modification: Modification) -> GiB | None:
    """Wait until what `modification` changes is usable; return its new size, if it has one."""

    def is_over(seen: Modification | None) -> bool:
        # EC2 may still show an earlier modification; a later one means that this modification is over.
        return seen is not None and seen.state is not ModificationState.MODIFYING and not _is_older(seen, modification)

    last: Modification | None = modification
    if modification.state is ModificationState.MODIFYING:
        try:
            last = await watcher.wait_for_modification(modification.volume_id, is_over, patience=PATIENCE)
        except TimeoutError as late:
            raise errors.Unavailable(
                f"the modification of volume {modification.volume_id} is not complete after {PATIENCE:g} s: "
                "AWS has not finished; try again"
            ) from late
    if last is not None and last.state is ModificationState.FAILED:
        raise errors.Unavailable(
            f"the modification of volume {modification.volume_id} failed: {last.message or 'AWS gives no reason'}; "
            "try again"
        )
    return modification.target.size


def _is_older(seen: Modification, modification: Modification) -> bool:
    return seen.started is not None and modification.started is not None and seen.started < modification.started
