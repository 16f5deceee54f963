"""DescribeVolumes, and volumes and attachments as EC2 returns them."""

from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import filters, pages, request_checks, resource_ids
from hyperpod_ebs.emulator.records import Attachment, Instance, Volume
from hyperpod_ebs.emulator.state.store import Records
from hyperpod_ebs.emulator.state.world import World, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

HYPERPOD: Final = "sagemaker.amazonaws.com"
"""The service that owns the instances of HyperPod clusters."""

PAGE_SIZES: Final = (5, 1000)


def render_volume(
    world: World, volume: Volume, attachments: Records[Attachment]
) -> dict[str, Any]:  # the members of EC2's Volume
    """The volume with its attachments, which are among `attachments`."""
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
        "State": volume_state(attachments, volume),
        "CreateTime": to_datetime(volume.created),
        "SnapshotId": volume.snapshot or "",
        "VolumeInitializationRate": volume.initialization_rate_mib,
        "Encrypted": volume.encrypted,
        "KmsKeyId": volume.key,
        "SseType": "sse-kms" if volume.encrypted else None,
        "MultiAttachEnabled": volume.multi_attach,
        "FastRestored": False if volume.snapshot else None,
        "Tags": tag_list(volume.tags),
        "Attachments": [
            render_attachment(world, attachment)
            for attachment in attachments.where("volume", volume.id)
            if find_instance(world, attachment) is not None
        ],
    }


def render_attachment(world: World, attachment: Attachment) -> dict[str, Any]:  # the members of EC2's VolumeAttachment
    """The attachment; EC2 omits the instance and the device if the instance is a HyperPod node."""
    members: dict[str, Any] = {  # the members of EC2's VolumeAttachment
        "VolumeId": attachment.volume,
        "State": attachment.state,
        "AttachTime": to_datetime(attachment.since),
        "DeleteOnTermination": attachment.delete_on_termination,
    }
    instance = find_instance(world, attachment)
    if instance is None or not instance.cluster:
        return {**members, "InstanceId": attachment.instance, "Device": attachment.device}
    return {**members, "AssociatedResource": associated_resource(world, instance), "InstanceOwningService": HYPERPOD}


def associated_resource(world: World, instance: Instance) -> str:
    """The ARN by which EC2 names a HyperPod node: the cluster's ARN and the node's id."""
    return f"{world.region.arn('sagemaker', f'cluster/{instance.cluster}')}-{instance.id}"


def volume_state(attachments: Records[Attachment], volume: Volume) -> str:
    """The state that EC2 returns for a volume with these attachments: creating, available, in-use or deleting."""
    return "in-use" if attachments.where("volume", volume.id) else volume.state


def find_instance(world: World, attachment: Attachment) -> Instance | None:
    """The attachment's instance; None if it is gone while a lagging description still shows the attachment."""
    return world.store.instances.get(attachment.instance) or world.shown.instances.get(attachment.instance)


@dataclass(frozen=True, slots=True)
class DescribeVolumes:
    """The operation DescribeVolumes."""

    world: World

    operations = Operations["DescribeVolumes"]()

    @operations("DescribeVolumes")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """List volumes by id or by filter; an unknown id fails the call."""
        request_checks.refuse_dry_run(parameters)
        pages.refuse_pages_of_ids(parameters, "VolumeIds", shown="volumeSet")
        shown = self.world.shown.volumes
        known = resource_ids.named_or_all(shown, parameters.get("VolumeIds"), resource_ids.VOLUME)
        matching = filters.matching(
            known, parameters, self._fields(), by_id="volume-id", tags=lambda volume: volume.tags
        )
        this_page, token = pages.page(matching, parameters, PAGE_SIZES, key=lambda volume: volume.id)
        attachments = self.world.shown.attachments
        answer = {
            "Volumes": [render_volume(self.world, volume, attachments) for volume in this_page],
            "NextToken": token,
        }
        return await self.world.acknowledge(answer)

    def _fields(self) -> dict[str, filters.Field[Volume]]:
        world = self.world
        attachments = self._attachments
        return {
            "attachment.attach-time": lambda volume: [
                filters.timestamp(attachment.since) for attachment in attachments(volume)
            ],
            "attachment.delete-on-termination": lambda volume: [
                filters.boolean(attachment.delete_on_termination) for attachment in attachments(volume)
            ],
            "attachment.device": lambda volume: [attachment.device for attachment in attachments(volume)],
            "attachment.instance-id": lambda volume: [attachment.instance for attachment in attachments(volume)],
            "attachment.status": lambda volume: [attachment.state for attachment in attachments(volume)],
            "availability-zone": lambda volume: [volume.zone],
            "availability-zone-id": lambda volume: [world.region.zone_id(volume.zone) or ""],
            "create-time": lambda volume: [filters.timestamp(volume.created)],
            "encrypted": lambda volume: [filters.boolean(volume.encrypted)],
            "fast-restored": lambda volume: [filters.boolean(value=False)] if volume.snapshot else [],
            "multi-attach-enabled": lambda volume: [filters.boolean(volume.multi_attach)],
            "operator.managed": lambda _: [filters.boolean(value=False)],
            "operator.principal": lambda _: [],
            "size": lambda volume: [str(volume.size_gib)],
            "snapshot-id": lambda volume: [volume.snapshot or ""],
            "status": lambda volume: [volume_state(world.shown.attachments, volume)],
            "volume-id": lambda volume: [volume.id],
            "volume-type": lambda volume: [volume.kind],
        }

    def _attachments(self, volume: Volume) -> list[Attachment]:
        """The attachments that filters match: those to the customer's own instances."""
        present = self.world.shown.attachments.where("volume", volume.id)
        instances = [(attachment, find_instance(self.world, attachment)) for attachment in present]
        return [attachment for attachment, instance in instances if instance is not None and not instance.cluster]
