"""CreateVolume and DeleteVolume."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.ec2 import request_checks, resource_ids, tagging, volume_limits
from hyperpod_ebs.emulator.ec2.client_tokens import ClientTokens, token_mismatch
from hyperpod_ebs.emulator.ec2.describe_volumes import render_volume, volume_state
from hyperpod_ebs.emulator.ec2.encryption_keys import key_of_volume
from hyperpod_ebs.emulator.kms.volume_keys import KeyUnusable, VolumeKeys
from hyperpod_ebs.emulator.records import Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World, modification_subject, new_id, now
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

_UNSUPPORTED: Final = ("OutpostArn", "Operator")

INITIALIZATION_RATES_MIB: Final = (100, 300)
"""The smallest and the largest VolumeInitializationRate, in MiB/s."""


class Volumes:
    """Volumes from creation to deletion."""

    operations = Operations["Volumes"]()

    def __init__(self, world: World, keys: VolumeKeys) -> None:
        self._world = world
        self._keys = keys
        self._store = world.store
        self._tokens = ClientTokens(world.store, "CreateVolume")
        world.clock.register("volume available", self._make_available)
        world.clock.register("volume gone", self._remove)

    @operations("CreateVolume")
    async def create(self, parameters: Parameters, call: Call) -> Answer:
        """Create a volume in state creating, or return the volume of an earlier request with the same token.

        EC2 validates the key with KMS only later: a volume whose key cannot be used so disappears.
        """
        zone = self._zone(parameters)
        if earlier_ids := self._tokens.earlier_ids(parameters, zone):
            # Check nothing else: the snapshot of the first request may be deleted by now.
            request_checks.refuse_dry_run(parameters)
            volume = self._store.volumes.get(earlier_ids[0])
            if volume is None or volume.state == "deleting":
                token = parameters["ClientToken"]
                raise token_mismatch(
                    f"The client token {token} was used for volume {earlier_ids[0]}, which is deleted."
                )
        else:
            volume = self._new_volume(parameters, zone)
            request_checks.refuse_dry_run(parameters)
            volume, outcome = self._with_data_key(volume, call)
            self._store.volumes.put(volume)
            self._store.record_state(volume.id, volume.state)
            self._tokens.remember(parameters, volume.zone, [volume.id])
            self._world.clock.schedule(volume.id, outcome)
        answer = render_volume(self._world, volume, self._store.attachments)
        return await self._world.acknowledge({**answer, "Tags": answer["Tags"] or []})

    @operations("DeleteVolume")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Start to delete a volume; it is in state deleting."""
        request_checks.require(parameters, "VolumeId")
        volume = resource_ids.find_volume(self._world, parameters["VolumeId"])
        request_checks.refuse_dry_run(parameters)
        if (state := volume_state(self._store.attachments, volume)) == "in-use":
            instance = self._store.attachments.where("volume", volume.id)[0].instance
            raise AwsFault("VolumeInUse", f"Volume {volume.id} is currently attached to {instance}")
        if state != "available":
            raise AwsFault("IncorrectState", f"The volume '{volume.id}' is in the '{state}' state.")
        self._store.volumes.put(replace(volume, state="deleting"))
        self._world.clock.cancel(modification_subject(volume.id))
        self._store.record_state(volume.id, "deleting")
        self._world.clock.schedule(volume.id, "volume gone")
        return await self._world.acknowledge({})

    def _new_volume(self, parameters: Parameters, zone: str) -> Volume:
        """The requested volume.

        Raises:
            AwsFault: The request is invalid.
        """
        if given := [name for name in _UNSUPPORTED if parameters.get(name)]:
            raise AwsFault("UnsupportedOperation", f"The emulator does not support the parameter {given[0]}.")
        snapshot = self._snapshot(parameters)
        settings = volume_limits.valid_settings(
            kind=parameters.get("VolumeType", "gp2"),
            size_gib=_size(parameters, snapshot),
            iops=parameters.get("Iops"),
            throughput_mib=parameters.get("Throughput"),
            multi_attach=parameters.get("MultiAttachEnabled", False),
        )
        key = key_of_volume(self._keys, parameters, snapshot)
        return Volume(
            id=new_id("vol"),
            zone=zone,
            kind=settings.kind,
            size_gib=settings.size_gib,
            iops=settings.iops,
            throughput_mib=settings.throughput_mib,
            multi_attach=settings.multi_attach,
            encrypted=key is not None,
            key=key,
            snapshot=snapshot.id if snapshot else None,
            initialization_rate_mib=_initialization_rate(parameters),
            created=now(),
            tags=tagging.requested_tags(parameters, "volume"),
        )

    def _zone(self, parameters: Parameters) -> str:
        name, id_ = parameters.get("AvailabilityZone"), parameters.get("AvailabilityZoneId")
        if name and id_:
            text = "The parameters AvailabilityZone and AvailabilityZoneId cannot be used together."
            raise AwsFault("InvalidParameterCombination", text)
        if not (name or id_):
            raise AwsFault("MissingParameter", "The request must contain the parameter AvailabilityZone")
        known = {zone.name if name else zone.id: zone for zone in self._world.region.zones}
        if (zone := known.get(name or id_ or "")) is None:
            raise AwsFault("InvalidZone.NotFound", f"The zone '{name or id_}' does not exist.")
        return zone.name

    def _snapshot(self, parameters: Parameters) -> Snapshot | None:
        if not (id_ := parameters.get("SnapshotId")):
            return None
        snapshot = resource_ids.find_snapshot(self._world, id_)
        if snapshot.state != "completed":
            raise AwsFault("IncorrectState", f"Snapshot '{id_}' is in the '{snapshot.state}' state.")
        return snapshot

    def _with_data_key(self, volume: Volume, call: Call) -> tuple[Volume, str]:
        """The volume with its data key, and the step that comes next: the volume disappears if it gets no data key."""
        if volume.key is None:
            return volume, "volume available"
        source = self._store.snapshots[volume.snapshot] if volume.snapshot else None
        try:
            data_key = self._keys.create_data_key(call, volume.key, volume.id, source)
        except KeyUnusable:
            return volume, "volume gone"
        return replace(volume, data_key=data_key.blob, data_key_id=data_key.id), "volume available"

    async def _make_available(self, id_: str) -> None:
        volume = self._store.volumes[id_]
        if volume.data_key and not self._keys.is_usable(volume.key or ""):
            await self._remove(id_)
            return
        await self._world.backing_files.create(id_, size_gib=volume.size_gib, snapshot=volume.snapshot)
        self._store.volumes.put(replace(self._store.volumes[id_], state="available"))
        self._store.record_state(id_, "available")

    async def _remove(self, id_: str) -> None:
        await self._world.backing_files.delete(id_)
        self._world.delete_volume(id_)


def _size(parameters: Mapping[str, int], snapshot: Snapshot | None) -> int:
    if (size := parameters.get("Size")) is None:
        if snapshot is None:
            raise AwsFault("MissingParameter", "The request must contain the parameter size/snapshot")
        return snapshot.size_gib
    if snapshot is not None and size < snapshot.size_gib:
        text = f"Volume of {size}GiB is smaller than snapshot '{snapshot.id}', expect size >= {snapshot.size_gib}GiB"
        raise AwsFault("InvalidParameterValue", text)
    return size


def _initialization_rate(parameters: Mapping[str, int]) -> int | None:
    if (rate := parameters.get("VolumeInitializationRate")) is None:
        return None
    if "SnapshotId" not in parameters:
        text = "The parameter VolumeInitializationRate requires the parameter SnapshotId."
        raise AwsFault("InvalidParameterCombination", text)
    least, most = INITIALIZATION_RATES_MIB
    if not least <= rate <= most:
        raise AwsFault(
            "InvalidParameterValue", f"VolumeInitializationRate of {rate} is not between {least} and {most}."
        )
    return rate
