"""Copies of metadata that a format keeps besides the start of the device, as the format's definition places them.

They are for formats whose own programs are not on every machine. Each copy is only as complete as it must be to be
recognised by its magic number.
"""

from collections.abc import Callable, Mapping
from typing import Final

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30

Copies = Mapping[int, bytes]
"""The bytes of each copy by their offset from the start of the device."""


def _le(width: int, number: int) -> bytes:
    return number.to_bytes(width, "little")


def _zfs(size: int) -> Copies:
    end = size // (256 * KIB) * 256 * KIB
    uberblock = _le(8, 0x00BAB10C) + _le(8, 28)
    return {end - 512 * KIB + 128 * KIB: uberblock, end - 256 * KIB + 128 * KIB: uberblock}


def _bcachefs(size: int, bucket: int) -> Copies:
    magic = bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef")
    return {(size - MIB) // bucket * bucket: _le(8, 1) + bytes(16) + magic}


def _luks2(header: int) -> Callable[[int], Copies]:
    return lambda _size: {header: b"SKUL\xba\xbe\0\2"}


LATE_COPIES: Final[Mapping[str, Callable[[int], Copies]]] = {
    "gpt with sectors of 512 bytes": lambda size: {size - 512: b"EFI PART\0\0\1\0"},
    "gpt with sectors of 4096 bytes": lambda size: {size - 4096: b"EFI PART\0\0\1\0"},
    "mdadm 0.90": lambda size: {size // (64 * KIB) * 64 * KIB - 64 * KIB: _le(4, 0xA92B4EFC)},
    "mdadm 0.90, big-endian": lambda size: {size // (64 * KIB) * 64 * KIB - 64 * KIB: bytes.fromhex("a92b4efc")},
    "mdadm 1.0": lambda size: {(size // 512 - 16) // 8 * 8 * 512: _le(4, 0xA92B4EFC) + _le(4, 1)},
    "lvm2 with two metadata areas": lambda size: {(size - MIB) // MIB * MIB: b"\1\2\3\4 LVM2 x[5A%r0N*>"},
    "zfs": _zfs,
    "bcachefs with buckets of 128 KiB": lambda size: _bcachefs(size, 128 * KIB),
    "bcachefs with buckets of 2 MiB": lambda size: _bcachefs(size, 2 * MIB),
    "nilfs2": lambda size: {size // 4096 * 4096 - 4096: bytes(6) + _le(2, 0x3434)},
    "ntfs": lambda size: {size - 512: b"\xeb\x52\x90NTFS    "},
    "hfs+": lambda size: {size - 1024: b"H+\0\4"},
    "udf": lambda size: {size // 2048 * 2048 - 257 * 2048: _le(2, 2) + _le(2, 2)},
    "ddf raid": lambda size: {size - 512: bytes.fromhex("de11de11")},
    "drbd": lambda size: {size // 4096 * 4096 - 4096: bytes(60) + bytes.fromhex("8374026b")},
    "btrfs": lambda size: {at: bytes(64) + b"_BHRfS_M" for at in (64 * MIB, 256 * GIB) if at < size},
    "ocfs2": lambda size: {at: b"OCFSV2" for at in (GIB << 2 * power for power in range(6)) if at < size},
    "ceph bluestore": lambda size: {
        at: b"bluestore block device\n" for at in (GIB * 10**power for power in range(4)) if at < size
    },
    **{f"luks2 with headers of {16 << shift} KiB": _luks2(16 * KIB << shift) for shift in range(9)},
}
"""By the format: the copies on a device of a size in bytes.

GPT: UEFI specification, 5.3.2. mdadm: md(4) and the kernel's md_p.h. LVM2: lib/format_text/layout.h. LUKS2: LUKS2
On-Disk Format Specification, 2.4. ZFS: ZFS On-Disk Specification, 1.2. The others: the kernel's source; OCFS2 and
bcachefs: also their tools'; Ceph: BlueStore's bdev_label_multi.
"""
