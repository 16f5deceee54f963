"""A small HTTP server, for Prometheus, for people, and for probes.

Each connection carries one request: the server reads its head, within limits of size and
time, answers, and closes the connection. Probes and Prometheus need no more of HTTP, so
the node process loads no HTTP library (RFC 9112 §2, §9.6).

Every pod of a cluster can connect. So connections have a bound, and those that bring no
request give way: a new client is always served (docs/decisions/0039).
"""

import asyncio
import errno
import socket
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import structlog

HEAD_TIMEOUT: Final = 1.0
"""Seconds for a request's head to arrive; with TLS, as long again for the handshake before it."""

ANSWER_TIMEOUT: Final = 5.0
"""Seconds for the client to read the answer."""

MAX_HEAD: Final = 8192
"""Bytes of a request's head."""

MAX_CONNECTIONS: Final = 64
"""Simultaneous connections."""

MAX_CONNECTIONS_OF_PEER: Final = 16
"""Simultaneous connections from one address."""

BACKLOG: Final = 1024
"""Connections that the kernel keeps until they are accepted."""

PLAIN_TEXT: Final = "text/plain; charset=utf-8"

_ACCEPT_PAUSE: Final = 0.2
"""Seconds after which to accept again, if the process has no descriptor left."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to a request."""

    text: str
    status: HTTPStatus = HTTPStatus.OK
    media_type: str = PLAIN_TEXT


Pages = Mapping[str, Callable[[], Page]]
"""Pages by their path; each is rendered when it is requested."""


@asynccontextmanager
async def serve(
    host: str | None, port: int, pages: Pages, certificate: ssl.SSLContext | None = None
) -> AsyncGenerator[int]:
    """Serve the pages while the block runs, and yield the port.

    Raises:
        OSError: The address cannot be used.
    """
    site = _Site(pages, certificate)
    with ExitStack() as stack:
        listeners = [stack.enter_context(closing(each)) for each in await _listen(host, port)]
        # A TaskGroup around the block would wrap its errors.
        accepting = asyncio.get_running_loop().create_task(site.accept_from(listeners))
        try:
            yield listeners[0].getsockname()[1]
        finally:
            accepting.cancel()
            await asyncio.wait([accepting])


async def _listen(host: str | None, port: int) -> list[socket.socket]:
    """Listen on every address of `host`; None for all addresses of the machine.

    Raises:
        OSError: An address cannot be used.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    for family, address in dict.fromkeys((each[0], each[4]) for each in found):
        try:
            listeners.append(socket.create_server(address[:2], family=family, backlog=BACKLOG))
            listeners[-1].settimeout(0)
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT and len(found) > 1:
                continue  # a kernel without IPv6
            for listener in listeners:
                listener.close()
            raise
    return listeners


def connection_to_drop(peers: Sequence[str], peer: str) -> int | None:
    """The index of the connection that gives way to a new one; None if there is room.

    It is the oldest one of the peer with the most connections, so that the only connection of a peer stays.

    Args:
        peers: The peer of each connection, the oldest connection first.
        peer: The peer of the new connection.
    """
    counts = Counter(peers)
    if counts[peer] >= MAX_CONNECTIONS_OF_PEER:
        return peers.index(peer)
    if len(peers) < MAX_CONNECTIONS:
        return None
    most = max(counts.values())
    return next(index for index, other in enumerate(peers) if counts[other] == most)


class _Site:
    """The pages, and the open connections."""

    def __init__(self, pages: Pages, certificate: ssl.SSLContext | None) -> None:
        self._pages = pages
        self._certificate = certificate
        self._open: dict[asyncio.Timeout, str] = {}
        """The deadline of each connection and its peer, the oldest connection first."""

    async def accept_from(self, listeners: Sequence[socket.socket]) -> None:
        """Accept connections until cancelled, and answer each."""
        async with asyncio.TaskGroup() as tasks:
            for listener in listeners:
                tasks.create_task(self._accept(listener, tasks))

    async def _accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                connection, address = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:
                await asyncio.sleep(_ACCEPT_PAUSE)
            else:
                tasks.create_task(self._handle_connection(connection, str(address[0])))

    async def _handle_connection(self, connection: socket.socket, peer: str) -> None:
        """Answer one request, unless it is too large or too slow."""
        clock = asyncio.get_running_loop().time
        deadline = asyncio.timeout(HEAD_TIMEOUT)
        try:
            async with deadline:
                self._admit(deadline, peer)
                reader, writer = await _open_streams(connection, self._certificate)
                try:
                    deadline.reschedule(clock() + HEAD_TIMEOUT)
                    head = await reader.readuntil(b"\r\n\r\n")
                    deadline.reschedule(clock() + ANSWER_TIMEOUT)
                    writer.write(self._answer(head))
                    writer.close()
                    await writer.wait_closed()
                finally:
                    writer.transport.abort()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # the client is gone, does not speak HTTP, or gave way to another one
        finally:
            self._open.pop(deadline, None)

    def _admit(self, deadline: asyncio.Timeout, peer: str) -> None:
        """Count a new connection, and drop another one if there are too many."""
        index = connection_to_drop(list(self._open.values()), peer)
        if index is not None:
            dropped = list(self._open)[index]
            del self._open[dropped]
            if not dropped.expired():
                dropped.reschedule(0.0)
        self._open[deadline] = peer

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in {"GET", "HEAD"}:
            page = Page("only GET is supported\n", HTTPStatus.METHOD_NOT_ALLOWED)
        elif render := self._pages.get(path):
            page = _page_or_failure(path, render)
        else:
            page = Page(f"not found; the pages are {', '.join(self._pages)}\n", HTTPStatus.NOT_FOUND)
        body = page.text.encode()
        lines = (
            f"HTTP/1.1 {page.status.value} {page.status.phrase}",
            f"Content-Type: {page.media_type}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else body)


def _page_or_failure(path: str, render: Callable[[], Page]) -> Page:
    try:
        return render()
    except Exception:  # a bug in one page must not end the server
        log.exception("page failed because of a bug in the driver", path=path)
        return Page("the page failed; the log says why\n", HTTPStatus.INTERNAL_SERVER_ERROR)


async def _open_streams(
    connection: socket.socket, certificate: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Read and write an accepted connection, after the TLS handshake if there is a certificate."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_HEAD)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=certificate)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
