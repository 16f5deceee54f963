"""NodeUnstageVolume succeeds only when the kernel has written all data and nothing uses the device any more.

After a success the controller detaches the volume, and another node may read it.
"""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from hyperpod_ebs.driver.linux import device_use, mount, writable
from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Block, Capability, Mount
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.mounts.publish import Publishing, publish, unpublish
from hyperpod_ebs.driver.mounts.stage import Staging, stage, unstage
from hyperpod_ebs.driver.mounts.usage import measure
from hyperpod_ebs.kit import command, files
from tests.support.freezable_store import FreezableStore
from tests.support.loop_device_node import VOLUME, LoopNode, mounts_at
from tests.support.mount_namespaces import copy_mount_to_another_namespace
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

MIB = 2**20
SIZE = 350 * MIB
DATA = os.urandom(30 * MIB)
WRITER = AccessMode.SINGLE_NODE_WRITER
FILESYSTEMS = ("ext4", "xfs")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[FreezableStore]:
    async with FreezableStore.create(tmp_path / "store") as running:
        yield running


@pytest.fixture
async def node(store: FreezableStore, tmp_path: Path) -> AsyncGenerator[LoopNode]:
    """A node whose volume is attached; its backing file is in the store."""
    async with LoopNode.create(tmp_path / "node") as running:
        store.add_image(running, SIZE)
        await running.attach()
        yield running
        await store.thaw()


def staging(node: LoopNode, filesystem: str = "ext4", path: Path | None = None) -> Staging:
    return Staging(volume_id=VOLUME, target=path or node.staging(), capability=Capability(Mount(filesystem), WRITER))


def publishing(node: LoopNode, *, block: bool = False) -> Publishing:
    return Publishing(
        volume_id=VOLUME,
        staging=node.staging(),
        target=node.target(),
        capability=Capability(Block() if block else Mount("ext4"), WRITER),
    )


@asynccontextmanager
async def freeze_store(store: FreezableStore) -> AsyncGenerator[None]:
    """Within the block no write to the store ends; the driver waits only moments for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mount, "UNMOUNT_DEADLINE", 0.2)
        patch.setattr(device_use, "WRITE_DEADLINE", 0.2)
        patch.setattr(device_use, "PATIENCE", 0.0)
        await store.freeze()
        try:
            yield
        finally:
            await store.thaw()


@asynccontextmanager
async def hold_written(path: Path) -> AsyncGenerator[None]:
    """Within the block a file or device is open, and has data that is only in the cache."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(handle, DATA)
    try:
        yield
    finally:
        os.close(handle)


def children_named(name: str) -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.name() == name]


def open_below(directory: Path) -> list[Path]:
    """What this process has open below a directory."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(link.readlink())
    return [path for path in found if path.is_relative_to(directory)]


async def unstage_when_written(node: LoopNode) -> None:
    """Repeat the call as kubelet does, until it succeeds."""

    async def is_unstaged() -> bool:
        try:
            await unstage(node.host, VOLUME, node.staging())
        except errors.Error:
            return False
        return True

    await wait_until(is_unstaged)


@pytest.mark.requirement("unstage.device-free")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_volume_stays_mounted_until_its_data_is_written(
    node: LoopNode, store: FreezableStore, filesystem: str
) -> None:
    """umount(2) removes the mount from the mount table before it writes the data."""
    await stage(node.host, staging(node, filesystem))
    (node.staging() / "data").write_bytes(DATA)

    async with freeze_store(store):
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                await unstage(node.host, VOLUME, node.staging())
            assert mounts_at(node.staging())

    await unstage_when_written(node)
    await stage(node.host, staging(node, filesystem))
    assert (node.staging() / "data").read_bytes() == DATA
    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("unstage.device-free")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_volume_is_not_unstaged_while_an_earlier_umount_still_writes(
    node: LoopNode, store: FreezableStore, filesystem: str
) -> None:
    """A umount outlives its node process, and the mount table shows no mount any more."""
    await stage(node.host, staging(node, filesystem))
    (node.staging() / "data").write_bytes(DATA)

    async with asyncio.TaskGroup() as group, freeze_store(store):
        group.create_task(command.run(["umount", str(node.staging())]))
        await wait_until(lambda: files.off_loop(lambda: not mounts_at(node.staging())))
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                await unstage(node.host, VOLUME, node.staging())

    await unstage_when_written(node)
    await stage(node.host, staging(node, filesystem))
    assert (node.staging() / "data").read_bytes() == DATA
    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("unstage.device-free")
@pytest.mark.parametrize("restarted", [False, True], ids=["by the process that staged it", "by the next process"])
async def test_a_xen_disk_is_not_unstaged_while_an_earlier_umount_still_writes(
    node: LoopNode, store: FreezableStore, *, restarted: bool
) -> None:
    """Nothing but its name identifies the disk, and NodeUnstageVolume does not get the name."""
    node.link().resolve().rename(node.directory / "dev" / "xvdba")
    node.link().unlink()
    wanted = Staging(
        volume_id=VOLUME, target=node.staging(), capability=Capability(Mount(), WRITER), device="/dev/xvdba"
    )
    await stage(node.host, wanted)
    if restarted:
        node.host = LinuxHost(devices=node.directory / "dev", root=node.directory / "kubelet", patience=0.3)
        async with hold_written(node.staging() / "data"):
            with pytest.raises(errors.InUse):
                await unstage(node.host, VOLUME, node.staging())
    (node.staging() / "data").write_bytes(DATA)

    async with asyncio.TaskGroup() as group, freeze_store(store):
        group.create_task(command.run(["umount", str(node.staging())]))
        await wait_until(lambda: files.off_loop(lambda: not mounts_at(node.staging())))
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                await unstage(node.host, VOLUME, node.staging())

    await unstage_when_written(node)
    await stage(node.host, wanted)
    assert (node.staging() / "data").read_bytes() == DATA
    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("unstage.device-free")
async def test_a_raw_block_volume_is_not_unstaged_until_its_data_is_written(
    node: LoopNode, store: FreezableStore
) -> None:
    """A killed pod leaves data in the cache of the device."""
    device = await node.host.find_device(VOLUME)
    await publish(node.host, publishing(node, block=True))
    handle = os.open(device.path, os.O_RDWR)
    os.write(handle, DATA)
    await unpublish(node.host, VOLUME, node.target())

    async with freeze_store(store):
        with pytest.raises(errors.Unavailable):
            await unstage(node.host, VOLUME, node.staging())
    os.close(handle)

    await unstage_when_written(node)
    assert node.image().read_bytes()[: len(DATA)] == DATA


@pytest.mark.parametrize("filesystem", [*FILESYSTEMS, "raw block"])
async def test_one_program_waits_for_a_device_that_hangs_however_often_the_call_is_repeated(
    node: LoopNode, store: FreezableStore, filesystem: str
) -> None:
    """Kubelet repeats the call for ever, and a program that is stuck in the kernel cannot be ended."""
    device = await node.host.find_device(VOLUME)
    if filesystem != "raw block":
        await stage(node.host, staging(node, filesystem))
    written = device.path if filesystem == "raw block" else node.staging() / "data"

    async with hold_written(written), freeze_store(store):
        for _ in range(4):
            with pytest.raises(errors.Unavailable):
                await unstage(node.host, VOLUME, node.staging())
            assert len(children_named("sync")) == 1

    await unstage_when_written(node)
    assert children_named("sync") == []


@pytest.mark.parametrize("call", ["unmount", "mount", "read_contents"])
async def test_a_call_that_is_given_up_leaves_nothing_open(node: LoopNode, call: str) -> None:
    """An open descriptor keeps a device or a mount in use; the kernel may open it after the deadline."""
    device = await node.host.find_device(VOLUME)
    await stage(node.host, staging(node))
    if call != "unmount":
        await unstage(node.host, VOLUME, node.staging())

    async def run() -> None:
        match call:
            case "unmount":
                await node.host.unmount(node.staging())
            case "mount":
                await node.host.mount(device, VOLUME, node.staging(), "ext4", MountOptions())
            case _:
                await node.host.read_contents(device, VOLUME)

    for steps in range(40):
        async with asyncio.TaskGroup() as group:
            given_up = group.create_task(run())
            for _ in range(steps):
                await asyncio.sleep(0)
            given_up.cancel()
        await wait_until(lambda: files.off_loop(lambda: not open_below(node.directory)))


async def test_one_thread_waits_for_a_frozen_filesystem_however_often_it_is_measured(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubelet measures each path of a volume every minute."""
    monkeypatch.setattr(writable, "DEADLINE", 0.2)
    await stage(node.host, staging(node))
    await publish(node.host, publishing(node))
    await command.run(["fsfreeze", "--freeze", str(node.staging())])

    try:
        for path in (node.staging(), node.target()) * 2:
            assert (await measure(node.host, VOLUME, path)).health.reason == "WritesNotAnswered"
        assert sum(thread.name.startswith("stuck on") for thread in threading.enumerate()) == 1
    finally:
        await command.run(["fsfreeze", "--unfreeze", str(node.staging())])


@pytest.mark.requirement("unstage.device-free")
@pytest.mark.parametrize("block", [False, True], ids=["filesystem", "raw block"])
async def test_a_volume_is_not_unstaged_if_the_program_that_writes_its_data_does_not_run(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch, *, block: bool
) -> None:
    """A node may be out of processes or of memory; the volume has not answered then."""
    device = await node.host.find_device(VOLUME)
    if not block:
        await stage(node.host, staging(node))

    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        with pytest.raises(errors.Error, match="sync could not be started"):
            await unstage(node.host, VOLUME, node.staging())
        assert bool(mounts_at(node.staging())) is not block

    await unstage(node.host, VOLUME, node.staging())
    assert not device_use.is_held(device.path)


@pytest.mark.requirement("unstage.device-free")
@pytest.mark.parametrize("asked", [False, True], ids=["idle", "with a write that waits"])
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_volume_that_was_left_frozen_is_unstaged(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch, filesystem: str, *, asked: bool
) -> None:
    """A freeze keeps the filesystem in the kernel after its last unmount, out of reach of fsfreeze(8)."""
    monkeypatch.setattr(writable, "DEADLINE", 0.2)
    await stage(node.host, staging(node, filesystem))
    (node.staging() / "data").write_bytes(DATA)
    await command.run(["fsfreeze", "--freeze", str(node.staging())])
    try:
        if asked:
            assert (await measure(node.host, VOLUME, node.staging())).health.reason == "WritesNotAnswered"
        await unstage_when_written(node)
    finally:  # a test process with a write that waits cannot end
        await command.run(["fsfreeze", "--unfreeze", str(node.staging())], ok=frozenset({0, 1}))

    await stage(node.host, staging(node, filesystem))
    assert (node.staging() / "data").read_bytes() == DATA
    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("unstage.device-free")
async def test_a_volume_that_is_mounted_elsewhere_on_the_machine_is_not_unstaged(
    node: LoopNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the mount, which is outside of kubelet's directory."""
    monkeypatch.setattr(device_use, "PATIENCE", 0.0)
    await stage(node.host, staging(node))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    await command.run(["mount", "--bind", str(node.staging()), str(elsewhere)])

    try:
        for _ in range(2):
            with pytest.raises(errors.Unavailable, match=f"mounted at {elsewhere}"):
                await unstage(node.host, VOLUME, node.staging())
    finally:
        await command.run(["umount", str(elsewhere)])

    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("unstage.device-free")
async def test_a_volume_that_is_in_use_in_another_mount_namespace_is_not_unstaged(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may have a private copy of the mount, which no table of this process shows."""
    monkeypatch.setattr(device_use, "PATIENCE", 0.0)
    await stage(node.host, staging(node))

    async with copy_mount_to_another_namespace(node.staging(), file="open"):
        for _ in range(2):
            with pytest.raises(errors.Unavailable, match="another mount namespace"):
                await unstage(node.host, VOLUME, node.staging())

    await unstage_when_written(node)


async def test_a_copy_of_the_mount_that_no_process_uses_does_not_keep_a_volume_staged(node: LoopNode) -> None:
    """mount_namespaces(7): when a mount point is removed, it is unmounted in the other namespaces.

    Every container that is started with kubelet's directory as a private volume has such copies until it ends.
    """
    await stage(node.host, staging(node))

    async with copy_mount_to_another_namespace(node.staging()):
        await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("unstage.device-free")
async def test_a_volume_below_a_loop_device_is_not_unstaged(node: LoopNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lets others open the device exclusively; the error names the loop device."""
    monkeypatch.setattr(device_use, "PATIENCE", 0.0)
    device = await node.host.find_device(VOLUME)
    above = (await command.run(["losetup", "--find", "--show", str(device.path)])).out.strip()

    try:
        with pytest.raises(errors.Unavailable, match=f"{Path(above).name} is on top"):
            await unstage(node.host, VOLUME, node.staging())
    finally:
        await command.run(["losetup", "-d", above])

    await unstage_when_written(node)


@pytest.mark.requirement("data.foreign-mounts-stay")
async def test_a_slow_undo_of_a_mount_unmounts_nothing_else(
    node: LoopNode, store: FreezableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel gives the number of a closed descriptor to the next file that is opened."""
    neighbour = node.directory / "kubelet" / "neighbour" / node.staging().name
    neighbour.mkdir(parents=True)
    await command.run(["mount", "-t", "tmpfs", "none", str(neighbour)])
    program = tmp_path / "programs" / "mount"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\n/usr/bin/mount -o loop "$@"\nhead -c 30M /dev/urandom > {node.staging()}/data\n'
        f"fsfreeze --freeze {store.directory}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(mount, "UNMOUNT_DEADLINE", 0.2)

    with pytest.raises(errors.Unavailable):
        await stage(node.host, staging(node))
    opened = [os.open(neighbour.parent, os.O_PATH) for _ in range(64)]
    await store.thaw()
    await wait_until(lambda: files.off_loop(lambda: not any("stuck" in each.name for each in threading.enumerate())))
    for handle in opened:
        os.close(handle)

    assert mounts_at(neighbour)
    assert not mounts_at(node.staging())


@pytest.mark.requirement("unstage.device-free")
async def test_a_volume_that_was_staged_at_two_paths_is_unstaged_from_both(node: LoopNode) -> None:
    """The first call unmounts and names the second path; only the second call lets the controller detach."""
    other = node.directory / "kubelet" / "other"
    await stage(node.host, staging(node))
    await stage(node.host, staging(node, path=other))

    with pytest.raises(errors.InUse, match=f"still mounted at {other}"):
        await unstage(node.host, VOLUME, node.staging())
    await unstage(node.host, VOLUME, other)
    await unstage(node.host, VOLUME, node.staging())

    assert not other.exists()
    assert not node.staging().exists()
