"""A few pages over HTTP, for probes and for Prometheus.

Each connection is one question: its head is read, within bounds of size and time,
and answered; then it is closed. That is all of HTTP that its callers need, and so
the node process loads no HTTP library for it (RFC 9112 §2, §9.6).
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

PATIENCE: Final = 5.0
"""Seconds for one connection, from its beginning to its end."""

LONGEST: Final = 8192
"""Bytes of a question."""

MOST: Final = 32
"""Connections at a time; further ones are closed at once."""

PLAIN: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered."""

    text: str
    status: HTTPStatus = HTTPStatus.OK
    form: str = PLAIN


Pages = Mapping[str, Callable[[], Page]]
"""What each path shows, made when it is asked for."""


@asynccontextmanager
async def serving(
    host: str | None, port: int, pages: Pages, certificate: ssl.SSLContext | None = None
) -> AsyncGenerator[int]:
    """The pages, served while the block runs; the port on which they are.

    Raises:
        OSError: The address cannot be had.
    """
    site = _Site(pages)
    bound = PATIENCE if certificate else None  # of a handshake, before which nobody is counted as a reader
    server = await asyncio.start_server(
        site.converse,
        host,
        port,
        limit=LONGEST,
        ssl=certificate,
        ssl_handshake_timeout=bound,
        ssl_shutdown_timeout=bound,
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


class _Site:
    """The pages, and how many read them."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._readers = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question, unless it is too long, too slow, or one too many."""
        self._readers += 1
        try:
            if self._readers <= MOST:
                async with asyncio.timeout(PATIENCE):
                    writer.write(self._answer(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # nobody is there who would hear of it
        finally:
            self._readers -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        page = self._page(method, path)
        body = page.text.encode()
        lines = (
            f"HTTP/1.1 {page.status.value} {page.status.phrase}",
            f"Content-Type: {page.form}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else body)

    def _page(self, method: str, path: str) -> Page:
        if method not in {"GET", "HEAD"}:
            return Page("only GET is answered here\n", HTTPStatus.METHOD_NOT_ALLOWED)
        if show := self._pages.get(path):
            return show()
        return Page(f"there are {', '.join(self._pages)}\n", HTTPStatus.NOT_FOUND)
