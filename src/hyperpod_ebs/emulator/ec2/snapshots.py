"""CreateSnapshot and DeleteSnapshot.

A snapshot has the volume's contents at the moment of the call: the backing file is cloned
before the response, so the snapshot has exactly what the node had written by then. Only the
snapshot's state changes later.
"""

import time
from dataclasses import replace
from typing import Final, Literal

from hyperpod_ebs.emulator.ec2 import request_checks, resource_ids, tagging
from hyperpod_ebs.emulator.ec2.describe_snapshots import render_new_snapshot
from hyperpod_ebs.emulator.records import Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World, new_id, now
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

SnapshotRate = Literal["one-in-15-seconds", "off"]
"""How often a volume's snapshot may be taken: AWS's rule, or as often as the caller wants."""

INTERVAL: Final = 15.0
"""Seconds between two snapshots of a volume (EC2 API reference, "Request throttling")."""

PER_GIB: Final = 0.5
"""Seconds that each stored GiB adds until the snapshot is completed."""

_UNSUPPORTED: Final = ("OutpostArn",)


class Snapshots:
    """Snapshots from creation to deletion."""

    operations = Operations["Snapshots"]()

    def __init__(self, world: World, *, rate: SnapshotRate) -> None:
        self._world = world
        self._store = world.store
        self._rate: SnapshotRate = rate
        world.clock.register("snapshot completed", self._complete)

    @operations("CreateSnapshot", pauses=True)
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Create a snapshot in state pending; the API has no client token, so each repeat creates another one."""
        request_checks.require(parameters, "VolumeId")
        volume = resource_ids.find_volume(self._world, parameters["VolumeId"])
        tags = tagging.requested_tags(parameters, "snapshot")
        self._check_create(parameters, volume)
        request_checks.refuse_dry_run(parameters)
        self._store.volumes.put(replace(self._store.volumes[volume.id], latest_snapshot=time.time()))
        snapshot = await self._clone(volume, description=parameters.get("Description", ""), tags=tags)
        return await self._world.acknowledge(render_new_snapshot(self._world, snapshot))

    @operations("DeleteSnapshot", pauses=True)
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete a snapshot; volumes created from it keep their contents."""
        request_checks.require(parameters, "SnapshotId")
        snapshot = resource_ids.find_snapshot(self._world, parameters["SnapshotId"])
        request_checks.refuse_dry_run(parameters)
        await self._fill_dependents(snapshot.id)
        self._world.clock.cancel(snapshot.id)
        self._store.snapshots.drop(snapshot.id)
        self._store.record_state(snapshot.id, "deleted")
        await self._store.commit()
        await self._world.backing_files.delete(snapshot.id)
        return await self._world.acknowledge({})

    def _check_create(self, parameters: Parameters, volume: Volume) -> None:
        if given := [name for name in _UNSUPPORTED if parameters.get(name)]:
            raise AwsFault("UnsupportedOperation", f"The emulator does not support the parameter {given[0]}.")
        if volume.state != "available":
            raise AwsFault("IncorrectState", f"The volume '{volume.id}' is in the '{volume.state}' state.")
        if self._rate != "off" and time.time() - volume.latest_snapshot < INTERVAL:
            text = (
                "The maximum per volume CreateSnapshot request rate has been exceeded. "
                "Use an increasing or variable sleep interval between requests."
            )
            raise AwsFault("SnapshotCreationPerVolumeRateExceeded", text)

    async def _clone(self, volume: Volume, *, description: str, tags: dict[str, str]) -> Snapshot:
        id_ = new_id("snap")
        stored = await self._world.backing_files.snapshot(volume.id, id_)
        snapshot = Snapshot(
            id=id_,
            volume=volume.id,
            size_gib=volume.size_gib,
            stored_bytes=stored,
            description=description,
            encrypted=volume.encrypted,
            key=volume.key,
            data_key=volume.data_key,
            data_key_id=volume.data_key_id,
            data_key_owner=volume.id,
            started=now(),
            tags=tags,
        )
        ripe = self._world.clock.schedule(id_, "snapshot completed", extra=PER_GIB * stored / (1 << 30))
        self._store.record_state(id_, snapshot.state)
        return self._store.snapshots.put(replace(snapshot, ripe=ripe))

    async def _fill_dependents(self, id_: str) -> None:
        """Copy the snapshot now to the volumes that are still being created from it."""
        volumes = self._store.volumes.values()
        for volume in [volume for volume in volumes if volume.snapshot == id_ and volume.state == "creating"]:
            await self._world.backing_files.create(volume.id, size_gib=volume.size_gib, snapshot=id_)

    async def _complete(self, id_: str) -> None:
        snapshot = self._store.snapshots[id_]
        self._store.snapshots.put(replace(snapshot, state="completed", completed=now()))
        self._store.record_state(id_, "completed")
