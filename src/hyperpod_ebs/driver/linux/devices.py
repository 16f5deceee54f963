"""Finds the block device of a volume, and proves that it is that volume's.

Three ways, the surest first:

1. sysfs: an NVMe disk of EBS's model carries the volume's id, without its dash, as serial number;
2. udev's link `disk/by-id/nvme-Amazon_Elastic_Block_Store_vol…` in the node's device directory;
3. the name that was published, mapped into that directory.

A candidate whose serial number sysfs knows must carry this volume's. One without a serial
number is taken only where its name is proof: a loop device by its by-id link (a node of the
embedded cloud), a Xen disk by its published name. Instance store, LVM and everything else
is never opened.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.driver.model.volume import nvme_serial

MODEL: Final = "Amazon Elastic Block Store"
_LINK: Final = "nvme-Amazon_Elastic_Block_Store_"
_VARIANTS: Final = ("", "_1", "-ns-1")
"""What udev's rules of different ages append for the namespace."""

_VOLUME_SERIAL: Final = re.compile(r"vol[0-9a-f]{8}(?:[0-9a-f]{9})?")
_SECTOR: Final = 512
_NAMED_BY_XEN: Final = ("xvd", "sd")


class Absent(Exception):  # noqa: N818 - reads as what happened; never leaves linux/
    """The volume's device is not there; the text says what was looked at and why it was not taken."""


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of one node. Every method blocks: run it off the loop."""

    directory: Path
    """The node's own `/dev`."""
    sysfs: Path

    def find(self, volume_id: str, published: str = "") -> Device:
        """The volume's device, as it is now.

        Raises:
            Absent: None of the ways leads to it.
        """
        if not _VOLUME_SERIAL.fullmatch(nvme_serial(volume_id)):
            raise Absent(f"no volume has the id {volume_id!r}")
        tried: list[str] = []
        for path, by_link in self._candidates(volume_id, published):
            try:
                return self._proved(path, volume_id, by_link=by_link)
            except Absent as reason:
                tried.append(str(reason))
            except OSError as error:
                tried.append(f"{path}: {error.strerror or error}")
        raise Absent("; ".join(tried))

    def belongs(self, volume_id: str, number: DeviceNumber) -> bool | None:
        """Whether the device with this number is the volume's; None where its identity went with it."""
        if number.is_anonymous:
            return False
        if known := self.serial_of(number):
            return known == nvme_serial(volume_id)
        if (owner := self._linked().get(number)) is not None:
            return owner == nvme_serial(volume_id)
        name = self._kernel_name(number)
        # A device that is gone, and a loop device without its link, cannot say whose they were.
        if name is None or name.startswith(("loop", *_NAMED_BY_XEN)):
            return None
        return False

    def still(self, volume_id: str, number: DeviceNumber) -> bool:
        """Whether the device is the volume's by all that can be told now; of a Xen disk nothing can."""
        answer = self.belongs(volume_id, number)
        return (self._kernel_name(number) or "").startswith(_NAMED_BY_XEN) if answer is None else answer

    def alive(self, number: DeviceNumber) -> bool:
        """Whether the kernel still has the device."""
        return number.is_anonymous or self._kernel_name(number) is not None

    def path_of(self, number: DeviceNumber) -> Path | None:
        """A device node for the device in this node's directory; None where there is none."""
        for path in [self.directory / (self._kernel_name(number) or ""), *self._links()]:
            try:
                found = path.stat()
            except OSError:
                continue
            if stat.S_ISBLK(found.st_mode) and number_of(found) == number:
                return path
        return None

    def serial_of(self, number: DeviceNumber) -> str:
        """The serial number that sysfs has for the device; empty where it has none."""
        entry = self._entry(number)
        return _line(entry / "device" / "serial") or _line(entry / "serial")

    def _candidates(self, volume_id: str, published: str) -> Iterator[tuple[Path, bool]]:
        """Each path worth a look, and whether it is a by-id link, which names the volume itself."""
        if name := self._disk_with(nvme_serial(volume_id)):
            yield self.directory / name, False
        links = [self.directory / "disk" / "by-id" / f"{_LINK}{nvme_serial(volume_id)}{end}" for end in _VARIANTS]
        for link in links:
            yield link, True
        if published.startswith("/dev/"):
            mapped = self.directory / published.removeprefix("/dev/")
            if mapped not in links:
                yield mapped, False

    def _proved(self, path: Path, volume_id: str, *, by_link: bool) -> Device:
        """The device at `path`, which is this volume's.

        Raises:
            Absent: It is not, or cannot be told.
            OSError: There is nothing.
        """
        real = path.resolve(strict=True)
        if not real.is_relative_to(self.directory.resolve()):
            raise Absent(f"{path} leads out of {self.directory}, to {real}")
        found = real.stat()
        if not stat.S_ISBLK(found.st_mode):
            raise Absent(f"{path} is no block device")
        number = number_of(found)
        name = self._kernel_name(number)
        if name is None:
            raise Absent(f"{path} is device {number}, which the kernel does not have")
        known = self.serial_of(number)
        if known and known != nvme_serial(volume_id):
            raise Absent(f"{path} is {name}, whose serial number is {known}, not {nvme_serial(volume_id)}")
        model = _line(self._entry(number) / "device" / "model")
        if known and model != MODEL:
            raise Absent(f"{path} is {name}, a disk of model {model!r}, not {MODEL!r}")
        if not known and not _named_surely(name, by_link=by_link):
            raise Absent(f"{path} is {name}, which nothing proves to be the volume")
        return Device(path=real, number=number, size=self._size(number))

    def _disk_with(self, wanted: str) -> str | None:
        """The kernel's name of the EBS disk with this serial number."""
        for found in sorted((self.sysfs / "block").glob("*/device/serial")):
            if _line(found) == wanted and _line(found.with_name("model")) == MODEL:
                return found.parent.parent.name
        return None

    def _entry(self, number: DeviceNumber) -> Path:
        return self.sysfs / "dev" / "block" / str(number)

    def _kernel_name(self, number: DeviceNumber) -> str | None:
        try:
            return self._entry(number).resolve(strict=True).name
        except OSError:
            return None

    def _size(self, number: DeviceNumber) -> int:
        return int((self._entry(number) / "size").read_text()) * _SECTOR

    def _links(self) -> list[Path]:
        return sorted((self.directory / "disk" / "by-id").glob(f"{_LINK}vol*"))

    def _linked(self) -> dict[DeviceNumber, str]:
        """The serial number that each by-id link of this node gives to a device."""
        links: dict[DeviceNumber, str] = {}
        for link in self._links():
            if named := _VOLUME_SERIAL.match(link.name, len(_LINK)):
                try:
                    links[number_of(link.stat())] = named[0]
                except OSError:
                    continue  # a link that dangles: its device went away
        return links


def number_of(found: os.stat_result) -> DeviceNumber:
    """The number of the device that a device node stands for."""
    return DeviceNumber(os.major(found.st_rdev), os.minor(found.st_rdev))


def _named_surely(name: str, *, by_link: bool) -> bool:
    """Whether a disk without a serial number may be taken for the volume by the name it was found under."""
    return by_link if name.startswith("loop") else name.startswith(_NAMED_BY_XEN) and not by_link


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip(" \0\n")
    except OSError:
        return ""
