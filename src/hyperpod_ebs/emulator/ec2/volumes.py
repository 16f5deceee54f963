"""CreateVolume and DeleteVolume."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.ec2 import limits, naming, tagging
from hyperpod_ebs.emulator.ec2.tokens import Tokens, mismatch
from hyperpod_ebs.emulator.ec2.volume_listing import state_of, volume_shown
from hyperpod_ebs.emulator.records import Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World, modification_subject, new_id, now
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

_NOT_HERE: Final = ("OutpostArn", "Operator")

RATES: Final = (100, 300)
"""Bounds of VolumeInitializationRate in MiB/s."""

DEFAULT_KEY: Final = "key/00000000-0000-4000-8000-000000000eb5"
"""The account's own key for EBS, aws/ebs."""


class Volumes:
    """The volumes: made, and deleted."""

    name = "ec2"
    operations = Operations["Volumes"]()

    def __init__(self, world: World) -> None:
        self._world = world
        self._store = world.store
        self._tokens = Tokens(world.store, "CreateVolume")
        world.clock.register("volume available", self._available)
        world.clock.register("volume gone", self._gone)

    @operations("CreateVolume")
    async def create(self, asked: Asked, _: Call) -> Answer:
        """A volume in state creating, or the one that the same token made before."""
        await self._world.clock.run_due_steps()
        zone = self._zone(asked)
        if made := self._tokens.made(asked, zone):
            # Looked at no further: the snapshot that the first request named may be gone by now.
            naming.dry_run(asked)
            volume = self._again(made[0], asked["ClientToken"])
        else:
            volume = self._wanted(asked, zone)
            naming.dry_run(asked)
            self._store.volumes.put(volume)
            self._store.record_state(volume.id, volume.state)
            self._tokens.remember(asked, volume.zone, [volume.id])
            self._world.clock.schedule(volume.id, "volume available")
        return await self._world.acknowledge(volume_shown(self._world, volume))

    @operations("DeleteVolume")
    async def delete(self, asked: Asked, _: Call) -> Answer:
        """Nothing; the volume is deleting."""
        naming.needed(asked, "VolumeId")
        await self._world.clock.run_due_steps()
        volume = naming.found(self._store.volumes, asked["VolumeId"], naming.VOLUME)
        naming.dry_run(asked)
        if (state := state_of(self._world, volume)) == "in-use":
            holder = self._store.attachments.where("volume", volume.id)[0].instance
            raise AwsFault("VolumeInUse", f"Volume {volume.id} is currently attached to {holder}")
        if state != "available":
            raise AwsFault("IncorrectState", f"The volume '{volume.id}' is in the '{state}' state.")
        self._store.volumes.put(replace(volume, state="deleting"))
        self._world.clock.cancel(modification_subject(volume.id))
        self._store.record_state(volume.id, "deleting")
        self._world.clock.schedule(volume.id, "volume gone")
        return await self._world.acknowledge({})

    def _wanted(self, asked: Asked, zone: str) -> Volume:
        """The volume that the request describes."""
        if given := [name for name in _NOT_HERE if asked.get(name)]:
            raise AwsFault("UnsupportedOperation", f"This cloud does not know the parameter {given[0]}.")
        snapshot = self._snapshot(asked)
        shape = limits.shape(
            kind=asked.get("VolumeType", "gp2"),
            size_gib=_size(asked, snapshot),
            iops=asked.get("Iops"),
            throughput_mib=asked.get("Throughput"),
            multi_attach=asked.get("MultiAttachEnabled", False),
        )
        encrypted, key = self._encryption(asked, snapshot)
        return Volume(
            id=new_id("vol"),
            zone=zone,
            kind=shape.kind,
            size_gib=shape.size_gib,
            iops=shape.iops,
            throughput_mib=shape.throughput_mib,
            multi_attach=shape.multi_attach,
            encrypted=encrypted,
            key=key,
            snapshot=snapshot.id if snapshot else None,
            initialization_rate_mib=_rate(asked),
            created=now(),
            tags=tagging.of_new(asked, "volume"),
        )

    def _zone(self, asked: Asked) -> str:
        name, id_ = asked.get("AvailabilityZone"), asked.get("AvailabilityZoneId")
        if name and id_:
            text = "The parameters AvailabilityZone and AvailabilityZoneId cannot be used together."
            raise AwsFault("InvalidParameterCombination", text)
        if not (name or id_):
            raise AwsFault("MissingParameter", "The request must contain the parameter AvailabilityZone")
        known = {zone.name if name else zone.id: zone for zone in self._world.region.zones}
        if (zone := known.get(name or id_ or "")) is None:
            raise AwsFault("InvalidZone.NotFound", f"The zone '{name or id_}' does not exist.")
        return zone.name

    def _snapshot(self, asked: Asked) -> Snapshot | None:
        if not (id_ := asked.get("SnapshotId")):
            return None
        snapshot = naming.found(self._store.snapshots, id_, naming.SNAPSHOT)
        if snapshot.state != "completed":
            raise AwsFault("IncorrectState", f"Snapshot '{id_}' is in the '{snapshot.state}' state.")
        return snapshot

    def _encryption(self, asked: Asked, snapshot: Snapshot | None) -> tuple[bool, str | None]:
        """Whether the volume is encrypted, and with which key."""
        # KMS is asked only later, so any key is taken here, as AWS does.
        wanted, key = asked.get("Encrypted", False), asked.get("KmsKeyId")
        if key and not wanted:
            text = "The parameter KmsKeyId requires the parameter Encrypted to be set."
            raise AwsFault("InvalidParameterDependency", text)
        if key:
            return True, self._key_arn(key)
        if snapshot is not None and snapshot.encrypted:
            return True, snapshot.key
        return (True, self._world.region.arn("kms", DEFAULT_KEY)) if wanted else (False, None)

    def _key_arn(self, key: str) -> str:
        if key.startswith("arn:"):
            return key
        return self._world.region.arn("kms", key if key.startswith("alias/") else f"key/{key}")

    def _again(self, id_: str, token: str) -> Volume:
        volume = self._store.volumes.get(id_)
        if volume is None or volume.state == "deleting":
            raise mismatch(f"The client token {token} was used for volume {id_}, which is deleted.")
        return volume

    async def _available(self, id_: str) -> None:
        volume = self._store.volumes[id_]
        await self._world.images.make(id_, size_gib=volume.size_gib, snapshot=volume.snapshot)
        self._store.volumes.put(replace(self._store.volumes[id_], state="available"))
        self._store.record_state(id_, "available")

    async def _gone(self, id_: str) -> None:
        await self._world.images.drop(id_)
        self._world.delete_volume(id_)


def _size(asked: Mapping[str, int], snapshot: Snapshot | None) -> int:
    if (size := asked.get("Size")) is None:
        if snapshot is None:
            raise AwsFault("MissingParameter", "The request must contain the parameter size or snapshotId")
        return snapshot.size_gib
    if snapshot is not None and size < snapshot.size_gib:
        text = f"Volume of {size}GiB is smaller than snapshot '{snapshot.id}', expect size >= {snapshot.size_gib}GiB"
        raise AwsFault("InvalidParameterValue", text)
    return size


def _rate(asked: Mapping[str, int]) -> int | None:
    if (rate := asked.get("VolumeInitializationRate")) is None:
        return None
    if "SnapshotId" not in asked:
        text = "The parameter VolumeInitializationRate requires the parameter SnapshotId."
        raise AwsFault("InvalidParameterCombination", text)
    if not RATES[0] <= rate <= RATES[1]:
        text = f"VolumeInitializationRate of {rate} is not between {RATES[0]} and {RATES[1]}."
        raise AwsFault("InvalidParameterValue", text)
    return rate
