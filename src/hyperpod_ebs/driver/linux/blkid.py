"""Identification of a device's contents with libblkid: filesystems, RAID, LVM, LUKS, partition tables.

`-p` probes the device itself and bypasses blkid's cache. Any output means that something is on the device, so a
signature that only a later blkid knows is refused without a change here.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hyperpod_ebs.driver.linux import system_errors
from hyperpod_ebs.kit import command

NOTHING: Final = 2
"""blkid's exit code for a blank device, and also for a device that it could not read."""

AMBIVALENT: Final = 8
"""blkid's exit code for several signatures that contradict one another."""

DEADLINE: Final = 60.0


async def probe(device: Path) -> Mapping[str, str] | None:
    """Return the tags that blkid finds on `device`, or None if it finds nothing.

    None does not prove that the device is blank: see `linux.contents`.
    """
    with system_errors.translate(f"probe {device} with blkid"):
        answer = await command.run(
            ["blkid", "-p", "-o", "export", str(device)],
            ok=frozenset({0, NOTHING, AMBIVALENT}),
            deadline=DEADLINE,
        )
    if answer.code == AMBIVALENT:
        return {"TYPE": "several contradicting signatures"}
    return parse(answer.out)


def parse(out: str) -> Mapping[str, str] | None:
    """The tags in blkid's export format, without the device's own name; None if there are none."""
    pairs = (line.partition("=") for line in out.splitlines() if "=" in line)
    tags = {name: value for name, _, value in pairs if name != "DEVNAME"}
    return MappingProxyType(tags) if tags else None
