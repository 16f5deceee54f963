"""Callers that behave like Kubernetes' sidecars, and a journal of their calls.

A sidecar has a number of workers, each of which makes one call at a time. A call that fails returns to the
queue and is repeated with the same request after a back-off, which starts at one second and doubles
(client-go, workqueue.ItemExponentialFailureRateLimiter). During the back-off no worker waits.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import grpc

from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

T = TypeVar("T")

WORKERS: Final = 100
"""The chart's --worker-threads."""

_FIRST_BACKOFF: Final = 1.0
"""The default of --retry-interval-start."""

_GIB: Final = 2**30
_CAPABILITY: Final = csi_pb2.VolumeCapability(
    block=csi_pb2.VolumeCapability.BlockVolume(),
    access_mode=csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.Mode.SINGLE_NODE_WRITER),
)
_ZONE: Final = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A finished call of the driver."""

    rpc: str
    asked: float
    """Unix seconds, as the instants of the cloud's history."""
    answered: float
    code: str
    """The gRPC code."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The calls so far, in the order of their answers."""

    calls: list[Call] = field(default_factory=list)

    @property
    def failures(self) -> Counter[str]:
        """The number of failed calls by code."""
        return Counter(call.code for call in self.calls if call.code != "OK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """The workers of one sidecar."""

    timeout: float
    """Seconds for each call."""
    longest_backoff: float
    """Seconds."""
    journal: Journal
    workers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WORKERS))

    async def call(self, rpc: str, ask: Callable[[float], Awaitable[T]]) -> T:
        """Call until the driver answers without an error; the answer. `ask` makes the call, with this timeout."""
        backoff = _FIRST_BACKOFF
        while True:
            async with self.workers:
                asked, code = time.time(), "OK"
                try:
                    return await ask(self.timeout)
                except grpc.aio.AioRpcError as error:
                    code = error.code().name
                finally:
                    self.journal.calls.append(Call(rpc=rpc, asked=asked, answered=time.time(), code=code))
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, self.longest_backoff)


class Sidecars:
    """The sidecars of one controller's pod, with the timeouts of the chart (`_sidecars.tpl`)."""

    def __init__(self, csi: csi_pb2_grpc.ControllerStub, zone: str) -> None:
        """`zone` is the Availability Zone of the volumes."""
        self.journal = Journal()
        self._csi = csi
        self._topology = csi_pb2.Topology(segments={_ZONE: zone})
        self._provisioner = Sidecar(timeout=60, longest_backoff=1800, journal=self.journal)
        self._attacher = Sidecar(timeout=360, longest_backoff=300, journal=self.journal)
        self._snapshotter = Sidecar(timeout=60, longest_backoff=1800, journal=self.journal)

    async def create(self, name: str) -> str:
        """Create a volume of 1 GiB; its id."""
        request = csi_pb2.CreateVolumeRequest(
            name=name,
            capacity_range=csi_pb2.CapacityRange(required_bytes=_GIB),
            volume_capabilities=[_CAPABILITY],
            accessibility_requirements=csi_pb2.TopologyRequirement(
                requisite=[self._topology], preferred=[self._topology]
            ),
        )
        answer = await self._provisioner.call(
            "CreateVolume", lambda timeout: self._csi.CreateVolume(request, timeout=timeout)
        )
        return answer.volume.volume_id

    async def delete(self, volume_id: str) -> None:
        """Delete a volume."""
        request = csi_pb2.DeleteVolumeRequest(volume_id=volume_id)
        await self._provisioner.call("DeleteVolume", lambda timeout: self._csi.DeleteVolume(request, timeout=timeout))

    async def attach(self, volume_id: str, node_id: str) -> None:
        """Attach the volume to the node."""
        request = csi_pb2.ControllerPublishVolumeRequest(
            volume_id=volume_id, node_id=node_id, volume_capability=_CAPABILITY
        )
        await self._attacher.call(
            "ControllerPublishVolume", lambda timeout: self._csi.ControllerPublishVolume(request, timeout=timeout)
        )

    async def detach(self, volume_id: str, node_id: str) -> None:
        """Detach the volume from the node."""
        request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume_id, node_id=node_id)
        await self._attacher.call(
            "ControllerUnpublishVolume", lambda timeout: self._csi.ControllerUnpublishVolume(request, timeout=timeout)
        )

    async def take_snapshot(self, volume_id: str, name: str) -> csi_pb2.Snapshot:
        """Take a snapshot, or look at the one of that name."""
        request = csi_pb2.CreateSnapshotRequest(source_volume_id=volume_id, name=name)
        answer = await self._snapshotter.call(
            "CreateSnapshot", lambda timeout: self._csi.CreateSnapshot(request, timeout=timeout)
        )
        return answer.snapshot

    async def wait_until_snapshot_is_ready(self, volume_id: str, name: str) -> None:
        """Ask for the snapshot with the sidecar's back-off until it is ready to use."""
        backoff = _FIRST_BACKOFF
        while not (await self.take_snapshot(volume_id, name)).ready_to_use:
            await asyncio.sleep(backoff)
            backoff *= 2
