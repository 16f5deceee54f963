"""Create, open and remove the directories and files that volumes are mounted on, and unmount what is there."""

import errno
import os
import stat
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hyperpod_ebs.driver.linux import mount_calls, mountinfo
from hyperpod_ebs.driver.linux.pinned_path import PinnedPath, pin, read_mount_id
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.model.path_state import PathKind


def remove_empty(path: Path, root: Path) -> None:
    """Remove `path` if it is an empty directory or an empty file. Blocks: run it off the loop.

    Raises:
        OSError: It cannot be removed, for a reason other than that it is in use or not empty.
    """
    with suppress(FileNotFoundError), pin(path, root) as pinned:
        _remove_empty(pinned)


def unmount(path: Path, root: Path) -> None:
    """Unmount the top mount at `path`; succeed if nothing is mounted. Blocks while the filesystem writes back its data.

    Raises:
        OSError: The kernel refused: EBUSY if a process uses the mount.
    """
    try:
        with pin(path, root) as pinned:
            mount_calls.unmount(pinned.directory, pinned.name)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOENT}:
            raise


@contextmanager
def open_last_mount(path: Path, root: Path) -> Generator[tuple[int, DeviceNumber] | None]:
    """Open the top mount at `path` if its filesystem has no other; yield the descriptor and the device's number.

    Blocks: run it off the loop.

    Yields None if nothing is mounted there, if the filesystem has other mounts, or if it has no device.
    """
    with ExitStack() as opened:
        last: tuple[int, DeviceNumber] | None = None
        with suppress(FileNotFoundError):
            pinned = opened.enter_context(pin(path, root))
            here, numbers = pinned.find_mount_id(), {mount.id: mount.number for mount in mountinfo.read()}
            number = numbers.get(here) if here is not None else None
            if number and not number.is_anonymous and list(numbers.values()).count(number) == 1:
                last = opened.enter_context(pinned.open()), number
        yield last


@dataclass(frozen=True, slots=True)
class MountPoint:
    """An open directory or file to mount on."""

    pinned: PinnedPath
    handle: int
    """The descriptor of the directory or file, which leads below everything that is mounted on it later."""
    created: bool
    """Whether it was created for this mount."""

    def undo(self) -> None:
        """Unmount what was mounted since the mount point was opened, and remove a mount point created for that.

        Raises:
            OSError: The kernel refused.
        """
        before = read_mount_id(self.handle)
        while self.pinned.read_mount_id() != before:
            mount_calls.unmount(self.pinned.directory, self.pinned.name)
        if self.created:
            _remove_empty(self.pinned)


@contextmanager
def open_mount_point(path: Path, root: Path, *, directory: bool) -> Generator[MountPoint]:
    """Open a directory or file to mount on; create it if it is absent. Blocks: run it off the loop.

    Raises:
        NotReady: The parent directory is absent, or something of another kind is there.
    """
    with ExitStack() as opened:
        try:
            pinned = opened.enter_context(pin(path, root))
            created = _create_mount_point(pinned, directory=directory)
            handle = opened.enter_context(pinned.open())
        except FileNotFoundError:
            raise errors.NotReady(
                f"cannot mount at {path}: directory {path.parent} is absent; the caller must create it first"
            ) from None
        kind = os.fstat(handle).st_mode
        if stat.S_ISDIR(kind) != directory or stat.S_ISLNK(kind):
            wanted = PathKind.DIRECTORY if directory else PathKind.FILE
            raise errors.NotReady(f"cannot mount at {path}: it exists and is not {wanted}; remove it")
        yield MountPoint(pinned, handle, created)


def _create_mount_point(pinned: PinnedPath, *, directory: bool) -> bool:
    """Create an empty directory or file; return False if something is there."""
    try:
        if directory:
            os.mkdir(pinned.name, 0o750, dir_fd=pinned.directory)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(pinned.name, flags, 0o640, dir_fd=pinned.directory))
    except FileExistsError:
        return False
    return True


def _remove_empty(pinned: PinnedPath) -> None:
    found = pinned.stat()
    try:
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(pinned.name, dir_fd=pinned.directory)
        elif stat.S_ISREG(found.st_mode) and found.st_size == 0:
            os.unlink(pinned.name, dir_fd=pinned.directory)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EBUSY}:
            raise
