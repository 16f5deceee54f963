"""The unix socket of a gRPC server: its path, its mode, and which process it belongs to.

The server binds in a directory that no other user can enter. There the socket gets its mode, and is then renamed to its
path. So other users can never open it, and a stale socket is replaced in one step. gRPC removes the path where it bound
when it stops, so it cannot remove another process's socket.
"""

import os
import socket
import stat
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import grpc

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit import files
from hyperpod_ebs.kit.directory_lock import lock_directory

_SCHEME: Final = "unix:"
_CONNECT_TIMEOUT: Final = 1.0
"""Seconds that a live server has to accept a connection; a server that is too busy for that counts as alive."""

_MAX_PATH_BYTES: Final = 107  # <sys/un.h>: 108 bytes with the closing zero
_BIND_NAME: Final = "/.12345678/s"  # as long as the name that `create_bind_directory` chooses


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


@asynccontextmanager
async def start_server(server: grpc.aio.Server, path: Path) -> AsyncGenerator[None]:
    """Start the server on a socket at `path`; at the end, stop it at once and remove the socket.

    Raises:
        Refused: Another process serves at the path, or the socket cannot be created.
    """
    bind_path = await files.off_loop(create_bind_directory, path)
    try:
        server.add_insecure_port(f"unix://{bind_path}")
        await server.start()
        published = await files.off_loop(publish, bind_path, path)
    except BaseException:
        await server.stop(None)
        raise
    finally:
        await files.off_loop(remove_bind_directory, bind_path)
    try:
        yield
    finally:
        await server.stop(None)
        await files.off_loop(published.remove)


@dataclass(frozen=True, slots=True)
class PublishedSocket:
    """A socket to which clients can connect, with the inode that distinguishes it from a later one at its path."""

    path: Path
    device: int
    inode: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """The socket that is at `path` now."""
        status = os.lstat(path)
        return cls(path, status.st_dev, status.st_ino)

    def remove(self) -> None:
        """Remove the socket, unless another process has replaced it."""
        with lock_directory(self.path.parent):
            if os.path.lexists(self.path) and PublishedSocket.read(self.path) == self:
                self.path.unlink()


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
