"""A keep-alive HTTP/1.1 connection that sends any bytes, and reads one answer at a time."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    """Headers by lower-case name."""

    body: bytes


class HttpConnection:
    """A connection that is opened when it is needed."""

    def __init__(self, host: str, port: int) -> None:
        """Remember the address."""
        self._address = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def ask(self, request: bytes) -> HttpAnswer:
        """Send a request and read its answer.

        Raises:
            EOFError: The server closed the connection without an answer.
            OSError: The connection broke.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        writer.write(request)
        answer = await self._read(reader)
        if answer.status == 100:
            answer = await self._read(reader)
        if answer.headers.get("connection", "").lower() == "close":
            await self.close()
        return answer

    async def _read(self, reader: asyncio.StreamReader) -> HttpAnswer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return HttpAnswer(status=int(first.split(" ")[1]), headers=headers, body=body)
