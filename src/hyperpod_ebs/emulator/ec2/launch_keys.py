"""The KMS keys of an instance's volumes when the instance starts.

An instance whose caller may not use the keys goes from pending to terminated, or back to
stopped if it was stopped. Sources: EC2 User Guide, "Troubleshoot Amazon EC2 instance launch
issues", "Instance terminates immediately"; AWS Knowledge Center, "kms-iam-ec2-permission".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hyperpod_ebs.emulator.ec2.launch_volumes import IMAGE_SNAPSHOT
from hyperpod_ebs.emulator.kms.volume_keys import KeyAccessDenied, KeyUnusable, VolumeKeys
from hyperpod_ebs.emulator.nodes.machines import ROOT_DEVICE, LaunchVolume
from hyperpod_ebs.emulator.nodes.state_reasons import CLIENT_ERROR, INVALID_KEY
from hyperpod_ebs.emulator.records import Instance, attachment_id
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Call


@dataclass(frozen=True, slots=True)
class LaunchKeys:
    """Opens volumes for instances that start."""

    world: World
    keys: VolumeKeys

    def open_new_volumes(
        self, call: Call, instance: Instance, volumes: Sequence[LaunchVolume]
    ) -> tuple[Sequence[LaunchVolume], str]:
        """The volumes of a new instance with their data keys, and the reason why it cannot start; empty if it can."""
        opened, failures = [], []
        for each in volumes:
            try:
                opened.append(self._open(call, instance, each))
            except KeyUnusable as reason:
                opened.append(each)
                failures.append(_state_reason(reason))
        return opened, failures[0] if failures else ""

    def reopen_volumes(self, call: Call, instance: Instance) -> str:
        """Open the volumes of a stopped instance again; the reason why it cannot start, or an empty text."""
        try:
            for attachment in self.world.store.attachments.where("instance", instance.id):
                volume = self.world.store.volumes[attachment.volume]
                self.keys.open_for_instance(call, volume, instance, attachment.id)
        except KeyUnusable as reason:
            return _state_reason(reason)
        return ""

    def _open(self, call: Call, instance: Instance, new: LaunchVolume) -> LaunchVolume:
        if (key := new.volume.key) is None:
            return new
        source = self.world.store.snapshots.get(new.volume.snapshot or "")
        if source is None and new.device == ROOT_DEVICE:
            source = IMAGE_SNAPSHOT
        data_key = self.keys.create_data_key(call, key, new.volume.id, source)
        volume = replace(new.volume, data_key=data_key.blob, data_key_id=data_key.id)
        self.keys.open_for_instance(call, volume, instance, attachment_id(volume.id, instance.id))
        return replace(new, volume=volume)


def _state_reason(reason: KeyUnusable) -> str:
    return CLIENT_ERROR if isinstance(reason, KeyAccessDenied) else INVALID_KEY
