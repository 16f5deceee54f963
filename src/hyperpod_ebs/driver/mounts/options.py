"""Mount options: which are given to the kernel, and whether those that it shows are the ones wanted.

Two kinds: of one mount alone (`ro`, `noexec`), and of the filesystem, shared by all its
mounts (`discard`). A repeat is compared by those that the kernel shows whenever they are
set. The rest (`data=ordered`, `inode64`) it shows or hides as it sees fit: no telling.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from hyperpod_ebs.driver.model.capability import Capability, Mount
from hyperpod_ebs.driver.model.path_state import MountEntry

OF_ONE_MOUNT: Final = frozenset(
    {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime", "nosymfollow"}
)
"""What a bind mount can have for itself."""

_SHOWN_OF_MOUNT: Final = OF_ONE_MOUNT - {"relatime", "strictatime"}
_SHOWN_OF_FILESYSTEM: Final = frozenset(
    {"discard", "norecovery", "nouuid", "wsync", "largeio", "swalloc", "sync", "dirsync", "lazytime"}
)
_OTHER_NAMES: Final = {"noload": "norecovery"}


def for_staging(capability: Capability, access: Mount) -> tuple[str, ...]:
    """The options of the filesystem's own mount."""
    forced = ["ro"] if capability.read_only else []
    if access.filesystem == "xfs":
        forced.append("nouuid")  # a restored snapshot has its source's UUID, and may sit beside it
    return _each_once([*access.flags, *forced])


def for_publishing(capability: Capability, access: Mount, *, read_only: bool, staged: MountEntry) -> tuple[str, ...]:
    """The options of a bind mount: those of the staged mount, which a remount would drop, and its own."""
    wanted = {*access.flags, *(["ro"] if read_only or capability.read_only else [])}
    return tuple(sorted((wanted & OF_ONE_MOUNT) | (staged.options & _SHOWN_OF_MOUNT)))


def differences(wanted: Iterable[str], mounted: MountEntry) -> Iterator[str]:
    """Each option in which a mount of the filesystem is not as wanted."""
    asked = {_OTHER_NAMES.get(option, option) for option in wanted}
    yield from _unlike(asked & _SHOWN_OF_MOUNT, mounted.options & _SHOWN_OF_MOUNT)
    yield from _unlike(asked & _SHOWN_OF_FILESYSTEM, mounted.super_options & _SHOWN_OF_FILESYSTEM)


def differences_of_bind(wanted: Iterable[str], mounted: MountEntry) -> Iterator[str]:
    """Each option in which a bind mount is not as wanted."""
    yield from _unlike(set(wanted) & _SHOWN_OF_MOUNT, mounted.options & _SHOWN_OF_MOUNT)


def turned_read_only(mounted: MountEntry) -> bool:
    """Whether the filesystem stopped writing by itself, after an error, though its mount may write."""
    return "ro" in mounted.super_options and "ro" not in mounted.options


def _unlike(asked: set[str], have: frozenset[str]) -> Iterator[str]:
    for option in sorted(asked - have):
        yield f"is not {option}"
    for option in sorted(have - asked):
        yield f"is {option}"


def _each_once(options: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(option for option in options if option))
