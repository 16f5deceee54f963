"""A gRPC server on its socket, which is there when it answers and gone when it no longer does."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from hyperpod_ebs.driver.csi import endpoint
from hyperpod_ebs.kit import files


@asynccontextmanager
async def listening(server: grpc.aio.Server, path: Path) -> AsyncGenerator[None]:
    """The server started, and its socket at `path`; stopped at once at the end, and the socket removed.

    Raises:
        Refused: Another process serves there, or no socket can be made.
    """
    bound = await files.off_loop(endpoint.place_to_bind, path)
    try:
        server.add_insecure_port(f"unix://{bound}")
        await server.start()
        published = await files.off_loop(endpoint.publish, bound, path)
    except BaseException:
        await server.stop(None)
        raise
    finally:
        await files.off_loop(endpoint.clear, bound)
    try:
        yield
    finally:
        await server.stop(None)
        await files.off_loop(published.withdraw)
