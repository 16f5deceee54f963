"""A small HTTP server, for probes and for Prometheus.

Each connection carries one request: the server reads its head, within limits of size and
time, answers, and closes the connection. Probes and Prometheus need no more of HTTP, so
the node process loads no HTTP library (RFC 9112 §2, §9.6).
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

TIMEOUT: Final = 5.0
"""Seconds for one connection, from start to end."""

MAX_HEAD: Final = 8192
"""Bytes of a request's head."""

MAX_CONNECTIONS: Final = 32
"""Simultaneous connections; further ones are closed at once."""

PLAIN_TEXT: Final = "text/plain; charset=utf-8"


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
    site = _Site(pages)
    timeout = TIMEOUT if certificate else None  # for the TLS handshake, before which a connection is not counted
    server = await asyncio.start_server(
        site.handle_connection,
        host,
        port,
        limit=MAX_HEAD,
        ssl=certificate,
        ssl_handshake_timeout=timeout,
        ssl_shutdown_timeout=timeout,
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


class _Site:
    """The pages, and the number of open connections."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._connections = 0

    async def handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, unless it is too large, too slow, or there are too many connections."""
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                async with asyncio.timeout(TIMEOUT):
                    writer.write(self._answer(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # the client is gone or does not speak HTTP
        finally:
            self._connections -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in {"GET", "HEAD"}:
            page = Page("only GET is supported\n", HTTPStatus.METHOD_NOT_ALLOWED)
        elif render := self._pages.get(path):
            page = render()
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
