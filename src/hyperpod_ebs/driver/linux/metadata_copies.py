"""Recognition of the copies of metadata that filesystems, partition tables, RAID and volume managers keep.

A copy that blkid does not look for proves that a device has lost only its start. The answer is for people: any block
that is not zero keeps a device from being formatted, recognised or not.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from hyperpod_ebs.driver.linux.superblock import ExtBackup

_SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a device that is not zero."""

    offset: int
    """Bytes from the start of the device."""
    data: bytes

    @property
    def first_byte(self) -> int:
        """The position on the device of the first byte that is not zero."""
        return self.offset + len(self.data) - len(self.data.lstrip(b"\0"))


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of metadata on a device."""

    kind: str
    where: str
    repair: str = ""
    """The command that repairs the device from the copy, without the device's path; empty if there is no such one."""

    def __str__(self) -> str:
        return f"{self.kind} {self.where}"


class Magic(NamedTuple):
    """How a copy begins."""

    at: int
    """Bytes from the start of a sector."""
    value: bytes
    kind: str
    repair: str = ""


MAGICS: Final = (
    Magic(0, b"XFSB", "a superblock of an XFS allocation group", "xfs_repair"),
    Magic(64, b"_BHRfS_M", "a superblock of btrfs", "btrfs rescue super-recover"),
    Magic(0, b"EFI PART", "a backup GPT header", "gdisk"),
    Magic(4, b" LVM2 x[5A%r0N*>", "LVM metadata", "pvck --repair"),
    Magic(0, b"LABELONE", "an LVM label", "pvck --repair"),
    Magic(0, (0xA92B4EFC).to_bytes(4, "little"), "a RAID superblock of mdadm", "mdadm --examine"),
    Magic(0, (0xA92B4EFC).to_bytes(4, "big"), "a RAID superblock of mdadm", "mdadm --examine"),
    Magic(0, b"SKUL\xba\xbe", "a second header of LUKS2", "cryptsetup repair"),
    Magic(0, (0x00BAB10C).to_bytes(8, "little"), "an uberblock of ZFS", "zdb -lu"),
    Magic(0, (0x00BAB10C).to_bytes(8, "big"), "an uberblock of ZFS", "zdb -lu"),
    Magic(24, bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef"), "a superblock of bcachefs", "bcachefs recover-super"),
    Magic(24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"), "a superblock of bcachefs", "bcachefs recover-super"),
    Magic(0, b"OCFSV2", "a backup superblock of OCFS2", "fsck.ocfs2 -r 1"),
    Magic(0, b"bluestore block device", "a label of Ceph BlueStore", "ceph-bluestore-tool show-label --dev"),
    Magic(3, b"NTFS    ", "a backup boot sector of NTFS"),
    Magic(0, b"H+\0\4", "an alternate volume header of HFS+"),
    Magic(0, b"\xde\x11\xde\x11", "a RAID header of DDF"),
)
"""Each format's magic number, from the definition of the format."""


def recognised_copies(blocks: Iterable[Block]) -> list[Copy]:
    """The first copy of each kind on the blocks, in their order."""
    first: dict[str, Copy] = {}
    for block in blocks:
        for copy in _copies(block):
            first.setdefault(copy.kind, copy)
    return list(first.values())


def _copies(block: Block) -> Iterator[Copy]:
    for start in range(0, len(block.data), _SECTOR):
        sector, offset = block.data[start : start + _SECTOR], block.offset + start
        for magic in MAGICS:
            if sector.startswith(magic.value, magic.at):
                yield Copy(magic.kind, f"at byte {offset}", magic.repair)
        if backup := ExtBackup.read(sector):
            yield _ext_copy(backup, offset)


def _ext_copy(backup: ExtBackup, offset: int) -> Copy:
    kind = f"a backup superblock of {backup.kind}"
    if start := backup.filesystem_start(offset):
        return Copy(kind, f"at byte {offset}, in a partition that begins at byte {start}")
    block = offset // backup.block_size
    return Copy(kind, f"in block {block} (byte {offset})", f"e2fsck -b {block} -B {backup.block_size}")
