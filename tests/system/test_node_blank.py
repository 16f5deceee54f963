"""Nothing but a blank device is ever formatted: shown with every signature that this machine's blkid knows."""

import asyncio
import fcntl
import os
import zlib
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest

from hyperpod_ebs.driver.linux import blkid, device_lock, marker, mkfs
from hyperpod_ebs.driver.linux.superblock import Ext
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Capability, Mount
from hyperpod_ebs.driver.model.disk import Blank, Filesystem, Unfinished
from hyperpod_ebs.driver.mounts.stage import Staging, stage, unstage
from hyperpod_ebs.kit import command
from tests.support import blkid_signatures
from tests.support.loop_device_node import GIB, OTHER, VOLUME, LoopNode, mounts_at

pytestmark = pytest.mark.root

FILESYSTEMS = ("ext4", "xfs")
MIB = 2**20
LARGE_ENOUGH_FOR_XFS = 512 * MIB


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[LoopNode]:
    async with LoopNode.running(tmp_path) as running:
        yield running


def wanting(node: LoopNode, filesystem: str, volume_id: str = VOLUME) -> Staging:
    capability = Capability(Mount(filesystem), AccessMode.SINGLE_NODE_WRITER)
    return Staging(volume_id=volume_id, target=node.staging(volume_id), capability=capability)


def digest(image: Path) -> int:
    return zlib.crc32(image.read_bytes())


async def known() -> set[str]:
    return set((await command.run(["blkid", "-k"])).out.split())


async def test_every_signature_that_blkid_knows_is_tried_here() -> None:
    """Ours: blkid -k lists them; one that has no image is named with the reason."""
    made = {*blkid_signatures.SIGNATURES, *blkid_signatures.MADE_BY_MKFS}

    assert await known() <= made | set(blkid_signatures.NOT_MADE)


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize("kind", blkid_signatures.SIGNATURES)
async def test_a_device_with_a_signature_is_left_as_it_is(node: LoopNode, kind: str) -> None:
    """Ours: no mkfs on a device not proved blank."""
    if kind not in await known():
        pytest.skip("this blkid does not know it")
    await node.attach(size=blkid_signatures.SIZE)
    blkid_signatures.write(node.image(), blkid_signatures.SIGNATURES[kind]())
    before = digest(node.image())

    tags = await blkid.found(node.loops[VOLUME])
    assert tags is not None
    assert tags["TYPE"] == kind
    for filesystem in FILESYSTEMS:
        with pytest.raises(errors.NotReady, match=rf"holds {kind}.*, not {filesystem}"):
            await stage(node.host, wanting(node, filesystem))

    assert digest(node.image()) == before
    assert not mounts_at(node.staging())


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize("kind", blkid_signatures.PARTITION_TABLES)
async def test_a_device_with_a_partition_table_is_left_as_it_is(node: LoopNode, kind: str) -> None:
    """Ours: partitions are somebody's, even with nothing in them."""
    await node.attach(size=blkid_signatures.SIZE)
    blkid_signatures.write(node.image(), blkid_signatures.PARTITION_TABLES[kind]())
    before = digest(node.image())

    for filesystem in FILESYSTEMS:
        with pytest.raises(errors.NotReady, match=rf"a partition table \({kind}\), not {filesystem}"):
            await stage(node.host, wanting(node, filesystem))

    assert digest(node.image()) == before


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize("kind", blkid_signatures.MADE_BY_MKFS)
async def test_what_another_program_made_is_left_as_it_is(node: LoopNode, kind: str) -> None:
    """Ours."""
    loop = await node.attach(size=LARGE_ENOUGH_FOR_XFS)
    await command.run([*blkid_signatures.MADE_BY_MKFS[kind], str(loop)])
    before = digest(node.image())

    tags = await blkid.found(loop)
    assert tags is not None
    assert tags["TYPE"] == kind
    for filesystem in set(FILESYSTEMS) - {kind}:
        with pytest.raises(errors.NotReady, match=rf"holds {kind}, not {filesystem}"):
            await stage(node.host, wanting(node, filesystem))

    assert digest(node.image()) == before


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize("at", [0, 5000, MIB, 2 * MIB, 4 * MIB, -0x181E00, -600, -512 * 1024])
async def test_raw_data_is_left_as_it_is(node: LoopNode, at: int) -> None:
    """Ours: a database on a raw volume has no signature."""
    await node.attach(size=blkid_signatures.SIZE)
    blkid_signatures.write(node.image(), {at: b"somebody's data"})
    before = digest(node.image())

    with pytest.raises(errors.NotReady, match="data that no filesystem known here explains"):
        await stage(node.host, wanting(node, "ext4"))

    assert digest(node.image()) == before


@pytest.mark.requirement("data.format-only-blank")
async def test_a_device_that_does_not_read_is_not_blank(node: LoopNode) -> None:
    """Ours: blkid's exit code is the same for both."""
    await node.attach()
    device = await node.host.device(VOLUME)
    os.truncate(node.image(), 0)

    with pytest.raises(errors.Unavailable):
        await node.host.contents(device, VOLUME)

    assert node.image().stat().st_size == 0


@pytest.mark.requirement("data.format-only-blank")
async def test_a_device_that_another_program_holds_is_not_formatted(node: LoopNode) -> None:
    """Ours: an mkfs of a killed predecessor may still run."""
    loop = await node.attach()
    held = os.open(loop, os.O_RDONLY | os.O_EXCL)

    try:
        with pytest.raises(errors.Unavailable, match="held by another program"):
            await stage(node.host, wanting(node, "ext4"))
    finally:
        os.close(held)

    await stage(node.host, wanting(node, "ext4"))
    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("data.killed-mkfs-heals")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_an_mkfs_that_is_killed_at_any_moment_heals(node: LoopNode, filesystem: str) -> None:
    """Ours: kill -9 of the node leaves nothing that the next one cannot finish."""
    await node.attach()
    device = await node.host.device(VOLUME)
    marker.begin_mkfs(device.path, device.size, VOLUME)
    assert await node.host.contents(device, VOLUME) == Unfinished()  # killed before mkfs did anything

    for moment in range(1, 25):
        marker.begin_mkfs(device.path, device.size, VOLUME)
        with suppress(command.CommandTimedOut):
            await command.run([*mkfs.PROGRAMS[filesystem], str(device.path)], deadline=moment / 1000)
        left = await node.host.contents(device, VOLUME)
        if isinstance(left, Filesystem):  # it had ended by then, sooner on a busy machine
            assert left.marked_unfinished
            break
        assert isinstance(left, Unfinished)

    await stage(node.host, wanting(node, filesystem))
    (node.staging() / "kept").write_text("data")
    await unstage(node.host, VOLUME, node.staging())
    after = await node.host.contents(device, VOLUME)
    assert isinstance(after, Filesystem)
    assert (after.marked_unfinished, after.damaged) == (False, False)
    await stage(node.host, wanting(node, filesystem))
    assert (node.staging() / "kept").read_text() == "data"


@pytest.mark.requirement("data.killed-mkfs-heals")
@pytest.mark.parametrize("wanted", FILESYSTEMS)
async def test_an_unfinished_mkfs_of_the_other_filesystem_heals_too(node: LoopNode, wanted: str) -> None:
    """Ours: the class may have been changed in between."""
    (other,) = set(FILESYSTEMS) - {wanted}
    await node.attach()
    device = await node.host.device(VOLUME)
    marker.begin_mkfs(device.path, device.size, VOLUME)
    await command.run([*mkfs.PROGRAMS[other], str(device.path)])
    # What a kill right before the end leaves: ext4 has no superblock yet, XFS one in progress.
    with device.path.open("r+b", buffering=0) as raw:
        start = bytearray(raw.read(4096))
        if other == "xfs":
            start[126] = 1
        else:
            start[1024:2048] = bytes(1024)
        raw.seek(0)
        raw.write(start)
    assert await node.host.contents(device, VOLUME) == Unfinished()

    await stage(node.host, wanting(node, wanted))

    assert mounts_at(node.staging())[-1].filesystem == wanted


async def test_a_complete_filesystem_is_not_formatted_though_the_note_still_stands(node: LoopNode) -> None:
    """Ours: a kill between the end of mkfs and the removal of the note."""
    await node.attach()
    device = await node.host.device(VOLUME)
    marker.begin_mkfs(device.path, device.size, VOLUME)
    await command.run([*mkfs.PROGRAMS["ext4"], "-U", "11111111-2222-3333-4444-555555555555", str(device.path)])

    await stage(node.host, wanting(node, "ext4"))

    tags = await blkid.found(node.loops[VOLUME])
    assert tags is not None
    assert tags["UUID"] == "11111111-2222-3333-4444-555555555555"
    await unstage(node.host, VOLUME, node.staging())
    found = await node.host.contents(device, VOLUME)
    assert isinstance(found, Filesystem)
    assert not found.marked_unfinished


@pytest.mark.requirement("data.format-only-blank")
async def test_a_filesystem_that_was_made_in_between_is_not_overwritten(node: LoopNode) -> None:
    """Ours: an orphaned mkfs may end between the look at the device and the claim to it."""
    loop = await node.attach()
    device = await node.host.device(VOLUME)
    assert await node.host.contents(device, VOLUME) == Blank()
    await command.run(["mkfs.ext4", "-q", str(loop)])

    with pytest.raises(errors.Unavailable):
        await node.host.format(device, VOLUME, "ext4")

    with loop.open("rb") as raw:
        assert Ext.read(raw.read(4096)) is not None


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_raw_data_that_was_written_in_between_is_not_overwritten(node: LoopNode, filesystem: str) -> None:
    """Ours: mkfs.ext4 asks nobody whether it may, where it has no terminal to ask at."""
    await node.attach(size=blkid_signatures.SIZE)
    device = await node.host.device(VOLUME)
    assert await node.host.contents(device, VOLUME) == Blank()
    with device.path.open("r+b", buffering=0) as raw:
        raw.write(b"LABELONE".rjust(520).ljust(4096))  # about what LVM writes
    before = digest(node.image())

    with pytest.raises(errors.Unavailable):
        await node.host.format(device, VOLUME, filesystem)

    assert digest(node.image()) == before


@pytest.mark.requirement("data.own-device-only")
@pytest.mark.parametrize("renamed", ["another device", "another volume"])
async def test_a_device_that_became_another_volumes_is_neither_read_nor_formatted(node: LoopNode, renamed: str) -> None:
    """Ours: the kernel gives a disk's name, and its number too, to the next one that comes."""
    await node.attach(size=blkid_signatures.SIZE)
    device = await node.host.device(VOLUME)
    if renamed == "another volume":  # the same name and number
        node.link().rename(node.link(OTHER))
    else:
        loop = await node.attach(OTHER, size=blkid_signatures.SIZE)
        device.path.unlink()
        os.mknod(device.path, 0o060600, loop.stat().st_rdev)

    with pytest.raises(errors.Unavailable, match=f"no longer the device of volume {VOLUME}"):
        await node.host.contents(device, VOLUME)
    with pytest.raises(errors.Unavailable, match=f"no longer the device of volume {VOLUME}"):
        await node.host.format(device, VOLUME, "ext4")

    assert not any(any(image.read_bytes()[:4096]) for image in node.directory.glob("*.img"))


async def test_an_orphaned_program_keeps_the_device_before_it_has_opened_it(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: an mkfs whose node process was killed may begin after its successor has mounted and unmounted."""
    await node.attach()
    device = await node.host.device(VOLUME)
    monkeypatch.setattr(device_lock, "PATIENCE", 0.1)
    handle = os.open(device.path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    waits, ends = os.pipe()

    async with asyncio.TaskGroup() as group:
        group.create_task(command.run(["cat", f"/dev/fd/{waits}"], keep=[handle, waits]))
        await node.host.device(VOLUME)  # by now it has a copy of the open file
        os.close(handle)
        try:
            with pytest.raises(errors.Unavailable, match="held by another program"):
                await stage(node.host, wanting(node, "ext4"))
        finally:
            os.close(ends)
    os.close(waits)

    await stage(node.host, wanting(node, "ext4"))
    assert mounts_at(node.staging())


async def test_a_copy_of_a_volume_that_was_being_formatted_is_not_that_volume(node: LoopNode) -> None:
    """Ours: a snapshot may be taken in the middle of an mkfs."""
    await node.attach(size=GIB)
    device = await node.host.device(VOLUME)
    marker.begin_mkfs(device.path, device.size, VOLUME)
    os.link(node.image(), node.image(OTHER))
    await node.detach()
    await node.attach(OTHER)

    with pytest.raises(errors.NotReady, match=f"the beginnings of a filesystem of volume {VOLUME}"):
        await stage(node.host, wanting(node, "ext4", OTHER))


async def test_the_notes_place_is_past_what_either_mkfs_clears(node: LoopNode) -> None:
    """Ours: mkfs.xfs clears the last 128 KiB, mkfs.ext4 the last 64."""
    await node.attach()
    device = await node.host.device(VOLUME)

    for filesystem in FILESYSTEMS:
        blkid_signatures.write(node.image(), {0: bytes(MIB)})
        marker.begin_mkfs(device.path, device.size, VOLUME)
        await command.run([*mkfs.PROGRAMS[filesystem], str(device.path)])
        with device.path.open("rb") as raw:
            raw.seek(marker.offset(device.size))
            assert marker.decode(raw.read(4096)) == VOLUME
