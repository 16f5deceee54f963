"""Make filesystems, only on devices whose contents are `Blank` or `Unfinished`.

mkfs gets no force flag. Without one it opens the device exclusively and refuses a mounted device, and mkfs.xfs also
refuses a device that already holds something. Without a terminal to ask at, mkfs.ext4 does not refuse that. So the
driver first locks the device and reads it once more.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from hyperpod_ebs.driver.linux import marker, system_errors
from hyperpod_ebs.driver.model.disk import Device
from hyperpod_ebs.driver.model.formatting import Formatting
from hyperpod_ebs.kit import command, files

DEADLINE: Final = 3600.0
"""Seconds. With the lazy initialisation below, 16 TiB takes seconds on a fast volume and minutes on a slow one."""

PROGRAMS: Final[Mapping[str, Sequence[str]]] = {
    # -m0: no blocks reserved for root. lazy_itable_init: the kernel clears the inode tables later.
    # lazy_journal_init: the journal is not cleared; the checksums of its blocks are seeded with its own UUID, so old
    # blocks never replay. nodiscard: a blank device has nothing to discard, and discarding 16 TiB takes long.
    "ext4": ("mkfs.ext4", "-q", "-m0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"),
    # -K: nodiscard, as above.
    "xfs": ("mkfs.xfs", "-q", "-K"),
}

LEGACY: Final[Mapping[str, Sequence[str]]] = {
    **PROGRAMS,
    # Without the features that kernels up to 5.4 cannot mount, or mount only read-only: upstream's --legacy-xfs.
    "xfs": (*PROGRAMS["xfs"], "-m", "bigtime=0,inobtcount=0,reflink=0", "-i", "nrext64=0"),
}
"""The same programs, for kernels up to 5.4."""

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
    """The flags of mkfs for `formatting`, which this filesystem must support."""
    return [word for key, value in formatting.options for word in _FLAGS[filesystem][key].format(value).split()]


async def make_filesystem(device: Device, volume_id: str, program: Sequence[str], filesystem: str, lock: int) -> None:
    """Make a filesystem; a kill at any moment leaves contents that are `Blank` or `Unfinished`.

    `program` makes `filesystem`; `lock` is the device's locked descriptor, see `linux.device_lock`.

    Raises:
        NotReady: mkfs failed; the message quotes its output.
        Unavailable: Another program uses the device, or the device does not answer.
    """
    with system_errors.translate(f"make {filesystem} on {device.path} of volume {volume_id}"):
        await files.off_loop(marker.begin_mkfs, device.path, device.size, volume_id, about=device.path)
        await command.run([*program, str(device.path)], deadline=DEADLINE, keep=[lock])
        await files.off_loop(marker.remove, device.path, device.size, volume_id, about=device.path)
