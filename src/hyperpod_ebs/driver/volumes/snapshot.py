"""Takes snapshots and drops them.

EC2 has no client token for snapshots. So an earlier call's is looked for by its name
first; where two calls raced past each other's look, the oldest is the one that counts.
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.volume import Snapshot, SnapshotSpec, SnapshotState
from hyperpod_ebs.driver.volumes.cloud import Cloud

LAG: Final = 1.0
"""Seconds until a snapshot is found by its tags, with a margin."""

log = structlog.get_logger(__name__)


async def take(cloud: Cloud, spec: SnapshotSpec) -> Snapshot:
    """The snapshot that `spec` describes, begun now or by an earlier call.

    Raises:
        VolumeNotFound: No such source.
        Conflict: The name belongs to a snapshot of another volume.
        QuotaReached, NotReady: The account's limit, or the source's state.
        OutcomeUnknown: It may exist; ask again.
    """
    if found := chosen(spec, await cloud.snapshots_named(spec.name)):
        return found
    try:
        return await cloud.create_snapshot(spec)
    except errors.OutcomeUnknown:
        # A caller that came back sooner than the name is found would have a second one made.
        await asyncio.sleep(LAG)
        with suppress(errors.Error):  # none of which would prove anything
            if found := chosen(spec, await cloud.snapshots_named(spec.name)):
                return found
        raise


async def drop(cloud: Cloud, snapshot_id: str) -> None:
    """Have the snapshot removed; one that is gone is no error.

    Raises:
        InUse: Something is made of it.
    """
    try:
        await cloud.delete_snapshot(snapshot_id)
    except errors.SnapshotNotFound:
        return


def chosen(spec: SnapshotSpec, existing: tuple[Snapshot, ...]) -> Snapshot | None:
    """The one of `existing` that `spec` means: the oldest; one that failed does not count.

    Raises:
        Conflict: It is of another volume.
    """
    good = sorted(
        (one for one in existing if one.state is not SnapshotState.ERROR), key=lambda one: (one.started, one.id)
    )
    if not good:
        return None
    oldest, *others = good
    if oldest.volume_id != spec.volume_id:
        raise errors.Conflict(
            f"snapshot {spec.name} exists already: {oldest.id} is of volume {oldest.volume_id}, not {spec.volume_id}"
        )
    if others:
        log.warning("several snapshots have one name", name=spec.name, taken=oldest.id, left=[one.id for one in others])
    return oldest
