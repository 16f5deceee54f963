"""HTTP to the API server: a few requests, and one kind of stream. Python's own client, in threads.

A node process has neither the memory nor the start-up time for a client library, and
needs five paths of the API. Requests share a connection while it lives: a new one each
time would be a TLS handshake of every node every few seconds. A watch has a connection
and a thread of its own, and ends when that connection is shut.
"""

import asyncio
import http.client
import json
import random
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlencode

from hyperpod_ebs.driver.kubernetes import api_errors
from hyperpod_ebs.driver.kubernetes.access import Access
from hyperpod_ebs.kit.files import off_loop

Object = dict[str, Any]  # JSON as the API server writes it; becomes a value in `kubernetes.cluster`

DEADLINE: Final = 10.0
"""Seconds for a request."""

_ANSWER: Final = 5.0
"""Seconds for each step of it: the connection, a read."""

_WATCH: Final = (300, 600)
"""Seconds after which the API server ends a watch, to be asked for another; drawn, so that nodes which began together
do not go on together."""

_SILENCE: Final = _WATCH[1] + 30.0
"""Seconds without a byte after which a watch is given up."""

_ALIVE: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""How the kernel finds out within a minute that the other side is gone without a word: the API server was replaced."""

_JSON_PATCH: Final = "application/json-patch+json"


class Api:
    """The API server, as one identity sees it."""

    def __init__(self, access: Callable[[], Access]) -> None:
        """`access` is asked for each new connection, off the loop: certificates are changed while we run."""
        self._access = access
        self._idle: list[_Connection] = []

    async def get(self, path: str, **query: str) -> Object:
        """The object or list at `path`.

        Raises:
            NotFound: There is none.
            Denied: We may not see it.
            Refused: There is no way to the API server; the text says what is missing.
            Unavailable: The API server does not answer, or with an error of its own.
        """
        return await self._ask("GET", _target(path, query))

    async def patch(self, path: str, changes: list[Object]) -> Object:
        """The object at `path` after a JSON patch: all of it, or nothing.

        Raises:
            Conflict: One of its tests does not hold (any more).
            Error: As `get`.
        """
        return await self._ask("PATCH", path, json.dumps(changes).encode())

    async def close(self) -> None:
        """Give up the connections that are kept."""
        while self._idle:
            await off_loop(self._idle.pop().close)

    async def _ask(self, method: str, target: str, body: bytes | None = None) -> Object:
        doing = f"{method} {target.partition('?')[0]}"
        with api_errors.translate(doing):
            return await off_loop(self._exchanged, method, target, body, deadline=DEADLINE)

    def _exchanged(self, method: str, target: str, body: bytes | None) -> Object:
        """The answer. A kept connection may have been closed by the other side: then once more on a new one."""
        with suppress(IndexError, ConnectionError, ssl.SSLEOFError):  # none is kept, or the one that is is dead
            return self._on(self._idle.pop(), method, target, body)
        return self._on(_Connection(self._access()), method, target, body)

    def _on(self, connection: "_Connection", method: str, target: str, body: bytes | None) -> Object:
        try:
            answer: Object = json.loads(connection.ask(method, target, body).read())
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    async def watch(self, path: str, **query: str) -> AsyncGenerator[Object]:
        """Each event of what is at `path`, as the API server sends it, until it ends the watch.

        Close it (`contextlib.aclosing`) when the loop over it is left.

        Raises:
            Error: As `get`.
        """
        seconds = random.randint(*_WATCH)  # noqa: S311 - spreads load, keeps no secret
        target = _target(path, {**query, "watch": "true", "timeoutSeconds": str(seconds)})
        events: asyncio.Queue[Object | Exception | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(event: Object | Exception | None) -> None:
            with suppress(RuntimeError):  # the loop is closed, and nobody watches any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        reader = _Reader(self._access, target, put)
        reader.start()
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, Exception):
                    with api_errors.translate(f"watching {path}"):
                        raise event
                yield event
        finally:
            reader.end()


class _Connection:
    """One connection, and the answers on it."""

    def __init__(self, access: Access, *, silence: float = _ANSWER) -> None:
        self._access = access
        self._http = http.client.HTTPSConnection(access.host, access.port, timeout=_ANSWER, context=access.tls)
        self._http.connect()
        self.socket = self._http.sock
        self.socket.settimeout(silence)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _ALIVE:
            self.socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def ask(self, method: str, target: str, body: bytes | None = None) -> http.client.HTTPResponse:
        """The answer, its body unread.

        Raises:
            api_errors.ErrorAnswer: It is an error.
            OSError, HTTPException: There is none.
        """
        headers = {"Accept": "application/json", "User-Agent": "hyperpod-ebs", **self._access.headers()}
        if body is not None:
            headers["Content-Type"] = _JSON_PATCH
        self._http.request(method, self._access.path + target, body, headers)
        answer = self._http.getresponse()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise api_errors.ErrorAnswer(answer.status, answer.read())
        return answer

    def close(self) -> None:
        """End it."""
        self._http.close()


class _Reader(threading.Thread):
    """Reads a watch, a line an event, and hands each on; None at the end."""

    def __init__(
        self, access: Callable[[], Access], target: str, put: Callable[[Object | Exception | None], None]
    ) -> None:
        super().__init__(daemon=True, name="watch")
        self._open, self._target, self._put = access, target, put
        self._socket: ssl.SSLSocket | socket.socket | None = None
        self._ended = False

    def run(self) -> None:
        """Read until the end, whoever brings it about."""
        try:
            connection = _Connection(self._open(), silence=_SILENCE)
            self._socket = connection.socket
            try:
                answer = connection.ask("GET", self._target)
                while not self._ended and (line := answer.readline()):
                    self._put(json.loads(line))
            finally:
                connection.close()
        except Exception as error:  # noqa: BLE001 - handed to whoever watches, whole
            if not self._ended:
                self._put(error)
        self._put(None)

    def end(self) -> None:
        """Have the thread end: shutting its connection wakes it. Does not block."""
        self._ended = True
        if self._socket:
            with suppress(OSError):
                # The plain socket's: TLS's own would take the connection apart under the reader.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _target(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path
