"""A door from the machine into the cluster's network: a socket of the one, connections in the other.

A socket stays in the network namespace in which it was made. So the listening one is
made outside and handed to this process, which runs inside.
"""

import asyncio
import socket
import sys
from contextlib import suppress
from typing import Final

_CHUNK: Final = 1 << 16


async def forward(listening: socket.socket, host: str, port: int) -> None:
    """Lead every connection to `host` and `port` until killed."""

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, back = await asyncio.open_connection(host, port)
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, back))
                both.create_task(_copy(there, writer))
        writer.close()

    server = await asyncio.start_server(lead, sock=listening)
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    _, handle, to, number = sys.argv
    asyncio.run(forward(socket.socket(fileno=int(handle)), to, int(number)))
