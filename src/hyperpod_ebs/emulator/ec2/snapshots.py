"""CreateSnapshot and DeleteSnapshot.

A snapshot is the volume at the moment of the call: its image is cloned before the
answer, so that what a node had written by then is in it and nothing else. Only its
state takes time.
"""

import time
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.ec2 import naming, tagging
from hyperpod_ebs.emulator.ec2.snapshot_listing import snapshot_shown
from hyperpod_ebs.emulator.records import Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World, new_id, now
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

APART: Final = 15.0
"""Seconds between two snapshots of a volume, where the clock is not instant."""

PER_GIB: Final = 0.5
"""Seconds that each GiB in the volume adds to the time of its snapshot."""

_NOT_HERE: Final = ("OutpostArn",)


class Snapshots:
    """The snapshots: made, and deleted."""

    name = "ec2"
    operations = Operations["Snapshots"]()

    def __init__(self, world: World) -> None:
        self._world = world
        self._store = world.store
        self._latest: dict[str, float] = {}
        world.clock.register("snapshot completed", self._completed)

    @operations("CreateSnapshot")
    async def create(self, asked: Asked, _: Call) -> Answer:
        """A snapshot in state pending. There is no token: a repeat makes another."""
        naming.needed(asked, "VolumeId")
        async with self._world.clock.pause():  # nobody deletes the volume while it is cloned
            volume = naming.found(self._store.volumes, asked["VolumeId"], naming.VOLUME)
            tags = tagging.of_new(asked, "snapshot")
            self._check(asked, volume)
            naming.dry_run(asked)
            self._latest[volume.id] = time.time()
            snapshot = await self._snapped(volume, description=asked.get("Description", ""), tags=tags)
        return await self._world.acknowledge(snapshot_shown(self._world, snapshot))

    @operations("DeleteSnapshot")
    async def delete(self, asked: Asked, _: Call) -> Answer:
        """Nothing; the snapshot is gone. Volumes made from it are whole without it."""
        naming.needed(asked, "SnapshotId")
        async with self._world.clock.pause():
            snapshot = naming.found(self._store.snapshots, asked["SnapshotId"], naming.SNAPSHOT)
            naming.dry_run(asked)
            await self._make_dependents(snapshot.id)
            self._world.clock.cancel(snapshot.id)
            self._store.snapshots.drop(snapshot.id)
            self._store.record_state(snapshot.id, "deleted")
            await self._store.commit()
            await self._world.images.drop(snapshot.id)
        return await self._world.acknowledge({})

    def _check(self, asked: Asked, volume: Volume) -> None:
        if given := [name for name in _NOT_HERE if asked.get(name)]:
            raise AwsFault("UnsupportedOperation", f"This cloud does not know the parameter {given[0]}.")
        if volume.state != "available":
            raise AwsFault("IncorrectState", f"The volume '{volume.id}' is in the '{volume.state}' state.")
        since = time.time() - self._latest.get(volume.id, 0.0)
        if self._world.clock.profile != "instant" and since < APART:
            text = (
                "The maximum per volume CreateSnapshot request rate has been exceeded. "
                "Use an increasing or variable sleep interval between requests."
            )
            raise AwsFault("SnapshotCreationPerVolumeRateExceeded", text)

    async def _snapped(self, volume: Volume, *, description: str, tags: dict[str, str]) -> Snapshot:
        id_ = new_id("snap")
        stored = await self._world.images.snap(volume.id, id_)
        snapshot = Snapshot(
            id=id_,
            volume=volume.id,
            size_gib=volume.size_gib,
            stored_bytes=stored,
            description=description,
            encrypted=volume.encrypted,
            key=volume.key,
            started=now(),
            tags=tags,
        )
        ripe = self._world.clock.schedule(id_, "snapshot completed", extra=PER_GIB * stored / (1 << 30))
        self._store.record_state(id_, snapshot.state)
        return self._store.snapshots.put(replace(snapshot, ripe=ripe))

    async def _make_dependents(self, id_: str) -> None:
        """Give volumes that are still being made from the snapshot their bytes now."""
        for volume in [one for one in self._store.volumes.values() if one.snapshot == id_ and one.state == "creating"]:
            await self._world.images.make(volume.id, size_gib=volume.size_gib, snapshot=id_)

    async def _completed(self, id_: str) -> None:
        snapshot = self._store.snapshots[id_]
        self._store.snapshots.put(replace(snapshot, state="completed", completed=now()))
        self._store.record_state(id_, "completed")
