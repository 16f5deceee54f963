"""How fstab can name a volume: by the UUID of its filesystem, which must be the volume's alone, or by its device."""

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import blkid, system_errors
from hyperpod_ebs.driver.linux.devices import device_number
from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.kit import command, files

_NOTHING: Final = 2
"""blkid's exit code if no device has the UUID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSource:
    """A volume's device and what fstab may call it."""

    device: Device
    uuid: str = ""
    """The UUID of the filesystem; empty if there is none."""
    label: str = ""
    namesakes: Sequence[str] = ()
    """Other devices whose filesystem has the same UUID, such as that of the snapshot's source."""

    def is_named_by(self, source: str) -> bool:
        """Whether the first field of a line in fstab leads to the volume. Blocks."""
        name, _, value = source.partition("=")
        match name:
            case "UUID":
                return bool(value) and value.strip('"') == self.uuid
            case "LABEL":
                return bool(value) and value.strip('"') == self.label
            case _:
                return source.startswith("/dev/") and _number_of(Path(source)) == self.device.number


async def find_source(device: Device) -> VolumeSource:
    """Find the UUID and the label of the filesystem on the device, and other devices with this UUID."""
    tags = await blkid.probe(device.path) or {}
    uuid = tags.get("UUID", "")
    if not uuid:
        return VolumeSource(device=device)
    with system_errors.translate(f"look for devices with the UUID {uuid}"):
        answer = await command.run(
            ["blkid", "-c", "/dev/null", "-t", f"UUID={uuid}", "-o", "device"], ok=frozenset({0, _NOTHING})
        )
        others = [path for path in answer.out.split() if await files.off_loop(_is_other, Path(path), device)]
    return VolumeSource(device=device, uuid=uuid, label=tags.get("LABEL", ""), namesakes=others)


def _is_other(path: Path, device: Device) -> bool:
    number = _number_of(path)
    return number is not None and number != device.number


def _number_of(path: Path) -> DeviceNumber | None:
    """The number of the device node at a path; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return device_number(found) if stat.S_ISBLK(found.st_mode) else None
