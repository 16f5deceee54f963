"""The socket that a server listens on: its place, its mode, and who it belongs to.

The server binds in a directory that nobody else can enter; the socket gets its
mode there and is then renamed to where it should be. So it is never open to
others, a stale one is replaced in one step, and gRPC, which removes at the end
whatever lies where it bound, cannot remove another process's socket.
"""

import os
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit.directory_lock import lock_directory

_SCHEME: Final = "unix:"
_PATIENCE: Final = 1.0
"""Seconds that a live server has to accept; one too busy to is alive."""

_LONGEST: Final = 107  # <sys/un.h>: 108 bytes with the closing zero
_BOUND: Final = "/.12345678/s"


def parse(endpoint: str) -> Path:
    """The path that `unix:///path`, `unix://path`, `unix:/path` or `/path` names.

    Upstream reads `unix://tmp/csi.sock` as /tmp/csi.sock, and so do we.

    Raises:
        InvalidRequest: It names none, or a path in which no socket can be.
    """
    scheme, separator, rest = endpoint.partition("://")
    if separator and scheme != "unix":
        raise errors.InvalidRequest(
            f"endpoint {endpoint!r} is not a unix socket: CSI has no authentication, so nothing else is served; "
            "take unix:///path/to/csi.sock"
        )
    text = rest if separator else endpoint.removeprefix(_SCHEME)
    path = Path("/" + text.lstrip("/"))
    if (not separator and not text.startswith("/")) or path == Path("/") or text.endswith("/") or "\0" in text:
        raise errors.InvalidRequest(f"endpoint {endpoint!r} names no socket; take unix:///path/to/csi.sock")
    if (length := len(os.fsencode(path.parent)) + len(_BOUND)) > _LONGEST:
        raise errors.InvalidRequest(
            f"endpoint {endpoint!r} is {length - _LONGEST} bytes too long for a unix socket; take a shorter directory"
        )
    return path


@dataclass(frozen=True, slots=True)
class Published:
    """A socket that others can connect to, and what tells it from another at the same path."""

    path: Path
    device: int
    inode: int

    @classmethod
    def at(cls, path: Path) -> Self:
        """The socket that lies at `path`."""
        found = os.lstat(path)
        return cls(path, found.st_dev, found.st_ino)

    def withdraw(self) -> None:
        """Remove it, if it is still ours."""
        with lock_directory(self.path.parent):
            if os.path.lexists(self.path) and Published.at(self.path) == self:
                self.path.unlink()


def place_to_bind(path: Path) -> Path:
    """Where to bind at first: in a new private directory beside `path`, whose own directory is made when absent.

    Raises:
        Refused: The directory cannot be made or written to.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".", dir=path.parent)) / "s"
    except OSError as error:
        raise errors.Refused(f"no socket can be made at {path}: {error.strerror}") from error


def publish(bound: Path, path: Path) -> Published:
    """Put the bound socket where it is looked for, in place of one that nobody serves.

    Raises:
        Refused: A live server is there, or something that is no socket.
    """
    with lock_directory(path.parent):
        if why := _taken(path):
            raise errors.Refused(why)
        bound.chmod(0o600)
        bound.rename(path)
        return Published.at(path)


def clear(bound: Path) -> None:
    """Remove the private directory, and what was bound but not published."""
    bound.unlink(missing_ok=True)
    bound.parent.rmdir()


def _taken(path: Path) -> str | None:
    """Why `path` cannot be had; None when it is free or holds a stale socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(mode):
        return f"{path} is there and is not a socket; remove it or take another endpoint"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return None
        except OSError as error:
            return f"{path} is there and cannot be tried ({error}); end its server or take another endpoint"
    return f"{path} is served by a live process; end it or take another endpoint"
