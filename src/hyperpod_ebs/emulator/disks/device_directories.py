"""The device directory of each node: what udev would create in the node's /dev.

On Nitro instances and HyperPod nodes, an EBS volume is an NVMe device whose serial number is
the volume's id without the dash. Udev creates a link named after that serial number, and a
rule of the AMI creates a link named after the attachment's device name. A loop device has no
serial number, so here only the link by id shows which volume a device is.

A Xen instance shows a volume as a disk that is named after the attachment's device name: /dev/xvdf
for /dev/xvdf and for /dev/sdf. That name alone says which volume the disk is.

A program that runs a node can bind-mount its device directory over the node's /dev, and add
other entries of a /dev, such as null, pts and shm. While the node exists, the emulator changes only
the entries of its attachments. When the node is deleted, the emulator deletes everything
except what is mounted there.
"""

import logging
import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.disks import mountinfo
from hyperpod_ebs.emulator.records import Attachment

log: Final = logging.getLogger(__name__)

_BY_ID: Final = "nvme-Amazon_Elastic_Block_Store_"

_BLOCK: Final = 0o060660


class DeviceDirectories:
    """The device directories of all nodes. Every method blocks and can be repeated."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, instance: str) -> Path:
        """The device directory of `instance`."""
        return self._root / instance / "dev"

    def usable(self) -> bool:
        """Whether devices in these directories can be opened: their filesystem is not mounted with nodev."""
        return not os.statvfs(self._root).f_flag & os.ST_NODEV

    def create(self, instance: str) -> None:
        """Create the device directory of `instance` if it does not exist."""
        (self.path(instance) / "disk" / "by-id").mkdir(mode=0o755, parents=True, exist_ok=True)

    def delete(self, instance: str) -> None:
        """Delete the device directory of `instance`, except mounts in it and their parent directories."""
        directory = self._root / instance
        if not (mounted := mountinfo.mount_points(directory)):
            shutil.rmtree(directory, ignore_errors=True)
            return
        _delete_except_mounted(directory, mounted)
        log.warning(
            "%s is deleted except for the mounts %s; after they are unmounted, the next start deletes the rest",
            directory,
            ", ".join(map(str, sorted(mounted))),
        )

    def reconcile(self, instances: Collection[str]) -> None:
        """Create missing device directories of `instances`, and delete all others."""
        self._root.mkdir(mode=0o755, exist_ok=True)
        for unknown in {entry.name for entry in self._root.iterdir()} - set(instances):
            self.delete(unknown)
        for instance in instances:
            self.create(instance)

    def add_device(self, attachment: Attachment, rdev: int) -> None:
        """Create the attachment's device, with the device number `rdev`, and its links."""
        self.create(attachment.instance)
        directory, name = self.path(attachment.instance), _disk_name(attachment)
        new = directory / f".{name}"
        new.unlink(missing_ok=True)
        os.mknod(new, _BLOCK, rdev)
        new.rename(directory / name)
        for link, target in _links(attachment).items():
            new.unlink(missing_ok=True)
            new.symlink_to(target)
            new.rename(directory / link)

    def remove_device(self, attachment: Attachment) -> None:
        """Remove the attachment's device and its links."""
        for name in (*_links(attachment), _disk_name(attachment)):
            (self.path(attachment.instance) / name).unlink(missing_ok=True)

    def device_number(self, attachment: Attachment) -> int | None:
        """The device number of the attachment's device; None if it has no device."""
        try:
            return (self.path(attachment.instance) / _disk_name(attachment)).stat().st_rdev
        except FileNotFoundError:
            return None


def _delete_except_mounted(directory: Path, mounted: Collection[Path]) -> None:
    """Delete `directory` except the `mounted` paths and their parent directories."""
    if directory in mounted:
        return
    for entry in os.scandir(directory):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            _delete_except_mounted(path, mounted)
        elif path not in mounted:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty: a mount is in it
        directory.rmdir()


def _disk_name(attachment: Attachment) -> str:
    """The kernel's name of the attachment's disk (EC2 user guide, Device names for volumes on Linux instances)."""
    if attachment.is_xen:
        return re.sub(r"^/dev/(xvd|sd)", "xvd", attachment.device)
    return f"nvme{attachment.unit}n1"


def _links(attachment: Attachment) -> dict[str, str]:
    """The links to the attachment's device, with their targets."""
    if attachment.is_xen:
        return {}
    nvme, by_id = _disk_name(attachment), f"disk/by-id/{_BY_ID}{attachment.volume.replace('-', '')}"
    return {
        by_id: f"../../{nvme}",
        f"{by_id}_1": f"../../{nvme}",
        attachment.device.removeprefix("/dev/"): nvme,
    }
