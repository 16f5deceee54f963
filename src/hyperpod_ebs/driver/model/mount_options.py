"""Mount options, parsed once where a request enters: the kernel's flags, and the filesystem's own options.

mount(8) turns most options of every filesystem into flags of the kernel, in the order given: `ro,rw` is writable, and
`user` sets three flags. Some of its options make mount(8) do something other than mount the volume's own device at the
target path. These are refused by name.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

_BY_STRENGTH: Final = ("strictatime", "noatime", "relatime")
ACCESS_TIMES: Final = frozenset(_BY_STRENGTH)
"""When a mount records the access time."""

PER_MOUNT: Final = frozenset({"ro", "nosuid", "nodev", "noexec", "nosymfollow", "nodiratime"}) | ACCESS_TIMES
"""Flags that each mount of a filesystem has for itself."""

PER_FILESYSTEM: Final = frozenset({"sync", "dirsync", "lazytime"})
"""Flags that all mounts of a filesystem share."""

_SECURE: Final = frozenset({"nosuid", "nodev"})
_FLAGS: Final[Mapping[str, frozenset[str]]] = {
    **{flag: frozenset({flag}) for flag in (*PER_MOUNT, *PER_FILESYSTEM, "iversion", "mand", "silent")},
    **dict.fromkeys(("owner", "group"), _SECURE),
    **dict.fromkeys(("user", "users"), _SECURE | {"noexec"}),
}
"""The flags that an option sets (mount(8), FILESYSTEM-INDEPENDENT MOUNT OPTIONS)."""

_OPPOSITES: Final = {
    "rw": "ro",
    "suid": "nosuid",
    "dev": "nodev",
    "exec": "noexec",
    "symfollow": "nosymfollow",
    "async": "sync",
    "diratime": "nodiratime",
    "atime": "noatime",
    "norelatime": "relatime",
    "nostrictatime": "strictatime",
    "nolazytime": "lazytime",
    "noiversion": "iversion",
    "nomand": "mand",
    "loud": "silent",
}
"""The flag that an option removes."""

_FOR_OTHERS: Final = frozenset(
    {
        "defaults",
        "auto",
        "noauto",
        "nofail",
        "_netdev",
        "nouser",
        "nousers",
        "noowner",
        "nogroup",
        "comment",
        "seclabel",
    }
)
"""Options for fstab and for other programs, without an effect on a mount that the driver makes."""

_COMMENT: Final = ("x-", "X-")

_SELINUX: Final = frozenset({"context", "fscontext", "defcontext", "rootcontext"})
"""Options whose value may be quoted, because it may contain commas."""

_REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("loop", "offset", "sizelimit", "encryption"), "it mounts another device in place of the volume's own"
    ),
    **dict.fromkeys(("bind", "rbind", "move", "remount"), "it changes another mount instead of mounting the volume"),
    **dict.fromkeys(
        [f"{prefix}{kind}" for prefix in ("", "r") for kind in ("shared", "slave", "private", "unbindable")],
        "it changes how the mount is shared with pods",
    ),
    **dict.fromkeys(("helper", "uhelper"), "it lets another program unmount the volume"),
    **dict.fromkeys(
        ("source", "logdev", "rtdev", "journal_dev", "journal_path"), "it uses a device other than the volume's own"
    ),
    "abort": "it makes the filesystem refuse every write",
}
_REFUSED_PREFIXES: Final = {
    "x-mount.": "it changes what is mounted, or whose it is",
    "verity.": "it mounts another device in place of the volume's own",
}

_OPTION: Final = re.compile(r'(?:[^,"]|"[^"]*(?:"|$))+')
_WELL_FORMED: Final = re.compile(r'[^\s"\\=\0-\x1f\x7f][^\s"\\\0-\x1f\x7f]*(?:"[^"\\\0-\x1f\x7f]*")?')

_LONGEST: Final = 4000
"""Bytes of all options: mount(2) copies a page of 4096 bytes and ignores the rest."""

_QUOTED: Final = 60
"""Characters of a wrong option that an error quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """The options of a mount."""

    flags: frozenset[str] = frozenset()
    """The kernel's flags, by the names that mount(8) has for them; at most one of `ACCESS_TIMES`."""
    of_filesystem: tuple[str, ...] = ()
    """The options that only the filesystem or SELinux knows, in the order given."""
    refusal: str = ""
    """Why the driver does not mount with these options; empty if it does."""

    @classmethod
    def parse(cls, given: Iterable[str]) -> Self:
        """Parse options as a PersistentVolume or a StorageClass has them: each text may hold several."""
        texts = list(given)
        if (length := len(",".join(texts).encode())) > _LONGEST:
            why = f"the mount options have {length} bytes, and the driver supports {_LONGEST}"
            return cls(refusal=f"{why}; shorten mountOptions")
        flags: set[str] = set()
        of_filesystem: list[str] = []
        options = [option for text in texts for option in split(text)]
        for option in options:
            if option in _FLAGS:
                flags |= _FLAGS[option]
            elif option in _OPPOSITES:
                flags.discard(_OPPOSITES[option])
            elif not _is_for_others(option):
                of_filesystem.append(option)
        # Of several access times the kernel follows the strongest (fs/namespace.c, path_mount).
        times = [time for time in _BY_STRENGTH if time in flags]
        return cls(
            flags=frozenset(flags.difference(times[1:])),
            of_filesystem=tuple(of_filesystem),
            refusal=next(_refusals(options), ""),
        )

    @property
    def read_only(self) -> bool:
        """Whether the filesystem is mounted read-only."""
        return "ro" in self.flags

    def __str__(self) -> str:
        """The options as an argument of mount(8)."""
        return ",".join([*sorted(self.flags), *self.of_filesystem])


DEFAULTS: Final = MountOptions()
"""What a mount has without options."""


def split(text: str) -> list[str]:
    """The options in a text: separated by commas, except those in quotes."""
    return _OPTION.findall(text)


def _is_for_others(option: str) -> bool:
    return option.startswith(_COMMENT) or option.partition("=")[0] in _FOR_OTHERS


def _refusals(options: list[str]) -> Iterator[str]:
    """Each reason for which the options are refused."""
    for option in options:
        if reason := _refusal(option):
            yield f"mount option {option[:_QUOTED]!r} is not supported: {reason}; remove it from mountOptions"


def _refusal(option: str) -> str:
    """Why the option is refused; empty if it is not."""
    name, has_value, _ = option.partition("=")
    if not _WELL_FORMED.fullmatch(option) or ('"' in option and name not in _SELINUX):
        return "it is not an option, or has a space, a quote, a backslash or a control character"
    if has_value and (name in _FLAGS or name in _OPPOSITES):
        return "it takes no value"
    if name.lower() == "x-mount.mkdir":
        return ""
    prefixes = (reason for prefix, reason in _REFUSED_PREFIXES.items() if name.lower().startswith(prefix))
    return _REFUSED.get(name) or next(prefixes, "")
