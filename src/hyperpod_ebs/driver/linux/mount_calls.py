"""The system calls behind bind mounts and unmounts, mount(2) and umount2(2), on descriptors instead of paths.

mount(8) and umount(8) resolve a path to its text first, and the kernel resolves that text again. In between, a parent
directory may have become a symbolic link. `/proc/self/fd/N` leads to the open file, even if it has another name now.
The calls need no message to be searched for words: the kernel's error number says what happened.
"""

import ctypes
import fcntl
import os
from collections.abc import Iterable, Mapping
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

_libc = ctypes.CDLL(None, use_errno=True)


def bind(source: int, target: int) -> None:
    """Bind-mount what the descriptor `source` leads to over what the descriptor `target` leads to.

    Raises:
        OSError: The kernel refused.
    """
    _mount(source, target, _BIND)


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


def _raise() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
