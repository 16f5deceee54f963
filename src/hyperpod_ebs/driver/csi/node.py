"""The CSI node service: parse each call, join or start its operation, answer (CSI spec, Node Service)."""

from pathlib import Path
from typing import Final, Protocol

from hyperpod_ebs.driver.csi import node_requests, parse, render
from hyperpod_ebs.driver.csi.interceptors import Context
from hyperpod_ebs.driver.model import topology
from hyperpod_ebs.driver.model.capability import AccessMode, Block
from hyperpod_ebs.driver.model.node_identity import NodeIdentity
from hyperpod_ebs.driver.model.volume import parse_volume_id
from hyperpod_ebs.driver.mounts import expand, publish, stage, usage
from hyperpod_ebs.driver.mounts.host import Host
from hyperpod_ebs.kit.operations import Operations
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

_RPC: Final = csi_pb2.NodeServiceCapability.RPC
CAPABILITIES: Final = (
    _RPC.Type.STAGE_UNSTAGE_VOLUME,
    _RPC.Type.GET_VOLUME_STATS,
    _RPC.Type.EXPAND_VOLUME,
    _RPC.Type.VOLUME_CONDITION,
    _RPC.Type.GET_VOLUME_HEALTH,
    _RPC.Type.SINGLE_NODE_MULTI_WRITER,
)
# VOLUME_MOUNT_GROUP is missing: with it, kubelet leaves fsGroup to the driver, and neither ext4 nor xfs has a mount
# option for a group.


class IdentitySource(Protocol):
    """Knows the identity of this node."""

    async def identify(self) -> NodeIdentity:
        """Find out the identity of this node, as it is now.

        Raises:
            Unavailable: The sources do not know enough of the node yet.
        """
        ...


class Node(csi_pb2_grpc.NodeServicer):
    """Formats, mounts, grows and measures volumes on this node."""

    def __init__(self, host: Host, identity: IdentitySource, operations: Operations[str]) -> None:
        """`operations` belong to this service; a key is a volume id, or a volume id and a target path."""
        self._host = host
        self._identity = identity
        self.operations = operations

    async def NodeGetCapabilities(  # noqa: N802 - CSI's name, as all below
        self, request: csi_pb2.NodeGetCapabilitiesRequest, context: Context
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        """Name the calls that this service implements."""
        del request, context
        return csi_pb2.NodeGetCapabilitiesResponse(
            capabilities=[csi_pb2.NodeServiceCapability(rpc=_RPC(type=type_)) for type_ in CAPABILITIES]
        )

    async def NodeGetInfo(  # noqa: N802
        self, request: csi_pb2.NodeGetInfoRequest, context: Context
    ) -> csi_pb2.NodeGetInfoResponse:
        """Name this node, its zone and its attachment limit; kubelet asks repeatedly, so look them up each time."""
        del request, context
        identity = await self._identity.identify()
        return csi_pb2.NodeGetInfoResponse(
            node_id=identity.id,
            max_volumes_per_node=identity.attach_limit,
            accessible_topology=csi_pb2.Topology(segments=topology.node_segments(identity.zone)),
        )

    async def NodeStageVolume(  # noqa: N802
        self, request: csi_pb2.NodeStageVolumeRequest, context: Context
    ) -> csi_pb2.NodeStageVolumeResponse:
        """Format a blank volume, and mount the volume at the path that all its users share."""
        del context
        wanted = node_requests.staging(request)
        await self.operations.run(wanted.volume_id, parse.operation(request), lambda: stage.stage(self._host, wanted))
        return csi_pb2.NodeStageVolumeResponse()

    async def NodeUnstageVolume(  # noqa: N802
        self, request: csi_pb2.NodeUnstageVolumeRequest, context: Context
    ) -> csi_pb2.NodeUnstageVolumeResponse:
        """Unmount the volume from its staging path; succeed if it is not mounted there."""
        del context
        volume_id = parse.required_field(request.volume_id, "volume id")
        target = node_requests.required_path(request.staging_target_path, "staging target path")
        await self.operations.run(
            volume_id, parse.operation(request), lambda: stage.unstage(self._host, volume_id, target)
        )
        return csi_pb2.NodeUnstageVolumeResponse()

    async def NodePublishVolume(  # noqa: N802
        self, request: csi_pb2.NodePublishVolumeRequest, context: Context
    ) -> csi_pb2.NodePublishVolumeResponse:
        """Mount a staged volume at a pod's path."""
        del context
        wanted = node_requests.publishing(request)
        # A single writer may have only one target, and a raw block volume has readers or writers. So two targets must
        # not be checked at the same time.
        is_single = wanted.capability.mode is AccessMode.SINGLE_NODE_SINGLE_WRITER
        is_exclusive = is_single or isinstance(wanted.capability.access, Block)
        await self.operations.run(
            wanted.volume_id if is_exclusive else f"{wanted.volume_id} at {wanted.target}",
            parse.operation(request),
            lambda: publish.publish(self._host, wanted),
            part_of=None if is_exclusive else wanted.volume_id,
        )
        return csi_pb2.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(  # noqa: N802
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: Context
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        """Unmount a volume from a pod's path; succeed if it is not mounted there."""
        del context
        volume_id = parse.required_field(request.volume_id, "volume id")
        target = node_requests.required_path(request.target_path, "target path")
        await self.operations.run(
            f"{volume_id} at {target}",
            parse.operation(request),
            lambda: publish.unpublish(self._host, volume_id, target),
            part_of=volume_id,
        )
        return csi_pb2.NodeUnpublishVolumeResponse()

    async def NodeGetVolumeStats(  # noqa: N802
        self, request: csi_pb2.NodeGetVolumeStatsRequest, context: Context
    ) -> csi_pb2.NodeGetVolumeStatsResponse:
        """Measure how full a volume is, and say whether it can be used."""
        del context
        parse.required_field(request.volume_id, "volume id")
        path = node_requests.required_path(request.volume_path, "volume path")
        return render.stats(await usage.measure(self._host, parse_volume_id(request.volume_id), path))

    async def NodeGetVolumeHealth(  # noqa: N802
        self, request: csi_pb2.NodeGetVolumeHealthRequest, context: Context
    ) -> csi_pb2.NodeGetVolumeHealthResponse:
        """Say whether a volume can be used: the condition in the statistics, in the form of CSI 1.13."""
        del context
        parse.required_field(request.volume_id, "volume id")
        volume_id, path = parse_volume_id(request.volume_id), request.volume_publish_path or request.staging_target_path
        found = await usage.judge_health(self._host, volume_id, Path(path) if path else None)
        return csi_pb2.NodeGetVolumeHealthResponse(volume_health=render.health(volume_id, found))

    async def NodeExpandVolume(  # noqa: N802
        self, request: csi_pb2.NodeExpandVolumeRequest, context: Context
    ) -> csi_pb2.NodeExpandVolumeResponse:
        """Grow the filesystem of a volume to the size of its device."""
        del context
        parse.required_field(request.volume_id, "volume id")
        path = node_requests.required_path(request.volume_path, "volume path")
        volume_id = parse_volume_id(request.volume_id)
        wanted, block = request.capacity_range.required_bytes, request.volume_capability.HasField("block")
        new_size = await self.operations.run(
            volume_id,
            parse.operation(request),
            lambda: expand.expand(self._host, volume_id, path, wanted=wanted, block=block),
        )
        return csi_pb2.NodeExpandVolumeResponse(capacity_bytes=new_size)
