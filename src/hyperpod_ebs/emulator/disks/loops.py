"""Loop devices: files as block devices, by the kernel's own calls.

They are bound and freed, never removed: LOOP_CTL_REMOVE takes the kernel tens of
milliseconds, a free device costs nothing and is used again by whoever comes next.
(uapi/linux/loop.h; everything here blocks, and runs off the event loop.)
"""

import errno
import fcntl
import os
import struct
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CLR_FD: Final = 0x4C01
_SET_STATUS64: Final = 0x4C04
_GET_STATUS64: Final = 0x4C05
_SET_CAPACITY: Final = 0x4C07
_CONFIGURE: Final = 0x4C0A
_GET_FREE: Final = 0x4C82

_CONFIG: Final = struct.Struct("=II 5Q 4I 64s 64s 32s 2Q 8Q")
"""struct loop_config: fd, block size, struct loop_info64, reserved."""

_RDEVICE: Final = struct.Struct("=Q")
_STATUS_SIZE: Final = 232
_RDEVICE_AT: Final = 16
_FLAGS_AT: Final = 52
"""struct loop_info64, and where its lo_rdevice and its flags are."""

_AUTOCLEAR: Final = 4
"""LO_FLAGS_AUTOCLEAR: free at the last close."""

_DIRECT_IO: Final = 16
"""LO_FLAGS_DIRECT_IO: no second page cache, and a flush that reaches the file."""

# EBS has sectors of 512 bytes. Left to itself, the kernel takes 4,096 for a file that shares blocks with a
# snapshot (its direct I/O goes by whole blocks), and a filesystem made before then no longer mounts. With 512 the
# loop device of such a file goes through the page cache; a flush still reaches the file.
_SECTOR: Final = 512
"""Bytes of a logical block."""

_TRIES: Final = 64
"""How often somebody else may take the free device before us."""

_LOOKED_AT: Final = 1.0
"""Seconds that udev is given to look at a device."""

CONTROL: Final = Path("/dev/loop-control")
_SYSFS: Final = Path("/sys/block")
_DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop device, by its number."""

    number: int

    @property
    def path(self) -> Path:
        """Its node."""
        return Path(f"/dev/loop{self.number}")

    @property
    def rdev(self) -> int:
        """Its device number."""
        text = (_SYSFS / f"loop{self.number}" / "dev").read_text()
        major, minor = text.split(":")
        return os.makedev(int(major), int(minor))

    @property
    def file(self) -> str | None:
        """Path of the file behind it, None when it is free; a deleted file's ends in ` (deleted)`."""
        try:
            return (_SYSFS / f"loop{self.number}" / "loop" / "backing_file").read_text().rstrip("\n")
        except OSError:
            return None

    def over(self) -> int | None:
        """The number of the block device that is behind it, None where a file or nothing is."""
        status = bytearray(_STATUS_SIZE)
        with suppress(OSError), _opened(self.path, os.O_RDONLY) as handle:
            fcntl.ioctl(handle, _GET_STATUS64, status)
        number: int = _RDEVICE.unpack_from(status, _RDEVICE_AT)[0]
        return number or None

    def backs(self, file: Path) -> bool:
        """Whether `file`, or what had its name when it was bound, is behind it."""
        return (self.file or "").removesuffix(_DELETED) == str(file)

    def held(self) -> bool:
        """Whether a mount, or another exclusive user, has it."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return True
            raise
        os.close(handle)
        return False

    def free(self, file: Path, *, force: bool = False) -> bool:
        """Take `file` from behind it; whether it is gone.

        While somebody has the device mounted or open, it stays as it is; only udev is waited for, for a moment.
        With `force` the kernel is left to free it at the last close.
        """
        if not self.backs(file):
            return True
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | (0 if force else os.O_EXCL))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
        try:
            if not force:
                _await_udev(handle)
            # Looked at again: while we hold it open, nobody can free and bind it anew.
            if self.backs(file):
                fcntl.ioctl(handle, _CLR_FD, 0)
                if not force:
                    _unmark(handle)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        finally:
            os.close(handle)
        return not self.backs(file)

    def regrow(self) -> None:
        """Let the device be as long as its file has become; one that is free since has nothing to be."""
        # For reading: a device that is closed after writing is looked at by udev, and a mounted one may not be written.
        with _opened(self.path, os.O_RDONLY) as handle:
            try:
                fcntl.ioctl(handle, _SET_CAPACITY, 0)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise


def _await_udev(handle: int) -> None:
    """Wait for a second at the most until udev does not look at the device; until `handle` is closed it begins no more.

    Its workers open each device that has changed, for some milliseconds, with a shared lock on it; one that
    somebody else has locked they leave alone (systemd, "Locking Block Device Access"). A lock is the inode's: what
    a node has locked, through its own name for the device, is not waited for.
    """
    until = time.monotonic() + _LOOKED_AT
    while time.monotonic() < until:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return


def _unmark(handle: int) -> None:
    """Undo what LOOP_CLR_FD does to a device that somebody else has open: mark it to be freed at the last close.

    Where nobody has, the kernel is freeing it, and there is nothing to undo (ENXIO).
    """
    status = bytearray(_STATUS_SIZE)
    fcntl.ioctl(handle, _GET_STATUS64, status)
    (flags,) = struct.unpack_from("=I", status, _FLAGS_AT)
    struct.pack_into("=I", status, _FLAGS_AT, flags & ~_AUTOCLEAR)
    fcntl.ioctl(handle, _SET_STATUS64, status)


def usable() -> bool:
    """Whether this process may make loop devices."""
    return os.access(CONTROL, os.R_OK | os.W_OK) and os.geteuid() == 0


def bound(file: Path) -> Loop:
    """A loop device with `file` behind it, with direct I/O where the file system has it.

    Raises:
        OSError: There is no free one, or no permission.
    """
    with _opened(file) as backing, _opened(CONTROL) as control:
        for _ in range(_TRIES):
            loop = Loop(fcntl.ioctl(control, _GET_FREE))
            if not loop.path.exists():  # nothing like devtmpfs makes it
                with suppress(FileExistsError):
                    os.mknod(loop.path, 0o060660, loop.rdev)
            try:
                _configure(loop, backing)
            except OSError as error:
                if error.errno != errno.EBUSY:  # somebody else took it since
                    raise
            else:
                return loop
    raise OSError(errno.EBUSY, f"no loop device could be had in {_TRIES} tries", str(file))


def under(directory: Path) -> Iterator[tuple[Loop, Path]]:
    """Each loop device whose file is, or was, in `directory`, with that file."""
    for entry in _SYSFS.glob("loop*"):
        loop = Loop(int(entry.name.removeprefix("loop")))
        file = Path((loop.file or "").removesuffix(_DELETED))
        if directory in file.parents:
            yield loop, file


def _configure(loop: Loop, backing: int) -> None:
    with _opened(loop.path) as handle:
        for flags in (_DIRECT_IO, 0):
            info = (0, 0, 0, 0, 0, 0, 0, 0, flags, b"", b"", b"", 0, 0)
            try:
                fcntl.ioctl(handle, _CONFIGURE, _CONFIG.pack(backing, _SECTOR, *info, *[0] * 8))
            except OSError as error:
                if error.errno != errno.EINVAL or not flags:
                    raise
            else:
                return


@contextmanager
def _opened(path: Path, mode: int = os.O_RDWR) -> Generator[int]:
    """`path` open for reading, and for writing too where nothing else is said, as a number."""
    handle = os.open(path, mode | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
