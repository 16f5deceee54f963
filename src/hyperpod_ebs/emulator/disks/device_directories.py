"""A node's own device directory: what udev would put into its /dev.

On Nitro machines and on HyperPod nodes an EBS volume is an NVMe device whose serial
is the volume's id without the dash; udev links it by that serial, and the AMI's rule
by the name that the attachment has. A loop device has no serial, so the link by id is
what tells here which volume a device is.

Whoever runs the node may bind its directory over the node's /dev and keep there what else
a machine has: null, pts, shm. Of a node that lives only the attachments' own entries are
ever touched; when it goes all goes, but for what is mounted there.
"""

import logging
import os
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
        """Have none; what somebody has mounted in it stays, with the way to it."""
        directory = self._root / instance
        if not (mounted := mountinfo.under(directory)):
            shutil.rmtree(directory, ignore_errors=True)
            return
        _clear(directory, mounted)
        log.warning("%s stays: mounted in it are %s", directory, ", ".join(map(str, sorted(mounted))))

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


def _clear(directory: Path, mounted: Collection[Path]) -> None:
    """Remove `directory` as far as nothing in it is mounted."""
    if directory in mounted:
        return
    for entry in os.scandir(directory):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            _clear(path, mounted)
        elif path not in mounted:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # something mounted is in it
        directory.rmdir()


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
