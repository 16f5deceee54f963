"""CopySnapshot, within the emulated region.

Sources: EC2 API reference, CopySnapshot; Amazon EBS User Guide, "Copy an Amazon EBS snapshot".
"""

from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.ec2 import request_checks, resource_ids, tagging
from hyperpod_ebs.emulator.ec2.encryption_keys import key_of_copy
from hyperpod_ebs.emulator.ec2.snapshots import PER_GIB
from hyperpod_ebs.emulator.kms.volume_keys import KeyUnusable, VolumeKeys
from hyperpod_ebs.emulator.records import Snapshot
from hyperpod_ebs.emulator.state.world import World, new_id, now
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

VOLUME: Final = "vol-ffffffff"
"""The volume that copies show (EC2 API reference, CopySnapshot: "an arbitrary volume ID")."""

_STEP_MINUTES: Final = 15
_MOST_MINUTES: Final = 2_880

_UNSUPPORTED: Final = ("DestinationAvailabilityZone", "DestinationOutpostArn")

MAX_PENDING: Final = 20
"""Copies that may be pending at the same time."""

INACCESSIBLE_KEY: Final = "Given key ID is not accessible"
"""The StateMessage of a copy whose caller may not use the keys, or whose key is unusable."""


class SnapshotCopies:
    """The operation CopySnapshot."""

    operations = Operations["SnapshotCopies"]()

    def __init__(self, world: World, keys: VolumeKeys) -> None:
        self._world = world
        self._keys = keys
        world.clock.register("snapshot copied", self._finish)

    @operations("CopySnapshot", pauses=True)
    async def copy(self, parameters: Parameters, call: Call) -> Answer:
        """Copy a snapshot; the copy is in state pending at first, and keeps its data if the source is deleted.

        EC2 validates the key with KMS only later: a copy whose keys cannot be used ends in state error.
        """
        region, id_ = request_checks.require(parameters, "SourceRegion", "SourceSnapshotId")
        if region != self._world.region.name:
            text = f"The emulator has snapshots only of {self._world.region.name}, not of {region}"
            raise AwsFault("UnsupportedOperation", text)
        source = resource_ids.find_snapshot(self._world, id_)
        self._check(parameters, source)
        copy = self._new_copy(parameters, source)
        request_checks.refuse_dry_run(parameters)
        copy = await self._clone(source, self._with_data_key(copy, source, call))
        members = [{"Key": key, "Value": value} for key, value in copy.tags.items()]
        return await self._world.acknowledge({"SnapshotId": copy.id, "Tags": members})

    def _check(self, parameters: Parameters, source: Snapshot) -> None:
        if given := [name for name in _UNSUPPORTED if parameters.get(name)]:
            raise AwsFault("UnsupportedOperation", f"The emulator does not support the parameter {given[0]}.")
        if source.state != "completed":
            raise AwsFault("IncorrectState", f"Snapshot '{source.id}' is in the '{source.state}' state.")
        minutes = parameters.get("CompletionDurationMinutes")
        if minutes is not None and (minutes % _STEP_MINUTES or not 0 < minutes <= _MOST_MINUTES):
            text = f"Value ({minutes}) for parameter completionDurationMinutes is invalid."
            raise AwsFault("InvalidParameterValue", f"{text} Give a multiple of {_STEP_MINUTES} up to {_MOST_MINUTES}.")
        pending = [each for each in self._world.store.snapshots.values() if _is_pending_copy(each)]
        if len(pending) >= MAX_PENDING:
            text = f"{MAX_PENDING} snapshot copies are in progress, which is the limit. Wait until one is completed."
            raise AwsFault("ResourceLimitExceeded", text)

    def _new_copy(self, parameters: Parameters, source: Snapshot) -> Snapshot:
        """The requested copy, without a data key.

        Raises:
            AwsFault: The request is invalid.
        """
        key = key_of_copy(self._keys, parameters, source)
        return replace(
            source,
            id=new_id("snap"),
            volume=VOLUME,
            description=parameters.get("Description", ""),
            encrypted=key is not None,
            key=key,
            data_key="",
            data_key_id="",
            data_key_owner="",
            state="pending",
            started=now(),
            completed=None,
            completion_minutes=parameters.get("CompletionDurationMinutes"),
            shared_with=(),
            tags=tagging.requested_tags(parameters, "snapshot"),
        )

    def _with_data_key(self, copy: Snapshot, source: Snapshot, call: Call) -> Snapshot:
        """The copy with its data key, if it is encrypted and its caller may use the keys."""
        if copy.key is None:
            return copy
        try:
            data_key = self._keys.copy_data_key(call, copy.key, copy.id, source)
        except KeyUnusable:
            return copy
        return replace(copy, data_key=data_key.blob, data_key_id=data_key.id, data_key_owner=copy.id)

    async def _clone(self, source: Snapshot, copy: Snapshot) -> Snapshot:
        stored = await self._world.backing_files.snapshot(source.id, copy.id)
        ripe = self._world.clock.schedule(copy.id, "snapshot copied", extra=PER_GIB * stored / (1 << 30))
        self._world.store.record_state(copy.id, copy.state)
        return self._world.store.snapshots.put(replace(copy, stored_bytes=stored, ripe=ripe))

    async def _finish(self, id_: str) -> None:
        """Complete the copy, unless its key cannot be used."""
        copy = self._world.store.snapshots[id_]
        if copy.key and not (copy.data_key and self._keys.is_usable(copy.key)):
            ended = replace(copy, state="error", state_message=INACCESSIBLE_KEY)
        else:
            ended = replace(copy, state="completed", completed=now())
        self._world.store.snapshots.put(ended)
        self._world.store.record_state(id_, ended.state)


def _is_pending_copy(snapshot: Snapshot) -> bool:
    return snapshot.volume == VOLUME and snapshot.state == "pending"
