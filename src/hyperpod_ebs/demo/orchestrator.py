"""Speaks CSI as a container orchestrator does: what the sidecars and kubelet would call, in their order."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import grpc

from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

DEADLINE: Final = 120.0
"""Seconds a call may take, as the sidecars bound theirs."""

_DIAL: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
)
"""Look for a socket of a process that is starting more often than gRPC's every second."""

_GIB: Final = 2**30
_ONE_WRITER: Final = csi_pb2.VolumeCapability.AccessMode(
    mode=csi_pb2.VolumeCapability.AccessMode.Mode.SINGLE_NODE_WRITER
)


@dataclass(frozen=True, slots=True)
class Node:
    """A node's CSI socket, and the directory in which kubelet would keep its volumes."""

    name: str
    id: str
    csi: csi_pb2_grpc.NodeStub
    directory: Path
    topology: csi_pb2.Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A volume as the orchestrator knows it."""

    id: str
    capability: csi_pb2.VolumeCapability
    context: Mapping[str, str]


def mounted(filesystem: str) -> csi_pb2.VolumeCapability:
    """One writer, a filesystem."""
    return csi_pb2.VolumeCapability(
        mount=csi_pb2.VolumeCapability.MountVolume(fs_type=filesystem),
        access_mode=_ONE_WRITER,
    )


def raw() -> csi_pb2.VolumeCapability:
    """One writer, the device itself."""
    return csi_pb2.VolumeCapability(
        block=csi_pb2.VolumeCapability.BlockVolume(),
        access_mode=_ONE_WRITER,
    )


class Orchestrator:
    """One controller, some nodes."""

    def __init__(self, controller: csi_pb2_grpc.ControllerStub, nodes: Mapping[str, Node]) -> None:
        """Use `connected`."""
        self._controller = controller
        self.nodes = nodes

    @classmethod
    @asynccontextmanager
    async def connected(cls, controller: Path, nodes: Mapping[str, Path]) -> AsyncGenerator[Self]:
        """Connected to the controller's socket and to the node sockets, each beside its node's directory."""
        async with AsyncExitStack() as stack:

            async def channel(socket: Path) -> grpc.aio.Channel:
                return await stack.enter_async_context(
                    grpc.aio.insecure_channel(f"unix://{quote(str(socket))}", options=_DIAL)
                )

            known: dict[str, Node] = {}
            for name, socket in nodes.items():
                csi = csi_pb2_grpc.NodeStub(await channel(socket))
                info = await csi.NodeGetInfo(csi_pb2.NodeGetInfoRequest(), timeout=DEADLINE, wait_for_ready=True)
                known[name] = Node(name, info.node_id, csi, socket.parent, info.accessible_topology)
            to_controller = await channel(controller)
            identity = csi_pb2_grpc.IdentityStub(to_controller)
            await identity.Probe(csi_pb2.ProbeRequest(), timeout=DEADLINE, wait_for_ready=True)
            yield cls(csi_pb2_grpc.ControllerStub(to_controller), known)

    async def create(
        self,
        name: str,
        *,
        gib: int,
        capability: csi_pb2.VolumeCapability,
        snapshot_id: str | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Claim:
        """A new volume of `gib` GiB where the nodes are, blank or from a snapshot."""
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
        made = await self._controller.CreateVolume(request, timeout=DEADLINE)
        return Claim(id=made.volume.volume_id, capability=capability, context=dict(made.volume.volume_context))

    async def attach(self, claim: Claim, node: Node) -> Mapping[str, str]:
        """The publish context with which the node finds the volume."""
        published = await self._controller.ControllerPublishVolume(
            csi_pb2.ControllerPublishVolumeRequest(
                volume_id=claim.id, node_id=node.id, volume_capability=claim.capability, volume_context=claim.context
            ),
            timeout=DEADLINE,
        )
        return dict(published.publish_context)

    async def mount(self, claim: Claim, node: Node, context: Mapping[str, str]) -> Path:
        """The path at which a pod on `node` uses the attached volume."""
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
        """The pod is gone: unpublish and unstage."""
        staging, target = self._paths(claim, node)
        await node.csi.NodeUnpublishVolume(
            csi_pb2.NodeUnpublishVolumeRequest(volume_id=claim.id, target_path=str(target)), timeout=DEADLINE
        )
        await node.csi.NodeUnstageVolume(
            csi_pb2.NodeUnstageVolumeRequest(volume_id=claim.id, staging_target_path=str(staging)), timeout=DEADLINE
        )

    async def detach(self, claim: Claim, node: Node) -> None:
        """Take the volume off `node`."""
        await self._controller.ControllerUnpublishVolume(
            csi_pb2.ControllerUnpublishVolumeRequest(volume_id=claim.id, node_id=node.id), timeout=DEADLINE
        )

    async def grow(self, claim: Claim, node: Node, *, gib: int) -> int:
        """Grow the volume at the cloud, then its filesystem on `node`, which goes on using it; bytes after."""
        grown = await self.grow_at_cloud(claim, gib=gib)
        if not grown.node_expansion_required:
            return grown.capacity_bytes
        staging, target = self._paths(claim, node)
        after = await node.csi.NodeExpandVolume(
            csi_pb2.NodeExpandVolumeRequest(
                volume_id=claim.id,
                volume_path=str(target),
                staging_target_path=str(staging),
                capacity_range=csi_pb2.CapacityRange(required_bytes=gib * _GIB),
                volume_capability=claim.capability,
            ),
            timeout=DEADLINE,
        )
        return after.capacity_bytes

    async def grow_at_cloud(self, claim: Claim, *, gib: int) -> csi_pb2.ControllerExpandVolumeResponse:
        """Grow the volume at the cloud alone."""
        return await self._controller.ControllerExpandVolume(
            csi_pb2.ControllerExpandVolumeRequest(
                volume_id=claim.id,
                capacity_range=csi_pb2.CapacityRange(required_bytes=gib * _GIB),
                volume_capability=claim.capability,
            ),
            timeout=DEADLINE,
        )

    async def snapshot(self, claim: Claim, name: str) -> csi_pb2.Snapshot:
        """The snapshot of that name, taken now or found as it is, as the snapshotter asks again and again."""
        taken = await self._controller.CreateSnapshot(
            csi_pb2.CreateSnapshotRequest(source_volume_id=claim.id, name=name), timeout=DEADLINE
        )
        return taken.snapshot

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove a snapshot."""
        await self._controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id), timeout=DEADLINE)

    async def delete(self, claim: Claim) -> None:
        """Remove a volume."""
        await self._controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=claim.id), timeout=DEADLINE)

    async def remaining(self) -> tuple[list[str], list[str]]:
        """Ids of the volumes and of the snapshots that the account still has."""
        volumes = await self._controller.ListVolumes(csi_pb2.ListVolumesRequest(), timeout=DEADLINE)
        snapshots = await self._controller.ListSnapshots(csi_pb2.ListSnapshotsRequest(), timeout=DEADLINE)
        return [e.volume.volume_id for e in volumes.entries], [e.snapshot.snapshot_id for e in snapshots.entries]

    @staticmethod
    def _paths(claim: Claim, node: Node) -> tuple[Path, Path]:
        return node.directory / "staging" / claim.id / "globalmount", node.directory / "pods" / claim.id / "volume"
