"""DescribeVolumes, and a volume as EC2 shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import listing, naming
from hyperpod_ebs.emulator.records import Attachment, Instance, Volume
from hyperpod_ebs.emulator.state.world import World, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, Call, Operations

HYPERPOD: Final = "sagemaker.amazonaws.com"
"""Who owns the instances of HyperPod clusters."""

PAGES: Final = (5, 1000)


def volume_shown(world: World, volume: Volume) -> dict[str, Any]:  # the members of EC2's Volume
    """`volume` with its attachments."""
    return {
        "VolumeId": volume.id,
        "VolumeArn": world.region.arn("ec2", f"volume/{volume.id}"),
        "OwnerId": world.region.account,
        "Size": volume.size_gib,
        "VolumeType": volume.kind,
        "Iops": volume.iops,
        "Throughput": volume.throughput_mib,
        "AvailabilityZone": volume.zone,
        "AvailabilityZoneId": world.region.zone_id(volume.zone),
        "State": state_of(world, volume),
        "CreateTime": to_datetime(volume.created),
        "SnapshotId": volume.snapshot or "",
        "VolumeInitializationRate": volume.initialization_rate_mib,
        "Encrypted": volume.encrypted,
        "KmsKeyId": volume.key,
        "SseType": "sse-kms" if volume.encrypted else None,
        "MultiAttachEnabled": volume.multi_attach,
        "FastRestored": False if volume.snapshot else None,
        "Tags": tag_list(volume.tags),
        "Attachments": [attachment_shown(world, one) for one in world.store.attachments.where("volume", volume.id)],
    }


def attachment_shown(world: World, attachment: Attachment) -> dict[str, Any]:  # the members of EC2's VolumeAttachment
    """`attachment`; of one to a HyperPod node EC2 shows neither instance nor device."""
    shown: dict[str, Any] = {  # as above
        "VolumeId": attachment.volume,
        "State": attachment.state,
        "AttachTime": to_datetime(attachment.since),
        "DeleteOnTermination": attachment.delete_on_termination,
    }
    instance = world.store.instances[attachment.instance]
    if not instance.cluster:
        return {**shown, "InstanceId": attachment.instance, "Device": attachment.device}
    return {**shown, "AssociatedResource": resource_of(world, instance), "InstanceOwningService": HYPERPOD}


def resource_of(world: World, instance: Instance) -> str:
    """The ARN by which EC2 knows a HyperPod node."""
    return f"{world.region.arn('sagemaker', f'cluster/{instance.cluster}')}-{instance.id}"


def state_of(world: World, volume: Volume) -> str:
    """creating, available, in-use or deleting."""
    return "in-use" if world.store.attachments.where("volume", volume.id) else volume.state


@dataclass(frozen=True, slots=True)
class VolumeListing:
    """DescribeVolumes."""

    world: World

    name = "ec2"
    operations = Operations["VolumeListing"]()

    @operations("DescribeVolumes")
    async def describe(self, asked: Asked, _: Call) -> Answer:
        """Volumes by ids, of which an unknown one fails the call, or by filters."""
        await self.world.clock.run_due_steps()
        naming.dry_run(asked)
        listing.not_both(asked, "VolumeIds")
        chosen = listing.selected(self._asked_for(asked), asked, self._fields(), by_id="volume-id", tags=tags)
        this, token = listing.page(chosen, asked, PAGES, key=lambda volume: volume.id)
        answer = {"Volumes": [volume_shown(self.world, volume) for volume in this], "NextToken": token}
        return await self.world.acknowledge(answer)

    def _asked_for(self, asked: Asked) -> Mapping[str, Volume]:
        volumes = self.world.store.volumes
        if ids := asked.get("VolumeIds"):
            return {volume.id: volume for volume in naming.all_found(volumes, ids, naming.VOLUME)}
        return volumes

    def _fields(self) -> dict[str, listing.Field[Volume]]:
        world = self.world
        attached = self._attachments
        return {
            "attachment.attach-time": lambda volume: [listing.instant(one.since) for one in attached(volume)],
            "attachment.delete-on-termination": lambda volume: [
                listing.yes_or_no(one.delete_on_termination) for one in attached(volume)
            ],
            "attachment.device": lambda volume: [one.device for one in attached(volume)],
            "attachment.instance-id": lambda volume: [one.instance for one in attached(volume)],
            "attachment.status": lambda volume: [one.state for one in attached(volume)],
            "availability-zone": lambda volume: [volume.zone],
            "availability-zone-id": lambda volume: [world.region.zone_id(volume.zone) or ""],
            "create-time": lambda volume: [listing.instant(volume.created)],
            "encrypted": lambda volume: [listing.yes_or_no(volume.encrypted)],
            "fast-restored": lambda volume: [listing.yes_or_no(value=False)] if volume.snapshot else [],
            "multi-attach-enabled": lambda volume: [listing.yes_or_no(volume.multi_attach)],
            "operator.managed": lambda _: [listing.yes_or_no(value=False)],
            "operator.principal": lambda _: [],
            "size": lambda volume: [str(volume.size_gib)],
            "snapshot-id": lambda volume: [volume.snapshot or ""],
            "status": lambda volume: [state_of(world, volume)],
            "volume-id": lambda volume: [volume.id],
            "volume-type": lambda volume: [volume.kind],
        }

    def _attachments(self, volume: Volume) -> list[Attachment]:
        """Those that filters find: to the customer's own instances."""
        store = self.world.store
        present = store.attachments.where("volume", volume.id)
        return [one for one in present if not store.instances[one.instance].cluster]


def tags(volume: Volume) -> list[str]:
    """Each tag as `key=value`."""
    return [f"{key}={value}" for key, value in volume.tags.items()]
