"""Read and replace /etc/fstab. Every function blocks: run it off the loop."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hyperpod_ebs.access.volume.node import fstab
from hyperpod_ebs.driver.linux.pinned_path import read_mount_id
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit import command
from hyperpod_ebs.kit.command import CommandFailed
from hyperpod_ebs.kit.directory_lock import lock_directory

_SYSTEMD: Final = Path("/run/systemd/system")
"""Exists while systemd runs the machine (sd_booted(3))."""


def read() -> str:
    """Read the file; empty if it is absent. Bytes outside UTF-8 are kept."""
    try:
        return fstab.PATH.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return ""


def check_writable() -> None:
    """Check that the file can be replaced, before anything else is changed.

    Raises:
        NotReady: Its directory is read-only, or the file is a mount of its own.
    """
    real = Path(os.path.realpath(fstab.PATH))
    if not os.access(real.parent, os.W_OK):
        raise errors.NotReady(f"cannot write {real}: {real.parent} is read-only; repeat the command without --persist")
    if real.exists() and _mount_id(real) != _mount_id(real.parent):
        raise errors.NotReady(
            f"cannot replace {real}: it is a mount of its own, as in a container; run the command on the node itself"
        )


def rewrite(change: Callable[[str], str]) -> bool:
    """Replace the file's text in one step; return whether the text changed.

    Mode, owner and extended attributes stay, such as SELinux's label. A process that is killed leaves the old file or
    the new one, and perhaps a temporary file that the next call replaces.

    Raises:
        NotReady: The file cannot be replaced, or another program changed it at the same moment.
    """
    real = Path(os.path.realpath(fstab.PATH))
    try:
        with lock_directory(real.parent) as directory:
            before, seen = read(), _identity(real)
            after = change(before)
            if after == before:
                return False
            new = real.with_name(f".{real.name}.hyperpod-ebs")
            try:
                _write(new, after, like=real)
                _check_unchanged(real, seen)
                new.rename(real)
            except BaseException:
                new.unlink(missing_ok=True)
                raise
            os.fsync(directory)
    except OSError as error:
        raise errors.NotReady(
            f"cannot write {real}: {error.strerror or error}; free space there or make it writable, then repeat the "
            "command"
        ) from error
    return True


async def reload_systemd() -> bool:
    """Let systemd read the changed file; return False if it failed.

    Until then, systemd mounts and unmounts by its old content (systemd-fstab-generator(8)).
    """
    if not _SYSTEMD.is_dir():
        return True
    try:
        await command.run(["systemctl", "daemon-reload"])
    except CommandFailed:
        return False
    return True


def _write(new: Path, text: str, *, like: Path) -> None:
    """Write a file with the mode, owner and extended attributes of another one, if that exists."""
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode(errors="surrogateescape"))
        file.flush()
        try:
            old = like.stat()
        except FileNotFoundError:
            os.fchmod(handle, 0o644)
        else:
            os.fchown(handle, old.st_uid, old.st_gid)
            os.fchmod(handle, old.st_mode & 0o7777)
            _copy_attributes(like, handle)
        os.fsync(handle)


def _copy_attributes(like: Path, handle: int) -> None:
    try:
        for name in os.listxattr(like):
            os.setxattr(handle, name, os.getxattr(like, name))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise


def _check_unchanged(path: Path, seen: tuple[int, ...] | None) -> None:
    if _identity(path) != seen:
        raise errors.NotReady(f"cannot change {path}: another program has just changed it; repeat the command")


def _mount_id(path: Path) -> int:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return read_mount_id(handle)
    finally:
        os.close(handle)


def _identity(path: Path) -> tuple[int, ...] | None:
    """What changes when another program writes or replaces the file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
