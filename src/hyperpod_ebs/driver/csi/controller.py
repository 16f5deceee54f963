"""The CSI controller service: parse each call, join or start its operation, answer (CSI spec, Controller Service)."""

from contextlib import suppress
from typing import Final

import structlog

from hyperpod_ebs.driver.csi import capability_validation, parse, render
from hyperpod_ebs.driver.csi.interceptors import Context
from hyperpod_ebs.driver.model import errors, parameters, sizes
from hyperpod_ebs.driver.model.modification import WINDOW
from hyperpod_ebs.driver.model.tags import DEFAULT_POLICY, TagPolicy
from hyperpod_ebs.driver.model.volume import parse_snapshot_id, parse_volume_id
from hyperpod_ebs.driver.volumes import attach, listing, provision, snapshot
from hyperpod_ebs.driver.volumes.absence import find_attachments, get_volume
from hyperpod_ebs.driver.volumes.cloud import Cloud
from hyperpod_ebs.driver.volumes.modify import Modifier
from hyperpod_ebs.driver.volumes.watch import Watcher
from hyperpod_ebs.kit.operations import Interruption, Operations
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

log = structlog.get_logger()

_RPC: Final = csi_pb2.ControllerServiceCapability.RPC
CAPABILITIES: Final = (
    _RPC.Type.CREATE_DELETE_VOLUME,
    _RPC.Type.PUBLISH_UNPUBLISH_VOLUME,
    _RPC.Type.LIST_VOLUMES,
    _RPC.Type.LIST_VOLUMES_PUBLISHED_NODES,
    _RPC.Type.CREATE_DELETE_SNAPSHOT,
    _RPC.Type.LIST_SNAPSHOTS,
    _RPC.Type.EXPAND_VOLUME,
    _RPC.Type.GET_VOLUME,
    _RPC.Type.MODIFY_VOLUME,
    _RPC.Type.SINGLE_NODE_MULTI_WRITER,
)
# PUBLISH_READONLY is missing: EC2 attaches volumes for writing only, and NodePublishVolume enforces read-only.


class Controller(csi_pb2_grpc.ControllerServicer):
    """Creates, attaches, modifies, lists and deletes volumes and snapshots."""

    def __init__(
        self,
        cloud: Cloud,
        watcher: Watcher,
        operations: Operations[str],
        policy: TagPolicy = DEFAULT_POLICY,
        *,
        modification_window: float = WINDOW,
    ) -> None:
        """`operations` belong to this service.

        A key is an id, "volume" or "snapshot" and a name, or a volume's id with "(size)" or "(class)": a growth and a
        change of class hold up neither each other nor attachments and detachments. In `modification_window` seconds,
        the two become one request to EC2.
        """
        self._cloud = cloud
        self._watcher = watcher
        self.operations = operations
        self._policy = policy
        self._modifier = Modifier(cloud, watcher, operations, window=modification_window)

    async def ControllerGetCapabilities(  # noqa: N802 - CSI's name, as all below
        self, request: csi_pb2.ControllerGetCapabilitiesRequest, context: Context
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        """Name the calls that this service implements."""
        del request, context
        capability = csi_pb2.ControllerServiceCapability
        return csi_pb2.ControllerGetCapabilitiesResponse(
            capabilities=[capability(rpc=_RPC(type=type_)) for type_ in CAPABILITIES]
        )

    async def CreateVolume(  # noqa: N802
        self, request: csi_pb2.CreateVolumeRequest, context: Context
    ) -> csi_pb2.CreateVolumeResponse:
        """Create a volume, blank or from a snapshot."""
        del context
        spec, formatting = parse.volume_spec(request, self._policy), parse.formatting(request)
        for key, why in parse.ignored_parameters(request).items():
            log.info("parameter ignored", volume=spec.name, parameter=key, why=why)
        try:
            volume = await self.operations.run(
                f"volume {spec.name}",
                parse.operation(request),
                lambda: provision.provision_volume(self._cloud, self._watcher, spec),
            )
        except errors.OutOfRange:
            raise
        except errors.InvalidRequest as error:
            if not request.mutable_parameters:
                raise
            # The VolumeAttributesClass may be the cause. InvalidRequest would make the provisioner wait until the
            # StorageClass is recreated, which does not help then.
            values = ", ".join(f"{key}={value}" for key, value in sorted(request.mutable_parameters.items()))
            raise errors.Refused(
                f"{error}; if the VolumeAttributesClass ({values}) is the cause, recreate the claim with another class"
            ) from error
        return csi_pb2.CreateVolumeResponse(volume=render.volume(volume, formatting))

    async def DeleteVolume(  # noqa: N802
        self, request: csi_pb2.DeleteVolumeRequest, context: Context
    ) -> csi_pb2.DeleteVolumeResponse:
        """Delete a volume; succeed if it does not exist."""
        del context
        with suppress(errors.VolumeNotFound):
            volume_id = parse_volume_id(request.volume_id)
            await self.operations.run(
                volume_id, parse.operation(request), lambda: provision.delete_volume(self._cloud, volume_id)
            )
        return csi_pb2.DeleteVolumeResponse()

    async def ControllerPublishVolume(  # noqa: N802
        self, request: csi_pb2.ControllerPublishVolumeRequest, context: Context
    ) -> csi_pb2.ControllerPublishVolumeResponse:
        """Attach a volume to a node."""
        del context
        parse.supported_capability(request)
        parse.required_field(request.volume_id, "volume id")  # report a missing id before an unknown node
        node = parse.node(request.node_id)
        volume_id = parse_volume_id(request.volume_id)
        interruption = Interruption()
        device = await self.operations.run(
            volume_id,
            parse.operation(request),
            lambda: attach.attach_volume(self._cloud, self._watcher, volume_id, node, interruption),
            interruption=interruption,
        )
        return csi_pb2.ControllerPublishVolumeResponse(publish_context=render.publish_context(volume_id, device))

    async def ControllerUnpublishVolume(  # noqa: N802
        self, request: csi_pb2.ControllerUnpublishVolumeRequest, context: Context
    ) -> csi_pb2.ControllerUnpublishVolumeResponse:
        """Detach a volume from a node, or from all nodes without a node id; succeed if it is not attached."""
        del context
        with suppress(errors.VolumeNotFound):
            volume_id = parse_volume_id(request.volume_id)
            await self.operations.run(
                volume_id,
                parse.operation(request),
                lambda: self._detach_volume(volume_id, request.node_id),
                preempts={"ControllerPublishVolume"},
            )
        return csi_pb2.ControllerUnpublishVolumeResponse()

    async def ValidateVolumeCapabilities(  # noqa: N802
        self, request: csi_pb2.ValidateVolumeCapabilitiesRequest, context: Context
    ) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        """Compare a volume with what the caller asks about it."""
        del context
        volume = await get_volume(self._cloud, parse_volume_id(request.volume_id))
        return capability_validation.response(request, volume)

    async def ListVolumes(  # noqa: N802
        self, request: csi_pb2.ListVolumesRequest, context: Context
    ) -> csi_pb2.ListVolumesResponse:
        """List volumes, each with the nodes that it is attached to."""
        del context
        page = await listing.list_volumes(self._cloud, request.max_entries, request.starting_token)
        return render.volume_page(page)

    async def ControllerGetVolume(  # noqa: N802
        self, request: csi_pb2.ControllerGetVolumeRequest, context: Context
    ) -> csi_pb2.ControllerGetVolumeResponse:
        """Show a volume, with the nodes that it is attached to."""
        del context
        return render.volume_status(await get_volume(self._cloud, parse_volume_id(request.volume_id)))

    async def ControllerExpandVolume(  # noqa: N802
        self, request: csi_pb2.ControllerExpandVolumeRequest, context: Context
    ) -> csi_pb2.ControllerExpandVolumeResponse:
        """Grow a volume; NodeExpandVolume then grows its filesystem."""
        del context
        volume_id, size = parse_volume_id(request.volume_id), parse.expansion_size(request)
        new_size = await self.operations.run(
            f"{volume_id} (size)",
            parse.operation(request),
            lambda: self._modifier.expand_volume(volume_id, size),
        )
        return csi_pb2.ControllerExpandVolumeResponse(
            capacity_bytes=sizes.to_bytes(new_size),
            node_expansion_required=not request.volume_capability.HasField("block"),
        )

    async def ControllerModifyVolume(  # noqa: N802
        self, request: csi_pb2.ControllerModifyVolumeRequest, context: Context
    ) -> csi_pb2.ControllerModifyVolumeResponse:
        """Change a volume's type, IOPS or throughput, and its tags."""
        del context
        volume_id = parse_volume_id(request.volume_id)
        change, tag_changes = parameters.parse_change(request.mutable_parameters, self._policy)
        await self.operations.run(
            f"{volume_id} (class)",
            parse.operation(request),
            lambda: self._modifier.modify_volume(volume_id, change, tag_changes),
        )
        return csi_pb2.ControllerModifyVolumeResponse()

    async def CreateSnapshot(  # noqa: N802
        self, request: csi_pb2.CreateSnapshotRequest, context: Context
    ) -> csi_pb2.CreateSnapshotResponse:
        """Start a snapshot; the caller repeats the call until the snapshot is ready."""
        del context
        spec = parse.snapshot_spec(request, self._policy)
        taken = await self.operations.run(
            f"snapshot {spec.name}", parse.operation(request), lambda: snapshot.take_snapshot(self._cloud, spec)
        )
        return csi_pb2.CreateSnapshotResponse(snapshot=render.snapshot(taken))

    async def DeleteSnapshot(  # noqa: N802
        self, request: csi_pb2.DeleteSnapshotRequest, context: Context
    ) -> csi_pb2.DeleteSnapshotResponse:
        """Delete a snapshot; succeed if it does not exist."""
        del context
        with suppress(errors.SnapshotNotFound):
            snapshot_id = parse_snapshot_id(request.snapshot_id)
            await self.operations.run(
                snapshot_id, parse.operation(request), lambda: snapshot.delete_snapshot(self._cloud, snapshot_id)
            )
        return csi_pb2.DeleteSnapshotResponse()

    async def ListSnapshots(  # noqa: N802
        self, request: csi_pb2.ListSnapshotsRequest, context: Context
    ) -> csi_pb2.ListSnapshotsResponse:
        """List snapshots: all of the account's, those of a volume, or the one with an id."""
        del context
        page = await listing.list_snapshots(
            self._cloud,
            request.max_entries,
            request.starting_token,
            volume_id=request.source_volume_id,
            snapshot_id=request.snapshot_id,
        )
        return render.snapshot_page(page)

    async def _detach_volume(self, volume_id: str, node_id: str) -> None:
        """Detach the volume from the node with this id, or from all nodes if the id is empty.

        A success allows the attacher to attach the volume elsewhere. So an id that no node can have is a success only
        if no node has the volume.

        Raises:
            NodeNotFound: No node can have the id, and some node has the volume.
        """
        try:
            node = parse.node(node_id) if node_id else None
        except errors.NodeNotFound:
            if await find_attachments(self._cloud, volume_id):
                raise
        else:
            await attach.detach_volume(self._cloud, self._watcher, volume_id, node)
