"""The controller service: each call is parsed, joined or begun, and rendered (CSI spec §Controller Service)."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import structlog
from google.protobuf.message import Message

from hyperpod_ebs.driver.csi import confirm, parse, render, secrets
from hyperpod_ebs.driver.csi.interceptors import Context
from hyperpod_ebs.driver.model import errors, sizes, volume
from hyperpod_ebs.driver.model.tags import DEFAULT_POLICY, TagPolicy
from hyperpod_ebs.driver.model.volume import AttachState, Volume
from hyperpod_ebs.driver.volumes import attach, listing, modify, provision, snapshot
from hyperpod_ebs.driver.volumes.cloud import Cloud, get_volume
from hyperpod_ebs.driver.volumes.watch import Watcher
from hyperpod_ebs.kit.operations import Operation, Operations
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

T = TypeVar("T")

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
# PUBLISH_READONLY is not among them: EC2 attaches for writing only, and NodePublishVolume is where
# read-only is enforced.


class Controller(csi_pb2_grpc.ControllerServicer):
    """Makes, attaches, changes, lists and removes volumes and snapshots."""

    def __init__(
        self, cloud: Cloud, watcher: Watcher, operations: Operations[str], policy: TagPolicy = DEFAULT_POLICY
    ) -> None:
        """`operations` are this service's own: keys are ids, or a name and its kind; `policy` tags what is made."""
        self._cloud = cloud
        self._watcher = watcher
        self.operations = operations
        self._policy = policy

    async def ControllerGetCapabilities(  # noqa: N802 - CSI's name, as all below
        self, request: csi_pb2.ControllerGetCapabilitiesRequest, context: Context
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        """What this service can do."""
        del request, context
        capability = csi_pb2.ControllerServiceCapability
        return csi_pb2.ControllerGetCapabilitiesResponse(
            capabilities=[capability(rpc=_RPC(type=one)) for one in CAPABILITIES]
        )

    async def CreateVolume(  # noqa: N802
        self, request: csi_pb2.CreateVolumeRequest, context: Context
    ) -> csi_pb2.CreateVolumeResponse:
        """Make a volume, blank or from a snapshot."""
        del context
        spec, formatting = parse.volume_spec(request, self._policy), parse.formatting(request)
        for key, why in parse.ignored(request).items():
            log.info("parameter ignored", volume=spec.name, parameter=key, why=why)
        try:
            made = await self._joined(
                f"volume {spec.name}", request, lambda: provision.provision_volume(self._cloud, self._watcher, spec)
            )
        except errors.OutOfRange:
            raise
        except errors.InvalidRequest as error:
            if not request.mutable_parameters:
                raise
            # Perhaps the VolumeAttributesClass is to blame; then the StorageClass need not be made anew.
            raise errors.Refused(str(error)) from error
        return csi_pb2.CreateVolumeResponse(volume=render.volume(made, formatting))

    async def DeleteVolume(  # noqa: N802
        self, request: csi_pb2.DeleteVolumeRequest, context: Context
    ) -> csi_pb2.DeleteVolumeResponse:
        """Remove a volume; success when there is none."""
        del context
        with suppress(errors.VolumeNotFound):
            volume_id = volume.parse_volume_id(request.volume_id)
            await self._joined(volume_id, request, lambda: provision.delete_volume(self._cloud, volume_id))
        return csi_pb2.DeleteVolumeResponse()

    async def ControllerPublishVolume(  # noqa: N802
        self, request: csi_pb2.ControllerPublishVolumeRequest, context: Context
    ) -> csi_pb2.ControllerPublishVolumeResponse:
        """Attach a volume to a node."""
        del context
        parse.offered(request)
        volume_id, node_id = parse.required(request.volume_id, "volume id"), request.node_id
        node = parse.node(node_id)
        volume.parse_volume_id(volume_id)
        await self._joined(
            volume_id, request, lambda: attach.attach_volume(self._cloud, self._watcher, volume_id, node)
        )
        return csi_pb2.ControllerPublishVolumeResponse(publish_context=render.publish_context(volume_id))

    async def ControllerUnpublishVolume(  # noqa: N802
        self, request: csi_pb2.ControllerUnpublishVolumeRequest, context: Context
    ) -> csi_pb2.ControllerUnpublishVolumeResponse:
        """Take a volume off a node, or off whichever has it; success when none has."""
        del context
        with suppress(errors.VolumeNotFound):
            volume_id = volume.parse_volume_id(request.volume_id)
            await self._joined(volume_id, request, lambda: self._unpublished(volume_id, request.node_id))
        return csi_pb2.ControllerUnpublishVolumeResponse()

    async def ValidateVolumeCapabilities(  # noqa: N802
        self, request: csi_pb2.ValidateVolumeCapabilitiesRequest, context: Context
    ) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        """Say whether a volume is what the caller takes it for."""
        del context
        return confirm.answer(request, await self._existing(request.volume_id))

    async def ListVolumes(  # noqa: N802
        self, request: csi_pb2.ListVolumesRequest, context: Context
    ) -> csi_pb2.ListVolumesResponse:
        """List volumes, and which nodes have them."""
        del context
        page = await listing.list_volumes(self._cloud, request.max_entries, request.starting_token)
        return render.volume_page(page)

    async def ControllerGetVolume(  # noqa: N802
        self, request: csi_pb2.ControllerGetVolumeRequest, context: Context
    ) -> csi_pb2.ControllerGetVolumeResponse:
        """Show one volume, and which nodes have it."""
        del context
        return render.volume_status(await self._existing(request.volume_id))

    async def ControllerExpandVolume(  # noqa: N802
        self, request: csi_pb2.ControllerExpandVolumeRequest, context: Context
    ) -> csi_pb2.ControllerExpandVolumeResponse:
        """Make a volume larger; its filesystem is the node's to grow."""
        del context
        volume_id, size = volume.parse_volume_id(request.volume_id), parse.larger_size(request)
        after = await self._joined(
            volume_id, request, lambda: modify.expand_volume(self._cloud, self._watcher, volume_id, size)
        )
        return csi_pb2.ControllerExpandVolumeResponse(
            capacity_bytes=sizes.to_bytes(after),
            node_expansion_required=not request.volume_capability.HasField("block"),
        )

    async def ControllerModifyVolume(  # noqa: N802
        self, request: csi_pb2.ControllerModifyVolumeRequest, context: Context
    ) -> csi_pb2.ControllerModifyVolumeResponse:
        """Change a volume's type, IOPS or throughput, and its tags."""
        del context
        volume_id = volume.parse_volume_id(request.volume_id)
        change, retagging = parse.change(request, self._policy)
        await self._joined(
            volume_id, request, lambda: modify.modify_volume(self._cloud, self._watcher, volume_id, change, retagging)
        )
        return csi_pb2.ControllerModifyVolumeResponse()

    async def CreateSnapshot(  # noqa: N802
        self, request: csi_pb2.CreateSnapshotRequest, context: Context
    ) -> csi_pb2.CreateSnapshotResponse:
        """Take a snapshot; the caller asks again until it is ready."""
        del context
        spec = parse.snapshot_spec(request, self._policy)
        taken = await self._joined(f"snapshot {spec.name}", request, lambda: snapshot.take_snapshot(self._cloud, spec))
        return csi_pb2.CreateSnapshotResponse(snapshot=render.snapshot(taken))

    async def DeleteSnapshot(  # noqa: N802
        self, request: csi_pb2.DeleteSnapshotRequest, context: Context
    ) -> csi_pb2.DeleteSnapshotResponse:
        """Remove a snapshot; success when there is none."""
        del context
        with suppress(errors.SnapshotNotFound):
            snapshot_id = volume.parse_snapshot_id(request.snapshot_id)
            await self._joined(snapshot_id, request, lambda: snapshot.delete_snapshot(self._cloud, snapshot_id))
        return csi_pb2.DeleteSnapshotResponse()

    async def ListSnapshots(  # noqa: N802
        self, request: csi_pb2.ListSnapshotsRequest, context: Context
    ) -> csi_pb2.ListSnapshotsResponse:
        """List snapshots: all of ours, those of a volume, or one by its id."""
        del context
        page = await listing.list_snapshots(
            self._cloud,
            request.max_entries,
            request.starting_token,
            volume_id=request.source_volume_id,
            snapshot_id=request.snapshot_id,
        )
        return render.snapshot_page(page)

    async def _joined(self, key: str, request: Message, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `act` gives, or the identical call that holds `key`."""
        name = type(request).__name__.removesuffix("Request")
        return await self.operations.run(key, Operation(name, secrets.terms(request)), act)

    async def _existing(self, volume_id: str) -> Volume:
        return await get_volume(self._cloud, volume.parse_volume_id(volume_id))

    async def _unpublished(self, volume_id: str, node_id: str) -> None:
        """Take the volume off the node; an id that no node can have is no licence to call it free.

        Raises:
            NodeNotFound: No node can have the id, and some node has the volume.
        """
        try:
            node = parse.node(node_id) if node_id else None
        except errors.NodeNotFound:
            found = await get_volume(self._cloud, volume_id)
            if any(one.state is not AttachState.DETACHED for one in found.attachments):
                raise
        else:
            await attach.detach_volume(self._cloud, self._watcher, volume_id, node)
