"""A mounted filesystem is not always usable: write-protected devices, and filesystems that stopped writing."""

import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from shutil import which

import pytest

from hyperpod_ebs.driver.linux import writable
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Block, Capability, Mount
from hyperpod_ebs.driver.model.health import HEALTHY, HealthStatus
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.mounts.expand import expand
from hyperpod_ebs.driver.mounts.publish import Publishing, publish, unpublish
from hyperpod_ebs.driver.mounts.stage import Staging, stage, unstage
from hyperpod_ebs.driver.mounts.usage import judge_health, measure
from hyperpod_ebs.kit import command
from tests.support.loop_device_node import GIB, VOLUME, LoopNode, mounts_at
from tests.support.waiting import wait_until_equal

pytestmark = pytest.mark.root

FILESYSTEMS = ("ext4", "xfs")
MIB = 2**20
WRITER = AccessMode.SINGLE_NODE_WRITER


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[LoopNode]:
    async with LoopNode.create(tmp_path) as running:
        yield running


def staging(node: LoopNode, *flags: str, filesystem: str = "ext4") -> Staging:
    return Staging(
        volume_id=VOLUME,
        target=node.staging(),
        capability=Capability(Mount(filesystem, MountOptions.parse(flags)), WRITER),
    )


def publishing(node: LoopNode, name: str = "pod", *, read_only: bool = False) -> Publishing:
    return Publishing(
        volume_id=VOLUME,
        staging=node.staging(),
        target=node.target(name),
        capability=Capability(Mount(), WRITER),
        read_only=read_only,
    )


async def trigger_error(node: LoopNode) -> None:
    """Let ext4 find an error, as a bad block would (Linux, Documentation/ABI/testing/sysfs-fs-ext4)."""
    Path("/sys/fs/ext4", node.loops[VOLUME].name, "trigger_fs_error").write_text("x")


async def abort(node: LoopNode) -> None:
    """Abort the journal (ext4(5), abort)."""
    await command.run(["mount", "-o", "remount,abort", str(node.staging())])


async def shut_down(node: LoopNode) -> None:
    """Let ext4 fail as if its device had failed (EXT4_IOC_SHUTDOWN)."""
    await command.run(["xfs_io", "-x", "-c", "shutdown", str(node.staging())])


FAILURES: dict[str, tuple[str, Callable[[LoopNode], Awaitable[None]]]] = {
    "an error with errors=remount-ro": ("errors=remount-ro", trigger_error),
    "an aborted journal": ("errors=continue", abort),
    "a shutdown": ("errors=continue", shut_down),
}


async def stage_and_fail(node: LoopNode, failure: str) -> Staging:
    """Stage and publish an ext4 with a file on it, and let it fail."""
    flag, fail = FAILURES[failure]
    wanted = staging(node, flag)
    await node.attach()
    await stage(node.host, wanted)
    await publish(node.host, publishing(node))
    (node.target() / "kept").write_text("data")
    await command.run(["sync", "-f", str(node.target())])
    await fail(node)
    with pytest.raises(OSError, match=r"Read-only|Input/output"):
        (node.target() / "new").touch()
    return wanted


@pytest.mark.parametrize("flags", [(), ("rw",), ("noatime",)], ids=["no option", "rw", "another option"])
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_write_protected_device_is_not_staged_for_writing(
    node: LoopNode, filesystem: str, flags: tuple[str, ...]
) -> None:
    """mount(8), -w: without it, mount falls back to a read-only mount, and exits with 0."""
    await node.attach()
    await stage(node.host, staging(node, *flags, filesystem=filesystem))
    await unstage(node.host, VOLUME, node.staging())
    await node.write_protect()

    with pytest.raises(errors.NotReady, match=r"is write-protected, .*blockdev --setrw"):
        await stage(node.host, staging(node, *flags, filesystem=filesystem))

    assert mounts_at(node.staging()) == ()


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_device_that_is_write_protected_after_it_was_read_is_not_mounted(
    node: LoopNode, filesystem: str
) -> None:
    """mount(8), -w. The driver reads the device some time before it mounts it."""
    await node.attach()
    await stage(node.host, staging(node, filesystem=filesystem))
    await unstage(node.host, VOLUME, node.staging())
    device = await node.host.find_device(VOLUME)
    await node.write_protect()

    with pytest.raises(errors.NotReady, match="write-protected"):
        await node.host.mount(device, VOLUME, node.staging(), filesystem, MountOptions.parse(()))

    assert mounts_at(node.staging()) == ()


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_write_protected_device_is_staged_read_only_if_that_is_wanted(node: LoopNode, filesystem: str) -> None:
    """CSI spec, NodeStageVolume: the volume capability decides."""
    await node.attach()
    await stage(node.host, staging(node, filesystem=filesystem))
    await unstage(node.host, VOLUME, node.staging())
    await node.write_protect()

    await stage(node.host, staging(node, "ro", filesystem=filesystem))

    assert "ro" in mounts_at(node.staging())[0].options


@pytest.mark.requirement("volume.mounted-is-not-usable")
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_filesystem_that_stopped_writing_is_not_used_until_it_is_repaired(node: LoopNode, failure: str) -> None:
    """https://github.com/longhorn/longhorn/issues/13452: Linux 6.12 does not show `ro` after an error."""
    wanted = await stage_and_fail(node, failure)

    for attempt in (
        stage(node.host, wanted),
        publish(node.host, publishing(node, "second pod")),
        publish(node.host, publishing(node)),
        expand(node.host, VOLUME, node.target(), wanted=GIB),
        expand(node.host, VOLUME, node.staging(), wanted=GIB),
    ):
        with pytest.raises(errors.Unavailable, match=r"refuses writes: .*delete the volume's pods"):
            await attempt
    with pytest.raises(errors.Unavailable, match=f"used at {node.target()}"):
        await stage(node.host, wanted)
    assert len(mounts_at(node.staging())) == len(mounts_at(node.target())) == 1
    assert not node.target("second pod").exists()

    await unpublish(node.host, VOLUME, node.target())
    await stage(node.host, wanted)
    await publish(node.host, publishing(node))

    (node.target() / "new").touch()
    assert (node.target() / "kept").read_text() == "data"
    await unpublish(node.host, VOLUME, node.target())
    await unstage(node.host, VOLUME, node.staging())
    await command.run(["e2fsck", "-fn", str(node.loops[VOLUME])])


@pytest.mark.requirement("volume.mounted-is-not-usable")
@pytest.mark.parametrize("failure", FAILURES)
async def test_statistics_say_that_a_filesystem_stopped_writing(node: LoopNode, failure: str) -> None:
    """CSI spec 1.12, VolumeCondition. A pod that only reads gets the same answer."""
    await stage_and_fail(node, failure)
    node.target("reader").mkdir()
    await command.run(["mount", "-o", "bind,ro", str(node.staging()), str(node.target("reader"))])

    for path in (node.staging(), node.target(), node.target("reader")):
        measured = await measure(node.host, VOLUME, path)
        assert measured.usage
        assert measured.health.status is HealthStatus.DEGRADED
        assert "refuses writes" in measured.health.message
        assert await judge_health(node.host, VOLUME, path) == measured.health
    assert (await judge_health(node.host, VOLUME, None)).status is HealthStatus.DEGRADED


@pytest.mark.requirement("volume.mounted-is-not-usable")
@pytest.mark.parametrize("failure", FAILURES)
async def test_an_immutable_root_directory_does_not_hide_that_a_filesystem_stopped_writing(
    node: LoopNode, failure: str
) -> None:
    """chattr(1), the attribute i: nothing in the directory can be created, deleted or renamed."""
    flag, fail = FAILURES[failure]
    await node.attach()
    await stage(node.host, staging(node, flag))
    await command.run(["chattr", "+i", str(node.staging())])
    healthy = await judge_health(node.host, VOLUME, node.staging())

    await fail(node)

    assert healthy is HEALTHY
    assert (await judge_health(node.host, VOLUME, node.staging())).status is HealthStatus.DEGRADED


async def test_a_filesystem_that_stopped_writing_without_a_record_of_it_is_checked(
    node: LoopNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filesystem whose device failed could not record that in its superblock."""
    wanted = await stage_and_fail(node, "a shutdown")
    await unpublish(node.host, VOLUME, node.target())
    program, checked = tmp_path / "programs" / "e2fsck", tmp_path / "checked"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nmountpoint -q {node.staging()} || touch {checked}\nexec {which("e2fsck")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    await stage(node.host, wanted)

    assert checked.exists()
    (node.staging() / "new").touch()


async def test_statistics_say_that_a_filesystem_found_errors_although_it_accepts_writes(node: LoopNode) -> None:
    """ext4(5), errors=continue, the default: the filesystem stays writable, and is checked when it is staged next."""
    await node.attach()
    await stage(node.host, staging(node))
    await trigger_error(node)

    measured = await measure(node.host, VOLUME, node.staging())
    await stage(node.host, staging(node))
    await unstage(node.host, VOLUME, node.staging())
    await stage(node.host, staging(node))
    after_repair = await measure(node.host, VOLUME, node.staging())

    assert (measured.health.status, measured.health.reason) == (HealthStatus.DEGRADED, "ErrorsRecorded")
    assert "has found 1 error in itself" in measured.health.message
    assert after_repair.health is HEALTHY


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_filesystem_that_stopped_writing_is_unpublished_and_unstaged(node: LoopNode, failure: str) -> None:
    """CSI spec, NodeUnstageVolume: the driver undoes NodeStageVolume."""
    await stage_and_fail(node, failure)

    await unpublish(node.host, VOLUME, node.target())
    await unstage(node.host, VOLUME, node.staging())

    assert not node.staging().exists()


async def test_a_failed_filesystem_that_is_mounted_elsewhere_is_not_mounted_again(
    node: LoopNode, tmp_path: Path
) -> None:
    """mount(2): all mounts of a device share one filesystem, so a new mount does not work either."""
    wanted = await stage_and_fail(node, "an aborted journal")
    await unpublish(node.host, VOLUME, node.target())
    (tmp_path / "elsewhere").mkdir()
    await command.run(["mount", "--bind", str(node.staging()), str(tmp_path / "elsewhere")])

    with pytest.raises(errors.Unavailable, match=f"mounted at {tmp_path / 'elsewhere'}"):
        await stage(node.host, wanted)

    assert mounts_at(node.staging()) == ()
    await command.run(["umount", str(tmp_path / "elsewhere")])
    await stage(node.host, wanted)


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_asking_whether_a_volume_accepts_writes_changes_nothing(node: LoopNode, filesystem: str) -> None:
    """Kubelet asks for the statistics of each volume every minute."""
    await node.attach()
    await stage(node.host, staging(node, filesystem=filesystem))
    before = contents(node)

    assert (await measure(node.host, VOLUME, node.staging())).health is HEALTHY
    await publish(node.host, publishing(node))
    await publish(node.host, publishing(node))
    await expand(node.host, VOLUME, node.target(), wanted=GIB)

    assert contents(node) == before


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_full_filesystem_is_healthy(node: LoopNode, filesystem: str) -> None:
    await node.attach(size=320 * MIB)
    await stage(node.host, staging(node, filesystem=filesystem))
    await command.run(["dd", "if=/dev/zero", f"of={node.staging() / 'filler'}", "bs=1M"], ok=frozenset({1}))
    with pytest.raises(OSError, match="No space"):
        (node.staging() / "more").write_bytes(bytes(MIB))

    assert (await measure(node.host, VOLUME, node.staging())).health is HEALTHY
    await publish(node.host, publishing(node))


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_volume_that_is_mounted_read_only_as_wanted_is_healthy(node: LoopNode, filesystem: str) -> None:
    await node.attach()
    await stage(node.host, staging(node, filesystem=filesystem))
    await unstage(node.host, VOLUME, node.staging())
    wanted = staging(node, "ro", filesystem=filesystem)
    await stage(node.host, wanted)
    await stage(node.host, wanted)
    await publish(node.host, publishing(node, read_only=True))

    for path in (node.staging(), node.target()):
        assert (await measure(node.host, VOLUME, path)).health is HEALTHY


async def test_a_volume_that_became_read_only_on_the_node_is_not_published_for_writing(node: LoopNode) -> None:
    """CSI spec, NodePublishVolume: only `readonly` and the capability make a volume read-only."""
    await node.attach()
    await stage(node.host, staging(node))
    await command.run(["mount", "-o", "remount,ro", str(node.staging())])

    with pytest.raises(errors.Unavailable, match="it is mounted read-only"):
        await publish(node.host, publishing(node))
    await publish(node.host, publishing(node, read_only=True))


async def test_a_frozen_filesystem_is_reported_and_left_alone(node: LoopNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsfreeze(8): backup programs freeze a filesystem for moments; a write then waits and does not fail."""
    monkeypatch.setattr(writable, "DEADLINE", 0.2)
    await node.attach()
    await stage(node.host, staging(node))
    await publish(node.host, publishing(node))
    await command.run(["fsfreeze", "--freeze", str(node.staging())])
    try:
        for _ in range(2):
            measured = await measure(node.host, VOLUME, node.target())
            assert (measured.health.status, measured.health.reason) == (HealthStatus.DEGRADED, "WritesNotAnswered")
            assert measured.usage
        with pytest.raises(errors.Unavailable, match="accepts writes"):
            await stage(node.host, staging(node))
    finally:
        await command.run(["fsfreeze", "--unfreeze", str(node.staging())])

    await wait_until_equal(lambda: is_healthy(node), expected=True)
    assert len(mounts_at(node.staging())) == 1
    await stage(node.host, staging(node))


async def test_a_socket_of_the_volume_that_a_container_mounts_is_not_taken_for_a_failed_volume(node: LoopNode) -> None:
    """Kubernetes, volume subPath: kubelet bind-mounts a file of the volume; opening a socket fails (open(2), ENXIO)."""
    await node.attach()
    await stage(node.host, staging(node))
    await publish(node.host, publishing(node, read_only=True))
    os.mknod(node.staging() / "socket", stat.S_IFSOCK | 0o600)
    subpath = node.directory / "kubelet" / "a-subpath"
    subpath.touch()
    await command.run(["mount", "--bind", str(node.staging() / "socket"), str(subpath)])

    assert (await measure(node.host, VOLUME, node.target())).health == HEALTHY


def block(node: LoopNode, name: str = "pod", *, read_only: bool = False, mode: AccessMode = WRITER) -> Publishing:
    return Publishing(
        volume_id=VOLUME,
        staging=node.staging(),
        target=node.target(name),
        capability=Capability(Block(), mode),
        read_only=read_only,
    )


def block_staging(node: LoopNode) -> Staging:
    return Staging(volume_id=VOLUME, target=node.staging(), capability=Capability(Block(), WRITER))


def read_block(path: Path) -> bytes:
    with path.open("rb") as device:
        return device.read(4)


def write_block(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(handle, b"data", 0)
        os.fsync(handle)
    finally:
        os.close(handle)


@pytest.mark.requirement("csi.node-publish.read-only")
@pytest.mark.parametrize("how", ["readonly", "access mode"])
async def test_a_raw_block_volume_that_is_published_read_only_cannot_be_written(node: LoopNode, how: str) -> None:
    """CSI spec, NodePublishVolume, readonly. mount(2), MS_RDONLY: it does not concern what a device node stands for."""
    await node.attach()
    mode = AccessMode.SINGLE_NODE_READER_ONLY if how == "access mode" else WRITER
    wanted = block(node, read_only=how == "readonly", mode=mode)
    await stage(node.host, block_staging(node))

    for _ in range(2):
        await publish(node.host, wanted)
        with pytest.raises(PermissionError):
            write_block(node.target())
        assert read_block(node.target()) == bytes(4)
        assert (await measure(node.host, VOLUME, node.target())).health is HEALTHY

    await unpublish(node.host, VOLUME, node.target())
    await publish(node.host, block(node))
    write_block(node.target())
    await unpublish(node.host, VOLUME, node.target())
    await unstage(node.host, VOLUME, node.staging())


async def test_a_repeated_read_only_publish_protects_the_device_again(node: LoopNode) -> None:
    """blockdev(8): any process with root's rights can take the protection away."""
    await node.attach()
    await publish(node.host, block(node, read_only=True))
    await command.run(["blockdev", "--setrw", str(node.loops[VOLUME])])

    await publish(node.host, block(node, read_only=True))

    with pytest.raises(PermissionError):
        write_block(node.target())


async def test_a_raw_block_volume_has_readers_or_writers_on_a_node(node: LoopNode) -> None:
    """Decision 0033: the kernel's write protection holds for all users of a device."""
    await node.attach()
    await publish(node.host, block(node, "writer"))
    with pytest.raises(errors.InUse, match=f"published for writing at {node.target('writer')}"):
        await publish(node.host, block(node, "reader", read_only=True))
    write_block(node.target("writer"))
    assert not node.target("reader").exists()

    await unpublish(node.host, VOLUME, node.target("writer"))
    await publish(node.host, block(node, "reader", read_only=True))
    await publish(node.host, block(node, "second reader", read_only=True))
    with pytest.raises(errors.InUse, match="published read-only at"):
        await publish(node.host, block(node, "writer"))

    await unpublish(node.host, VOLUME, node.target("reader"))
    with pytest.raises(PermissionError):
        write_block(node.target("second reader"))
    await unpublish(node.host, VOLUME, node.target("second reader"))
    await publish(node.host, block(node, "writer"))
    write_block(node.target("writer"))


async def test_a_volume_with_a_mounted_filesystem_is_not_published_read_only_as_a_raw_block_volume(
    node: LoopNode,
) -> None:
    """The filesystem could not write any more."""
    await node.attach()
    await stage(node.host, staging(node))

    with pytest.raises(errors.InUse, match="mounted as a filesystem"):
        await publish(node.host, block(node, read_only=True))

    (node.staging() / "new").touch()
    assert (await measure(node.host, VOLUME, node.staging())).health is HEALTHY


async def test_a_volume_with_a_mounted_filesystem_is_not_published_for_writing_as_a_raw_block_volume(
    node: LoopNode,
) -> None:
    """Decision 0033: the kernel lets a writer of the device destroy the filesystem that is mounted."""
    await node.attach()
    await stage(node.host, staging(node))
    await publish(node.host, publishing(node))

    with pytest.raises(errors.InUse, match=f"mounted as a filesystem at {node.target()}"):
        await publish(node.host, block(node, "raw"))
    with pytest.raises(errors.Conflict, match="raw block volume"):
        await stage(node.host, block_staging(node))
    await unpublish(node.host, VOLUME, node.target())
    await unstage(node.host, VOLUME, node.staging())
    await publish(node.host, block(node, "raw"))

    assert not node.target().exists()
    write_block(node.target("raw"))


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_volume_that_is_published_as_a_raw_block_volume_is_not_mounted(
    node: LoopNode, *, read_only: bool
) -> None:
    """Decision 0033: what the raw block volume's user writes is not a filesystem's."""
    await node.attach()
    await publish(node.host, block(node, "raw", read_only=read_only))

    with pytest.raises(errors.InUse, match=f"raw block volume at {node.target('raw')}"):
        await stage(node.host, staging(node))
    assert not node.image().stat().st_blocks
    await unpublish(node.host, VOLUME, node.target("raw"))
    await stage(node.host, staging(node))

    assert mounts_at(node.staging())


@pytest.mark.parametrize("undo", ["unpublish", "unstage"])
async def test_write_protection_that_a_killed_process_left_is_lifted(node: LoopNode, undo: str) -> None:
    """The process died before the bind mount or after the unmount; kubelet repeats the call or undoes it."""
    await node.attach()
    await node.write_protect()

    with pytest.raises(errors.NotReady, match="is write-protected"):
        await publish(node.host, block(node))
    if undo == "unpublish":
        await unpublish(node.host, VOLUME, node.target())
    else:
        await unstage(node.host, VOLUME, node.staging())
    await publish(node.host, block(node))

    write_block(node.target())


async def test_a_failed_read_only_publish_leaves_no_write_protection(node: LoopNode) -> None:
    """After a final error kubelet does not unpublish (Kubernetes, csi_client.go, isFinalError)."""
    await node.attach()

    with pytest.raises(errors.NotReady, match="is absent"):
        await publish(node.host, block(node, "absent/pod", read_only=True))

    await publish(node.host, block(node))
    write_block(node.target())


async def test_a_device_that_is_write_protected_under_a_writer_is_reported(node: LoopNode) -> None:
    await node.attach()
    await publish(node.host, block(node))
    await node.write_protect()

    measured = await measure(node.host, VOLUME, node.target())

    assert measured.health.status is HealthStatus.DEGRADED
    assert "write-protects its device" in measured.health.message


async def is_healthy(node: LoopNode) -> bool:
    """Whether the volume is healthy; not before the call that the freeze held up has ended."""
    return (await measure(node.host, VOLUME, node.target())).health is HEALTHY


def contents(node: LoopNode) -> tuple[object, ...]:
    """The files of the staged volume, the times of its root directory, and what is free on it."""
    root, free = node.staging().stat(), os.statvfs(node.staging())
    names = sorted(path.name for path in node.staging().iterdir())
    return names, root.st_ctime_ns, root.st_mtime_ns, free.f_bfree, free.f_ffree
