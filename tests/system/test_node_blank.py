"""The driver formats only blank devices: tested with every signature that this machine's blkid knows."""

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
    async with LoopNode.create(tmp_path) as running:
        yield running


def staging(node: LoopNode, filesystem: str, volume_id: str = VOLUME) -> Staging:
    capability = Capability(Mount(filesystem), AccessMode.SINGLE_NODE_WRITER)
    return Staging(volume_id=volume_id, target=node.staging(volume_id), capability=capability)


def digest(image: Path) -> int:
    return zlib.crc32(image.read_bytes())


async def list_signatures() -> set[str]:
    return set((await command.run(["blkid", "-k"])).out.split())


async def test_these_tests_cover_every_signature_that_blkid_knows() -> None:
    """blkid(8), --list-filesystems. A signature without an image is in NOT_MADE with the reason."""
    made = {*blkid_signatures.SIGNATURES, *blkid_signatures.MADE_BY_MKFS}

    assert await list_signatures() <= made | set(blkid_signatures.NOT_MADE)


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize("kind", blkid_signatures.SIGNATURES)
async def test_a_device_with_a_signature_is_not_changed(node: LoopNode, kind: str) -> None:
    if kind not in await list_signatures():
        pytest.skip("this version of blkid does not know the signature")
    await node.attach(size=blkid_signatures.SIZE)
    blkid_signatures.write(node.image(), blkid_signatures.SIGNATURES[kind]())
    before = digest(node.image())

    tags = await blkid.probe(node.loops[VOLUME])
    assert tags is not None
    assert tags["TYPE"] == kind
    for filesystem in FILESYSTEMS:
        with pytest.raises(errors.NotReady, match=rf"holds {kind}.*, not {filesystem}"):
            await stage(node.host, staging(node, filesystem))

    assert digest(node.image()) == before
    assert not mounts_at(node.staging())


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize("kind", blkid_signatures.PARTITION_TABLES)
async def test_a_device_with_a_partition_table_is_not_changed(node: LoopNode, kind: str) -> None:
    """Even without a filesystem in any partition, some other program made the table."""
    await node.attach(size=blkid_signatures.SIZE)
    blkid_signatures.write(node.image(), blkid_signatures.PARTITION_TABLES[kind]())
    before = digest(node.image())

    for filesystem in FILESYSTEMS:
        with pytest.raises(errors.NotReady, match=rf"a partition table \({kind}\), not {filesystem}"):
            await stage(node.host, staging(node, filesystem))

    assert digest(node.image()) == before


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize("kind", blkid_signatures.MADE_BY_MKFS)
async def test_a_filesystem_that_another_program_made_is_not_changed(node: LoopNode, kind: str) -> None:
    loop = await node.attach(size=LARGE_ENOUGH_FOR_XFS)
    await command.run([*blkid_signatures.MADE_BY_MKFS[kind], str(loop)])
    before = digest(node.image())

    tags = await blkid.probe(loop)
    assert tags is not None
    assert tags["TYPE"] == kind
    for filesystem in set(FILESYSTEMS) - {kind}:
        with pytest.raises(errors.NotReady, match=rf"holds {kind}, not {filesystem}"):
            await stage(node.host, staging(node, filesystem))

    assert digest(node.image()) == before


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize(
    "at", [0, 5000, 100_000, 900_000, MIB, MIB + 50_000, 2 * MIB, 4 * MIB, -0x181E00, -600, -512 * 1024]
)
async def test_raw_data_is_not_changed(node: LoopNode, at: int) -> None:
    """A database on a raw volume has no signature."""
    await node.attach(size=blkid_signatures.SIZE)
    blkid_signatures.write(node.image(), {at: b"a user's data"})
    before = digest(node.image())

    with pytest.raises(errors.NotReady, match=r"holds unrecognised data at byte \d+, not ext4"):
        await stage(node.host, staging(node, "ext4"))

    assert digest(node.image()) == before


@pytest.mark.requirement("data.format-only-blank")
async def test_data_that_the_devices_cache_does_not_show_is_not_changed(node: LoopNode) -> None:
    """open(2), O_DIRECT: the page cache may be older than the volume."""
    loop = await node.attach(size=blkid_signatures.SIZE)

    with loop.open("rb") as cached:
        assert not any(cached.read(MIB))
        blkid_signatures.write(node.image(), {300_000: b"a user's data"})
        with pytest.raises(errors.NotReady, match="holds unrecognised data"):
            await stage(node.host, staging(node, "ext4"))


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_filesystem_that_blkid_does_not_recognise_is_not_changed(
    node: LoopNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filesystem: str
) -> None:
    """blkid(8): it exits with 2 when it identifies nothing; versions differ in what they check, such as checksums."""
    loop = await node.attach()
    await command.run([*mkfs.PROGRAMS[filesystem], str(loop)])
    before = digest(node.image())
    program = tmp_path / "programs" / "blkid"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    with pytest.raises(errors.NotReady, match="holds"):
        await stage(node.host, staging(node, filesystem))

    assert digest(node.image()) == before


@pytest.mark.requirement("data.format-only-blank")
async def test_an_unreadable_device_is_not_blank(node: LoopNode) -> None:
    """blkid(8), exit code 2: the same for a blank device and for an unreadable one."""
    await node.attach()
    device = await node.host.find_device(VOLUME)
    os.truncate(node.image(), 0)

    with pytest.raises(errors.Unavailable):
        await node.host.read_contents(device, VOLUME)

    assert node.image().stat().st_size == 0


@pytest.mark.requirement("data.format-only-blank")
async def test_a_device_in_use_by_another_program_is_not_formatted(node: LoopNode) -> None:
    """An mkfs that a killed node process started may still run."""
    loop = await node.attach()
    handle = os.open(loop, os.O_RDONLY | os.O_EXCL)

    try:
        with pytest.raises(errors.Unavailable, match="in use by another program"):
            await stage(node.host, staging(node, "ext4"))
    finally:
        os.close(handle)

    await stage(node.host, staging(node, "ext4"))
    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("data.killed-mkfs-heals")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_staging_recovers_from_an_mkfs_that_was_killed_at_any_moment(node: LoopNode, filesystem: str) -> None:
    """A SIGKILL of the node process leaves nothing that the next node process cannot finish."""
    await node.attach()
    device = await node.host.find_device(VOLUME)
    marker.begin_mkfs(device.path, device.size, VOLUME)
    assert await node.host.read_contents(device, VOLUME) == Unfinished()  # killed before mkfs started

    for moment in range(1, 25):
        marker.begin_mkfs(device.path, device.size, VOLUME)
        with suppress(command.CommandTimedOut):
            await command.run([*mkfs.PROGRAMS[filesystem], str(device.path)], deadline=moment / 1000)
        left = await node.host.read_contents(device, VOLUME)
        if isinstance(left, Filesystem):  # mkfs finished before the kill
            assert left.marked_unfinished
            break
        assert isinstance(left, Unfinished)

    await stage(node.host, staging(node, filesystem))
    (node.staging() / "kept").write_text("data")
    await unstage(node.host, VOLUME, node.staging())
    after = await node.host.read_contents(device, VOLUME)
    assert isinstance(after, Filesystem)
    assert (after.marked_unfinished, after.damaged) == (False, False)
    await stage(node.host, staging(node, filesystem))
    assert (node.staging() / "kept").read_text() == "data"


@pytest.mark.requirement("data.killed-mkfs-heals")
@pytest.mark.parametrize("wanted", FILESYSTEMS)
async def test_staging_recovers_from_an_unfinished_mkfs_of_the_other_filesystem(node: LoopNode, wanted: str) -> None:
    """The StorageClass may have been replaced after the kill."""
    (other,) = set(FILESYSTEMS) - {wanted}
    await node.attach()
    device = await node.host.find_device(VOLUME)
    marker.begin_mkfs(device.path, device.size, VOLUME)
    await command.run([*mkfs.PROGRAMS[other], str(device.path)])
    # The state after a kill right before the end: ext4 has no superblock yet, XFS has one in progress.
    with device.path.open("r+b", buffering=0) as raw:
        start = bytearray(raw.read(4096))
        if other == "xfs":
            start[126] = 1
        else:
            start[1024:2048] = bytes(1024)
        raw.seek(0)
        raw.write(start)
    assert await node.host.read_contents(device, VOLUME) == Unfinished()

    await stage(node.host, staging(node, wanted))

    assert mounts_at(node.staging())[-1].filesystem == wanted


async def test_a_complete_filesystem_with_a_leftover_marker_is_not_formatted(node: LoopNode) -> None:
    """The node process was killed after mkfs and before it removed the marker."""
    await node.attach()
    device = await node.host.find_device(VOLUME)
    marker.begin_mkfs(device.path, device.size, VOLUME)
    await command.run([*mkfs.PROGRAMS["ext4"], "-U", "11111111-2222-3333-4444-555555555555", str(device.path)])

    await stage(node.host, staging(node, "ext4"))

    tags = await blkid.probe(node.loops[VOLUME])
    assert tags is not None
    assert tags["UUID"] == "11111111-2222-3333-4444-555555555555"
    await unstage(node.host, VOLUME, node.staging())
    found = await node.host.read_contents(device, VOLUME)
    assert isinstance(found, Filesystem)
    assert not found.marked_unfinished


@pytest.mark.requirement("data.format-only-blank")
async def test_a_filesystem_made_after_the_device_was_read_is_not_overwritten(node: LoopNode) -> None:
    """An orphaned mkfs may end after the driver read the device and before it locked the device."""
    loop = await node.attach()
    device = await node.host.find_device(VOLUME)
    assert await node.host.read_contents(device, VOLUME) == Blank()
    await command.run(["mkfs.ext4", "-q", str(loop)])

    with pytest.raises(errors.Unavailable):
        await node.host.format(device, VOLUME, "ext4")

    with loop.open("rb") as raw:
        assert Ext.read(raw.read(4096)) is not None


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_raw_data_written_after_the_device_was_read_is_not_overwritten(node: LoopNode, filesystem: str) -> None:
    """Without a terminal mkfs.ext4 overwrites existing data without asking."""
    await node.attach(size=blkid_signatures.SIZE)
    device = await node.host.find_device(VOLUME)
    assert await node.host.read_contents(device, VOLUME) == Blank()
    with device.path.open("r+b", buffering=0) as raw:
        raw.write(b"LABELONE".rjust(520).ljust(4096))  # similar to LVM's label
        os.fsync(raw.fileno())  # closing the device flushes nothing while another program has it open
    before = digest(node.image())

    with pytest.raises(errors.Unavailable):
        await node.host.format(device, VOLUME, filesystem)

    assert digest(node.image()) == before


@pytest.mark.requirement("data.own-device-only")
@pytest.mark.parametrize("renamed", ["another device", "another volume"])
async def test_a_device_that_became_another_volumes_is_neither_read_nor_formatted(node: LoopNode, renamed: str) -> None:
    """The kernel gives the name and number of a removed disk to the next disk."""
    await node.attach(size=blkid_signatures.SIZE)
    device = await node.host.find_device(VOLUME)
    if renamed == "another volume":  # the same name and number
        node.link().rename(node.link(OTHER))
    else:
        loop = await node.attach(OTHER, size=blkid_signatures.SIZE)
        device.path.unlink()
        os.mknod(device.path, 0o060600, loop.stat().st_rdev)

    with pytest.raises(errors.Unavailable, match=f"no longer the device of volume {VOLUME}"):
        await node.host.read_contents(device, VOLUME)
    with pytest.raises(errors.Unavailable, match=f"no longer the device of volume {VOLUME}"):
        await node.host.format(device, VOLUME, "ext4")

    assert not any(any(image.read_bytes()[:4096]) for image in node.directory.glob("*.img"))


async def test_an_orphaned_program_keeps_the_lock_before_it_has_opened_the_device(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An mkfs whose node process was killed may start only after the next node process has mounted and unmounted."""
    await node.attach()
    device = await node.host.find_device(VOLUME)
    monkeypatch.setattr(device_lock, "PATIENCE", 0.1)
    handle = os.open(device.path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    waits, ends = os.pipe()

    async with asyncio.TaskGroup() as group:
        group.create_task(command.run(["cat", f"/dev/fd/{waits}"], keep=[handle, waits]))
        await node.host.find_device(VOLUME)  # after this await the program has inherited the open file
        os.close(handle)
        try:
            with pytest.raises(errors.Unavailable, match="in use by another program"):
                await stage(node.host, staging(node, "ext4"))
        finally:
            os.close(ends)
    os.close(waits)

    await stage(node.host, staging(node, "ext4"))
    assert mounts_at(node.staging())


async def test_a_lock_that_udev_holds_for_a_moment_is_waited_for(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd, "Locking Block Device Access": udev locks a device while it probes it."""
    await node.attach()
    device = await node.host.find_device(VOLUME)
    udev = os.open(device.path, os.O_RDONLY)
    fcntl.flock(udev, fcntl.LOCK_SH)
    flock, refusals = fcntl.flock, []

    def flock_and_let_udev_finish(handle: int, operation: int) -> None:
        try:
            flock(handle, operation)
        except BlockingIOError as refusal:
            refusals.append(refusal)
            flock(udev, fcntl.LOCK_UN)
            raise

    monkeypatch.setattr(fcntl, "flock", flock_and_let_udev_finish)
    try:
        await stage(node.host, staging(node, "ext4"))
    finally:
        os.close(udev)

    assert len(refusals) == 1
    assert mounts_at(node.staging())


async def test_a_copy_of_an_unfinished_volume_is_not_formatted(node: LoopNode) -> None:
    """A snapshot may be taken during mkfs."""
    await node.attach(size=GIB)
    device = await node.host.find_device(VOLUME)
    marker.begin_mkfs(device.path, device.size, VOLUME)
    os.link(node.image(), node.image(OTHER))
    await node.detach()
    await node.attach(OTHER)

    with pytest.raises(errors.NotReady, match=f"an unfinished filesystem of volume {VOLUME}"):
        await stage(node.host, staging(node, "ext4", OTHER))


async def test_the_marker_is_where_no_mkfs_clears_it(node: LoopNode) -> None:
    """mkfs.xfs clears the last 128 KiB, mkfs.ext4 the last 64."""
    await node.attach()
    device = await node.host.find_device(VOLUME)

    for filesystem in FILESYSTEMS:
        blkid_signatures.write(node.image(), {0: bytes(MIB)})
        marker.begin_mkfs(device.path, device.size, VOLUME)
        await command.run([*mkfs.PROGRAMS[filesystem], str(device.path)])
        with device.path.open("rb") as raw:
            raw.seek(marker.offset(device.size))
            assert marker.decode(raw.read(4096)) == VOLUME
