"""CopySnapshot, within the emulated region and without another key."""

from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.emulator.ec2 import request_checks, resource_ids, tagging
from hyperpod_ebs.emulator.ec2.snapshots import PER_GIB
from hyperpod_ebs.emulator.records import Snapshot
from hyperpod_ebs.emulator.state.world import World, new_id, now
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

VOLUME: Final = "vol-ffffffff"
"""The volume that copies show (EC2 API reference, CopySnapshot: "an arbitrary volume ID")."""

_STEP_MINUTES: Final = 15
_MOST_MINUTES: Final = 2_880

_UNSUPPORTED: Final = ("DestinationAvailabilityZone", "DestinationOutpostArn", "KmsKeyId")


@dataclass(frozen=True, slots=True)
class SnapshotCopies:
    """The operation CopySnapshot."""

    world: World

    operations = Operations["SnapshotCopies"]()

    @operations("CopySnapshot")
    async def copy(self, parameters: Parameters, _: Call) -> Answer:
        """Copy a snapshot; the copy is in state pending at first, and keeps its data if the source is deleted."""
        region, id_ = request_checks.require(parameters, "SourceRegion", "SourceSnapshotId")
        async with self.world.clock.pause():  # the source cannot be deleted while it is copied
            if region != self.world.region.name:
                text = f"The emulator has snapshots only of {self.world.region.name}, not of {region}"
                raise AwsFault("UnsupportedOperation", text)
            source = resource_ids.find_snapshot(self.world, id_)
            self._check(parameters, source)
            tags = tagging.requested_tags(parameters, "snapshot")
            request_checks.refuse_dry_run(parameters)
            copy = await self._copy(source, parameters, tags)
        members = [{"Key": key, "Value": value} for key, value in copy.tags.items()]
        return await self.world.acknowledge({"SnapshotId": copy.id, "Tags": members})

    def _check(self, parameters: Parameters, source: Snapshot) -> None:
        if given := [name for name in _UNSUPPORTED if parameters.get(name)]:
            raise AwsFault("UnsupportedOperation", f"The emulator does not support the parameter {given[0]}.")
        if parameters.get("Encrypted") or source.encrypted:
            raise AwsFault("UnsupportedOperation", "The emulator does not copy to or from encrypted snapshots.")
        if source.state != "completed":
            raise AwsFault("IncorrectState", f"Snapshot '{source.id}' is in the '{source.state}' state.")
        minutes = parameters.get("CompletionDurationMinutes")
        if minutes is not None and (minutes % _STEP_MINUTES or not 0 < minutes <= _MOST_MINUTES):
            text = f"Value ({minutes}) for parameter completionDurationMinutes is invalid."
            raise AwsFault("InvalidParameterValue", f"{text} Give a multiple of {_STEP_MINUTES} up to {_MOST_MINUTES}.")

    async def _copy(self, source: Snapshot, parameters: Parameters, tags: dict[str, str]) -> Snapshot:
        id_ = new_id("snap")
        stored = await self.world.backing_files.snapshot(source.id, id_)
        copy = replace(
            source,
            id=id_,
            volume=VOLUME,
            description=parameters.get("Description", ""),
            stored_bytes=stored,
            state="pending",
            started=now(),
            completed=None,
            completion_minutes=parameters.get("CompletionDurationMinutes"),
            shared_with=(),
            tags=tags,
        )
        ripe = self.world.clock.schedule(id_, "snapshot completed", extra=PER_GIB * stored / (1 << 30))
        self.world.store.record_state(id_, copy.state)
        return self.world.store.snapshots.put(replace(copy, ripe=ripe))
