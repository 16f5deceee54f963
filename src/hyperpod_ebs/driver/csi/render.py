"""Build the answers: a repeated call cannot answer less than the first, because no other module builds answers."""

from typing import Final

from hyperpod_ebs.driver.csi.status import short_message
from hyperpod_ebs.driver.model import sizes, topology
from hyperpod_ebs.driver.model.disk import Amount
from hyperpod_ebs.driver.model.formatting import PLAIN, Formatting
from hyperpod_ebs.driver.model.health import Health, HealthStatus, Statistics
from hyperpod_ebs.driver.model.volume import AttachState, Snapshot, Volume, udev_link
from hyperpod_ebs.driver.volumes.cloud import Page
from hyperpod_ebs.pb import csi_pb2

DEVICE_PATH: Final = "devicePath"
"""The only key in the publish context."""

PUBLISHED: Final = frozenset({AttachState.ATTACHED, AttachState.BUSY})
"""The states in which a node may use the volume: in state `busy`, a detach waits until the node unmounts it."""


def volume(created: Volume, formatting: Formatting = PLAIN) -> csi_pb2.Volume:
    """A volume; its context says how the node has to format it, and is empty by default."""
    content = None
    if created.snapshot_id:
        content = csi_pb2.VolumeContentSource(
            snapshot=csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=created.snapshot_id)
        )
    return csi_pb2.Volume(
        volume_id=created.id,
        volume_context=formatting.context(),
        capacity_bytes=sizes.to_bytes(created.size),
        content_source=content,
        accessible_topology=[csi_pb2.Topology(segments=topology.volume_segments(created.zone))],
    )


def volume_page(page: Page[Volume]) -> csi_pb2.ListVolumesResponse:
    """A page of volumes, each with the nodes that it is attached to."""
    entry, status = csi_pb2.ListVolumesResponse.Entry, csi_pb2.ListVolumesResponse.VolumeStatus
    return csi_pb2.ListVolumesResponse(
        entries=[
            entry(volume=volume(listed), status=status(published_node_ids=published_nodes(listed)))
            for listed in page.items
        ],
        next_token=page.next_token or "",
    )


def volume_status(found: Volume) -> csi_pb2.ControllerGetVolumeResponse:
    """A volume, with the nodes that it is attached to."""
    return csi_pb2.ControllerGetVolumeResponse(
        volume=volume(found),
        status=csi_pb2.ControllerGetVolumeResponse.VolumeStatus(published_node_ids=published_nodes(found)),
    )


def published_nodes(found: Volume) -> list[str]:
    """The CSI ids of the nodes that may use the volume."""
    return [
        str(attachment.node)
        for attachment in found.attachments
        if attachment.node is not None and attachment.state in PUBLISHED
    ]


def publish_context(volume_id: str, device_name: str) -> dict[str, str]:
    """The publish context: the device name on an EC2 instance, without which a Xen disk cannot be found.

    Without a device name, as on HyperPod nodes, it has the link by volume id. Both are the same in a repeated call.
    """
    return {DEVICE_PATH: device_name or udev_link(volume_id)}


def snapshot(taken: Snapshot) -> csi_pb2.Snapshot:
    """A snapshot."""
    message = csi_pb2.Snapshot(
        snapshot_id=taken.id,
        source_volume_id=taken.volume_id,
        size_bytes=sizes.to_bytes(taken.size),
        ready_to_use=taken.is_ready,
    )
    message.creation_time.FromDatetime(taken.started)
    return message


def snapshot_page(page: Page[Snapshot]) -> csi_pb2.ListSnapshotsResponse:
    """A page of snapshots."""
    return csi_pb2.ListSnapshotsResponse(
        entries=[csi_pb2.ListSnapshotsResponse.Entry(snapshot=snapshot(listed)) for listed in page.items],
        next_token=page.next_token or "",
    )


def stats(measured: Statistics) -> csi_pb2.NodeGetVolumeStatsResponse:
    """How full a volume is, in bytes and, for a filesystem, in inodes; and its condition."""
    units, usage, health = csi_pb2.VolumeUsage.Unit, measured.usage, measured.health
    amounts = [_usage(usage.bytes, units.BYTES)] if usage else []
    if usage and usage.inodes is not None:
        amounts.append(_usage(usage.inodes, units.INODES))
    condition = csi_pb2.VolumeCondition(
        abnormal=health.status is not HealthStatus.HEALTHY, message=short_message(health.message)
    )
    return csi_pb2.NodeGetVolumeStatsResponse(usage=amounts, volume_condition=condition)


def health(volume_id: str, found: Health) -> csi_pb2.VolumeHealth:
    """A volume's health on a node, in the form of CSI 1.13: a healthy volume has no entry."""
    if found.status is HealthStatus.HEALTHY:
        return csi_pb2.VolumeHealth(volume_id=volume_id)
    entry = csi_pb2.VolumeHealth.VolumeHealthEntry(
        status=csi_pb2.VolumeHealthErrorType.Value(found.status),
        reason=found.reason,
        message=short_message(found.message),
    )
    return csi_pb2.VolumeHealth(volume_id=volume_id, health_statuses=[entry])


def _usage(amount: Amount, unit: csi_pb2.VolumeUsage.Unit.ValueType) -> csi_pb2.VolumeUsage:
    return csi_pb2.VolumeUsage(total=amount.total, used=amount.used or 0, available=amount.available or 0, unit=unit)
