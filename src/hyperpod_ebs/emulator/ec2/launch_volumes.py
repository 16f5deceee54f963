"""The volumes of new instances: the root volume, and those that BlockDeviceMappings describe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import resource_ids, volume_limits
from hyperpod_ebs.emulator.ec2.encryption_keys import key_of_volume
from hyperpod_ebs.emulator.ec2.volume_attachments import is_device_name
from hyperpod_ebs.emulator.kms.volume_keys import VolumeKeys
from hyperpod_ebs.emulator.nodes.attach_slots import attach_slots
from hyperpod_ebs.emulator.nodes.machines import ROOT_DEVICE, LaunchVolume
from hyperpod_ebs.emulator.records import Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World, new_id, now
from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

IMAGE_SNAPSHOT: Final = Snapshot(id="", volume="", size_gib=8, stored_bytes=0, started=0.0)
"""The snapshot of the root volume of each emulated image; it is plain, and has no data here."""

_SUPPORTED: Final = frozenset(
    {
        *("DeleteOnTermination", "Encrypted", "Iops", "KmsKeyId", "SnapshotId", "Throughput", "VolumeSize"),
        "VolumeType",
    }
)
"""The members of a mapping's Ebs that the emulator supports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchVolumes:
    """The volumes that each instance of a request gets."""

    world: World
    keys: VolumeKeys
    zone: str
    tags: Mapping[str, str]
    """The tags of new volumes."""

    def volumes(self, parameters: Parameters) -> Sequence[LaunchVolume]:
        """The volumes without data keys, the root volume first; their ids are new at each call.

        Raises:
            AwsFault: A mapping is invalid or not supported, or there are too many.
        """
        mappings: Sequence[Mapping[str, Any]] = parameters.get("BlockDeviceMappings", [])  # Any: BlockDeviceMapping
        names = [str(mapping.get("DeviceName", "")) for mapping in mappings]
        for name in names:
            if names.count(name) > 1:
                raise _invalid(f"The device '{name}' is used in more than one block-device mapping")
            if name != ROOT_DEVICE and not is_device_name(name):
                raise _invalid(f"Invalid device name {name}")
        if unsupported := [mapping for mapping in mappings if mapping.get("VirtualName")]:
            raise _support_error(f"BlockDeviceMapping.VirtualName {unsupported[0]['VirtualName']}")
        wanted = {
            name: mapping for name, mapping in zip(names, mappings, strict=True) if mapping.get("NoDevice") is None
        }
        root = self._volume(ROOT_DEVICE, wanted.pop(ROOT_DEVICE, {}).get("Ebs", {}))
        all_volumes = [root, *(self._volume(name, mapping.get("Ebs", {})) for name, mapping in wanted.items())]
        kind = parameters["InstanceType"]
        if len(all_volumes) > attach_slots(kind).count:
            raise AwsFault(
                "AttachmentLimitExceeded", f"Instances of type {kind} take {attach_slots(kind).count} volumes"
            )
        return all_volumes

    def _volume(self, device: str, ebs: Mapping[str, Any]) -> LaunchVolume:  # Any: the members of EbsBlockDevice
        if given := [name for name in ebs if name not in _SUPPORTED and ebs[name]]:
            raise _support_error(f"BlockDeviceMapping.Ebs.{given[0]}")
        is_root = device == ROOT_DEVICE
        snapshot = resource_ids.find_snapshot(self.world, ebs["SnapshotId"]) if ebs.get("SnapshotId") else None
        if snapshot and snapshot.state != "completed":
            raise AwsFault("IncorrectState", f"Snapshot '{snapshot.id}' is in the '{snapshot.state}' state.")
        origin = snapshot or (IMAGE_SNAPSHOT if is_root else None)
        least = origin.size_gib if origin else 0
        if not (size := ebs.get("VolumeSize", least)):
            raise AwsFault("MissingParameter", "The request must contain the parameter size or snapshotId")
        if size < least:
            source = f"snapshot '{snapshot.id}'" if snapshot else "the image's snapshot"
            raise _invalid(f"Volume of size {size}GB is smaller than {source}, expect size >= {least}GB")
        settings = volume_limits.valid_settings(
            kind=ebs.get("VolumeType", "gp3" if is_root else "gp2"),
            size_gib=size,
            iops=ebs.get("Iops"),
            throughput_mib=ebs.get("Throughput"),
            multi_attach=False,
        )
        key = key_of_volume(self.keys, ebs, snapshot)
        volume = Volume(
            id=new_id("vol"),
            zone=self.zone,
            kind=settings.kind,
            size_gib=settings.size_gib,
            iops=settings.iops,
            throughput_mib=settings.throughput_mib,
            encrypted=key is not None,
            key=key,
            snapshot=snapshot.id if snapshot else None,
            created=now(),
            tags=self.tags,
        )
        return LaunchVolume(volume, device, delete_on_termination=ebs.get("DeleteOnTermination", True))


def _invalid(text: str) -> AwsFault:
    return AwsFault("InvalidBlockDeviceMapping", text)


def _support_error(name: str) -> AwsFault:
    return AwsFault("UnsupportedOperation", f"The emulator does not support the parameter {name}.")
