"""The first and last bytes of a device, for each type of contents that blkid knows.

Each signature was written from the definition of its format. That it is right is proved by blkid, which recognises the
finished image: see the test that goes through the table.
"""

import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

Patches = Mapping[int, bytes]
"""Bytes by their offset; a negative offset counts from the end of the device."""

SIZE: Final = 64 * 2**20
"""Bytes of the device that a signature is written to."""

_SECTOR: Final = 512
_POLY_64: Final = 0x42F0E1EBA9EA3693
_POLY_32C: Final = 0x82F63B78
_LVM_SEED: Final = 0xF597A6CF


def _block(size: int, *patches: tuple[int, bytes]) -> bytes:
    block = bytearray(size)
    for offset, data in patches:
        block[offset : offset + len(data)] = data
    return bytes(block)


def _le(width: int, number: int) -> bytes:
    return number.to_bytes(width, "little")


def _be(width: int, number: int) -> bytes:
    return number.to_bytes(width, "big")


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLY_32C if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _crc64(data: bytes) -> int:
    crc = 2**64 - 1
    for byte in data:
        crc ^= byte << 56
        for _ in range(8):
            crc = (crc << 1 ^ (_POLY_64 if crc >> 63 else 0)) & 2**64 - 1
    return crc ^ 2**64 - 1


def _crc32(seed: int, data: bytes) -> int:
    """The reflected CRC-32 with initial value `seed`, not inverted at the end."""
    return zlib.crc32(data, seed ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _md_1_2() -> Patches:
    return {4096: _block(512, (0, _le(4, 0xA92B4EFC)), (4, _le(4, 1)), (16, b"u" * 16), (144, _le(8, 8)))}


def _via() -> Patches:
    body = _block(50, (0, _le(2, 0xAA55)), (2, b"\1"))
    return {-512: body + bytes([sum(body) & 0xFF])}


def _silicon() -> Patches:
    body = _block(0x13E, (0x60, _le(4, 0x2F000000)))
    total = sum(struct.unpack(f"<{len(body) // 2}H", body))
    return {-512: body + _le(2, -total & 0xFFFF)}


def _nvidia() -> Patches:
    body = bytearray(_block(120, (0, b"NVIDIA  "), (8, _le(4, 30))))
    body[12:16] = _le(4, -sum(struct.unpack("<30I", body)) & 0xFFFFFFFF)
    return {-1024: bytes(body)}


def _jmicron() -> Patches:
    body = bytearray(_block(128, (0, b"JM")))
    body[126:128] = _le(2, -sum(struct.unpack("<64H", body)) & 0xFFFF)
    return {-512: bytes(body)}


def _bcache() -> Patches:
    magic = bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")
    body = _block(200, (0, _le(8, 8)), (8, _le(8, 1)), (16, magic), (32, b"u" * 16))
    return {4096: _le(8, _crc64(body)) + body}


def _lvm2() -> Patches:
    body = _block(_SECTOR - 20, (0, _le(4, 32)), (4, b"LVM2 001"), (12, b"p" * 32))
    return {512: b"LABELONE" + _le(8, 1) + _le(4, _crc32(_LVM_SEED, body)) + body}


def _stratis() -> Patches:
    body = _block(
        508, (0, b"!Stra0tis\x86\xff\x02^\x41rh"), (16, _le(8, SIZE // 512)), (28, b"p" * 32), (60, b"d" * 32)
    )
    return {512: _le(4, _crc32c(body)) + body}


def _bitlocker() -> Patches:
    boot = _block(512, (0, b"\xeb\x58\x90-FVE-FS-"), (0xB0, _le(8, 0x10000)), (0xB8, _le(8, 0)), (0xC0, _le(8, 0)))
    return {0: boot, 0x10000: b"-FVE-FS-" + _le(2, 64) + _le(2, 2)}


def _vfat() -> Patches:
    boot = _block(
        512,
        (0, b"\xeb\x58\x90mkfs.fat"),
        (11, _le(2, 512) + b"\4" + _le(2, 4) + b"\2" + _le(2, 512) + _le(2, 0) + b"\xf8" + _le(2, 128)),
        (24, _le(2, 32) + _le(2, 64) + _le(4, 0) + _le(4, SIZE // 512)),
        (36, b"\x80\0\x29" + b"abcdNO NAME    FAT16   "),
        (510, b"\x55\xaa"),
    )
    return {0: boot}


def _ntfs() -> Patches:
    boot = _block(
        512,
        (0, b"\xeb\x52\x90NTFS    "),
        (11, _le(2, 512) + b"\x08"),
        (21, b"\xf8"),
        (40, _le(8, SIZE // 512 - 1) + _le(8, 4) + _le(8, 8) + b"\xf6\0\0\0\1"),
        (72, b"serialno"),
        (510, b"\x55\xaa"),
    )
    return {
        0: boot,
        4 * 4096: _block(1024, (0, b"FILE")),
        4 * 4096 + 3 * 1024: _block(1024, (0, b"FILE"), (20, _le(2, 56)), (56, _le(4, 0xFFFFFFFF))),
    }


def _exfat() -> Patches:
    boot = _block(
        512,
        (0, b"\xeb\x76\x90EXFAT   "),
        (72, _le(8, SIZE // 512) + _le(4, 128) + _le(4, 128) + _le(4, 256) + _le(4, 10000) + _le(4, 2)),
        (100, b"abcd" + _le(2, 0x100) + _le(2, 0) + b"\x09\x03\x01\x80"),
        (510, b"\x55\xaa"),
    )
    sectors = boot + bytes(512 * 10)
    sum_ = 0
    for index, byte in enumerate(sectors):
        if index not in {106, 107, 112}:
            sum_ = ((sum_ << 31 | sum_ >> 1) + byte) & 0xFFFFFFFF
    return {0: sectors + _le(4, sum_) * 128}


def _ufs() -> Patches:
    return {8192: _block(2048, (1372, _le(4, 0x00011954)))}


def _nilfs2() -> Patches:
    block = bytearray(
        _block(
            1024,
            (6, _le(2, 0x3434)),
            (8, _le(2, 280)),
            (12, _le(4, 0)),
            (0, _le(4, 2)),
            (24, _le(8, 8)),
            (32, _le(8, SIZE)),
            (152, b"u" * 16),
        )
    )
    block[16:20] = _le(4, _crc32(0, bytes(block[:280])))
    return {1024: bytes(block)}


def _zfs() -> Patches:
    label = {0x20000 + index * 1024: struct.pack("<QQQ", 0x00BAB10C, 28, index + 1) for index in range(8)}
    second = {offset + 0x40000: data for offset, data in label.items()}
    return {**label, **second}


def _udf() -> Patches:
    descriptors = {
        32768 + index * 2048: b"\0" + name + b"\1" for index, name in enumerate((b"BEA01", b"NSR02", b"TEA01"))
    }
    tag = _block(16, (0, _le(2, 2)), (2, _le(2, 2)), (12, _le(4, 256)))
    anchor = _block(512, (0, tag), (16, _le(4, 2048 * 4) + _le(4, 260)))
    return {
        **descriptors,
        256 * 2048: anchor,
        260 * 2048: _block(512, (0, _le(2, 1)), (12, _le(4, 260))),
        261 * 2048: _block(512, (0, _le(2, 8)), (12, _le(4, 261))),
    }


def _hfs() -> Patches:
    return {1024: _block(162, (0, b"BD"), (14, _be(2, 3)), (18, _be(2, 100)), (20, _be(4, 4096)), (36, b"\4name"))}


def _hfsplus() -> Patches:
    return {
        1024: _block(512, (0, b"H+"), (2, _be(2, 4)), (40, _be(4, 4096)), (44, _be(4, SIZE // 4096)), (80, b"volumeid"))
    }


def _jfs() -> Patches:
    return {
        32768: _block(
            184,
            (0, b"JFS1"),
            (4, _le(4, 1)),
            (8, _le(8, SIZE // 512)),
            (16, _le(4, 4096)),
            (20, _le(2, 12)),
            (22, _le(2, 3)),
            (24, _le(4, 512)),
            (28, _le(2, 9)),
            (136, b"u" * 16),
        )
    }


def _hpfs() -> Patches:
    boot = _block(
        512, (0, b"\xeb\x10\x90IBM 20.0"), (38, b"\x28"), (39, b"abcd"), (54, b"HPFS    "), (510, b"\x55\xaa")
    )
    return {
        0: boot,
        0x2000: _le(4, 0xF995E849) + _le(4, 0xFA53E9C5) + b"\2\2",
        0x2200: _le(4, 0xF9911849) + _le(4, 0xFA5229C5),
    }


def _minix() -> Patches:
    return {1024: struct.pack("<HHHHHHIHHI", 5000, 8000, 2, 1, 170, 0, 7 * 1024 * 1024, 0x138F, 1, 0)}


def _xfs_log() -> Patches:
    return {
        0: _block(
            512,
            (0, _be(4, 0xFEEDBABE)),
            (4, _be(4, 1)),
            (8, _be(4, 2)),
            (12, _be(4, 512)),
            (300, _be(4, 1)),
            (304, b"u" * 16),
            (320, _be(4, 32768)),
        )
    }


def _exfs() -> Patches:
    return {
        0: _block(
            512,
            (0, b"EXFS"),
            (4, _be(4, 4096)),
            (8, _be(8, SIZE // 4096)),
            (32, b"u" * 16),
            (80, _be(4, 1)),
            (84, _be(4, SIZE // 4096)),
            (88, _be(4, 1)),
            (96, _be(4, 1000)),
            (100, _be(2, 0xB4A4)),
            (102, _be(2, 512)),
            (104, _be(2, 256)),
            (106, _be(2, 16)),
            (120, bytes([12, 9, 8, 4, 14])),
            (127, b"\x19"),
        )
    }


def _ext4dev() -> Patches:
    return {
        1024: _block(
            1024,
            (0, _le(4, 1024)),
            (4, _le(4, 65536)),
            (32, _le(4, 8192)),
            (40, _le(4, 1024)),
            (56, _le(2, 0xEF53)),
            (76, _le(4, 1)),
            (84, _le(4, 11)),
            (96, _le(4, 0x40)),
            (352, _le(4, 4)),
        )
    }


def _befs() -> Patches:
    block = _block(
        512,
        (32, b"1SFBEGIB" + _le(4, 1024) + _le(4, 10)),
        (68, _le(4, 0xDD121031)),
        (112, _le(4, 0x15B6830E) + _le(4, 0) + _le(2, 8) + _le(2, 1)),
    )
    return {512: block, 8192: _block(1024, (0, _le(4, 0x3BBE0AD9)))}


def _mpool() -> Patches:
    body = b"mpoolDev" + b"name".ljust(32, b"\0") + b"p" * 16 + _le(2, 1) + _le(4, 1)
    return {0: body + _le(4, _crc32c(body))}


def _gpt() -> Patches:
    entries = _block(
        128 * 128, (0, bytes.fromhex("af3dc60f838472478e793d69d8477de4") + b"p" * 16 + _le(8, 2048) + _le(8, 4095))
    )
    last = SIZE // 512 - 1
    header = bytearray(
        _block(
            92,
            (0, b"EFI PART"),
            (8, _le(4, 0x10000) + _le(4, 92)),
            (24, _le(8, 1) + _le(8, last) + _le(8, 34) + _le(8, last - 33)),
            (56, b"g" * 16),
            (72, _le(8, 2) + _le(4, 128) + _le(4, 128) + _le(4, zlib.crc32(entries))),
        )
    )
    header[16:20] = _le(4, zlib.crc32(bytes(header)))
    protective = _block(512, (446, b"\0\0\2\0\xee\xff\xff\xff" + _le(4, 1) + _le(4, last)), (510, b"\x55\xaa"))
    return {0: protective, 512: bytes(header), 1024: entries}


def _dos() -> Patches:
    return {
        0: _block(
            512, (440, b"abcd"), (446, b"\x80\0\2\0\x83\xff\xff\xff" + _le(4, 2048) + _le(4, 4096)), (510, b"\x55\xaa")
        )
    }


def _sun() -> Patches:
    label = bytearray(
        _block(
            512,
            (128, _be(4, 1)),
            (140, _be(2, 8)),
            (142, _be(2, 4)),
            (187, b"\0"),
            (508, _be(2, 0xDABE)),
            (188, _be(4, 0x600DDEEE)),
        )
    )
    checksum = 0
    for (word,) in struct.iter_unpack(">H", bytes(label[:510])):
        checksum ^= word
    label[510:512] = _be(2, checksum)
    return {0: bytes(label)}


def _sgi() -> Patches:
    label = bytearray(_block(512, (0, _be(4, 0x0BE5A941))))
    label[504:508] = _be(4, -sum(struct.unpack(">128I", label)) & 0xFFFFFFFF)
    return {0: bytes(label)}


PARTITION_TABLES: Final[Mapping[str, Callable[[], Patches]]] = {
    "gpt": _gpt,
    "dos": _dos,
    "sun": _sun,
    "sgi": _sgi,
    "mac": lambda: {
        0: b"ER" + _be(2, 512),
        512: _block(512, (0, b"PM"), (4, _be(4, 1)), (8, _be(4, 1)), (12, _be(4, 63)), (48, b"Apple_partition_map")),
    },
}

SIGNATURES: Final[Mapping[str, Callable[[], Patches]]] = {
    "linux_raid_member": _md_1_2,
    "ddf_raid_member": lambda: {-512: _block(512, (0, _be(4, 0xDE11DE11)), (8, b"guid"))},
    "isw_raid_member": lambda: {-1024: b"Intel Raid ISM Cfg Sig. 1.0.00"},
    "lsi_mega_raid_member": lambda: {-512: b"$XIDE$"},
    "via_raid_member": _via,
    "silicon_medley_raid_member": _silicon,
    "nvidia_raid_member": _nvidia,
    "promise_fasttrack_raid_member": lambda: {-63 * 512: b"Promise Technology, Inc."},
    "hpt45x_raid_member": lambda: {-11 * 512: _le(4, 0x5A7816F3)},
    "hpt37x_raid_member": lambda: {4608: _block(64, (32, _le(4, 0x5A7816F0)))},
    "adaptec_raid_member": lambda: {-512: _block(512, (0, _be(4, 0x37FC4D1E)), (256, b"DPTM"))},
    "jmicron_raid_member": _jmicron,
    "bcache": _bcache,
    "ceph_bluestore": lambda: {0: b"bluestore block device\n"},
    "drbd": lambda: {-4096: _block(4096, (60, _be(4, 0x8374026B)), (64, _be(4, 4096)))},
    "drbdmanage_control_volume": lambda: {0: b"$DRBDmgr=q\n" + b"0" * 32 + b"\n"},
    "drbdproxy_datalog": lambda: {0: b"DRBDdlh*" + _le(8, 1)},
    "LVM2_member": _lvm2,
    "LVM1_member": lambda: {0: b"HM" + _le(2, 1)},
    "DM_snapshot_cow": lambda: {0: b"SnAp" + _le(4, 1) + _le(4, 1)},
    "DM_verity_hash": lambda: {0: b"verity\0\0" + _le(4, 1)},
    "DM_integrity": lambda: {0: b"integrt\0\1"},
    "crypto_LUKS": lambda: {0: b"LUKS\xba\xbe" + _be(2, 1)},
    "VMFS_volume_member": lambda: {0x100000: b"\x0d\xd0\x01\xc0"},
    "VMFS": lambda: {0x200000: b"\x5e\xf1\xab\x2f"},
    "ubi": lambda: {0: b"UBI#\1"},
    "vdo": lambda: {0: b"dmvdo001"},
    "stratis": _stratis,
    "BitLocker": _bitlocker,
    "vfat": _vfat,
    "swsuspend": lambda: {0xFF6: b"S1SUSPEND\0"},
    "xfs_external_log": _xfs_log,
    "exfs": _exfs,
    "ext4dev": _ext4dev,
    "reiserfs": lambda: {0x10000: _block(200, (12, _le(4, 0xFFFF)), (44, _le(2, 4096)), (52, b"ReIsEr2Fs"))},
    "reiser4": lambda: {0x10000: b"ReIsEr4" + bytes(9)},
    "jfs": _jfs,
    "udf": _udf,
    "iso9660": lambda: {0x8000: b"\1CD001\1"},
    "zfs_member": _zfs,
    "hfsplus": _hfsplus,
    "hfs": _hfs,
    "ufs": _ufs,
    "hpfs": _hpfs,
    "sysv": lambda: {1024 - 512: _block(512, (504, _le(4, 0xFD187E20)), (508, _le(4, 2)))},
    "xenix": lambda: {2048: b"\x2b\x55\x44"},
    "ntfs": _ntfs,
    "ReFS": lambda: {0: b"\0\0\0ReFS\0"},
    "cramfs": lambda: {0: b"\x45\x3d\xcd\x28" + _le(4, 4096) + bytes(56)},
    "romfs": lambda: {0: b"-rom1fs-" + _be(4, 1024)},
    "minix": _minix,
    "gfs": lambda: {
        0x10000: _be(4, 0x01161970) + _be(4, 1) + bytes(8) + _be(4, 100) + bytes(4) + _be(4, 1309) + _be(4, 1401)
    },
    "gfs2": lambda: {
        0x10000: _be(4, 0x01161970) + _be(4, 1) + bytes(8) + _be(4, 100) + bytes(4) + _be(4, 1801) + _be(4, 1900)
    },
    "ocfs": lambda: {0: _le(4, 2) + _le(4, 9), 8192: b"OracleCFS"},
    "ocfs2": lambda: {1024: b"OCFSV2" + bytes(500)},
    "oracleasm": lambda: {32: b"ORCLDISK"},
    "vxfs": lambda: {1024: _le(4, 0xA501FCF5) + _le(4, 4)},
    "squashfs": lambda: {0: _block(96, (0, b"hsqs"), (28, _le(2, 4)))},
    "squashfs3": lambda: {0: _block(96, (0, b"sqsh"), (28, _be(2, 3)))},
    "nss": lambda: {4096: b"SPB5"},
    "ubifs": lambda: {0: _le(4, 0x06101831)},
    "bfs": lambda: {0: _le(4, 0x1BADFACE)},
    "befs": _befs,
    "nilfs2": _nilfs2,
    "exfat": _exfat,
    "f2fs": lambda: {1024: _le(4, 0xF2F52010) + _le(2, 1) + _le(2, 14)},
    "mpool": _mpool,
    "apfs": lambda: {0: _block(4096, (24, _le(2, 1)), (32, b"NXSB"), (36, _le(4, 4096)))},
    "zonefs": lambda: {0: _le(4, 0x5A4F4653)},
    "erofs": lambda: {1024: _le(4, 0xE0F5E1E2) + bytes(8) + b"\x0c"},
}

MADE_BY_MKFS: Final[Mapping[str, tuple[str, ...]]] = {
    "swap": ("mkswap",),
    "ext2": ("mkfs.ext2", "-q"),
    "ext3": ("mkfs.ext3", "-q"),
    "ext4": ("mkfs.ext4", "-q"),
    "jbd": ("mke2fs", "-q", "-O", "journal_dev"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
}

NOT_MADE: Final[Mapping[str, str]] = {
    "bcachefs": "since util-linux 2.39; no blkid that knows it was available to confirm an image",
    "cs_fvault2": "since util-linux 2.39; no blkid that knows it was available to confirm an image",
}
"""Types without an image that a newer blkid knows, with the reason."""


def write(image: Path, patches: Patches) -> None:
    """Write the bytes into an image, which stays sparse."""
    with image.open("r+b") as file:
        for offset, data in patches.items():
            file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
            file.write(data)
