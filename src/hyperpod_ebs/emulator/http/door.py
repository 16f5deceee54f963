"""The emulator's listening sockets: no stranger can fill them with connections that bring no request.

aiohttp waits for a request's body without a deadline, for its head about an hour, and keeps any number of connections.
Here a request must arrive whole within `ARRIVAL`. Among the connections that wait for a request, the oldest gives way
to a new one, so that a new client is always served.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from aiohttp import ClientConnectionResetError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

ARRIVAL: Final = 10.0
"""Seconds for a request's head and body to arrive."""

IDLE: Final = 60.0
"""Seconds that a connection is kept after an answer; SDKs close idle connections earlier or send again."""

MAX_ARRIVING: Final = 256
"""Connections from which no whole request has arrived yet."""

MAX_IDLE: Final = 512
"""Connections that wait for their next request."""

BACKLOG: Final = 1024
"""Connections that the kernel keeps until they are accepted."""


MAX_LINE: Final = 8190
"""Bytes of a request's first line, unless a door has another limit; aiohttp's default."""


_CLIENT_ERRORS: Final = (HttpProcessingError, web.RequestPayloadError, ClientConnectionResetError)
"""What aiohttp logs about bytes that are not a request, and about clients that went away."""


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Whether a record of aiohttp is not about a client's error."""
    return not (record.exc_info and isinstance(record.exc_info[1], _CLIENT_ERRORS))


_log: Final = logging.getLogger(__name__)
_log.addFilter(_is_worth_logging)


async def _refuse_body(_: web.Request) -> web.StreamResponse:
    return web.Response(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


class Door:
    """Where the requests of an application arrive."""

    def __init__(self, runner: web.AppRunner, refuse_body: Handler) -> None:
        self._runner = runner
        self._refuse_body = refuse_body
        self._arriving = _Waiting(MAX_ARRIVING, ARRIVAL)
        self._idle = _Waiting(MAX_IDLE, IDLE)

    @classmethod
    @asynccontextmanager
    async def build(
        cls,
        application: web.Application,
        *,
        stopping: float,
        max_line: int = MAX_LINE,
        refuse_body: Handler = _refuse_body,
    ) -> AsyncGenerator["Door"]:
        """Yield the application's door.

        Args:
            application: Answers the requests.
            stopping: Seconds that running requests have to finish at the end of the block.
            max_line: Bytes of a request's first line.
            refuse_body: Answers a request whose body is too large.
        """
        runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=stopping,
            keepalive_timeout=IDLE,
            max_line_size=max_line,
            logger=_log,
            auto_decompress=False,  # a signature covers the bytes that were sent, and a few bytes can become gigabytes
        )
        door = cls(runner, refuse_body)
        application.middlewares.insert(0, door.receive)
        await runner.setup()
        try:
            yield door
        finally:
            door.end_waits()
            await runner.cleanup()

    @asynccontextmanager
    async def listen(self, host: str, port: int) -> AsyncGenerator[tuple[str, int]]:
        """Accept connections until the block ends; yield the address and the port.

        Args:
            host: The IP address to listen on.
            port: The port to listen on; 0 for a free one.

        Raises:
            OSError: The port is taken.
        """
        listener = await asyncio.get_running_loop().create_server(self.admit, host, port, backlog=BACKLOG)
        try:
            address = listener.sockets[0].getsockname()
            yield address[0], address[1]
        finally:
            listener.close()

    async def accept(self, listener: socket.socket) -> asyncio.Server:
        """Accept the connections of a listening socket, until the returned server is closed."""
        return await asyncio.get_running_loop().create_server(self.admit, sock=listener, backlog=BACKLOG)

    def admit(self) -> asyncio.Protocol:
        """Accept a connection.

        Raises:
            ConnectionAbortedError: The server has stopped.
        """
        if (server := self._runner.server) is None:
            raise ConnectionAbortedError("the server has stopped")
        connection = server()
        self._arriving.keep(connection)
        return connection

    @web.middleware
    async def receive(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Receive the whole request, and handle it."""
        connection = request.protocol
        self._idle.remove(connection)
        self._arriving.keep(connection)
        try:
            await request.read()
        except web.HTTPRequestEntityTooLarge:
            return await self._refuse_body(request)
        except (OSError, web.RequestPayloadError):
            return web.Response(status=HTTPStatus.BAD_REQUEST)  # never sent: the connection is closed
        finally:
            self._arriving.remove(connection)
        try:
            return await handler(request)
        finally:
            self._idle.keep(connection)

    def end_waits(self) -> None:
        """Leave the open connections to the end of the server."""
        self._arriving.end_waits()
        self._idle.end_waits()


class _Waiting:
    """Connections that wait for a request: at most `limit`, each at most `seconds`."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._timers: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def keep(self, connection: web.RequestHandler) -> None:
        """Let the connection wait, unless it waits already; the oldest is dropped if there are too many."""
        if connection in self._timers:
            return
        if len(self._timers) >= self._limit:
            self._forget_closed()
        while len(self._timers) >= self._limit:
            self._drop(next(iter(self._timers)))
        self._timers[connection] = asyncio.get_running_loop().call_later(self._seconds, self._drop, connection)

    def remove(self, connection: web.RequestHandler) -> None:
        """End the wait of the connection."""
        if timer := self._timers.pop(connection, None):
            timer.cancel()

    def end_waits(self) -> None:
        """Leave the connections open."""
        for connection in list(self._timers):
            self.remove(connection)

    def _forget_closed(self) -> None:
        for connection in [each for each in self._timers if each.transport is None or each.transport.is_closing()]:
            self.remove(connection)

    def _drop(self, connection: web.RequestHandler) -> None:
        self.remove(connection)
        if connection.transport is not None:
            connection.transport.abort()
