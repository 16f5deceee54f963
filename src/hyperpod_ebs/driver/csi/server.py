"""A gRPC server on a unix socket, with health and reflection, that ends in order."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from hyperpod_ebs.driver.csi import endpoint as endpoints
from hyperpod_ebs.driver.csi import listening
from hyperpod_ebs.driver.csi.identity import Identity
from hyperpod_ebs.driver.csi.interceptors import Calls, Measure
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.kit.operations import Operations
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

if TYPE_CHECKING:  # a process loads only what it serves
    from hyperpod_ebs.driver.csi.controller import Controller
    from hyperpod_ebs.driver.csi.node import Node

DRAIN: Final = 20.0
"""Seconds that running calls have to finish; Kubernetes gives a container thirty."""

_LAST_WORDS: Final = 2.0
"""Seconds that handed-back calls have to reach their callers."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a process serves, besides identity."""

    controller: "Controller | None" = None
    node: "Node | None" = None

    @property
    def names(self) -> list[str]:
        """The services' full names."""
        served = ["Identity"] + ["Controller"] * bool(self.controller) + ["Node"] * bool(self.node)
        return [csi_pb2.DESCRIPTOR.services_by_name[name].full_name for name in served]

    @property
    def operations(self) -> list[Operations[str]]:
        """Where each service's operations run."""
        return [service.operations for service in (self.controller, self.node) if service]

    def add_to(self, server: grpc.aio.Server, condition: Condition) -> None:
        """Have `server` answer for them."""
        csi_pb2_grpc.add_IdentityServicer_to_server(Identity(condition), server)
        if self.controller:
            csi_pb2_grpc.add_ControllerServicer_to_server(self.controller, server)
        if self.node:
            csi_pb2_grpc.add_NodeServicer_to_server(self.node, server)


@asynccontextmanager
async def serving(
    endpoint: str,
    services: Services,
    *,
    drain: float = DRAIN,
    condition: Condition | None = None,
    measure: Measure | None = None,
) -> AsyncGenerator[Path]:
    """The services on their socket, which is there when the block begins; the path of the socket.

    At the end of the block no new call is taken, and what runs has `drain` seconds. Then each call that is
    left is answered with UNAVAILABLE; the operations themselves end with whoever made them.
    `condition` is what Probe tells, `measure` counts the calls.

    Raises:
        InvalidRequest: The endpoint is none that is served.
        Refused: Another process serves it, or it cannot be made.
    """
    path = endpoints.parse(endpoint)
    calls = Calls(measure)
    server = grpc.aio.server(interceptors=[calls])
    services.add_to(server, condition or Condition())
    state = await _healthy(server, services.names)
    async with listening.listening(server, path):
        try:
            yield path
        finally:
            await state.enter_graceful_shutdown()
            await _drain(server, calls, services.operations, drain)


async def _healthy(server: grpc.aio.Server, names: Iterable[str]) -> health.aio.HealthServicer:
    """Add health, true for the server and for each service, and reflection."""
    state = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    for name in (health.OVERALL_HEALTH, *names):
        await state.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return state


async def _drain(server: grpc.aio.Server, calls: Calls, operations: Iterable[Operations[str]], seconds: float) -> None:
    """Take no new call; let what runs finish, but not for longer than `seconds`."""
    async with asyncio.TaskGroup() as tasks:
        # gRPC refuses new calls from here on and comes back when the last one has ended.
        ended = tasks.create_task(server.stop(seconds + _LAST_WORDS))
        drained = [tasks.create_task(each.drain(seconds)) for each in operations]
        await asyncio.wait([ended, *drained], timeout=seconds)
        if not ended.done():
            log.warning("calls handed back", after=seconds)
            calls.hand_back()
