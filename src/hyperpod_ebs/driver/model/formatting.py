"""Options for creating a volume's filesystem, from the parameters of a StorageClass.

The volume context carries the options from the controller to the node that formats the volume. Its
keys are upstream's, in lower case, so that each driver can format volumes that the other created.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from hyperpod_ebs.driver.model import errors

_NUMBER: Final = re.compile(r"[1-9][0-9]*[kKmM]?")

NUMBERS: Final[Mapping[str, frozenset[str]]] = {
    "blockSize": frozenset({"ext4", "xfs"}),
    "inodeSize": frozenset({"ext4", "xfs"}),
    "bytesPerInode": frozenset({"ext4"}),
    "numberOfInodes": frozenset({"ext4"}),
    "ext4ClusterSize": frozenset({"ext4"}),
}
"""Keys whose value is a number, and the filesystems that have the option."""

SWITCHES: Final[Mapping[str, frozenset[str]]] = {
    "ext4BigAlloc": frozenset({"ext4"}),
    "ext4EncryptionSupport": frozenset({"ext4"}),
}
"""Keys whose value is true or false, and the filesystems that have the option."""

KEYS: Final[Mapping[str, str]] = {key.lower(): key for key in (*NUMBERS, *SWITCHES)}
"""All keys, by their lower-case form."""


@dataclass(frozen=True, slots=True)
class Formatting:
    """The options for a filesystem; empty for the defaults of mkfs."""

    options: tuple[tuple[str, str], ...] = ()
    """Keys in the order of the tables above, with their values; switches only if they are on."""

    @classmethod
    def parse(cls, parameters: Mapping[str, str]) -> Self:
        """Parse the options among `parameters`, and ignore all other keys.

        Raises:
            InvalidRequest: A value is invalid, or a key is given twice.
        """
        found: dict[str, str] = {}
        for spelling, text in sorted(parameters.items()):
            key = KEYS.get(spelling.lower())
            if key is None:
                continue
            if key in found:
                raise errors.InvalidRequest(f"parameter {key!r} is given twice, in different spellings; remove one")
            found[key] = _parse_value(key, text)
        if found.get("ext4ClusterSize") and found.get("ext4BigAlloc") != "true":
            raise errors.InvalidRequest("parameter 'ext4ClusterSize' needs ext4BigAlloc: true; add it")
        return cls(tuple((key, found[key]) for key in KEYS.values() if found.get(key, "false") != "false"))

    def check(self, filesystem: str | None) -> None:
        """Check that `filesystem` has all the options; None stands for a raw block volume.

        Raises:
            InvalidRequest: The filesystem does not have one of the options.
        """
        for key, _ in self.options:
            filesystems = {**NUMBERS, **SWITCHES}[key]
            if filesystem not in filesystems:
                actual = filesystem or "a raw block volume"
                raise errors.InvalidRequest(
                    f"parameter {key!r} is for {' and '.join(sorted(filesystems))}, not for {actual}; remove it"
                )

    def context(self) -> dict[str, str]:
        """The options in the form of the volume context."""
        return {key.lower(): value for key, value in self.options}


PLAIN: Final = Formatting()
"""The defaults of mkfs."""


def _parse_value(key: str, text: str) -> str:
    if key in SWITCHES:
        if text.lower() not in {"true", "false"}:
            raise errors.InvalidRequest(f"{key} is {text!r}; it must be true or false")
        return text.lower()
    if not (text.isascii() and _NUMBER.fullmatch(text)):
        raise errors.InvalidRequest(f"{key} is {text!r}; it must be a whole number, such as 4096 or 4k")
    return text
