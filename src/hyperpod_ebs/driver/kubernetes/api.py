"""HTTP requests to the API server, and watches, with Python's own client in threads.

A node process has neither the memory nor the start-up time for a client library, and needs five paths of the API.
Requests reuse a connection as long as it lasts; otherwise every node would make a TLS handshake every few seconds. A
watch has a connection and a thread of its own, and ends when that connection is shut down.
"""

import asyncio
import http.client
import json
import os
import random
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from hyperpod_ebs.driver.kubernetes import api_errors, kubeconfig
from hyperpod_ebs.driver.kubernetes.access import Access
from hyperpod_ebs.kit.files import off_loop

Object = dict[str, Any]  # JSON as the API server writes it; becomes a value in `kubernetes.cluster`
Answer = TypeVar("Answer")

DEADLINE: Final = 10.0
"""Seconds for a request."""

_STEP_TIMEOUT: Final = 5.0
"""Seconds for each step of a request: the connection, a read."""

_WATCH: Final = (300, 600)
"""Range of seconds after which the API server ends a watch. Each watch draws its own, so that watches which nodes begin
at the same time do not end at the same time."""

_WATCH_TIMEOUT: Final = _WATCH[1] + 30.0
"""Seconds without a byte after which a watch has failed."""

_KEEP_ALIVE: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Lets the kernel detect within a minute that the API server was replaced without closing the connection."""

_JSON_PATCH: Final = "application/json-patch+json"
_MERGE_PATCH: Final = "application/merge-patch+json"

_ALL_OF_IT: Final = "application/json"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""What a watch accepts if it needs only the metadata of objects: a Node is some 15 KiB long, mostly its status."""

ANY_VERSION: Final = "0"
"""The resource version of a watch that begins with the state that the API server has in memory. Without a version, the
API server waits until that state is as new as etcd's, and ends the watch if this takes three seconds: with etcd 3.4."""


@asynccontextmanager
async def open_api(config: Path | None) -> AsyncGenerator["Api"]:
    """Connect, at the first request, to the cluster of a kubeconfig file, or to the cluster of this pod."""
    api = Api((lambda: kubeconfig.read_access(config)) if config else lambda: Access.from_pod(os.environ))
    try:
        yield api
    finally:
        await api.close()


class Api:
    """The API server, called with one identity."""

    def __init__(self, access: Callable[[], Access]) -> None:
        """`access` is called off the loop for each new connection, because certificates and tokens change."""
        self._access = access
        self._idle: list[_Connection] = []

    async def get(self, path: str, **query: str) -> Object:
        """Read the object or list at `path`.

        Raises:
            NotFound: It does not exist.
            Denied: The identity may not read it.
            Refused: The process has no access to an API server; the text says what is missing.
            Unavailable: The API server does not answer, or answers with another error.
        """
        return await self._call("GET", _target(path, query))

    async def get_text(self, path: str, **query: str) -> str:
        """Read the text at `path`, such as a pod's log.

        Raises:
            Error: As `get`.
        """
        with api_errors.translate(f"GET {path}"):
            return await off_loop(self._send, "GET", _target(path, query), None, {}, _parse_text, deadline=DEADLINE)

    async def patch(self, path: str, changes: list[Object]) -> Object:
        """Apply a JSON patch, completely or not at all, and return the object at `path` after it.

        Raises:
            Conflict: One of the patch's tests does not hold.
            Error: As `get`.
        """
        return await self._call("PATCH", path, json.dumps(changes).encode(), _JSON_PATCH)

    async def merge(self, path: str, fields: Object) -> Object:
        """Set these fields of the object at `path` and keep all others (RFC 7386), and return the object after it.

        Raises:
            Error: As `get`.
        """
        return await self._call("PATCH", path, json.dumps(fields).encode(), _MERGE_PATCH)

    async def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await off_loop(self._idle.pop().close)

    async def _call(self, method: str, target: str, body: bytes | None = None, content: str = "") -> Object:
        headers = {"Content-Type": content} if content else {}
        with api_errors.translate(f"{method} {target.partition('?')[0]}"):
            return await off_loop(self._send, method, target, body, headers, _parse_object, deadline=DEADLINE)

    def _send(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        parse: Callable[[bytes], Answer],
    ) -> Answer:
        """Send on an idle connection; if there is none, or the API server has closed it, send on a new one."""
        with suppress(IndexError, ConnectionError, ssl.SSLEOFError):  # no idle connection, or a closed one
            return parse(self._send_on(self._idle.pop(), method, target, body, headers))
        return parse(self._send_on(_Connection(self._access()), method, target, body, headers))

    def _send_on(
        self, connection: "_Connection", method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> bytes:
        try:
            answer = connection.request(method, target, body, headers).read()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    async def watch(self, path: str, *, accept: str = _ALL_OF_IT, **query: str) -> AsyncGenerator[Object]:
        """Yield each event of the objects at `path`, until the API server ends the watch.

        Close it (`contextlib.aclosing`) when the loop over it is left.

        Raises:
            Error: As `get`.
        """
        seconds = random.randint(*_WATCH)  # noqa: S311 - spreads load, keeps no secret
        target = _target(path, {**query, "watch": "true", "timeoutSeconds": str(seconds)})
        events: asyncio.Queue[Object | Exception | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(event: Object | Exception | None) -> None:
            with suppress(RuntimeError):  # the loop is closed, and no caller watches any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        reader = _WatchReader(self._access, target, {"Accept": accept}, put)
        reader.start()
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, Exception):
                    with api_errors.translate(f"GET {path} (a watch)"):
                        raise event
                yield event
        finally:
            reader.end()


class _Connection:
    """A connection to the API server."""

    def __init__(self, access: Access, *, timeout: float = _STEP_TIMEOUT) -> None:
        """Connect; each read may take `timeout` seconds."""
        self._access = access
        self._http = http.client.HTTPSConnection(access.host, access.port, timeout=_STEP_TIMEOUT, context=access.tls)
        self._http.connect()
        self.socket = self._http.sock
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE:
            self.socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def request(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        """Send a request and return the answer with its body unread.

        Raises:
            api_errors.ErrorAnswer: The answer is an error.
            OSError, HTTPException: The server did not answer.
        """
        own = {"Accept": _ALL_OF_IT, "User-Agent": "hyperpod-ebs", **self._access.headers()}
        self._http.request(method, self._access.path + target, body, {**own, **headers})
        answer = self._http.getresponse()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise api_errors.ErrorAnswer(answer.status, answer.read())
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


class _WatchReader(threading.Thread):
    """Reads a watch, one event in each line, and passes each event to `put`; None at the end."""

    def __init__(
        self,
        access: Callable[[], Access],
        target: str,
        headers: Mapping[str, str],
        put: Callable[[Object | Exception | None], None],
    ) -> None:
        super().__init__(daemon=True, name="watch")
        self._access, self._target, self._headers, self._put = access, target, headers, put
        self._socket: ssl.SSLSocket | socket.socket | None = None
        self._ended = False

    def run(self) -> None:
        """Read until the API server or `end` ends the watch."""
        try:
            connection = _Connection(self._access(), timeout=_WATCH_TIMEOUT)
            self._socket = connection.socket
            try:
                answer = connection.request("GET", self._target, None, self._headers)
                while not self._ended and (line := answer.readline()):
                    self._put(json.loads(line))
            finally:
                connection.close()
        except Exception as error:  # noqa: BLE001 - passed to the caller of `watch`
            if not self._ended:
                self._put(error)
        self._put(None)

    def end(self) -> None:
        """End the thread by shutting down its connection, which wakes it. Does not block."""
        self._ended = True
        if self._socket:
            with suppress(OSError):
                # The shutdown of the plain socket: TLS's own would destroy the connection while the thread reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _parse_text(body: bytes) -> str:
    return body.decode(errors="replace")


def _parse_object(body: bytes) -> Object:
    answer: Object = json.loads(body)
    return answer


def _target(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path
