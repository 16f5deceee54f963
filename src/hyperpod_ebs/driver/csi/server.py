"""Serve the CSI services on a unix socket, with health and reflection, and stop them in order."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from hyperpod_ebs.driver.csi import endpoint as endpoints
from hyperpod_ebs.driver.csi.endpoint import LastingServer
from hyperpod_ebs.driver.csi.identity import Identity
from hyperpod_ebs.driver.csi.interceptors import Calls, Measure
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.kit.operations import Operations
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

if TYPE_CHECKING:  # a process loads only what it serves
    from hyperpod_ebs.driver.csi.controller import Controller
    from hyperpod_ebs.driver.csi.node import Node

DRAIN: Final = 20.0
"""Seconds that running calls have to finish; Kubernetes gives a container 30."""

SOCKET: Final = "CSI socket"
"""The socket's name in the process's condition."""

_GRACE: Final = 2.0
"""Seconds that the answers UNAVAILABLE have to reach their callers."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services of a process, apart from the identity service."""

    controller: "Controller | None" = None
    node: "Node | None" = None

    @property
    def names(self) -> list[str]:
        """The full names of the services."""
        served = ["Identity"] + ["Controller"] * bool(self.controller) + ["Node"] * bool(self.node)
        return [csi_pb2.DESCRIPTOR.services_by_name[name].full_name for name in served]

    @property
    def operations(self) -> list[Operations[str]]:
        """The operations of each service."""
        return [service.operations for service in (self.controller, self.node) if service]

    def add_to(self, server: grpc.aio.Server, condition: Condition) -> None:
        """Add the services to `server`."""
        csi_pb2_grpc.add_IdentityServicer_to_server(Identity(condition), server)
        if self.controller:
            csi_pb2_grpc.add_ControllerServicer_to_server(self.controller, server)
        if self.node:
            csi_pb2_grpc.add_NodeServicer_to_server(self.node, server)


@asynccontextmanager
async def serve(
    endpoint: str,
    services: Services,
    *,
    drain: float = DRAIN,
    condition: Condition | None = None,
    measure: Measure | None = None,
) -> AsyncGenerator[Path]:
    """Serve the services on a socket, which exists when the block begins; yield the path of the socket.

    If the socket is removed meanwhile, it is published again.

    At the end of the block, the server refuses new calls, and running calls have `drain` seconds to finish. Then it
    answers the remaining calls with UNAVAILABLE; the owner of the operations ends these.

    Args:
        endpoint: Where to serve.
        services: What to serve.
        drain: Seconds that running calls have to finish.
        condition: What Probe reports; receives what is wrong with the socket.
        measure: Counts the calls.

    Raises:
        InvalidRequest: The endpoint is not a unix socket.
        Refused: Another process serves at the endpoint, or the socket cannot be created.
    """
    path = endpoints.parse(endpoint)
    calls, condition = Calls(measure), condition or Condition()
    health_service = health.aio.HealthServicer()
    for name in (health.OVERALL_HEALTH, *services.names):
        await health_service.set(name, health_pb2.HealthCheckResponse.SERVING)

    def build() -> grpc.aio.Server:
        server = endpoints.new_server(calls)
        services.add_to(server, condition)
        health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
        reflected = [*services.names, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(reflected, server)
        return server

    server = LastingServer(build, path, partial(condition.report, SOCKET))
    async with server.run(drain=drain):
        try:
            yield path
        finally:
            await server.end_watch()
            await health_service.enter_graceful_shutdown()
            await _drain(server, calls, services.operations, drain)


async def _drain(server: LastingServer, calls: Calls, operations: Iterable[Operations[str]], seconds: float) -> None:
    """Refuse new calls; give running calls `seconds` to finish, then answer the rest with UNAVAILABLE."""
    async with asyncio.TaskGroup() as tasks:
        # From here on gRPC refuses new calls; it returns when the last running call has ended.
        stopped = tasks.create_task(server.stop(seconds + _GRACE))
        drained = [tasks.create_task(each.drain(seconds)) for each in operations]
        await asyncio.wait([stopped, *drained], timeout=seconds)
        if not stopped.done():
            log.warning("running calls ended as unavailable", after=seconds)
            calls.end_as_unavailable()
