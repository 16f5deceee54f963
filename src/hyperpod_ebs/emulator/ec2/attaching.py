"""AttachVolume and DetachVolume: the customer's own instances."""

import re
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.ec2 import naming
from hyperpod_ebs.emulator.ec2.volume_listing import attachment_shown
from hyperpod_ebs.emulator.nodes.attachments import Attachments
from hyperpod_ebs.emulator.nodes.machines import own_instances
from hyperpod_ebs.emulator.records import Attachment, Instance, Volume
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

_DEVICE: Final = re.compile(r"/dev/(?:xvd(?:[b-z]|[a-c][a-z]|d[a-x])|sd[b-z][1-6]?)")
"""Names that EC2 takes for a data volume; the Go driver found their bounds by trial."""


@dataclass(frozen=True, slots=True)
class Attaching:
    """Attach and detach."""

    world: World
    attachments: Attachments

    name = "ec2"
    operations = Operations["Attaching"]()

    @operations("AttachVolume")
    async def attach(self, asked: Asked, _: Call) -> Answer:
        """The attachment, attaching."""
        naming.needed(asked, "Device", "InstanceId", "VolumeId")
        await self.world.clock.run_due_steps()
        volume = naming.found(self.world.store.volumes, asked["VolumeId"], naming.VOLUME)
        instance = naming.found(own_instances(self.world), asked["InstanceId"], naming.INSTANCE)
        if asked.get("EbsCardIndex"):
            text = f"Instance type {instance.kind} has no EBS card {asked['EbsCardIndex']}."
            raise AwsFault("InvalidParameterValue", text)
        self._check_device(asked["Device"], instance)
        naming.dry_run(asked)
        attachment = self.attachments.begin(volume, instance, asked["Device"])
        return await self.world.acknowledge(attachment_shown(self.world, attachment))

    @operations("DetachVolume")
    async def detach(self, asked: Asked, _: Call) -> Answer:
        """The attachment, detaching; with Force it is gone."""
        naming.needed(asked, "VolumeId")
        async with self.world.clock.pause():
            volume = naming.found(self.world.store.volumes, asked["VolumeId"], naming.VOLUME)
            attachment = self._attachment(asked, volume)
            self._check_detachable(attachment, volume, force=asked.get("Force", False))
            naming.dry_run(asked)
            if asked.get("Force"):
                ended = await self.attachments.cut(attachment)
            else:
                ended = self.attachments.end(attachment)
            answer = attachment_shown(self.world, ended)
        return await self.world.acknowledge(answer)

    def _check_device(self, device: str, instance: Instance) -> None:
        if not _DEVICE.fullmatch(device):
            text = f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name."
            raise AwsFault("InvalidParameterValue", text)
        if any(one.device == device for one in self.world.store.attachments.where("instance", instance.id)):
            text = f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use"
            raise AwsFault("InvalidParameterValue", text)

    def _attachment(self, asked: Asked, volume: Volume) -> Attachment:
        present = self.world.store.attachments.where("volume", volume.id)
        if not present:
            raise AwsFault("IncorrectState", f"Volume '{volume.id}' is in the '{volume.state}' state.")
        if any(self.world.store.instances[one.instance].cluster for one in present):
            text = f"The volume '{volume.id}' is attached to a managed resource and cannot be detached by DetachVolume."
            raise AwsFault("UnsupportedOperationException", text)
        if len(present) > 1 and not asked.get("InstanceId"):
            text = f"Volume '{volume.id}' is attached to several instances: instanceId must be specified."
            raise AwsFault("InvalidParameterCombination", text)
        wanted = [
            one
            for one in present
            if asked.get("InstanceId") in {None, one.instance} and asked.get("Device") in {None, one.device}
        ]
        if not wanted:
            where = asked.get("InstanceId") or asked.get("Device")
            text = f"The volume '{volume.id}' is not attached to instance '{where}'."
            raise AwsFault("InvalidAttachment.NotFound", text)
        return wanted[0]

    def _check_detachable(self, attachment: Attachment, volume: Volume, *, force: bool) -> None:
        instance = self.world.store.instances[attachment.instance]
        if not attachment.unit and instance.state == "running":
            text = f"Unable to detach root volume '{attachment.device}' from instance '{instance.id}'"
            raise AwsFault("OperationNotPermitted", text)
        if attachment.state in {"detaching", "busy"} and not force:
            raise AwsFault("IncorrectState", f"Volume '{volume.id}' is in the 'detaching' state.")
