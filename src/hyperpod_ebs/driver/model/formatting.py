"""How a volume's filesystem is to be made, where a StorageClass says more than its kind.

The words travel in the volume's context from the controller to the node that formats it;
there they are upstream's, in small letters, so that either driver reads the other's volumes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from hyperpod_ebs.driver.model import errors

_SIZE: Final = re.compile(r"[1-9][0-9]*[kKmM]?")

SIZES: Final[Mapping[str, frozenset[str]]] = {
    "blockSize": frozenset({"ext4", "xfs"}),
    "inodeSize": frozenset({"ext4", "xfs"}),
    "bytesPerInode": frozenset({"ext4"}),
    "numberOfInodes": frozenset({"ext4"}),
    "ext4ClusterSize": frozenset({"ext4"}),
}
"""Keys with a number, and the filesystems that have such a thing."""

SWITCHES: Final[Mapping[str, frozenset[str]]] = {
    "ext4BigAlloc": frozenset({"ext4"}),
    "ext4EncryptionSupport": frozenset({"ext4"}),
}
"""Keys that are true or false."""

KEYS: Final[Mapping[str, str]] = {key.lower(): key for key in (*SIZES, *SWITCHES)}
"""All of them, by their small letters."""


@dataclass(frozen=True, slots=True)
class Formatting:
    """What was said; empty for a filesystem as its program makes it."""

    said: tuple[tuple[str, str], ...] = ()
    """Keys as in the tables above, in their order, and values; of a switch only where it is on."""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """What `given` says; keys of anything else are passed over.

        Raises:
            InvalidRequest: A value cannot be read, or a key is given twice.
        """
        found: dict[str, str] = {}
        for spelling, text in sorted(given.items()):
            key = KEYS.get(spelling.lower())
            if key is None:
                continue
            if key in found:
                raise errors.InvalidRequest(f"parameter {key!r} is given twice, in different spellings")
            found[key] = _read(key, text)
        if found.get("ext4ClusterSize") and found.get("ext4BigAlloc") != "true":
            raise errors.InvalidRequest("ext4ClusterSize needs ext4BigAlloc: true")
        return cls(tuple((key, found[key]) for key in KEYS.values() if found.get(key, "false") != "false"))

    def check(self, filesystem: str | None) -> None:
        """Accept a filesystem that can be made so; None for a raw block volume.

        Raises:
            InvalidRequest: It cannot.
        """
        for key, _ in self.said:
            kinds = {**SIZES, **SWITCHES}[key]
            if filesystem not in kinds:
                what = filesystem or "a raw block volume"
                raise errors.InvalidRequest(f"parameter {key!r} is for {' and '.join(sorted(kinds))}, not for {what}")

    def context(self) -> dict[str, str]:
        """What the node is told."""
        return {key.lower(): value for key, value in self.said}


PLAIN: Final = Formatting()
"""As its program makes it."""


def _read(key: str, text: str) -> str:
    if key in SWITCHES:
        if text.lower() not in {"true", "false"}:
            raise errors.InvalidRequest(f"{key} is {text!r}; it must be true or false")
        return text.lower()
    if not (text.isascii() and _SIZE.fullmatch(text)):
        raise errors.InvalidRequest(f"{key} is {text!r}; it must be a whole number, such as 4096 or 4k")
    return text
