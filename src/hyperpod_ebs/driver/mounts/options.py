"""Which options a mount gets, and whether an existing mount has the wanted ones.

A mount is compared by the effect of its options, as the kernel shows it, and not by their text. The kernel drops
options (`discard` without TRIM), adds options (`wsync` for `sync` on XFS) and rewrites numbers. So only flags and
words are compared, and only those that the kernel shows whenever they are in force. A difference that is not certain
is none: after ALREADY_EXISTS no pod of the node gets the volume.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from hyperpod_ebs.driver.model.capability import Capability, Mount
from hyperpod_ebs.driver.model.disk import Device
from hyperpod_ebs.driver.model.mount_options import ACCESS_TIMES, PER_FILESYSTEM, PER_MOUNT, MountOptions
from hyperpod_ebs.driver.model.path_state import MountEntry

_CHOICES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "ext4": {
        "auto_da_alloc": ("auto_da_alloc", "noauto_da_alloc"),
        "barrier": ("barrier", "nobarrier"),
        "data": ("data=ordered", "data=journal", "data=writeback"),
        "discard": ("nodiscard", "discard"),
        "errors": ("errors=continue", "errors=panic", "errors=remount-ro"),
        "grpid": ("nogrpid", "grpid"),
        "recovery": ("recovery", "norecovery"),
    },
    "xfs": {
        "discard": ("nodiscard", "discard"),
        "filestreams": ("nofilestreams", "filestreams"),
        "grpid": ("nogrpid", "grpid"),
        "largeio": ("nolargeio", "largeio"),
        "recovery": ("recovery", "norecovery"),
        "swalloc": ("noswalloc", "swalloc"),
        "uuid": ("uuid", "nouuid"),
        "wsync": ("nowsync", "wsync"),
    },
}
"""The choices of each filesystem that the kernel shows; the first is in force if the kernel shows none."""

_SAME: Final = {
    "auto_da_alloc=0": "noauto_da_alloc",
    "barrier=0": "nobarrier",
    "barrier=1": "barrier",
    "bsdgroups": "grpid",
    "noload": "norecovery",
    "sysvgroups": "nogrpid",
}
"""Other names of these choices."""


def for_staging(capability: Capability, access: Mount) -> MountOptions:
    """The options of the filesystem's own mount."""
    flags, of_filesystem = access.options.flags, access.options.of_filesystem
    if capability.read_only:
        flags |= {"ro"}
    if not flags & ACCESS_TIMES:
        flags |= {"relatime"}  # the kernel's default (mount(2))
    if access.filesystem == "xfs" and "nouuid" not in of_filesystem:
        of_filesystem += ("nouuid",)  # a restored snapshot has its source's UUID, and may be mounted next to it
    return replace(access.options, flags=flags, of_filesystem=of_filesystem)


def for_publishing(capability: Capability, access: Mount, *, read_only: bool, staged: MountEntry) -> frozenset[str]:
    """The flags of a bind mount: its own, and those of the staged mount."""
    flags = access.options.flags & PER_MOUNT
    if read_only or capability.read_only:
        flags |= {"ro"}
    inherited = flags_of_mount(staged)
    return flags | (inherited - ACCESS_TIMES if flags & ACCESS_TIMES else inherited)


def flags_of_mount(mounted: MountEntry) -> frozenset[str]:
    """The flags that a mount has for itself. The kernel shows `strictatime` by leaving out the other access times."""
    flags = mounted.options & PER_MOUNT
    return flags if flags & ACCESS_TIMES else flags | {"strictatime"}


def differences(wanted: MountOptions, device: Device, mounted: MountEntry, in_force: Collection[str]) -> Iterator[str]:
    """Each option in which a mount of the device's filesystem is not as wanted.

    Args:
        wanted: The options that the mount should have.
        device: The device that is mounted.
        mounted: The mount, which shows the options that differ from the filesystem's defaults.
        in_force: All options of the filesystem, also those that are its defaults.
    """
    yield from differences_of_flags(wanted.flags & PER_MOUNT, flags_of_mount(mounted))
    yield from differences_of_flags(wanted.flags & PER_FILESYSTEM, mounted.super_options & PER_FILESYSTEM)
    asked = _settings(mounted.filesystem, wanted.of_filesystem)
    if mounted.filesystem == "xfs" and "sync" in wanted.flags:
        asked["wsync"] = "wsync"
    choices, actual = _CHOICES.get(mounted.filesystem, {}), _settings(mounted.filesystem, in_force)
    for name, value in asked.items():
        if actual.get(name, choices[name][0]) != value and (value != "discard" or device.can_discard):
            yield f"is not {value}"
    for name, value in _settings(mounted.filesystem, mounted.super_options).items():
        if name not in asked and value != choices[name][0]:
            yield f"is {value}"


def differences_of_flags(wanted: frozenset[str], actual: frozenset[str]) -> Iterator[str]:
    """Each flag that only one of the two has."""
    for flag in sorted(wanted - actual):
        yield f"is not {flag}"
    for flag in sorted(actual - wanted):
        yield f"is {flag}"


def _settings(filesystem: str, options: Iterable[str]) -> dict[str, str]:
    """The comparable options, by the name of the choice: `{"discard": "nodiscard", "data": "data=journal"}`."""
    choices = _CHOICES.get(filesystem, {})
    chosen: dict[str, str] = {}
    for option in (_SAME.get(option, option) for option in options):
        name = option.partition("=")[0]
        name = name if name in choices else name.removeprefix("no")
        if option in choices.get(name, ()):
            chosen[name] = option
        else:
            chosen.pop(name, None)  # another way to write a choice, such as barrier=2
    return chosen
