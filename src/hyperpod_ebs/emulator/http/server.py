"""The HTTP side of the emulator: one port for every service and for the control routes."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from hyperpod_ebs.emulator.http import control as control_routes
from hyperpod_ebs.emulator.http.auth import Keys
from hyperpod_ebs.emulator.http.dispatch import Dispatcher, Service
from hyperpod_ebs.emulator.http.faults import Faults
from hyperpod_ebs.emulator.http.journal import Dropped
from hyperpod_ebs.emulator.wire.messages import Request

BODY_LIMIT: Final = 4 * 1024**2
"""Bytes of the longest request that is taken: 500 ids and their filters are some 30,000."""

STOPPING: Final = 5.0
"""Seconds that calls under way have to finish when the server stops."""


class Server:
    """Services on a port."""

    def __init__(
        self,
        *,
        services: Mapping[str, Sequence[Service]],
        keys: Keys,
        faults: Faults,
        control: Sequence[web.RouteDef],
        open_to_all: Sequence[web.RouteDef] = (),
    ) -> None:
        """Put the services together.

        Args:
            services: By signing name, the objects whose tables together serve it.
            keys: Who may sign.
            faults: What is planned to go wrong.
            control: Further plain routes, for clients on this machine only.
            open_to_all: Plain routes for whoever gets here: what a machine learns of itself.

        Raises:
            ValueError: Two objects of a service claim an operation.
        """
        self._dispatcher = Dispatcher(services=services, keys=keys, faults=faults)
        own = [*control_routes.routes(faults=faults, journal=self._dispatcher.journal), *control]
        self._routes = [*(control_routes.for_this_machine(route) for route in own), *open_to_all]

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncGenerator[str]:
        """The address at which the services answer until the block is left.

        Args:
            host: The address to listen at.
            port: The port to listen at; 0 for any that is free.

        Raises:
            OSError: The port cannot be had.
            ValueError: An operation is not in its service's model.
        """
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=STOPPING)
        await runner.setup()
        try:
            async with self._dispatcher.open():
                await web.TCPSite(runner, host, port).start()
                yield f"http://{_authority(*runner.addresses[0][:2])}"
        finally:
            await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_LIMIT)
        application.add_routes(self._routes)
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, asked: web.Request) -> web.StreamResponse:
        request = _request(asked, await asked.read())
        try:
            reply = await self._dispatcher.answer(request)
        except Dropped:
            if asked.transport is not None:
                asked.transport.abort()
            return web.Response()  # goes nowhere: the connection is gone
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


def _request(asked: web.Request, body: bytes) -> Request:
    path, _, query = asked.raw_path.partition("?")
    headers = {name.lower(): ",".join(asked.headers.getall(name)) for name in asked.headers}
    return Request(method=asked.method, path=path, query=query, headers=headers, body=body)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
