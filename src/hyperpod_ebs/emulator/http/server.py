"""The emulator's HTTP server: one port for all services, the control routes and the metadata of each machine."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from aiohttp import web

from hyperpod_ebs.emulator.call_log import CallLog, ConnectionDropped
from hyperpod_ebs.emulator.http import control
from hyperpod_ebs.emulator.http.dispatch import AccessControl, Dispatcher, Pause, Service
from hyperpod_ebs.emulator.http.door import Door
from hyperpod_ebs.emulator.http.faults import Faults
from hyperpod_ebs.emulator.http.instance_metadata import InstanceMetadata
from hyperpod_ebs.emulator.http.latency import Latency, no_latency
from hyperpod_ebs.emulator.http.throttle import Throttle
from hyperpod_ebs.emulator.wire.messages import Request

BODY_LIMIT: Final = 1024**2
"""Maximum bytes of a request's body, which bounds the time to parse it; 500 ids and their filters have about 30,000."""

LINE_LIMIT: Final = 32 * 1024
"""Maximum bytes of a request's first line; the time to route a path grows with the square of its length."""

STOPPING: Final = 5.0
"""Seconds that running calls have to finish when the server stops."""


class Server:
    """The services, served on one port."""

    def __init__(  # noqa: PLR0913 - the parts of a server
        self,
        *,
        services: Mapping[str, Sequence[Service]],
        access: AccessControl,
        faults: Faults,
        throttle: Throttle | None = None,
        latency: Latency = no_latency,
        local_routes: Sequence[web.RouteDef],
        public_routes: Sequence[web.RouteDef] = (),
        metadata: InstanceMetadata | None = None,
        call_log: CallLog | None = None,
        pause: Pause = nullcontext,
    ) -> None:
        """Create the server, which does not listen yet.

        Args:
            services: The objects that serve each service, by signing name.
            access: The access keys to accept, and what their owners may do.
            faults: The planned faults.
            throttle: The account's token buckets; None for no limits.
            latency: How long each operation's answer takes.
            local_routes: Further routes without signatures, for clients on this machine only.
            public_routes: Further routes without signatures, for all clients.
            metadata: The metadata of the machines, at their own addresses.
            call_log: Records the calls; None for a log that only the server uses.
            pause: A block that begins with no state change pending, and in which nothing else changes the state.

        Raises:
            ValueError: Two objects of a service answer the same operation.
        """
        throttle = throttle or Throttle({})
        self._dispatcher = Dispatcher(
            services=services,
            access=access,
            faults=faults,
            throttle=throttle,
            latency=latency,
            call_log=call_log,
            pause=pause,
        )
        routes = control.routes(faults=faults, throttle=throttle, call_log=self._dispatcher.call_log)
        self._routes = [*map(control.local_only, [*routes, *local_routes]), *public_routes]
        self._metadata = metadata

    @asynccontextmanager
    async def serve(self, host: str, port: int) -> AsyncGenerator[str]:
        """Serve until the block ends; yields the server's URL.

        Args:
            host: The IP address to listen on.
            port: The port to listen on; 0 for a free one.

        Raises:
            OSError: The port is taken.
            ValueError: A service's model lacks an operation that has a handler.
        """
        application = web.Application(client_max_size=BODY_LIMIT)
        application.add_routes(self._routes)
        application.router.add_route("*", r"/{path:[\s\S]*}", self._answer)
        if self._metadata:
            application.middlewares.append(self._metadata.serve_machines)
        async with (
            Door.build(application, stopping=STOPPING, max_line=LINE_LIMIT, refuse_body=self._refuse_body) as door,
            self._dispatcher.open(),
            door.listen(host, port) as address,
            self._metadata.listeners.serve(door, *address) if self._metadata else nullcontext(),
        ):
            yield f"http://{_authority(*address)}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            reply = await self._dispatcher.answer(_to_request(request, await request.read()))
        except ConnectionDropped:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # never sent: the connection is closed
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    async def _refuse_body(self, request: web.Request) -> web.StreamResponse:
        reply = self._dispatcher.refuse_body(_to_request(request, b""), BODY_LIMIT)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


def _to_request(request: web.Request, body: bytes) -> Request:
    path, _, query = request.raw_path.partition("?")
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    return Request(
        method=request.method,
        path=path,
        query=query,
        headers=headers,
        body=body,
        source_ip=request.remote or "",
    )


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
