"""A node's own device directory: what udev would put into its /dev.

On Nitro machines and on HyperPod nodes an EBS volume is an NVMe device whose serial
is the volume's id without the dash; udev links it by that serial, and the AMI's rule
by the name that the attachment has. A loop device has no serial, so the link by id is
what tells here which volume a device is.
"""

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.records import Attachment

_BY_ID: Final = "nvme-Amazon_Elastic_Block_Store_"

_BLOCK: Final = 0o060660


class DeviceDirectories:
    """The device directories of all nodes; every call may be repeated, and blocks."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, instance: str) -> Path:
        """The device directory of `instance`."""
        return self._root / instance / "dev"

    def usable(self) -> bool:
        """Whether a device in them can be opened: their file system may forbid it (mount's nodev)."""
        return not os.statvfs(self._root).f_flag & os.ST_NODEV

    def make(self, instance: str) -> None:
        """Have a device directory for `instance`."""
        (self.path(instance) / "disk" / "by-id").mkdir(mode=0o755, parents=True, exist_ok=True)

    def drop(self, instance: str) -> None:
        """Have none."""
        shutil.rmtree(self._root / instance, ignore_errors=True)

    def keep(self, instances: Collection[str]) -> None:
        """Have one for each of `instances`, and no other."""
        self._root.mkdir(mode=0o755, exist_ok=True)
        for unknown in {entry.name for entry in self._root.iterdir()} - set(instances):
            self.drop(unknown)
        for instance in instances:
            self.make(instance)

    def show(self, attachment: Attachment, rdev: int) -> None:
        """Let the device number `rdev` be seen as the attachment's device."""
        self.make(attachment.instance)
        directory, node = self.path(attachment.instance), _node(attachment)
        new = directory / f".{node}"
        new.unlink(missing_ok=True)
        os.mknod(new, _BLOCK, rdev)
        new.rename(directory / node)
        for link, target in _links(attachment).items():
            new.unlink(missing_ok=True)
            new.symlink_to(target)
            new.rename(directory / link)

    def hide(self, attachment: Attachment) -> None:
        """Let it be seen no more."""
        for name in (*_links(attachment), _node(attachment)):
            (self.path(attachment.instance) / name).unlink(missing_ok=True)

    def shown(self, attachment: Attachment) -> int | None:
        """The device number that is seen as the attachment's device."""
        try:
            return (self.path(attachment.instance) / _node(attachment)).stat().st_rdev
        except FileNotFoundError:
            return None


def _node(attachment: Attachment) -> str:
    return f"nvme{attachment.unit}n1"


def _links(attachment: Attachment) -> dict[str, str]:
    """Each link to the node, and what it says."""
    node, by_id = _node(attachment), f"disk/by-id/{_BY_ID}{attachment.volume.replace('-', '')}"
    return {
        by_id: f"../../{node}",
        f"{by_id}_1": f"../../{node}",
        attachment.device.removeprefix("/dev/"): node,
    }
