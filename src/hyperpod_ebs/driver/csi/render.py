"""The only place that builds answers, so that a repeat cannot answer less than the first call."""

from collections.abc import Iterator
from typing import Final

from hyperpod_ebs.driver.model import sizes, topology
from hyperpod_ebs.driver.model.disk import Amount, Usage
from hyperpod_ebs.driver.model.formatting import PLAIN, Formatting
from hyperpod_ebs.driver.model.volume import AttachState, Snapshot, Volume, udev_link
from hyperpod_ebs.driver.volumes.cloud import Page
from hyperpod_ebs.pb import csi_pb2

DEVICE_PATH: Final = "devicePath"
"""The one entry of the publish context."""

PUBLISHED: Final = frozenset({AttachState.ATTACHED, AttachState.BUSY})
"""A node has the volume and may use it. A busy detach waits for it to be unmounted."""


def volume(made: Volume, formatting: Formatting = PLAIN) -> csi_pb2.Volume:
    """A volume; its context is what the node has to know where it formats it, and mostly empty."""
    content = None
    if made.snapshot_id:
        content = csi_pb2.VolumeContentSource(
            snapshot=csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=made.snapshot_id)
        )
    return csi_pb2.Volume(
        volume_id=made.id,
        volume_context=formatting.context(),
        capacity_bytes=sizes.to_bytes(made.size),
        content_source=content,
        accessible_topology=[csi_pb2.Topology(segments=topology.volume_segments(made.zone))],
    )


def volume_page(page: Page[Volume]) -> csi_pb2.ListVolumesResponse:
    """Some of the volumes, each with the nodes that have it."""
    entry, status = csi_pb2.ListVolumesResponse.Entry, csi_pb2.ListVolumesResponse.VolumeStatus
    return csi_pb2.ListVolumesResponse(
        entries=[entry(volume=volume(one), status=status(published_node_ids=nodes_of(one))) for one in page.items],
        next_token=page.next_token or "",
    )


def volume_status(found: Volume) -> csi_pb2.ControllerGetVolumeResponse:
    """A volume, with the nodes that have it."""
    return csi_pb2.ControllerGetVolumeResponse(
        volume=volume(found),
        status=csi_pb2.ControllerGetVolumeResponse.VolumeStatus(published_node_ids=nodes_of(found)),
    )


def nodes_of(found: Volume) -> list[str]:
    """The CSI ids of the nodes that have the volume."""
    return [str(one.node) for one in found.attachments if one.node is not None and one.state in PUBLISHED]


def publish_context(volume_id: str) -> dict[str, str]:
    """What the node gets to know: made from the volume's id alone, so that a repeat answers the same."""
    return {DEVICE_PATH: udev_link(volume_id)}


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
    """Some of the snapshots."""
    return csi_pb2.ListSnapshotsResponse(
        entries=[csi_pb2.ListSnapshotsResponse.Entry(snapshot=snapshot(one)) for one in page.items],
        next_token=page.next_token or "",
    )


def stats(usage: Usage) -> csi_pb2.NodeGetVolumeStatsResponse:
    """How full a volume is, in bytes and inodes, as far as that is known."""
    return csi_pb2.NodeGetVolumeStatsResponse(usage=_usages(usage))


def _usages(usage: Usage) -> Iterator[csi_pb2.VolumeUsage]:
    yield _usage(usage.bytes, csi_pb2.VolumeUsage.Unit.BYTES)
    if usage.inodes is not None:
        yield _usage(usage.inodes, csi_pb2.VolumeUsage.Unit.INODES)


def _usage(amount: Amount, unit: csi_pb2.VolumeUsage.Unit.ValueType) -> csi_pb2.VolumeUsage:
    return csi_pb2.VolumeUsage(total=amount.total, used=amount.used or 0, available=amount.available or 0, unit=unit)
