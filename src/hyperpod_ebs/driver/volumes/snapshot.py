"""Create snapshots and delete them.

EC2 has no client token for snapshots. So the driver first looks for a snapshot of this name that an earlier call
created. If two calls miss each other's snapshot in a race, the oldest snapshot counts. A snapshot that failed is not
replaced: its id may be known to the caller (decision 0038).
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.volume import Snapshot, SnapshotSpec, SnapshotState
from hyperpod_ebs.driver.volumes.absence import find_new_snapshot, find_snapshot
from hyperpod_ebs.driver.volumes.cloud import Cloud

TAG_LAG: Final = 2.5
"""Seconds until EC2 finds a new snapshot by its tags, with a margin."""

log = structlog.get_logger(__name__)


async def take_snapshot(cloud: Cloud, spec: SnapshotSpec) -> Snapshot:
    """Start the snapshot that `spec` describes, or adopt the one that an earlier call started.

    Raises:
        VolumeNotFound: The source volume does not exist.
        Conflict: A snapshot of another volume has the name.
        QuotaReached, NotReady: The account's limit or the state of the volume forbids it, or an earlier call's
            snapshot failed.
        OutcomeUnknown: The snapshot may exist; the caller has to retry.
    """
    if existing := matching_snapshot(spec, await cloud.find_snapshots_named(spec.name)):
        return existing
    try:
        created = await cloud.create_snapshot(spec)
    except errors.OutcomeUnknown:
        # A caller that retries before EC2 finds the name would create a second snapshot.
        await asyncio.sleep(TAG_LAG)
        with suppress(errors.Error):  # an error of the search proves nothing
            if existing := matching_snapshot(spec, await cloud.find_snapshots_named(spec.name)):
                return existing
        raise
    with suppress(errors.Error):  # the snapshot exists, even if EC2 does not show it
        return await find_new_snapshot(cloud, created.id) or created  # the caller's next call may name it
    return created


async def delete_snapshot(cloud: Cloud, snapshot_id: str) -> None:
    """Delete the snapshot; succeed if it is gone.

    Raises:
        InUse: An image is made of the snapshot.
    """
    try:
        await cloud.delete_snapshot(snapshot_id)
    except errors.SnapshotNotFound:
        if await find_snapshot(cloud, snapshot_id) is None:
            return
        with suppress(errors.SnapshotNotFound):  # EC2 showed it in the meantime, or shows it longer than it exists
            await cloud.delete_snapshot(snapshot_id)


def matching_snapshot(spec: SnapshotSpec, existing: tuple[Snapshot, ...]) -> Snapshot | None:
    """The snapshot that `spec` means: the oldest of the existing ones with its name that did not fail.

    Raises:
        Conflict: It is a snapshot of another volume.
        NotReady: All of them failed.
    """
    if not existing:
        return None
    oldest, *others = sorted(
        existing,
        key=lambda snapshot: (snapshot.state is SnapshotState.ERROR, snapshot.started, snapshot.id),
    )
    if oldest.volume_id != spec.volume_id:
        raise errors.Conflict(
            f"snapshot {spec.name} exists already: {oldest.id} is of volume {oldest.volume_id}, not {spec.volume_id}; "
            "use another name"
        )
    if oldest.state is SnapshotState.ERROR:
        ids = ", ".join(snapshot.id for snapshot in (oldest, *others))
        raise errors.NotReady(
            f"snapshot {spec.name} ({ids}) of volume {spec.volume_id} failed: "
            f"{oldest.message or 'AWS gives no reason'}; delete the VolumeSnapshot, then take another one"
        )
    if others:
        unused = [snapshot.id for snapshot in others]
        log.warning("several snapshots have the same name", name=spec.name, used=oldest.id, unused=unused)
    return oldest
