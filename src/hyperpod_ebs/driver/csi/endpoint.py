"""The unix socket of a gRPC server: its path, its mode, and which process it belongs to.

The server binds in a directory that no other user can enter. There the socket gets its mode, and is then renamed to its
path. So other users can never open it, and a stale socket is replaced in one step. gRPC removes the path where it bound
when it stops, so it cannot remove another process's socket.

A clean-up job can remove a socket that is in use. Its server still listens, but no client can connect to it, and the
kernel cannot give such a socket a path again. So a new server takes its place (docs/decisions/0039).
"""

import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import grpc
import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit import files
from hyperpod_ebs.kit.directory_lock import lock_directory

_SCHEME: Final = "unix:"
_CONNECT_TIMEOUT: Final = 1.0
"""Seconds that a live server has to accept a connection; a server that is too busy for that counts as alive."""

WATCH_PERIOD: Final = 1.0
"""Seconds between two looks at a published socket."""

HANDSHAKE_TIMEOUT: Final = 10_000
"""Milliseconds for a client's first frame; gRPC's own limit is two minutes, for any number of connections."""

_MAX_PATH_BYTES: Final = 107  # <sys/un.h>: 108 bytes with the closing zero
_BIND_NAME: Final = "/.12345678/s"  # as long as the name that `create_bind_directory` chooses

log = structlog.get_logger()


def parse(endpoint: str) -> Path:
    """The path in `unix:///path`, `unix://path`, `unix:/path` or `/path`.

    `unix://tmp/csi.sock` means /tmp/csi.sock, as for the upstream driver.

    Raises:
        InvalidRequest: The endpoint names no path, or one at which a socket cannot be created.
    """
    scheme, separator, rest = endpoint.partition("://")
    if separator and scheme != "unix":
        raise errors.InvalidRequest(
            f"endpoint {endpoint!r} is not a unix socket, and CSI has no authentication for anything else; "
            "use unix:///path/to/csi.sock"
        )
    text = rest if separator else endpoint.removeprefix(_SCHEME)
    path = Path("/" + text.lstrip("/"))
    if (not separator and not text.startswith("/")) or path == Path("/") or text.endswith("/") or "\0" in text:
        raise errors.InvalidRequest(f"endpoint {endpoint!r} names no socket; use unix:///path/to/csi.sock")
    if (length := len(os.fsencode(path.parent)) + len(_BIND_NAME)) > _MAX_PATH_BYTES:
        raise errors.InvalidRequest(
            f"endpoint {endpoint!r} is {length - _MAX_PATH_BYTES} bytes too long for a unix socket; "
            "use a directory with a shorter path"
        )
    return path


def new_server(*interceptors: grpc.aio.ServerInterceptor) -> grpc.aio.Server:
    """A gRPC server that is not started yet."""
    return grpc.aio.server(
        interceptors=list(interceptors), options=[("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT)]
    )


@asynccontextmanager
async def start_server(server: grpc.aio.Server, path: Path) -> AsyncGenerator["PublishedSocket"]:
    """Start the server on a socket at `path`; at the end, stop it at once and remove the socket.

    Raises:
        Refused: Another process serves at the path, or the socket cannot be created.
    """
    published = await _start(server, path)
    try:
        yield published
    finally:
        await server.stop(None)
        await files.off_loop(published.remove)


async def _start(server: grpc.aio.Server, path: Path) -> "PublishedSocket":
    bind_path = await files.off_loop(create_bind_directory, path)
    try:
        server.add_insecure_port(f"unix://{bind_path}")
        await server.start()
        return await files.off_loop(publish, bind_path, path)
    except BaseException:
        await server.stop(None)
        raise
    finally:
        await files.off_loop(remove_bind_directory, bind_path)


class LastingServer:
    """A server at a path; when its socket is removed, a new server takes its place."""

    def __init__(self, build: Callable[[], grpc.aio.Server], path: Path, report: Callable[[str | None], None]) -> None:
        """`build` returns a new server with the same services; `report` receives why nothing can connect, or None."""
        self._build = build
        self._path = path
        self._report = report
        self._servers: list[grpc.aio.Server] = []
        """The server at the path is the last one; the others have been replaced and finish their calls."""
        self._replacing = asyncio.Lock()

    @asynccontextmanager
    async def run(self, *, drain: float) -> AsyncGenerator[None]:
        """Serve while the block runs; the calls of a replaced server have `drain` seconds to finish.

        Raises:
            Refused: Another process serves at the path, or the socket cannot be created.
        """
        await self._start_another()
        # A TaskGroup around the block would wrap its errors.
        self._watching = asyncio.get_running_loop().create_task(self._watch(drain))
        try:
            yield
        finally:
            await self.end_watch()
            await self.stop(None)
            await files.off_loop(self._published.remove)

    async def end_watch(self) -> None:
        """Replace no server from now on."""
        async with self._replacing:  # a socket that is being published has to be known, to be removed at the end
            self._watching.cancel()
        await asyncio.wait([self._watching])

    async def stop(self, grace: float | None) -> None:
        """Refuse new calls; running calls have `grace` seconds to finish."""
        async with asyncio.TaskGroup() as tasks:
            for server in self._servers:
                tasks.create_task(server.stop(grace))

    async def _watch(self, drain: float) -> None:
        while True:
            await asyncio.sleep(WATCH_PERIOD)
            async with self._replacing:
                problem = await self._restore_socket()
            self._report(problem)
            for replaced in self._servers[:-1]:
                await replaced.stop(drain)
                self._servers.remove(replaced)

    async def _restore_socket(self) -> str | None:
        """Start another server if the socket is gone; return why nothing can connect."""
        try:
            if not await files.off_loop(self._published.is_in_place):
                await self._start_another()
                log.warning("socket published again", socket=str(self._path), why="it was removed")
        except (errors.Refused, OSError, files.Unresponsive) as error:
            return f"no client can connect, because the socket was removed and cannot be published again: {error}"
        return None

    async def _start_another(self) -> None:
        server = self._build()
        self._published = await _start(server, self._path)
        self._servers.append(server)


@dataclass(frozen=True, slots=True)
class PublishedSocket:
    """A socket to which clients can connect, with what distinguishes it from a later one at its path."""

    path: Path
    device: int
    inode: int
    modified: int
    """Its time in nanoseconds: the number of an inode is used again."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The socket that is at `path` now."""
        status = os.lstat(path)
        return cls(path, status.st_dev, status.st_ino, status.st_mtime_ns)

    def is_in_place(self) -> bool:
        """Whether the socket is still at its path."""
        try:
            return PublishedSocket.read(self.path) == self
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the socket, unless another process has replaced it."""
        with suppress(FileNotFoundError), lock_directory(self.path.parent):
            if self.is_in_place():
                self.path.unlink()

    async def wait_until_lost(self) -> None:
        """Return when the socket is no longer at its path."""
        is_in_place = True
        while is_in_place:
            await asyncio.sleep(WATCH_PERIOD)
            with suppress(files.Unresponsive):
                is_in_place = await files.off_loop(self.is_in_place)


def create_bind_directory(path: Path) -> Path:
    """Create a private directory next to `path`, and the directory of `path` if it is missing; return the path to bind.

    Raises:
        Refused: The directory cannot be created.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".", dir=path.parent)) / "s"
    except OSError as error:
        raise errors.Refused(f"cannot create a socket at {path}: {error.strerror}") from error


def publish(bind_path: Path, path: Path) -> PublishedSocket:
    """Move the bound socket to its path, in place of a stale one.

    Raises:
        Refused: A live server or a file that is not a socket is at the path.
    """
    with lock_directory(path.parent):
        if obstacle := _obstacle(path):
            raise errors.Refused(obstacle)
        bind_path.chmod(0o600)
        bind_path.rename(path)
        return PublishedSocket.read(path)


def remove_bind_directory(bind_path: Path) -> None:
    """Remove the private directory, with the socket if it was not published."""
    bind_path.unlink(missing_ok=True)
    bind_path.parent.rmdir()


def _obstacle(path: Path) -> str | None:
    """Why the path cannot be used; None if it is free or has a stale socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(mode):
        return f"{path} exists and is not a socket; remove it or use another endpoint"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return None
        except OSError as error:
            return f"{path} exists and cannot be tried ({error}); stop its server or use another endpoint"
    return f"{path} is served by a live process; stop that process or use another endpoint"
