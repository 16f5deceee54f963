"""AttachVolume and DetachVolume, for the customer's own instances."""

import re
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.ec2 import request_checks, resource_ids
from hyperpod_ebs.emulator.ec2.describe_volumes import render_attachment
from hyperpod_ebs.emulator.nodes.attachments import Attachments
from hyperpod_ebs.emulator.records import Attachment, Instance, Volume
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

_DEVICE: Final = re.compile(r"(?:/dev/)?xvd(?:[b-z]|[a-c][a-z]|d[a-x])|/dev/sd[b-z][1-6]?")
"""Device names that EC2 accepts for a data volume.

Sources: the Go driver, which found the bounds by trial; for names without /dev/, the API reference of AttachVolume.
"""


def is_device_name(name: str) -> bool:
    """Whether EC2 accepts the name for a data volume."""
    return _DEVICE.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class VolumeAttachments:
    """Volumes on the customer's own instances."""

    world: World
    attachments: Attachments

    operations = Operations["VolumeAttachments"]()

    @operations("AttachVolume")
    async def attach(self, parameters: Parameters, call: Call) -> Answer:
        """Start to attach a volume; the attachment is in state attaching."""
        request_checks.require(parameters, "Device", "InstanceId", "VolumeId")
        volume = resource_ids.find_volume(self.world, parameters["VolumeId"])
        (instance,) = resource_ids.find_instances(self.world, [parameters["InstanceId"]])
        if parameters.get("EbsCardIndex"):
            text = f"Instance type {instance.kind} has no EBS card {parameters['EbsCardIndex']}."
            raise AwsFault("InvalidParameterValue", text)
        self._check_device(parameters["Device"], instance)
        request_checks.refuse_dry_run(parameters)
        attachment = self.attachments.attach(volume, instance, parameters["Device"], call)
        return await self.world.acknowledge(render_attachment(self.world, attachment))

    @operations("DetachVolume", pauses=True)
    async def detach(self, parameters: Parameters, _: Call) -> Answer:
        """Start to detach a volume; the attachment is in state detaching. With Force, detach it at once."""
        request_checks.require(parameters, "VolumeId")
        volume = resource_ids.find_volume(self.world, parameters["VolumeId"])
        attachment = self._find_attachment(parameters, volume)
        self._check_detachable(attachment, volume, force=parameters.get("Force", False))
        request_checks.refuse_dry_run(parameters)
        if parameters.get("Force"):
            detached = await self.attachments.force_detach(attachment)
        else:
            detached = self.attachments.detach(attachment)
        answer = render_attachment(self.world, detached)
        return await self.world.acknowledge(answer)

    def _check_device(self, device: str, instance: Instance) -> None:
        if not is_device_name(device):
            text = f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name."
            raise AwsFault("InvalidParameterValue", text)
        others = self.world.store.attachments.where("instance", instance.id)
        if device.removeprefix("/dev/") in {other.device.removeprefix("/dev/") for other in others}:
            text = f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use"
            raise AwsFault("InvalidParameterValue", text)

    def _find_attachment(self, parameters: Parameters, volume: Volume) -> Attachment:
        present = self.world.store.attachments.where("volume", volume.id)
        if not present:
            raise AwsFault("IncorrectState", f"Volume '{volume.id}' is in the '{volume.state}' state.")
        if any(self.world.store.instances[attachment.instance].cluster for attachment in present):
            text = f"The volume '{volume.id}' is attached to a managed resource and cannot be detached by DetachVolume."
            raise AwsFault("UnsupportedOperationException", text)
        if len(present) > 1 and not parameters.get("InstanceId"):
            text = f"Volume '{volume.id}' is attached to several instances: instanceId must be specified."
            raise AwsFault("InvalidParameterCombination", text)
        matching = [
            attachment
            for attachment in present
            if parameters.get("InstanceId") in {None, attachment.instance}
            and parameters.get("Device") in {None, attachment.device}
        ]
        if not matching:
            where = parameters.get("InstanceId") or parameters.get("Device")
            text = f"The volume '{volume.id}' is not attached to instance '{where}'."
            raise AwsFault("InvalidAttachment.NotFound", text)
        return matching[0]

    def _check_detachable(self, attachment: Attachment, volume: Volume, *, force: bool) -> None:
        instance = self.world.store.instances[attachment.instance]
        if not attachment.unit and instance.state == "running":
            text = f"Unable to detach root volume '{attachment.device}' from instance '{instance.id}'"
            raise AwsFault("OperationNotPermitted", text)
        if attachment.state in {"detaching", "busy"} and not force:
            raise AwsFault("IncorrectState", f"Volume '{volume.id}' is in the 'detaching' state.")
