"""The node service: each call is parsed, joined or begun, and rendered (CSI spec §Node Service)."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import Message

from hyperpod_ebs.driver.csi import mounting, parse, render, secrets
from hyperpod_ebs.driver.csi.interceptors import Context
from hyperpod_ebs.driver.model import topology, volume
from hyperpod_ebs.driver.model.capability import AccessMode
from hyperpod_ebs.driver.model.node_identity import NodeIdentity
from hyperpod_ebs.driver.mounts import expand, publish, stage, usage
from hyperpod_ebs.driver.mounts.host import Host
from hyperpod_ebs.kit.operations import Operation, Operations
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

T = TypeVar("T")

_RPC: Final = csi_pb2.NodeServiceCapability.RPC
CAPABILITIES: Final = (
    _RPC.Type.STAGE_UNSTAGE_VOLUME,
    _RPC.Type.GET_VOLUME_STATS,
    _RPC.Type.EXPAND_VOLUME,
    _RPC.Type.SINGLE_NODE_MULTI_WRITER,
)
# VOLUME_MOUNT_GROUP is not among them: a kubelet that sees it leaves fsGroup to the driver, and neither ext4
# nor xfs has a mount option for it.


class Who(Protocol):
    """Knows which node this is."""

    async def identify(self) -> NodeIdentity:
        """This node, as it is now.

        Raises:
            Unavailable: Not enough is known of it yet.
        """
        ...


class Node(csi_pb2_grpc.NodeServicer):
    """Formats, mounts, grows and measures volumes on this node."""

    def __init__(self, host: Host, who: Who, operations: Operations[str]) -> None:
        """`operations` are this service's own: keys are volume ids, for a target with its path."""
        self._host = host
        self._who = who
        self.operations = operations

    async def NodeGetCapabilities(  # noqa: N802 - CSI's name, as all below
        self, request: csi_pb2.NodeGetCapabilitiesRequest, context: Context
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        """What this service can do."""
        del request, context
        return csi_pb2.NodeGetCapabilitiesResponse(
            capabilities=[csi_pb2.NodeServiceCapability(rpc=_RPC(type=one)) for one in CAPABILITIES]
        )

    async def NodeGetInfo(  # noqa: N802
        self, request: csi_pb2.NodeGetInfoRequest, context: Context
    ) -> csi_pb2.NodeGetInfoResponse:
        """Who this node is, where it is, and how many volumes it takes: found out anew, for kubelet asks again."""
        del request, context
        myself = await self._who.identify()
        return csi_pb2.NodeGetInfoResponse(
            node_id=myself.id,
            max_volumes_per_node=myself.volumes,
            accessible_topology=csi_pb2.Topology(segments=topology.node_segments(myself.zone)),
        )

    async def NodeStageVolume(  # noqa: N802
        self, request: csi_pb2.NodeStageVolumeRequest, context: Context
    ) -> csi_pb2.NodeStageVolumeResponse:
        """Format a blank volume and mount it where all its users share it."""
        del context
        wanted = mounting.staging(request)
        await self._joined(wanted.volume_id, request, lambda: stage.stage(self._host, wanted))
        return csi_pb2.NodeStageVolumeResponse()

    async def NodeUnstageVolume(  # noqa: N802
        self, request: csi_pb2.NodeUnstageVolumeRequest, context: Context
    ) -> csi_pb2.NodeUnstageVolumeResponse:
        """Unmount it there; success when it is not."""
        del context
        volume_id = parse.required(request.volume_id, "volume id")
        target = mounting.path(request.staging_target_path, "staging target path")
        await self._joined(volume_id, request, lambda: stage.unstage(self._host, volume_id, target))
        return csi_pb2.NodeUnstageVolumeResponse()

    async def NodePublishVolume(  # noqa: N802
        self, request: csi_pb2.NodePublishVolumeRequest, context: Context
    ) -> csi_pb2.NodePublishVolumeResponse:
        """Show a staged volume at a pod's path."""
        del context
        wanted = mounting.publishing(request)
        # A single writer is at one target only, so two targets must not be looked at side by side.
        alone = wanted.capability.mode is AccessMode.SINGLE_NODE_SINGLE_WRITER
        at = None if alone else wanted.target
        await self._joined(wanted.volume_id, request, lambda: publish.publish(self._host, wanted), at=at)
        return csi_pb2.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(  # noqa: N802
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: Context
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        """Take it off a pod's path; success when it is not there."""
        del context
        volume_id = parse.required(request.volume_id, "volume id")
        target = mounting.path(request.target_path, "target path")
        await self._joined(volume_id, request, lambda: publish.unpublish(self._host, volume_id, target), at=target)
        return csi_pb2.NodeUnpublishVolumeResponse()

    async def NodeGetVolumeStats(  # noqa: N802
        self, request: csi_pb2.NodeGetVolumeStatsRequest, context: Context
    ) -> csi_pb2.NodeGetVolumeStatsResponse:
        """How full a volume is."""
        del context
        parse.required(request.volume_id, "volume id")
        path = mounting.path(request.volume_path, "volume path")
        return render.stats(await usage.measure_usage(self._host, volume.parse_volume_id(request.volume_id), path))

    async def NodeExpandVolume(  # noqa: N802
        self, request: csi_pb2.NodeExpandVolumeRequest, context: Context
    ) -> csi_pb2.NodeExpandVolumeResponse:
        """Let a volume in use have the size that it was given."""
        del context
        parse.required(request.volume_id, "volume id")
        path = mounting.path(request.volume_path, "volume path")
        volume_id = volume.parse_volume_id(request.volume_id)
        wanted, block = request.capacity_range.required_bytes, request.volume_capability.HasField("block")
        after = await self._joined(
            volume_id, request, lambda: expand.expand(self._host, volume_id, path, wanted=wanted, block=block)
        )
        return csi_pb2.NodeExpandVolumeResponse(capacity_bytes=after)

    async def _joined(
        self, volume_id: str, request: Message, act: Callable[[], Coroutine[Any, Any, T]], *, at: Path | None = None
    ) -> T:
        """What `act` gives, or the identical call that holds the volume, or holds it `at` a target.

        Targets are free of one another, but a volume is not unstaged while it is being published.
        """
        what = Operation(type(request).__name__.removesuffix("Request"), secrets.terms(request))
        if at is None:
            return await self.operations.run(volume_id, what, act)
        return await self.operations.run(f"{volume_id} at {at}", what, act, under=volume_id)
