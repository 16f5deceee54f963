"""A device that has lost its start is not blank while a copy of its metadata is intact.

Each filesystem and signature that this machine can make, and each whose place its definition gives, on a sparse file of
up to 1 TiB, of which up to 64 MiB at the start are then zero. `make fuzz` runs more examples.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hyperpod_ebs.driver.linux.contents import read_contents
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Blank, Contents, Device, DeviceNumber, Foreign, Remains
from hyperpod_ebs.kit import command
from tests.support.metadata_copies import LATE_COPIES

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30
XFS_KEYS: Final = ("agcount", "agsize", r"data\s+=\s+bsize")
VOLUME: Final = "vol-0123456789abcdef0"
DEADLINE: Final = 300.0
LARGEST_WITH_SMALL_BLOCKS: Final = {KIB: 16 * GIB, 2 * KIB: 128 * GIB}
"""mkfs.ext4 writes some kilobytes for each block group, of which a device with small blocks has many."""

BOUNDED: Final = settings(max_examples=max(10, settings.default.max_examples // 8) if settings.default else 10)

sizes = st.one_of(
    st.integers(512 * MIB // 4096, 8 * GIB // 4096).map(lambda blocks: blocks * 4096),
    st.integers(4, 1024).map(lambda gib: gib * GIB),
)
"""Any number of blocks, and the sizes that EBS volumes have."""

lost_starts = st.integers(16, 64 * MIB // 4096).map(lambda blocks: blocks * 4096)


@dataclass(frozen=True, slots=True)
class Program:
    """An mkfs with its arguments, except the device."""

    argv: Sequence[str]
    size: int
    """Bytes of the device."""


@st.composite
def ext_programs(draw: st.DrawFn) -> Program:
    kind = draw(st.sampled_from(["ext2", "ext3", "ext4"]))
    block = draw(st.sampled_from([KIB << shift for shift in range(7)]))
    features, extended = [], ["lazy_itable_init=1", "lazy_journal_init=1", "nodiscard"]
    backups = draw(st.sampled_from(["sparse_super", "sparse_super2", "all"]))
    flags = []
    size = min(draw(sizes), LARGEST_WITH_SMALL_BLOCKS.get(block, 1024 * GIB))
    if backups == "sparse_super2":
        features += ["sparse_super2", "^sparse_super", "^resize_inode"]
        if draw(st.booleans()):
            extended.append("num_backup_sb=1")
    elif backups == "all":
        features += ["^sparse_super", "^resize_inode"]
        size = min(size, 8 * GIB)
    elif draw(st.booleans()):
        features += ["meta_bg", "^resize_inode"]
    if kind == "ext4" and draw(st.booleans()):
        features.append("bigalloc")
        flags += ["-C", str(block << draw(st.integers(1, 8)))]
    if features:
        flags += ["-O", ",".join(features)]
    return Program([f"mkfs.{kind}", "-F", "-b", str(block), "-N", "1024", "-E", ",".join(extended), *flags], size)


@st.composite
def xfs_programs(draw: st.DrawFn) -> Program:
    block = draw(st.sampled_from([KIB << shift for shift in range(7)]))
    size = draw(sizes)
    flags = ["-b", f"size={block}", "-s", f"size={draw(st.sampled_from([512, 4096])) if block >= 4096 else 512}"]
    if draw(st.booleans()):
        flags += ["-d", f"agcount={draw(st.sampled_from([4, 8, 16]))}"]
    elif size % GIB == 0 and draw(st.booleans()):  # a volume that has grown since
        flags += ["-d", f"size={draw(st.integers(1, size // GIB))}g"]
    return Program(["mkfs.xfs", "-K", *flags], size)


def ext_copies(out: str, program: Program) -> list[int]:
    """The offsets of the backup superblocks that mkfs reports."""
    listed = re.search(r"backups stored on blocks:\s*([\d,\s]+)", out)
    block = int(program.argv[program.argv.index("-b") + 1])
    return [int(number) * block for number in re.findall(r"\d+", listed[1])] if listed else []


def xfs_copies(out: str) -> list[int]:
    """The offsets of the allocation groups that mkfs reports, except the first."""
    count, size, block = (int(found[1]) for found in (re.search(rf"{key}=(\d+)", out) for key in XFS_KEYS) if found)
    return [number * size * block for number in range(1, count)]


@contextmanager
def sparse_device(directory: Path, size: int) -> Iterator[Device]:
    """A sparse file; the driver reads it like a device."""
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        file.truncate(size)
        yield Device(path=Path(file.name), number=DeviceNumber(0, 0), size=size)


async def output_of_mkfs(program: Program, device: Device) -> str:
    """Run mkfs and return its output; give the example up if the options exclude one another."""
    made = await command.run([*program.argv, str(device.path)], ok=frozenset({0, 1}), deadline=DEADLINE)
    assume(made.code == 0)
    return made.out


async def contents_without_start(device: Device, lost: int) -> Contents:
    """What the driver reads when the first `lost` bytes are zero."""
    await command.run(["fallocate", "--punch-hole", "--length", str(lost), str(device.path)])
    return await read_contents(device, VOLUME)


@pytest.mark.requirement("data.format-only-blank")
@BOUNDED
@given(program=ext_programs(), lost=lost_starts)
async def test_an_ext_filesystem_without_its_start_is_not_blank(
    worker_directory: Path, program: Program, lost: int
) -> None:
    """Kernel, Documentation/filesystems/ext4/blockgroup.rst."""
    with sparse_device(worker_directory, program.size) as device:
        copies = ext_copies(await output_of_mkfs(program, device), program)
        assume(any(copy >= lost for copy in copies))

        answer = await contents_without_start(device, lost)

        assert isinstance(answer, Remains), answer
        assert re.search(r"a backup superblock of ext[234] in block \d+", answer.copies), answer
        if match := re.fullmatch(r"e2fsck -b (\d+) -B (\d+)", answer.repair):
            assert int(match[1]) * int(match[2]) in copies


@pytest.mark.requirement("data.format-only-blank")
@BOUNDED
@given(program=xfs_programs(), lost=lost_starts)
async def test_an_xfs_without_its_start_is_not_blank(worker_directory: Path, program: Program, lost: int) -> None:
    """Kernel, Documentation/filesystems/xfs: each allocation group begins with a superblock."""
    with sparse_device(worker_directory, program.size) as device:
        assume(any(copy >= lost for copy in xfs_copies(await output_of_mkfs(program, device))))

        answer = await contents_without_start(device, lost)

        assert isinstance(answer, Remains), answer
        assert "a superblock of an XFS allocation group" in answer.copies


@pytest.mark.requirement("data.format-only-blank")
@BOUNDED
@given(size=sizes, lost=lost_starts)
async def test_a_btrfs_without_its_start_is_not_blank(worker_directory: Path, size: int, lost: int) -> None:
    """btrfs-man5, "On-disk structures": superblocks at 64 KiB, 64 MiB and 256 GiB."""
    with sparse_device(worker_directory, size) as device:
        await command.run(["mkfs.btrfs", "-q", "-K", str(device.path)], deadline=DEADLINE)

        answer = await contents_without_start(device, lost)

        if lost > 64 * KIB:
            assert isinstance(answer, Remains)
            assert f"a superblock of btrfs at byte {64 * MIB}" in answer.copies
        else:
            assert answer == Foreign("btrfs")


@pytest.mark.requirement("data.format-only-blank")
@given(kind=st.sampled_from(sorted(LATE_COPIES)), size=sizes, lost=lost_starts)
@settings(max_examples=4 * BOUNDED.max_examples)
async def test_a_device_on_which_only_a_copy_is_left_is_not_blank(
    worker_directory: Path, kind: str, size: int, lost: int
) -> None:
    """The sources of tests/support/metadata_copies.py."""
    copies = LATE_COPIES[kind](size)
    assume(any(at >= lost for at in copies))
    with sparse_device(worker_directory, size) as device:
        with device.path.open("r+b", buffering=0) as file:
            for at, data in copies.items():
                os.pwrite(file.fileno(), data, at)

        answer = await contents_without_start(device, lost)

        assert isinstance(answer, Remains | Foreign), answer


@given(size=sizes)
@settings(max_examples=BOUNDED.max_examples)
async def test_a_device_that_was_never_written_is_blank(worker_directory: Path, size: int) -> None:
    with sparse_device(worker_directory, size) as device:
        assert await read_contents(device, VOLUME) == Blank()


@pytest.mark.requirement("data.format-only-blank")
async def test_a_device_that_cannot_be_read_to_its_end_is_not_blank(worker_directory: Path) -> None:
    """A read that ends early says nothing about the rest."""
    with sparse_device(worker_directory, GIB) as device:
        os.truncate(device.path, GIB - 2048)

        with pytest.raises(errors.Unavailable, match="cannot be read"):
            await read_contents(device, VOLUME)


@pytest.mark.requirement("data.format-only-blank")
async def test_the_last_sector_counts_although_the_size_is_no_multiple_of_a_block(worker_directory: Path) -> None:
    """GPT has its second header there (UEFI specification, 5.3.2)."""
    with sparse_device(worker_directory, GIB + 512) as device:
        with device.path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), b"a user's data", GIB)

        assert await read_contents(device, VOLUME) == Foreign(f"unrecognised data at byte {GIB}")
