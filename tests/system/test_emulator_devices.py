"""The devices of emulated volumes on a node: their contents, their size, and a detach while they are in use."""

import asyncio
import errno
import os
import struct
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from fcntl import LOCK_SH, flock, ioctl
from mmap import mmap
from pathlib import Path
from threading import Event
from typing import Final

import pytest

from hyperpod_ebs.emulator.disks import loop_devices
from hyperpod_ebs.emulator.disks.device_directories import DeviceDirectories
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.records import Attachment
from hyperpod_ebs.kit import command
from tests.support.device_links import volume_link
from tests.support.emulator_clients import GROUP, Aws, cloud
from tests.support.waiting import wait_until_equal

pytestmark = pytest.mark.root

BLKGETSIZE64: Final = 0x80081272
BLOCK: Final = 4096
GIB: Final = 1 << 30


@pytest.fixture
async def emulator_and_aws(short_path: Path) -> AsyncGenerator[tuple[Emulator, Aws]]:
    """An emulator with a state directory, and its clients."""
    async with cloud(short_path / "state") as both:
        yield both


def device_path(emulator: Emulator, node: str, volume: str) -> Path:
    """The by-id link of a volume in a node's device directory."""
    return volume_link(emulator.device_directory(node), volume)


@contextmanager
def open_direct(device: Path) -> Generator[int]:
    """Open the device for direct I/O; the file descriptor."""
    handle = os.open(device, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


@asynccontextmanager
async def mount(device: Path, at: Path, *options: str) -> AsyncGenerator[None]:
    """Mount the device at the directory `at`, which is created if it does not exist; unmount it at the end."""
    at.mkdir(exist_ok=True)
    await command.run(["mount", *options, str(device), str(at)])
    try:
        yield
    finally:
        await command.run(["umount", str(at)])


def write(device: Path, block: int, number: int) -> None:
    """Fill a block with `number`."""
    with open_direct(device) as handle, mmap(-1, BLOCK) as buffer:
        buffer[:] = struct.pack("<Q", number) * (BLOCK // 8)
        os.pwritev(handle, [buffer], block * BLOCK)


def read(device: Path, block: int) -> int:
    """The number that fills a block."""
    with open_direct(device) as handle, mmap(-1, BLOCK) as buffer:
        os.preadv(handle, [buffer], block * BLOCK)
        (number,) = set(struct.unpack(f"<{BLOCK // 8}Q", buffer[:]))
        return int(number)


def size(device: Path) -> int:
    """The size of a device in bytes, from the kernel."""
    with open_direct(device) as handle:
        return int(struct.unpack("Q", ioctl(handle, BLKGETSIZE64, bytes(8)))[0])


async def test_a_device_is_only_in_its_nodes_directory_and_is_removed_by_a_detach(
    emulator: Emulator,
    aws: Aws,
) -> None:
    """The entries are those that udev creates for an EBS volume on a Nitro instance."""
    volume = await aws.create_volume()
    cluster, (first, second) = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])

    await aws.attach_to_node(cluster, first, volume)
    on_first = sorted(path.name for path in emulator.device_directory(first).iterdir())
    on_second = sorted(path.name for path in emulator.device_directory(second).iterdir())
    by_id = device_path(emulator, first, volume)
    target = by_id.resolve().name
    bytes_ = size(by_id)
    status = await aws.detach_from_node(cluster, first, volume)

    assert (on_first, on_second, target, bytes_) == (["disk", "nvme1n1", "xvdb"], ["disk"], "nvme1n1", GIB)
    assert status == "detached"
    assert list(by_id.parent.iterdir()) == []


async def test_a_detach_waits_while_udev_has_the_device_open(
    emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd, "Locking Block Device Access": udev opens a changed device for a moment, with a shared lock."""
    monkeypatch.setattr(loop_devices, "_UDEV_TIMEOUT", 60.0)
    volume = await aws.create_volume()
    cluster, (node,) = await aws.create_cluster()
    await aws.attach_to_node(cluster, node, volume)
    (attachment,) = emulator.world.store.attachments.values()
    loop = emulator.world.bindings.device(attachment)
    assert loop

    udev = os.open(loop, os.O_RDONLY | os.O_CLOEXEC)
    flock(udev, LOCK_SH)
    async with asyncio.TaskGroup() as group:
        detaching = group.create_task(aws.detach_from_node(cluster, node, volume))
        await asyncio.wait({detaching}, timeout=0.5)
        assert not detaching.done()
        os.close(udev)

    assert detaching.result() == "detached"


async def test_write_protection_that_a_node_set_does_not_outlive_the_attachment(emulator: Emulator, aws: Aws) -> None:
    """The kernel keeps the flag of BLKROSET on the loop device for the next file that is bound to it."""
    volume = await aws.create_volume()
    cluster, (node,) = await aws.create_cluster()
    await aws.attach_to_node(cluster, node, volume)
    device = device_path(emulator, node, volume)
    flag = Path(f"/sys/dev/block/{os.major(device.stat().st_rdev)}:{os.minor(device.stat().st_rdev)}/ro")

    await command.run(["blockdev", "--setro", str(device)])
    before = flag.read_text().strip()
    await aws.detach_from_node(cluster, node, volume)

    assert (before, flag.read_text().strip()) == ("1", "0")


async def test_a_volume_that_grows_while_its_device_is_bound_has_the_new_size_on_the_node(
    emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attachment and a growth can be due at the same time: the file grows while its loop device is set up."""
    volume = await aws.create_volume()
    cluster, (node,) = await aws.create_cluster()
    await aws.attach_to_node(cluster, node, volume)
    (attachment,) = emulator.world.store.attachments.values()
    bindings, bound, grown, add_device = emulator.world.bindings, Event(), Event(), DeviceDirectories.add_device

    def add_device_late(self: DeviceDirectories, to: Attachment, rdev: int) -> None:
        bound.set()
        grown.wait()
        add_device(self, to, rdev)

    monkeypatch.setattr(DeviceDirectories, "add_device", add_device_late)
    assert await bindings.release(attachment)
    async with asyncio.TaskGroup() as group:
        group.create_task(bindings.bind(attachment))
        await asyncio.to_thread(bound.wait)
        await emulator.world.backing_files.grow(volume, size_gib=2)
        await bindings.update_sizes([attachment])
        grown.set()

    assert size(device_path(emulator, node, volume)) == 2 * GIB


async def test_data_moves_with_the_volume_from_node_to_node(emulator: Emulator, aws: Aws) -> None:
    """EBS user guide: a volume keeps its data when it is detached and attached to another instance."""
    volume = await aws.create_volume()
    cluster, (first, second) = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])
    await aws.attach_to_node(cluster, first, volume)
    await asyncio.to_thread(write, device_path(emulator, first, volume), 7, 42)

    await aws.detach_from_node(cluster, first, volume)
    await aws.attach_to_node(cluster, second, volume)

    assert await asyncio.to_thread(read, device_path(emulator, second, volume), 7) == 42


@pytest.mark.requirement("data.snapshot-exact")
async def test_a_snapshot_under_writes_is_exactly_one_point_in_time(
    emulator: Emulator,
    aws: Aws,
) -> None:
    """EC2 API reference, CreateSnapshot: it has the data that was written by the time of the call."""
    volume = await aws.create_volume()
    cluster, (node,) = await aws.create_cluster()
    await aws.attach_to_node(cluster, node, volume)
    device, written, stop = device_path(emulator, node, volume), [0], threading.Event()

    def writer() -> None:
        while not stop.is_set():
            write(device, written[0] % 1000, written[0] + 1)
            written[0] += 1

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        while written[0] < 300:  # noqa: ASYNC110 - a thread counts
            await asyncio.sleep(0.01)
        before = written[0]
        snapshot = (await aws.ec2("create_snapshot", VolumeId=volume))["SnapshotId"]
        after = written[0]
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)
    restored = await aws.create_volume(SnapshotId=snapshot)
    await aws.attach_to_node(cluster, node, restored)
    copy = device_path(emulator, node, restored)
    seen = [await asyncio.to_thread(read, copy, block) for block in range(1000)]

    last = max(seen)
    assert before <= last <= after + 1
    assert seen == [(last - 1 - block) // 1000 * 1000 + block + 1 if block < last else 0 for block in range(1000)]


async def test_a_detach_waits_while_the_node_has_the_volume_mounted(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """EC2 API reference, VolumeAttachment: a detach of a mounted volume is busy until it is unmounted."""
    volume = await aws.create_volume()
    cluster, (node,) = await aws.create_cluster()
    await aws.attach_to_node(cluster, node, volume)
    device, mount = device_path(emulator, node, volume), short_path / "mnt"
    mount.mkdir()
    await command.run(["mkfs.ext4", "-q", str(device)])
    await command.run(["mount", str(device), str(mount)])
    try:
        status = await aws.detach_from_node(cluster, node, volume)
        state = await aws.volume_state(volume)
        (mount / "still").write_text("here")
    finally:
        await command.run(["umount", str(mount)])
    await wait_until_equal(lambda: aws.volume_state(volume), "available")

    assert (status, state) == ("busy", "in-use busy")
    assert not device.is_symlink()


async def test_a_detach_waits_for_a_process_that_has_the_device_open(emulator: Emulator, aws: Aws) -> None:
    """A raw block volume is in use through an open file, not through a mount."""
    volume = await aws.create_volume()
    cluster, (node,) = await aws.create_cluster()
    await aws.attach_to_node(cluster, node, volume)

    device = device_path(emulator, node, volume)

    with open_direct(device):
        status = await aws.detach_from_node(cluster, node, volume)
        state = await aws.volume_state(volume)
        await asyncio.to_thread(write, device, 0, 1)
    await wait_until_equal(lambda: aws.volume_state(volume), "available")

    assert (status, state) == ("busy", "in-use busy")


def write_and_sync(file: Path, text: str) -> str:
    """Write `text` to `file` and flush it to the disk; the error's name, or "written"."""
    try:
        with file.open("w") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "written"


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
async def test_a_forced_detach_takes_a_mounted_volume_away_at_once(
    emulator: Emulator, aws: Aws, short_path: Path, filesystem: str
) -> None:
    """EC2 API reference, DetachVolume: Force. On Nitro, the device is gone, and I/O fails.

    What the old node had flushed is on the volume, and nothing that it writes later.
    """
    volume, first, second = await aws.create_volume(), await aws.run_instance(), await aws.run_instance()
    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=first, Device="/dev/xvdba")
    await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached")
    device, old, new = device_path(emulator, first, volume), short_path / "old", short_path / "new"
    await command.run([f"mkfs.{filesystem}", "-q", str(device)])
    async with mount(device, old):
        before = await asyncio.to_thread(write_and_sync, old / "before", "kept")
        ended = await aws.ec2("detach_volume", VolumeId=volume, Force=True)
        after = [await asyncio.to_thread(write_and_sync, old / name, "lost") for name in ("after", "later")]
        await aws.ec2("attach_volume", VolumeId=volume, InstanceId=second, Device="/dev/xvdba")
        await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached")
        # The kernel keeps the UUID of the broken XFS until it is unmounted, and refuses a second one with that UUID.
        options = ("-o", "nouuid") if filesystem == "xfs" else ()
        async with mount(device_path(emulator, second, volume), new, *options):
            kept = {path.name: path.read_text() for path in new.iterdir() if path.is_file()}
    async with mount(device_path(emulator, second, volume), new):
        again = await asyncio.to_thread(write_and_sync, new / "again", "written")

    assert (ended["State"], device.is_symlink()) == ("detached", False)
    assert (before, after[0], again) == ("written", "EIO", "written")
    assert after[1] in {"EIO", "EROFS"}
    assert kept == {"before": "kept"}


async def test_a_forced_detach_ends_the_writes_of_one_node_to_a_shared_volume(emulator: Emulator, aws: Aws) -> None:
    """EBS user guide, "Attach a volume to multiple instances": the other instance keeps its attachment."""
    volume = await aws.create_volume(VolumeType="io2", Iops=100, Size=4, MultiAttachEnabled=True)
    first, second = await aws.run_instance(), await aws.run_instance()
    for instance in (first, second):
        await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")
    await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached attached")
    other = device_path(emulator, second, volume)

    with open_direct(device_path(emulator, first, volume)) as handle, mmap(-1, BLOCK) as buffer:
        os.pwritev(handle, [buffer], 0)
        await aws.ec2("detach_volume", VolumeId=volume, InstanceId=first, Force=True)
        with pytest.raises(OSError, match="No space left"):  # what a disk of size 0 answers to a direct write
            os.pwritev(handle, [buffer], 0)
        await asyncio.to_thread(write, other, 0, 7)
    await asyncio.to_thread(write, other, 1, 8)

    assert [await asyncio.to_thread(read, other, block) for block in (0, 1)] == [7, 8]


async def test_a_mounted_volume_grows(emulator: Emulator, aws: Aws, short_path: Path) -> None:
    """EC2 API reference, ModifyVolume: no detach is needed."""
    volume = await aws.create_volume(Size=1)
    cluster, (node,) = await aws.create_cluster()
    await aws.attach_to_node(cluster, node, volume)
    device, mount = device_path(emulator, node, volume), short_path / "mnt"
    mount.mkdir()
    await command.run(["mkfs.xfs", "-q", str(device)])
    await command.run(["mount", str(device), str(mount)])
    try:
        await aws.ec2("modify_volume", VolumeId=volume, Size=2)
        await aws.describe_volume(volume)
        grown = size(device)
        await command.run(["xfs_growfs", str(mount)])
        usage = os.statvfs(mount)
    finally:
        await command.run(["umount", str(mount)])

    assert grown == 2 * GIB
    assert usage.f_blocks * usage.f_frsize > 1.8 * GIB


async def test_a_device_in_use_stays_when_the_emulator_restarts(short_path: Path) -> None:
    """The stop of the emulator does not take the device away, not even at its last close."""
    async with cloud(short_path / "state") as (emulator, aws):
        volume = await aws.create_volume()
        cluster, (node,) = await aws.create_cluster()
        await aws.attach_to_node(cluster, node, volume)
        device = device_path(emulator, node, volume)
        handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    os.close(handle)
    await asyncio.to_thread(write, device, 0, 5)

    async with cloud(short_path / "state") as (_, aws):
        written = await asyncio.to_thread(read, device, 0)
        status = await aws.detach_from_node(cluster, node, volume)

    assert (written, status) == (5, "detached")


async def test_two_emulators_are_independent(short_path: Path) -> None:
    """Each state directory has its own volumes."""
    async with cloud(short_path / "first") as (_, aws), cloud(short_path / "second") as (_, other_aws):
        volume = await aws.create_volume()

        refusal = await other_aws.expect_error("ec2", "describe_volumes", VolumeIds=[volume])

        assert refusal[0] == "InvalidVolume.NotFound"
