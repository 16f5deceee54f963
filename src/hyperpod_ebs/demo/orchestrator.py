"""Calls the driver by CSI as Kubernetes' sidecars and kubelet do, in the same order."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import grpc

from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

DEADLINE: Final = 120.0
"""Seconds that a call may take; Kubernetes' sidecars set deadlines, too."""

_CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
)
"""Connect again sooner than after one second, gRPC's default, while the process of a socket is starting."""

_GIB: Final = 2**30
_SINGLE_NODE_WRITER: Final = csi_pb2.VolumeCapability.AccessMode(
    mode=csi_pb2.VolumeCapability.AccessMode.Mode.SINGLE_NODE_WRITER
)


@dataclass(frozen=True, slots=True)
class Node:
    """A node's CSI client, and the directory that serves as kubelet's."""

    name: str
    id: str
    csi: csi_pb2_grpc.NodeStub
    directory: Path
    topology: csi_pb2.Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A volume, and what the orchestrator stores about it."""

    id: str
    capability: csi_pb2.VolumeCapability
    context: Mapping[str, str]


def filesystem_capability(filesystem: str) -> csi_pb2.VolumeCapability:
    """A filesystem for one writing node."""
    return csi_pb2.VolumeCapability(
        mount=csi_pb2.VolumeCapability.MountVolume(fs_type=filesystem),
        access_mode=_SINGLE_NODE_WRITER,
    )


def block_capability() -> csi_pb2.VolumeCapability:
    """A raw block device for one writing node."""
    return csi_pb2.VolumeCapability(
        block=csi_pb2.VolumeCapability.BlockVolume(),
        access_mode=_SINGLE_NODE_WRITER,
    )


class Orchestrator:
    """Clients of one controller and of its nodes."""

    def __init__(self, controller: csi_pb2_grpc.ControllerStub, nodes: Mapping[str, Node]) -> None:
        """Use `Orchestrator.connect`."""
        self._controller = controller
        self.nodes = nodes

    @classmethod
    @asynccontextmanager
    async def connect(cls, controller: Path, nodes: Mapping[str, Path]) -> AsyncGenerator[Self]:
        """Connect to the sockets of the controller and of the nodes; a socket is in its node's directory."""
        async with AsyncExitStack() as stack:

            async def channel(socket: Path) -> grpc.aio.Channel:
                return await stack.enter_async_context(
                    grpc.aio.insecure_channel(f"unix://{quote(str(socket))}", options=_CHANNEL_OPTIONS)
                )

            connected: dict[str, Node] = {}
            for name, socket in nodes.items():
                csi = csi_pb2_grpc.NodeStub(await channel(socket))
                info = await csi.NodeGetInfo(csi_pb2.NodeGetInfoRequest(), timeout=DEADLINE, wait_for_ready=True)
                connected[name] = Node(name, info.node_id, csi, socket.parent, info.accessible_topology)
            controller_channel = await channel(controller)
            identity = csi_pb2_grpc.IdentityStub(controller_channel)
            await identity.Probe(csi_pb2.ProbeRequest(), timeout=DEADLINE, wait_for_ready=True)
            yield cls(csi_pb2_grpc.ControllerStub(controller_channel), connected)

    async def create(
        self,
        name: str,
        *,
        gib: int,
        capability: csi_pb2.VolumeCapability,
        snapshot_id: str | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Claim:
        """Create a volume of `gib` GiB in the zone of the nodes, blank or from a snapshot."""
        request = csi_pb2.CreateVolumeRequest(
            name=name,
            capacity_range=csi_pb2.CapacityRange(required_bytes=gib * _GIB),
            volume_capabilities=[capability],
            parameters=parameters or {},
            accessibility_requirements=csi_pb2.TopologyRequirement(
                requisite=[node.topology for node in self.nodes.values()]
            ),
        )
        if snapshot_id:
            request.volume_content_source.snapshot.snapshot_id = snapshot_id
        volume = (await self._controller.CreateVolume(request, timeout=DEADLINE)).volume
        return Claim(id=volume.volume_id, capability=capability, context=dict(volume.volume_context))

    async def attach(self, claim: Claim, node: Node) -> Mapping[str, str]:
        """Attach the volume to the node; the publish context, with which the node finds it."""
        published = await self._controller.ControllerPublishVolume(
            csi_pb2.ControllerPublishVolumeRequest(
                volume_id=claim.id, node_id=node.id, volume_capability=claim.capability, volume_context=claim.context
            ),
            timeout=DEADLINE,
        )
        return dict(published.publish_context)

    async def mount(self, claim: Claim, node: Node, context: Mapping[str, str]) -> Path:
        """Stage and publish the attached volume; the path at which a pod on the node uses it."""
        staging, target = self._paths(claim, node)
        staging.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        await node.csi.NodeStageVolume(
            csi_pb2.NodeStageVolumeRequest(
                volume_id=claim.id,
                publish_context=context,
                staging_target_path=str(staging),
                volume_capability=claim.capability,
                volume_context=claim.context,
            ),
            timeout=DEADLINE,
        )
        await node.csi.NodePublishVolume(
            csi_pb2.NodePublishVolumeRequest(
                volume_id=claim.id,
                publish_context=context,
                staging_target_path=str(staging),
                target_path=str(target),
                volume_capability=claim.capability,
                volume_context=claim.context,
            ),
            timeout=DEADLINE,
        )
        return target

    async def unmount(self, claim: Claim, node: Node) -> None:
        """Unpublish and unstage the volume, as after the end of its pod."""
        staging, target = self._paths(claim, node)
        await node.csi.NodeUnpublishVolume(
            csi_pb2.NodeUnpublishVolumeRequest(volume_id=claim.id, target_path=str(target)), timeout=DEADLINE
        )
        await node.csi.NodeUnstageVolume(
            csi_pb2.NodeUnstageVolumeRequest(volume_id=claim.id, staging_target_path=str(staging)), timeout=DEADLINE
        )

    async def detach(self, claim: Claim, node: Node) -> None:
        """Detach the volume from the node."""
        await self._controller.ControllerUnpublishVolume(
            csi_pb2.ControllerUnpublishVolumeRequest(volume_id=claim.id, node_id=node.id), timeout=DEADLINE
        )

    async def grow(self, claim: Claim, node: Node, *, gib: int) -> int:
        """Grow the volume, then its filesystem on the node, where it stays mounted; the new size in bytes."""
        expanded = await self.grow_volume_only(claim, gib=gib)
        if not expanded.node_expansion_required:
            return expanded.capacity_bytes
        staging, target = self._paths(claim, node)
        on_node = await node.csi.NodeExpandVolume(
            csi_pb2.NodeExpandVolumeRequest(
                volume_id=claim.id,
                volume_path=str(target),
                staging_target_path=str(staging),
                capacity_range=csi_pb2.CapacityRange(required_bytes=gib * _GIB),
                volume_capability=claim.capability,
            ),
            timeout=DEADLINE,
        )
        return on_node.capacity_bytes

    async def grow_volume_only(self, claim: Claim, *, gib: int) -> csi_pb2.ControllerExpandVolumeResponse:
        """Grow only the volume, not its filesystem."""
        return await self._controller.ControllerExpandVolume(
            csi_pb2.ControllerExpandVolumeRequest(
                volume_id=claim.id,
                capacity_range=csi_pb2.CapacityRange(required_bytes=gib * _GIB),
                volume_capability=claim.capability,
            ),
            timeout=DEADLINE,
        )

    async def snapshot(self, claim: Claim, name: str) -> csi_pb2.Snapshot:
        """Take the snapshot of that name, or get its state if it exists: the snapshotter polls with this call."""
        response = await self._controller.CreateSnapshot(
            csi_pb2.CreateSnapshotRequest(source_volume_id=claim.id, name=name), timeout=DEADLINE
        )
        return response.snapshot

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot."""
        await self._controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id), timeout=DEADLINE)

    async def delete(self, claim: Claim) -> None:
        """Delete a volume."""
        await self._controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=claim.id), timeout=DEADLINE)

    async def remaining(self) -> tuple[list[str], list[str]]:
        """Ids of the volumes and of the snapshots that the account has."""
        volumes = await self._controller.ListVolumes(csi_pb2.ListVolumesRequest(), timeout=DEADLINE)
        snapshots = await self._controller.ListSnapshots(csi_pb2.ListSnapshotsRequest(), timeout=DEADLINE)
        return [e.volume.volume_id for e in volumes.entries], [e.snapshot.snapshot_id for e in snapshots.entries]

    @staticmethod
    def _paths(claim: Claim, node: Node) -> tuple[Path, Path]:
        return node.directory / "staging" / claim.id / "globalmount", node.directory / "pods" / claim.id / "volume"
