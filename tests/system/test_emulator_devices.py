"""Volumes of the emulator as a node has them: devices, their bytes, their size, and who holds them."""

import asyncio
import os
import struct
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
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
from tests.support.emulator_clients import GROUP, Aws, cloud, until

pytestmark = pytest.mark.root

BLKGETSIZE64: Final = 0x80081272
BLOCK: Final = 4096
GIB: Final = 1 << 30


@pytest.fixture
async def running(short_path: Path) -> AsyncGenerator[tuple[Emulator, Aws]]:
    """An emulator, whose directory is below the test's own."""
    async with cloud(short_path / "state") as both:
        yield both


async def attached(aws: Aws, cluster: str, node: str, volume: str) -> None:
    """Attach to a HyperPod node."""
    await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=cluster, NodeId=node, VolumeId=volume)


async def detached(aws: Aws, cluster: str, node: str, volume: str) -> str:
    """Detach from it; the status answered."""
    members = {"ClusterArn": cluster, "NodeId": node, "VolumeId": volume}
    return str((await aws("sagemaker", "detach_cluster_node_volume", **members))["Status"])


def device_of(emulator: Emulator, node: str, volume: str) -> Path:
    """The device by its by-id name."""
    name = f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    return emulator.device_directory(node) / "disk" / "by-id" / name


@contextmanager
def direct(device: Path) -> Generator[int]:
    """The device, open for direct I/O."""
    handle = os.open(device, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def write(device: Path, block: int, number: int) -> None:
    """Write a block full of `number`."""
    with direct(device) as handle, mmap(-1, BLOCK) as buffer:
        buffer[:] = struct.pack("<Q", number) * (BLOCK // 8)
        os.pwritev(handle, [buffer], block * BLOCK)


def read(device: Path, block: int) -> int:
    """The number that a block is full of."""
    with direct(device) as handle, mmap(-1, BLOCK) as buffer:
        os.preadv(handle, [buffer], block * BLOCK)
        (number,) = set(struct.unpack(f"<{BLOCK // 8}Q", buffer[:]))
        return int(number)


def size(device: Path) -> int:
    """Its bytes, as the kernel tells."""
    with direct(device) as handle:
        return int(struct.unpack("Q", ioctl(handle, BLKGETSIZE64, bytes(8)))[0])


async def test_a_device_is_in_its_node_s_directory_only_and_goes_with_the_attachment(
    running: tuple[Emulator, Aws],
) -> None:
    """Ours: what udev would make of an EBS volume, on the node that has it."""
    emulator, aws = running
    volume = await aws.volume()
    cluster, (one, other) = await aws.cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])

    await attached(aws, cluster, one, volume)
    here = sorted(path.name for path in emulator.device_directory(one).iterdir())
    there = sorted(path.name for path in emulator.device_directory(other).iterdir())
    by_id = device_of(emulator, one, volume)
    target = by_id.resolve().name
    bytes_ = size(by_id)
    status = await detached(aws, cluster, one, volume)

    assert (here, there, target, bytes_) == (["disk", "nvme1n1", "xvdb"], ["disk"], "nvme1n1", GIB)
    assert status == "detached"
    assert list(by_id.parent.iterdir()) == []


async def test_a_device_that_udev_looks_at_is_detached_when_it_has_looked(
    running: tuple[Emulator, Aws], monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd, "Locking Block Device Access": whatever has changed is open for a moment, under a shared lock."""
    monkeypatch.setattr(loop_devices, "_UDEV_TIMEOUT", 60.0)
    emulator, aws = running
    volume = await aws.volume()
    cluster, (node,) = await aws.cluster()
    await attached(aws, cluster, node, volume)
    (attachment,) = emulator.world.store.attachments.values()
    loop = emulator.world.bindings.device(attachment)
    assert loop

    looking = os.open(loop, os.O_RDONLY | os.O_CLOEXEC)
    flock(looking, LOCK_SH)
    async with asyncio.TaskGroup() as group:
        detaching = group.create_task(detached(aws, cluster, node, volume))
        await asyncio.wait({detaching}, timeout=0.5)
        assert not detaching.done()
        os.close(looking)

    assert detaching.result() == "detached"


async def test_a_volume_that_grows_while_its_device_is_made_is_as_long_at_the_node(
    running: tuple[Emulator, Aws], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: "attached" and "optimizing" may be due together, and who grows the image then finds no device yet."""
    emulator, aws = running
    volume = await aws.volume()
    cluster, (node,) = await aws.cluster()
    await attached(aws, cluster, node, volume)
    (attachment,) = emulator.world.store.attachments.values()
    bindings, made, grown, show = emulator.world.bindings, Event(), Event(), DeviceDirectories.add_device

    def shown_late(self: DeviceDirectories, of: Attachment, rdev: int) -> None:
        made.set()
        grown.wait()
        show(self, of, rdev)

    monkeypatch.setattr(DeviceDirectories, "add_device", shown_late)
    assert await bindings.release(attachment)
    async with asyncio.TaskGroup() as group:
        group.create_task(bindings.bind(attachment))
        await asyncio.to_thread(made.wait)
        await emulator.world.backing_files.grow(volume, size_gib=2)
        await bindings.update_sizes([attachment])
        grown.set()

    assert size(device_of(emulator, node, volume)) == 2 * GIB


async def test_bytes_move_with_the_volume_from_node_to_node(running: tuple[Emulator, Aws]) -> None:
    """Ours: the image is the volume."""
    emulator, aws = running
    volume = await aws.volume()
    cluster, (one, other) = await aws.cluster(InstanceGroups=[GROUP | {"InstanceCount": 2}])
    await attached(aws, cluster, one, volume)
    await asyncio.to_thread(write, device_of(emulator, one, volume), 7, 42)

    await detached(aws, cluster, one, volume)
    await attached(aws, cluster, other, volume)

    assert await asyncio.to_thread(read, device_of(emulator, other, volume), 7) == 42


@pytest.mark.requirement("data.snapshot-exact")
async def test_a_snapshot_under_writes_holds_exactly_what_was_written_before_some_moment(
    running: tuple[Emulator, Aws],
) -> None:
    """EC2: a point in time at the call: all that was acknowledged before it, nothing from after."""
    emulator, aws = running
    volume = await aws.volume()
    cluster, (node,) = await aws.cluster()
    await attached(aws, cluster, node, volume)
    device, written, stop = device_of(emulator, node, volume), [0], threading.Event()

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
    restored = await aws.volume(SnapshotId=snapshot)
    await attached(aws, cluster, node, restored)
    copy = device_of(emulator, node, restored)
    seen = [await asyncio.to_thread(read, copy, block) for block in range(1000)]

    last = max(seen)
    assert before <= last <= after + 1
    assert seen == [(last - 1 - block) // 1000 * 1000 + block + 1 if block < last else 0 for block in range(1000)]


async def test_a_detach_waits_while_the_node_has_the_volume_mounted(
    running: tuple[Emulator, Aws], short_path: Path
) -> None:
    """EC2: the attachment is busy until the node lets go, and the device is not torn away."""
    emulator, aws = running
    volume = await aws.volume()
    cluster, (node,) = await aws.cluster()
    await attached(aws, cluster, node, volume)
    device, mount = device_of(emulator, node, volume), short_path / "mnt"
    mount.mkdir()
    await command.run(["mkfs.ext4", "-q", str(device)])
    await command.run(["mount", str(device), str(mount)])
    try:
        status = await detached(aws, cluster, node, volume)
        state = await aws.state(volume)
        (mount / "still").write_text("here")
    finally:
        await command.run(["umount", str(mount)])
    await until(lambda: aws.state(volume), "available")

    assert (status, state) == ("busy", "in-use busy")
    assert not device.is_symlink()


async def test_a_detach_waits_for_a_process_that_has_the_device_open(running: tuple[Emulator, Aws]) -> None:
    """Ours: a raw block volume is held by an open file, not by a mount."""
    emulator, aws = running
    volume = await aws.volume()
    cluster, (node,) = await aws.cluster()
    await attached(aws, cluster, node, volume)

    device = device_of(emulator, node, volume)

    with direct(device):
        status = await detached(aws, cluster, node, volume)
        state = await aws.state(volume)
        await asyncio.to_thread(write, device, 0, 1)
    await until(lambda: aws.state(volume), "available")

    assert (status, state) == ("busy", "in-use busy")


async def test_a_forced_detach_cuts_a_mounted_volume_off_at_that_moment(
    running: tuple[Emulator, Aws], short_path: Path
) -> None:
    """EC2: Force does not wait; what is written on the old node afterwards is lost."""
    emulator, aws = running
    volume, one, other = await aws.volume(), await aws.instance(), await aws.instance()
    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=one, Device="/dev/xvdba")
    await until(lambda: aws.state(volume), "in-use attached")
    mount = short_path / "mnt"
    mount.mkdir()
    await command.run(["mkfs.ext4", "-q", str(device_of(emulator, one, volume))])
    await command.run(["mount", str(device_of(emulator, one, volume)), str(mount)])
    try:
        (mount / "before").write_text("kept")
        await asyncio.to_thread(os.sync)
        ended = await aws.ec2("detach_volume", VolumeId=volume, Force=True)
        (mount / "after").write_text("lost")
    finally:
        await command.run(["umount", str(mount)])
    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=other, Device="/dev/xvdba")
    await until(lambda: aws.state(volume), "in-use attached")
    await command.run(["mount", str(device_of(emulator, other, volume)), str(mount)])
    try:
        kept = sorted(path.name for path in mount.iterdir())
    finally:
        await command.run(["umount", str(mount)])

    assert ended["State"] == "detached"
    assert kept == ["before", "lost+found"]


async def test_a_mounted_volume_grows_under_its_node(running: tuple[Emulator, Aws], short_path: Path) -> None:
    """EC2: ModifyVolume needs no detach."""
    emulator, aws = running
    volume = await aws.volume(Size=1)
    cluster, (node,) = await aws.cluster()
    await attached(aws, cluster, node, volume)
    device, mount = device_of(emulator, node, volume), short_path / "mnt"
    mount.mkdir()
    await command.run(["mkfs.xfs", "-q", str(device)])
    await command.run(["mount", str(device), str(mount)])
    try:
        await aws.ec2("modify_volume", VolumeId=volume, Size=2)
        await aws.shown(volume)
        grown = size(device)
        await command.run(["xfs_growfs", str(mount)])
        usage = os.statvfs(mount)
    finally:
        await command.run(["umount", str(mount)])

    assert grown == 2 * GIB
    assert usage.f_blocks * usage.f_frsize > 1.8 * GIB


async def test_a_device_open_over_a_restart_is_there_when_it_is_opened_again(short_path: Path) -> None:
    """Ours: a stop of the emulator takes no device away that somebody uses, not even at its last close."""
    async with cloud(short_path / "state") as (emulator, aws):
        volume = await aws.volume()
        cluster, (node,) = await aws.cluster()
        await attached(aws, cluster, node, volume)
        device = device_of(emulator, node, volume)
        handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    os.close(handle)
    await asyncio.to_thread(write, device, 0, 5)

    async with cloud(short_path / "state") as (_, aws):
        written = await asyncio.to_thread(read, device, 0)
        status = await detached(aws, cluster, node, volume)

    assert (written, status) == (5, "detached")


async def test_two_emulators_side_by_side_know_nothing_of_each_other(short_path: Path) -> None:
    """Ours: a state directory is a world."""
    async with cloud(short_path / "one") as (_, aws), cloud(short_path / "other") as (_, others):
        volume = await aws.volume()

        refusal = await others.refused("ec2", "describe_volumes", VolumeIds=[volume])

        assert refusal[0] == "InvalidVolume.NotFound"
