"""Mount options: which ones the kernel is given, and whether an existing mount has the wanted ones.

Some options belong to a single mount (`ro`, `noexec`), others to the filesystem and so to all of its mounts
(`discard`). An existing mount is compared by the options that the kernel always shows when they are set. The kernel
shows or hides the rest (`data=ordered`, `inode64`) at its own discretion, so they cannot be compared.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from hyperpod_ebs.driver.model.capability import Capability, Mount
from hyperpod_ebs.driver.model.path_state import MountEntry

PER_MOUNT: Final = frozenset(
    {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime", "nosymfollow"}
)
"""Options that a bind mount can have for itself."""

_SHOWN_PER_MOUNT: Final = PER_MOUNT - {"relatime", "strictatime"}
_SHOWN_PER_FILESYSTEM: Final = frozenset(
    {"discard", "norecovery", "nouuid", "wsync", "largeio", "swalloc", "sync", "dirsync", "lazytime"}
)
_OTHER_NAMES: Final = {"noload": "norecovery"}


def for_staging(capability: Capability, access: Mount) -> tuple[str, ...]:
    """The options of the filesystem's own mount."""
    forced = ["ro"] if capability.read_only else []
    if access.filesystem == "xfs":
        forced.append("nouuid")  # a restored snapshot has its source's UUID, and may be mounted next to it
    return tuple(dict.fromkeys(option for option in [*access.flags, *forced] if option))


def for_publishing(capability: Capability, access: Mount, *, read_only: bool, staged: MountEntry) -> tuple[str, ...]:
    """The options of a bind mount: its own, and those of the staged mount, which a remount would drop."""
    wanted = {*access.flags, *(["ro"] if read_only or capability.read_only else [])}
    return tuple(sorted((wanted & PER_MOUNT) | (staged.options & _SHOWN_PER_MOUNT)))


def differences(wanted: Iterable[str], mounted: MountEntry) -> Iterator[str]:
    """Each option in which a mount of the filesystem is not as wanted."""
    asked = {_OTHER_NAMES.get(option, option) for option in wanted}
    yield from _compare(asked & _SHOWN_PER_MOUNT, mounted.options & _SHOWN_PER_MOUNT)
    yield from _compare(asked & _SHOWN_PER_FILESYSTEM, mounted.super_options & _SHOWN_PER_FILESYSTEM)


def differences_of_bind(wanted: Iterable[str], mounted: MountEntry) -> Iterator[str]:
    """Each option in which a bind mount is not as wanted."""
    yield from _compare(set(wanted) & _SHOWN_PER_MOUNT, mounted.options & _SHOWN_PER_MOUNT)


def _compare(wanted: set[str], actual: frozenset[str]) -> Iterator[str]:
    for option in sorted(wanted - actual):
        yield f"is not {option}"
    for option in sorted(actual - wanted):
        yield f"is {option}"
