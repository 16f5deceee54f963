"""Proof that something is gone: EC2 shows its objects late, so a single look proves nothing (decision 0036).

A description by filter may leave out an object that exists, and even a description by id may answer NotFound for a new
one. So a volume is gone only when EC2 has answered NotFound to its id for `SETTLES_WITHIN` seconds, and it is free only
when EC2 has shown no attachment for as long.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.volume import Attachment, AttachState, Snapshot, Volume
from hyperpod_ebs.driver.volumes.cloud import Snapshots, Volumes

PAUSES: Final = (0.5, 1.0, 1.5)
"""Seconds between two looks at an object that EC2 does not show."""

SETTLES_WITHIN: Final = sum(PAUSES)
"""Seconds within which EC2 shows an object by its id, with a margin. EC2 promises no limit; a second is usual."""


async def look_repeatedly(cloud: Volumes, volume_id: str) -> AsyncGenerator[Volume | None]:
    """Describe the volume by its id several times, over `SETTLES_WITHIN` seconds; None stands for NotFound."""
    for pause in (0.0, *PAUSES):
        await asyncio.sleep(pause)
        try:
            volume = await cloud.describe_volume(volume_id)
        except errors.VolumeNotFound:
            volume = None
        yield volume


async def find_volume(cloud: Volumes, volume_id: str) -> Volume | None:
    """Describe the volume by its id; None if it is proved that it does not exist."""
    async for volume in look_repeatedly(cloud, volume_id):
        if volume is not None:
            return volume
    return None


async def get_volume(cloud: Volumes, volume_id: str) -> Volume:
    """Describe the volume by its id.

    Raises:
        VolumeNotFound: It is proved that the volume does not exist.
    """
    volume = await find_volume(cloud, volume_id)
    if volume is None:
        raise errors.VolumeNotFound(f"volume {volume_id} does not exist")
    return volume


async def find_attachments(cloud: Volumes, volume_id: str) -> tuple[Attachment, ...]:
    """The volume's attachments; empty if it is proved that the volume has none, or does not exist."""
    async for volume in look_repeatedly(cloud, volume_id):
        attachments = volume.attachments if volume is not None else ()
        if current := tuple(each for each in attachments if each.state is not AttachState.DETACHED):
            return current
    return ()


async def find_snapshot(cloud: Snapshots, snapshot_id: str) -> Snapshot | None:
    """Describe the snapshot by its id; None if it is proved that it does not exist."""
    for pause in (0.0, *PAUSES):
        await asyncio.sleep(pause)
        try:
            return await cloud.describe_snapshot(snapshot_id)
        except errors.SnapshotNotFound:
            continue
    return None


async def find_new_snapshot(cloud: Snapshots, snapshot_id: str) -> Snapshot | None:
    """Wait until EC2 shows the snapshot, for `SETTLES_WITHIN` seconds; None proves nothing."""
    for pause in (0.0, *PAUSES):
        await asyncio.sleep(pause)
        if (snapshot := await cloud.find_new_snapshot(snapshot_id)) is not None:
            return snapshot
    return None
