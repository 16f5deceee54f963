"""Makes filesystems. Only ever called for contents that are `Blank` or `Unfinished`.

No force flag is given: mkfs then opens the device for itself alone and refuses what is
mounted; mkfs.xfs also refuses what already holds something. mkfs.ext4 does not, where it
has no terminal to ask at: so the device is claimed, and looked at once more, before.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from hyperpod_ebs.driver.linux import marker, system_errors
from hyperpod_ebs.driver.model.disk import Device
from hyperpod_ebs.driver.model.formatting import Formatting
from hyperpod_ebs.kit import command, files

DEADLINE: Final = 3600.0
"""Seconds. Lazy as below, 16 TiB takes seconds on a fast volume and minutes on a slow one."""

PROGRAMS: Final[Mapping[str, Sequence[str]]] = {
    # -m0: no blocks for root alone. Inode tables are cleared by the kernel later. The journal is not
    # cleared either: its blocks carry checksums seeded with its own UUID, so old ones never replay.
    # nodiscard: there is nothing to give back on a blank device, and 16 TiB of it takes long.
    "ext4": ("mkfs.ext4", "-q", "-m0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"),
    # -K: nodiscard, as above.
    "xfs": ("mkfs.xfs", "-q", "-K"),
}

LEGACY: Final[Mapping[str, Sequence[str]]] = {
    **PROGRAMS,
    # What kernels up to 5.4 cannot mount, or can only read: upstream's --legacy-xfs.
    "xfs": (*PROGRAMS["xfs"], "-m", "bigtime=0,inobtcount=0,reflink=0", "-i", "nrext64=0"),
}
"""The same, for old kernels."""


_FLAGS: Final[Mapping[str, Mapping[str, str]]] = {
    "ext4": {
        "blockSize": "-b {}",
        "inodeSize": "-I {}",
        "bytesPerInode": "-i {}",
        "numberOfInodes": "-N {}",
        "ext4ClusterSize": "-C {}",
        "ext4BigAlloc": "-O bigalloc",
        "ext4EncryptionSupport": "-O encrypt",
    },
    "xfs": {"blockSize": "-b size={}", "inodeSize": "-i size={}"},
}


def flags(filesystem: str, formatting: Formatting) -> list[str]:
    """What the program is told of how to make the filesystem, which can be made so."""
    return [word for key, value in formatting.said for word in _FLAGS[filesystem][key].format(value).split()]


async def make(device: Device, volume_id: str, program: Sequence[str], filesystem: str, lock: int) -> None:
    """Make it, so that being killed at any moment leaves what `contents` calls `Blank` or `Unfinished`.

    `program` makes `filesystem`; `lock` is the device's open file, see `linux.device_lock`.

    Raises:
        NotReady: mkfs refused, in its own words.
        Unavailable: The device is held, or does not answer.
    """
    with system_errors.translate(f"making {filesystem} on {device.path} of volume {volume_id}"):
        await files.off_loop(marker.begin_mkfs, device.path, device.size, volume_id, about=device.path)
        await command.run([*program, str(device.path)], deadline=DEADLINE, keep=[lock])
        await files.off_loop(marker.remove, device.path, device.size, volume_id, about=device.path)
