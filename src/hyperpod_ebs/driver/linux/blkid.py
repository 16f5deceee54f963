"""What libblkid recognises on a device: filesystems, RAID, LVM, LUKS, partition tables.

`-p` looks at the device itself and past blkid's cache. Any output at all counts, so
that a kind which a later blkid learns is refused without a change here.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hyperpod_ebs.driver.linux import system_errors
from hyperpod_ebs.kit import command

NOTHING: Final = 2
"""blkid's exit code for a blank device, and alas for one that it could not read."""

AMBIVALENT: Final = 8
"""Several signatures contradict one another."""

DEADLINE: Final = 60.0


async def found(device: Path) -> Mapping[str, str] | None:
    """What blkid recognises on `device`, by tag; None where it recognises nothing.

    None is no proof of blankness: see `linux.contents`.
    """
    with system_errors.translate(f"looking at what is on {device}"):
        answer = await command.run(
            ["blkid", "-p", "-o", "export", str(device)],
            ok=frozenset({0, NOTHING, AMBIVALENT}),
            deadline=DEADLINE,
        )
    if answer.code == AMBIVALENT:
        return {"TYPE": "several contradicting signatures"}
    return read(answer.out)


def read(out: str) -> Mapping[str, str] | None:
    """The tags in blkid's export format; the device's own name is none."""
    pairs = (line.partition("=") for line in out.splitlines() if "=" in line)
    tags = {name: value for name, _, value in pairs if name != "DEVNAME"}
    return MappingProxyType(tags) if tags else None
