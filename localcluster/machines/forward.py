"""Forwards a port of this machine to an address in the cluster's network.

A socket stays in the network namespace in which it was created. So the listening socket is
created outside and inherited by this process, which runs inside and opens its connections there.
"""

import asyncio
import socket
import sys
from contextlib import suppress
from typing import Final

_CHUNK: Final = 1 << 16


async def forward(listening: socket.socket, host: str, port: int) -> None:
    """Forward every connection to `host` and `port` until killed."""

    async def forward_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            target_reader, target_writer = await asyncio.open_connection(host, port)
            async with asyncio.TaskGroup() as directions:
                directions.create_task(_copy(reader, target_writer))
                directions.create_task(_copy(target_reader, writer))
        writer.close()

    server = await asyncio.start_server(forward_connection, sock=listening)
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    _, handle, target_host, target_port = sys.argv
    asyncio.run(forward(socket.socket(fileno=int(handle)), target_host, int(target_port)))
