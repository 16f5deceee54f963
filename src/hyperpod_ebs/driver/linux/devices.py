"""Find the block device of a volume, and verify that the device is that volume's.

There are three ways, the most reliable first:

1. sysfs: the serial number of an EBS NVMe disk is the volume's id without its dash;
2. udev's link `disk/by-id/nvme-Amazon_Elastic_Block_Store_vol…` in the node's device directory;
3. the device name that the controller published, mapped into that directory.

A call that gets no device name, such as NodeUnstageVolume, uses the name by which the volume's Xen disk was found last.

If sysfs has a serial number for a candidate, it must be this volume's. A candidate without a serial number is accepted
only if its name is proof: a Xen disk by its published name, and a loop device (on a node of the embedded cloud) by its
by-id link, or by its published name where that is a Xen disk's. Instance store, LVM and all other devices are never
opened.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.driver.model.path_state import MountEntry
from hyperpod_ebs.driver.model.volume import nvme_serial

MODEL: Final = "Amazon Elastic Block Store"
_LINK: Final = "nvme-Amazon_Elastic_Block_Store_"
_EXT4_OPTIONS: Final = Path("/proc/fs/ext4")
_VARIANTS: Final = ("", "_1", "-ns-1")
"""What older and newer udev rules append for the namespace."""

_VOLUME_SERIAL: Final = re.compile(r"vol[0-9a-f]{8}(?:[0-9a-f]{9})?")
_SECTOR: Final = 512
_XEN_PREFIXES: Final = ("xvd", "sd")


class Absent(Exception):  # noqa: N818 - reads as what happened; never leaves linux/
    """The volume's device is absent; the text lists the candidates and why each was rejected."""


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of one node. Every method blocks: run it off the loop."""

    directory: Path
    """The node's own `/dev`."""
    sysfs: Path
    _volumes_by_name: dict[str, str] = field(default_factory=dict)
    """The volume that was found last under each published name of a Xen disk."""

    def find(self, volume_id: str, published: str = "") -> Device:
        """Find the volume's device.

        Raises:
            Absent: None of the three ways leads to it.
        """
        if not _VOLUME_SERIAL.fullmatch(nvme_serial(volume_id)):
            raise Absent(f"no volume has the id {volume_id!r}")
        rejected: list[str] = []
        published = published or self._last_name(volume_id)
        for path, by_link in self._candidates(volume_id, published):
            try:
                found = self._verify(path, volume_id, by_link=by_link)
            except Absent as reason:
                rejected.append(str(reason))
            except OSError as error:
                rejected.append(f"{path}: {error.strerror or error}")
            else:
                if not by_link and self._is_xen_disk(found.number):
                    self._volumes_by_name.pop(published, None)
                    self._volumes_by_name[published] = volume_id
                return found
        raise Absent("; ".join(rejected))

    def is_device_of(self, volume_id: str, number: DeviceNumber) -> bool | None:
        """Whether the device with this number is the volume's; None if nothing identifies the device any more."""
        if number.is_anonymous:
            return False
        if known := self.serial_number(number):
            return known == nvme_serial(volume_id)
        if (owner := self._serials_by_link().get(number)) is not None:
            return owner == nvme_serial(volume_id)
        name = self._kernel_name(number)
        # Nothing says which volume a removed device or a loop device without its link belonged to.
        if name is None or name.startswith(("loop", *_XEN_PREFIXES)):
            return None
        return False

    def volume_id_of(self, number: DeviceNumber) -> str:
        """The id of the volume whose device has this number; empty if nothing says so, as for a Xen disk."""
        known = "" if number.is_anonymous else self.serial_number(number) or self._serials_by_link().get(number, "")
        return f"vol-{known.removeprefix('vol')}" if _VOLUME_SERIAL.fullmatch(known) else ""

    def partitions(self, number: DeviceNumber) -> list[str]:
        """The names of the device's partitions."""
        return sorted(entry.parent.name for entry in self._entry(number).glob("*/partition"))

    def is_still_device_of(self, volume_id: str, number: DeviceNumber) -> bool:
        """Whether the device is still the volume's. A Xen disk has no identity, so it counts as still the volume's."""
        answer = self.is_device_of(volume_id, number)
        return self._is_xen_disk(number) if answer is None else answer

    def is_present(self, number: DeviceNumber) -> bool:
        """Whether the kernel still has the device and its disk.

        The kernel sets the size of a disk that was pulled out to 0 (Linux, block/genhd.c, __blk_mark_disk_dead).
        """
        if number.is_anonymous:
            return True
        return self._kernel_name(number) is not None and _read_line(self._entry(number) / "size") != "0"

    def path_of(self, number: DeviceNumber) -> Path | None:
        """A device node for the device in this node's directory; None if there is none."""
        for path in [self.directory / (self._kernel_name(number) or ""), *self._links()]:
            try:
                found = path.stat()
            except OSError:
                continue
            if stat.S_ISBLK(found.st_mode) and device_number(found) == number:
                return path
        return None

    def is_write_protected(self, number: DeviceNumber) -> bool:
        """Whether the kernel refuses writes to the device."""
        return _read_line(self._entry(number) / "ro") == "1"

    def holders(self, number: DeviceNumber) -> list[str]:
        """The names of the block devices on top of the device: of a device mapper, or a loop device."""
        mappers = [entry.name for entry in (self._entry(number) / "holders").glob("*")]
        return sorted({*mappers, *(name for name in self._loops() if self._is_backed_by(name, number))})

    def recorded_errors(self, number: DeviceNumber, filesystem: str) -> int:
        """How many errors a mounted filesystem has found in itself; 0 if filesystems of its kind do not count them.

        Source: Linux, Documentation/ABI/testing/sysfs-fs-ext4.
        """
        count = _read_line(self.sysfs / "fs" / filesystem / (self._kernel_name(number) or "") / "errors_count")
        return int(count) if count.isdecimal() else 0

    def options_in_force(self, mounted: MountEntry) -> frozenset[str]:
        """All options of a mounted filesystem.

        ext4 leaves out of the mount table what equals the defaults in its superblock (tune2fs -o).
        """
        try:
            shown = (_EXT4_OPTIONS / (self._kernel_name(mounted.number) or "") / "options").read_text()
        except FileNotFoundError:  # not an ext4
            return mounted.super_options
        return mounted.super_options.union(shown.split())

    def serial_number(self, number: DeviceNumber) -> str:
        """The serial number that sysfs has for the device; empty if it has none."""
        entry = self._entry(number)
        return _read_line(entry / "device" / "serial") or _read_line(entry / "serial")

    def _last_name(self, volume_id: str) -> str:
        """The published name under which the volume was found last; empty if another volume had the name later."""
        names = (name for name, found in reversed(self._volumes_by_name.items()) if found == volume_id)
        return next(names, "")

    def _candidates(self, volume_id: str, published: str) -> Iterator[tuple[Path, bool]]:
        """Each path that may lead to the device, and whether it is a by-id link, whose name contains the volume's."""
        if name := self._disk_by_serial(nvme_serial(volume_id)):
            yield self.directory / name, False
        links = [self.directory / "disk" / "by-id" / f"{_LINK}{nvme_serial(volume_id)}{end}" for end in _VARIANTS]
        for link in links:
            yield link, True
        is_local = Path(published).is_relative_to(self.directory)  # the mount table has this node's own path
        if is_local or published.startswith("/dev/"):
            mapped = Path(published) if is_local else self.directory / published.removeprefix("/dev/")
            if mapped not in links:
                yield mapped, False
            if mapped.name.startswith("sd"):  # Linux names the disk of /dev/sdf xvdf (EC2 user guide, Device names)
                yield mapped.with_name(f"xvd{mapped.name.removeprefix('sd')}"), False

    def _verify(self, path: Path, volume_id: str, *, by_link: bool) -> Device:
        """Return the device at `path` if it is the volume's.

        Raises:
            Absent: It is not, or nothing proves that it is.
            OSError: Nothing is at `path`.
        """
        real = path.resolve(strict=True)
        if not real.is_relative_to(self.directory.resolve()):
            raise Absent(f"{path} leads out of {self.directory}, to {real}")
        found = real.stat()
        if not stat.S_ISBLK(found.st_mode):
            raise Absent(f"{path} is not a block device")
        number = device_number(found)
        name = self._kernel_name(number)
        if name is None:
            raise Absent(f"{path} is device {number}, which the kernel does not have")
        known = self.serial_number(number)
        if known and known != nvme_serial(volume_id):
            raise Absent(f"{path} is {name}, whose serial number is {known}, not {nvme_serial(volume_id)}")
        model = _read_line(self._entry(number) / "device" / "model")
        if known and model != MODEL:
            raise Absent(f"{path} is {name}, a disk of model {model!r}, not {MODEL!r}")
        if not known and not _is_name_proof(name, path, by_link=by_link):
            raise Absent(f"{path} is {name}, which has no serial number to prove that it is the volume")
        size = int((self._entry(number) / "size").read_text()) * _SECTOR
        return Device(
            path=real,
            number=number,
            size=size,
            write_protected=self.is_write_protected(number),
            can_discard=_read_line(self._entry(number) / "queue" / "discard_max_bytes") not in {"", "0"},
        )

    def _disk_by_serial(self, wanted: str) -> str | None:
        """The kernel's name of the EBS disk with this serial number.

        With native NVMe multipath each path to the disk is a hidden disk with the same serial number, and without a
        device node (Linux, nvme_alloc_ns and GENHD_FL_HIDDEN).
        """
        for name in self._disks():
            disk = self.sysfs / "block" / name
            is_ebs = _read_line(disk / "device" / "serial") == wanted and _read_line(disk / "device" / "model") == MODEL
            if is_ebs and _read_line(disk / "hidden") != "1":
                return name
        return None

    def _disks(self) -> list[str]:
        """The kernel's names of all disks, as text: paths of a machine's 1,000 loop devices take much memory."""
        try:
            return sorted(os.listdir(self.sysfs / "block"))  # noqa: PTH208
        except OSError:
            return []

    def _entry(self, number: DeviceNumber) -> Path:
        return self.sysfs / "dev" / "block" / str(number)

    def _kernel_name(self, number: DeviceNumber) -> str | None:
        try:
            return self._entry(number).resolve(strict=True).name
        except OSError:
            return None

    def _loops(self) -> list[str]:
        return [name for name in self._disks() if name.startswith("loop")]

    def _is_backed_by(self, loop: str, number: DeviceNumber) -> bool:
        backing = Path(_read_line(self.sysfs / "block" / loop / "loop" / "backing_file"))
        # Other directories may be on a dead filesystem, where stat hangs.
        if backing.parent not in {self.directory, Path("/dev")}:
            return False
        try:
            found = backing.stat()
        except OSError:
            return False  # the device directory of another node, or a removed device
        return stat.S_ISBLK(found.st_mode) and device_number(found) == number

    def _is_xen_disk(self, number: DeviceNumber) -> bool:
        """Whether the kernel or this node's directory names the device as a Xen disk."""
        name = self._kernel_name(number)
        if name is None or name.startswith(_XEN_PREFIXES):
            return name is not None
        for path in self.directory.glob("xvd*"):
            with suppress(OSError):
                if not path.is_symlink() and device_number(path.stat()) == number:
                    return True
        return False

    def _links(self) -> list[Path]:
        return sorted((self.directory / "disk" / "by-id").glob(f"{_LINK}vol*"))

    def _serials_by_link(self) -> dict[DeviceNumber, str]:
        """The serial number in the name of each by-id link of this node, by the device that the link leads to."""
        serials: dict[DeviceNumber, str] = {}
        for link in self._links():
            if match := _VOLUME_SERIAL.match(link.name, len(_LINK)):
                try:
                    serials[device_number(link.stat())] = match[0]
                except OSError:
                    continue  # a dangling link: its device was removed
        return serials


def device_number(found: os.stat_result) -> DeviceNumber:
    """The number of the device that a device node stands for."""
    return DeviceNumber(os.major(found.st_rdev), os.minor(found.st_rdev))


def _is_name_proof(name: str, path: Path, *, by_link: bool) -> bool:
    """Whether the path at which a disk without a serial number was found proves that it is the volume's."""
    is_loop, is_xen_disk = name.startswith("loop"), name.startswith(_XEN_PREFIXES)
    return is_loop if by_link else is_xen_disk or (is_loop and path.name.startswith(_XEN_PREFIXES))


def _read_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip(" \0\n")
    except OSError:
        return ""
