"""Loop devices: files as block devices, through the kernel's ioctls (uapi/linux/loop.h).

Devices are bound and freed, never removed: LOOP_CTL_REMOVE takes the kernel tens of
milliseconds, and a free device costs nothing and can be bound again. Every function blocks,
so the callers run them off the event loop.
"""

import errno
import fcntl
import os
import struct
import time
from collections.abc import Container, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BLKROSET: Final = 0x125D
_CLR_FD: Final = 0x4C01
_SET_STATUS64: Final = 0x4C04
_GET_STATUS64: Final = 0x4C05
_SET_CAPACITY: Final = 0x4C07
_CONFIGURE: Final = 0x4C0A
_GET_FREE: Final = 0x4C82

_CONFIG: Final = struct.Struct("=II 5Q 4I 64s 64s 32s 2Q 8Q")
"""struct loop_config: fd, block size, struct loop_info64, reserved."""

_STATUS_SIZE: Final = 232
_SIZE_LIMIT_OFFSET: Final = 32
_FLAGS_OFFSET: Final = 52
"""Size of struct loop_info64, and the offsets of lo_sizelimit and lo_flags."""

_AUTOCLEAR: Final = 4
"""LO_FLAGS_AUTOCLEAR: the kernel frees the device at the last close."""

_DIRECT_IO: Final = 16
"""LO_FLAGS_DIRECT_IO: no second page cache, and a flush reaches the file."""

# EBS has sectors of 512 bytes. By default, the kernel chooses 4,096 for a file that shares blocks with a snapshot,
# because its direct I/O needs whole blocks; a filesystem that was made with 512 then no longer mounts. With 512, the
# loop device of such a file uses the page cache; a flush still reaches the file.
_SECTOR: Final = 512
"""Bytes of a logical block."""

_MAX_TRIES: Final = 64
"""Tries to bind a free device; a try fails if another process binds the device first."""

_UDEV_TIMEOUT: Final = 1.0
"""Seconds to wait until udev has closed a device."""

CONTROL: Final = Path("/dev/loop-control")
_SYSFS: Final = Path("/sys/block")
_DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True)
class LoopDevice:
    """A loop device, by its number."""

    number: int

    @property
    def path(self) -> Path:
        """The device's path in the host's /dev."""
        return Path(f"/dev/loop{self.number}")

    @property
    def rdev(self) -> int:
        """The device number."""
        major, minor = self.device.split(":")
        return os.makedev(int(major), int(minor))

    @property
    def device(self) -> str:
        """The device number as mountinfo has it, MAJOR:MINOR."""
        return (_SYSFS / f"loop{self.number}" / "dev").read_text().strip()

    @property
    def backing_file(self) -> str | None:
        """The path of the backing file, with ` (deleted)` appended if it is deleted; None if the device is free."""
        try:
            # Bytes, because read_text() turns a carriage return in the path into a newline, and needs valid UTF-8.
            file = (_SYSFS / f"loop{self.number}" / "loop" / "backing_file").read_bytes()
        except OSError:
            return None
        return os.fsdecode(file).removesuffix("\n")

    def has_backing_file(self, file: Path) -> bool:
        """Whether the backing file is `file`, or had that path when it was bound."""
        return (self.backing_file or "").removesuffix(_DELETED) == str(file)

    def is_in_use(self) -> bool:
        """Whether a mount or another exclusive user has the device open."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return True
            raise
        os.close(handle)
        return False

    def free(self, file: Path, *, force: bool = False) -> bool:
        """Unbind the device from `file`; return whether it is unbound.

        A device that is mounted or open stays bound; if udev has it open, wait a moment until udev closes it. With
        `force`, the kernel frees a device in use at its last close.
        """
        if not self.has_backing_file(file):
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
            # Check again: while it is open here, no other process can free it and bind it again.
            if self.has_backing_file(file):
                # A node's write protection stays with the loop device, and would hit the next volume on that device.
                fcntl.ioctl(handle, _BLKROSET, struct.pack("=i", 0))
                fcntl.ioctl(handle, _CLR_FD, 0)
                if not force:
                    _clear_autoclear(handle)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        finally:
            os.close(handle)
        return not self.has_backing_file(file)

    def disconnect(self, file: Path) -> None:
        """Let the device of `file` fail all later I/O, as after a surprise removal; I/O before this call is complete.

        The device has size 0 then, to which the kernel also sets a disk that was pulled out (__blk_mark_disk_dead in
        block/genhd.c). The kernel frees the device at its last close. A device that is not bound to `file` is ignored.
        """
        with _open(self.path, os.O_RDONLY) as handle:
            if not self.has_backing_file(file):
                return
            status = bytearray(_STATUS_SIZE)
            fcntl.ioctl(handle, _GET_STATUS64, status)
            struct.pack_into("=Q", status, _SIZE_LIMIT_OFFSET, 1)  # bytes: less than a sector, so the size is 0
            fcntl.ioctl(handle, _SET_STATUS64, status)
            # Each call drains the queue, but only before it changes the size: the second drains the last I/O.
            fcntl.ioctl(handle, _SET_STATUS64, status)
            fcntl.ioctl(handle, _CLR_FD, 0)

    def update_size(self) -> None:
        """Grow the device to the current size of its backing file; a free device is ignored."""
        # Read-only: udev opens a device that was closed after writing, and a mounted device may refuse writers.
        with _open(self.path, os.O_RDONLY) as handle:
            try:
                fcntl.ioctl(handle, _SET_CAPACITY, 0)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise


def _await_udev(handle: int) -> None:
    """Wait up to a second until udev has closed the device, and keep it away until `handle` is closed.

    Udev's workers open each changed device for some milliseconds, with a shared lock on it, and ignore a device
    that another process has locked (systemd, "Locking Block Device Access"). A lock belongs to an inode, so this
    does not wait for locks that a node has through its own path of the device.
    """
    until = time.monotonic() + _UDEV_TIMEOUT
    while time.monotonic() < until:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return


def _clear_autoclear(handle: int) -> None:
    """Clear the flag that LOOP_CLR_FD sets on a device that is open elsewhere, so that its last close does not free it.

    If the device is not open elsewhere, the kernel has freed it, and this fails with ENXIO.
    """
    status = bytearray(_STATUS_SIZE)
    fcntl.ioctl(handle, _GET_STATUS64, status)
    (flags,) = struct.unpack_from("=I", status, _FLAGS_OFFSET)
    struct.pack_into("=I", status, _FLAGS_OFFSET, flags & ~_AUTOCLEAR)
    fcntl.ioctl(handle, _SET_STATUS64, status)


def usable() -> bool:
    """Whether this process may bind loop devices."""
    return os.access(CONTROL, os.R_OK | os.W_OK) and os.geteuid() == 0


def bind(file: Path) -> LoopDevice:
    """Bind a free loop device to `file`, with direct I/O where the filesystem supports it.

    Raises:
        OSError: No device is free, or this process may not bind one.
    """
    with _open(file) as backing, _open(CONTROL) as control:
        for _ in range(_MAX_TRIES):
            loop = LoopDevice(fcntl.ioctl(control, _GET_FREE))
            if not loop.path.exists():  # without devtmpfs, nothing creates the device
                with suppress(FileExistsError):
                    os.mknod(loop.path, 0o060660, loop.rdev)
            try:
                _configure(loop, backing)
            except OSError as error:
                if error.errno != errno.EBUSY:  # another process bound it first
                    raise
            else:
                return loop
    raise OSError(errno.EBUSY, f"no free loop device was found in {_MAX_TRIES} tries", str(file))


def find_in(directory: Path) -> Iterator[tuple[LoopDevice, Path]]:
    """The loop devices whose backing files are or were below `directory`, with those files."""
    for entry in _SYSFS.glob("loop*"):
        loop = LoopDevice(int(entry.name.removeprefix("loop")))
        file = Path((loop.backing_file or "").removesuffix(_DELETED))
        if directory in file.parents:
            yield loop, file


def free_all(directory: Path, *, keep: Container[LoopDevice] = ()) -> None:
    """Free the loop devices with backing files below `directory`; the kernel frees those in use at the last close."""
    for loop, file in find_in(directory):
        if loop not in keep:
            loop.free(file, force=True)


def _configure(loop: LoopDevice, backing: int) -> None:
    with _open(loop.path) as handle:
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
def _open(path: Path, mode: int = os.O_RDWR) -> Generator[int]:
    """The file descriptor of `path`, opened for reading and writing by default."""
    handle = os.open(path, mode | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
