"""The system calls behind bind mounts and unmounts, mount(2) and umount2(2), on descriptors instead of paths.

mount(8) and umount(8) resolve a path to its text first, and the kernel resolves that text again. In between, a parent
directory may have become a symbolic link. `/proc/self/fd/N` leads to the open file, even if it has another name now.
The calls need no message to be searched for words: the kernel's error number says what happened.
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Final

_REMOUNT: Final = 32
_BIND: Final = 4096
_NO_FOLLOW: Final = 8
_FITHAW: Final = 0xC0045878

FLAGS: Final[Mapping[str, int]] = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "nosymfollow": 256,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
}
"""The options that a bind mount can have for itself, as the kernel's sys/mount.h numbers them."""

# The numbers of system calls are the same on x86_64 and arm64; the flags are those of the kernel's linux/mount.h.
_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_MOUNT_SETATTR: Final = 442
_EMPTY_PATH: Final = 0x1000
_CLONE: Final = 0x1 | os.O_CLOEXEC
_MOVE_EMPTY_PATHS: Final = 0x4 | 0x40
_ATTRIBUTES: Final[Mapping[str, int]] = {"ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "nosymfollow": 0x200000}
_ATIME_ATTRIBUTES: Final[Mapping[str, int]] = {"noatime": 0x10, "strictatime": 0x20, "nodiratime": 0x80, "relatime": 0}
_ATIME_MASK: Final = 0x70 | 0x80

_libc = ctypes.CDLL(None, use_errno=True)


def bind(source: int, target: int) -> None:
    """Bind-mount what the descriptor `source` leads to over what the descriptor `target` leads to.

    Raises:
        OSError: The kernel refused.
    """
    _mount(source, target, _BIND)


def bind_with_options(source: int, target: int, options: Collection[str]) -> bool:
    """Bind-mount as `bind`, with these options and no others, in one step; False if the kernel is older than 5.12.

    A process that is killed meanwhile leaves either nothing or the whole mount.

    Raises:
        OSError: The kernel refused.
    """
    try:
        clone = _call(_OPEN_TREE, source, b"", _CLONE | _EMPTY_PATH)
        try:
            set_attributes(clone, options)
            _call(_MOVE_MOUNT, clone, b"", target, b"", _MOVE_EMPTY_PATHS)
        finally:
            os.close(clone)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return False
        raise
    return True


def set_attributes(mount: int, options: Collection[str]) -> None:
    """Give the mount, which need not be attached, these options and no others.

    If none of them is about access times, those stay as they are, as with `set_options`.

    Raises:
        OSError: The kernel refused: ENOSYS before Linux 5.12.
    """
    wanted = sum(value for name, value in {**_ATTRIBUTES, **_ATIME_ATTRIBUTES}.items() if name in options)
    unwanted = sum(value for name, value in _ATTRIBUTES.items() if name not in options)
    if not _ATIME_ATTRIBUTES.keys().isdisjoint(options):
        unwanted |= _ATIME_MASK
    attributes = struct.pack("=QQQQ", wanted, unwanted, 0, 0)
    _call(_MOUNT_SETATTR, mount, b"", _EMPTY_PATH, attributes, len(attributes))


def set_options(root: int, options: Iterable[str]) -> None:
    """Give the mount whose root directory the descriptor leads to these options, and no others.

    Raises:
        OSError: The kernel refused.
    """
    flags = _REMOUNT | _BIND
    for option in options:
        flags |= FLAGS[option]
    _mount(None, root, flags)


def unmount(directory: int, name: str) -> None:
    """Unmount the top mount at the entry `name` of an open directory; never follow a link.

    A descriptor of the mount itself would keep the mount busy.

    Raises:
        OSError: The kernel refused: EBUSY for a mount in use, EINVAL if nothing is mounted there.
    """
    if _libc.umount2(os.fsencode(f"/proc/self/fd/{directory}/{name}"), _NO_FOLLOW):
        _raise()


def thaw(directory: int) -> None:
    """Thaw the filesystem of an open directory if it is frozen (fsfreeze(8)). Blocks while its data is written."""
    with suppress(OSError):  # it is not frozen, or is dead
        handle = os.open(f"/proc/self/fd/{directory}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, _FITHAW, 0)
        finally:
            os.close(handle)


def _mount(source: int | None, target: int, flags: int) -> None:
    from_path = None if source is None else f"/proc/self/fd/{source}".encode()
    if _libc.mount(from_path, f"/proc/self/fd/{target}".encode(), None, ctypes.c_ulong(flags), None):
        _raise()


def _call(number: int, *arguments: int | bytes) -> int:
    """Make the system call; its result."""
    words = [ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each) for each in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        _raise()
    return result


def _raise() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
