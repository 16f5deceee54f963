"""Stage, publish, expand, measure, unpublish, unstage: on loop devices, with real mounts."""

import errno
import fcntl
import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hyperpod_ebs.driver.linux import marker, mkfs, mount_calls
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Block, Capability, Mount
from hyperpod_ebs.driver.model.disk import Filesystem
from hyperpod_ebs.driver.model.formatting import Formatting
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.model.path_state import PathState
from hyperpod_ebs.driver.mounts.expand import expand
from hyperpod_ebs.driver.mounts.publish import Publishing, publish, unpublish
from hyperpod_ebs.driver.mounts.stage import Staging, stage, unstage
from hyperpod_ebs.driver.mounts.usage import measure
from hyperpod_ebs.kit import command
from tests.support.loop_device_node import GIB, OTHER, VOLUME, LoopNode, measure_bytes, mounts_at

pytestmark = pytest.mark.root

MIB = 2**20
FILESYSTEMS = ("ext4", "xfs")
XFS_IOC_GOINGDOWN = 0x8004587D
WRITER = AccessMode.SINGLE_NODE_WRITER


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[LoopNode]:
    async with LoopNode.create(tmp_path) as running:
        yield running


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the programs that ran, in order."""
    ran: list[str] = []
    run = command.run

    async def run_and_record(argv: list[str], **options: object) -> command.Finished:
        ran.append(argv[0])
        return await run(argv, **options)  # type: ignore[arg-type] # passed on unchanged

    monkeypatch.setattr(command, "run", run_and_record)
    return ran


def staging(node: LoopNode, *flags: str, filesystem: str = "ext4", volume_id: str = VOLUME) -> Staging:
    capability = Capability(Mount(filesystem, MountOptions.parse(flags)), WRITER)
    return Staging(volume_id=volume_id, target=node.staging(volume_id), capability=capability)


def staging_with_format(node: LoopNode, filesystem: str, **parameters: str) -> Staging:
    capability = Capability(Mount(filesystem), WRITER)
    formatting = Formatting.parse(parameters)
    return Staging(volume_id=VOLUME, target=node.staging(), capability=capability, formatting=formatting)


def publishing(node: LoopNode, *flags: str, read_only: bool = False, block: bool = False) -> Publishing:
    return Publishing(
        volume_id=VOLUME,
        staging=node.staging(),
        target=node.target(),
        capability=Capability(Block() if block else Mount("ext4", MountOptions.parse(flags)), WRITER),
        read_only=read_only,
    )


async def refuse_writes(state: PathState) -> str:
    return f"{state.path} is on a disk that fails after the mount"


@contextmanager
def open_file(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield
    finally:
        os.close(handle)


def shut_down(path: Path) -> None:
    """Make an XFS fail as if its device had failed (XFS_IOC_GOINGDOWN)."""
    handle = os.open(path, os.O_RDONLY)
    fcntl.ioctl(handle, XFS_IOC_GOINGDOWN, (2).to_bytes(4, "little"))
    os.close(handle)


@pytest.mark.requirement("csi.stage-volume.idempotent")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_staging_runs_only_the_programs_that_it_needs(
    node: LoopNode, programs: list[str], filesystem: str
) -> None:
    """Each program costs start-up time of the pod."""
    await node.attach()
    wanted = staging(node, filesystem=filesystem)

    programs.clear()
    await stage(node.host, wanted)
    assert programs == ["blkid", f"mkfs.{filesystem}", "mount"]

    programs.clear()
    await stage(node.host, wanted)
    assert programs == []

    await unstage(node.host, VOLUME, wanted.target)
    programs.clear()
    await stage(node.host, wanted)
    assert programs == ["blkid", "mount"]


@pytest.mark.requirement("csi.node-publish.target")
async def test_a_volume_keeps_its_data_when_it_moves_to_another_node(node: LoopNode, tmp_path: Path) -> None:
    """CSI spec, Volume Lifecycle."""
    await node.attach()
    await stage(node.host, staging(node))
    await publish(node.host, publishing(node))
    (node.target() / "kept").write_text("data")
    await unpublish(node.host, VOLUME, node.target())
    await unstage(node.host, VOLUME, node.staging())
    await node.detach()

    async with LoopNode.create(tmp_path / "other") as other:
        os.link(node.image(), other.image())
        await other.attach()
        await stage(other.host, staging(other))
        assert (other.staging() / "kept").read_text() == "data"


@pytest.mark.requirement("csi.stage-volume.conflict")
async def test_staging_again_with_other_options_is_refused(node: LoopNode) -> None:
    """CSI spec, NodeStageVolume: a repeat with an incompatible capability is ALREADY_EXISTS."""
    await node.attach()
    await node.attach(OTHER)
    await stage(node.host, staging(node, "noatime"))

    for other in (staging(node), staging(node, "noatime", "discard"), staging(node, "noatime", filesystem="xfs")):
        with pytest.raises(errors.Conflict):
            await stage(node.host, other)
    with pytest.raises(errors.Conflict, match=f"not of volume {OTHER}"):
        await stage(
            node.host,
            Staging(volume_id=OTHER, target=node.staging(), capability=Capability(Mount(), WRITER)),
        )

    await stage(node.host, staging(node, "noatime"))


async def test_staging_a_raw_block_volume_only_waits_for_its_device(node: LoopNode, programs: list[str]) -> None:
    wanted = Staging(volume_id=VOLUME, target=node.staging(), capability=Capability(Block(), WRITER))
    with pytest.raises(errors.DeviceNotReady):
        await stage(node.host, wanted)

    await node.attach()
    programs.clear()
    await stage(node.host, wanted)

    assert programs == []


async def test_a_restored_copy_can_be_mounted_next_to_its_source(node: LoopNode) -> None:
    """xfs(5), nouuid: without it the kernel refuses a second filesystem with the same UUID."""
    await node.attach(size=GIB)
    await stage(node.host, staging(node, filesystem="xfs"))
    await command.run(["sync"])
    await command.run(["cp", "--sparse=always", str(node.image()), str(node.image(OTHER))])
    await node.attach(OTHER)

    await stage(node.host, staging(node, filesystem="xfs", volume_id=OTHER))

    assert len({mounts_at(node.staging(volume_id))[0].number for volume_id in (VOLUME, OTHER)}) == 2


async def test_staging_that_fails_after_the_mount_unmounts(node: LoopNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubelet never unstages after a final error, so mounts leak (Kubernetes, csi_client.go, isFinalError)."""
    await node.attach()
    monkeypatch.setattr(node.host, "find_write_refusal", refuse_writes)

    with pytest.raises(errors.Unavailable, match="refuses writes"):
        await stage(node.host, staging(node))

    assert mounts_at(node.staging()) == ()


async def test_staging_that_fails_and_cannot_unmount_returns_a_retryable_error(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a final error kubelet would forget the mount (Kubernetes, csi_client.go, isFinalError)."""
    await node.attach()
    monkeypatch.setattr(node.host, "find_write_refusal", refuse_writes)

    async def refuse_unmount(target: Path) -> None:
        raise errors.InUse(f"a process still uses {target}")

    with monkeypatch.context() as patch:
        patch.setattr(node.host, "unmount", refuse_unmount)
        with pytest.raises(errors.Unavailable, match="stays mounted"):
            await stage(node.host, staging(node))

    await unstage(node.host, VOLUME, node.staging())


async def test_publishing_that_fails_after_the_bind_mount_unmounts_or_returns_a_retryable_error(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mount(2), Creating a bind mount: before Linux 5.12 the options need a second call, which can fail on its own."""
    await node.attach()
    await stage(node.host, staging(node))
    monkeypatch.setattr(mount_calls, "bind_with_options", lambda *_: False)

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(mount_calls, "set_options", refuse)
    with pytest.raises(errors.Unavailable, match="Operation not permitted"):
        await publish(node.host, publishing(node, read_only=True))
    assert mounts_at(node.target()) == ()
    assert not node.target().exists()

    monkeypatch.setattr(mount_calls, "unmount", refuse)
    with pytest.raises(errors.Unavailable, match="stays mounted"):
        await publish(node.host, publishing(node, read_only=True))


@pytest.mark.requirement("calls.same-answer")
async def test_a_publishing_that_is_killed_before_the_options_are_set_can_be_repeated(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount with other options than those of the request would be refused by each repeat."""

    class Killed(BaseException):
        """The end of the process."""

    def kill(*_: object) -> None:
        raise Killed

    await node.attach()
    await stage(node.host, staging(node))
    with monkeypatch.context() as patch:
        for name in ("set_attributes", "set_options"):
            patch.setattr(mount_calls, name, kill)
        with pytest.raises(Killed):
            await publish(node.host, publishing(node, read_only=True))

    await publish(node.host, publishing(node, read_only=True))

    (mounted,) = mounts_at(node.target())
    assert "ro" in mounted.options


async def test_a_damaged_filesystem_is_repaired_before_it_is_mounted(node: LoopNode, programs: list[str]) -> None:
    """A check runs only if the superblock records errors."""
    loop = await node.attach()
    await command.run([*mkfs.PROGRAMS["ext4"], str(loop)])
    await command.run(["debugfs", "-w", "-R", "ssv state 3", str(loop)])

    programs.clear()
    await stage(node.host, staging(node))

    assert programs == ["blkid", "e2fsck", "mount"]


@pytest.mark.requirement("csi.node-publish.idempotent", "csi.node-publish.conflict", "csi.node-publish.read-only")
async def test_publishing_again_succeeds_and_with_other_options_is_refused(node: LoopNode) -> None:
    """CSI spec, NodePublishVolume: a repeat with an incompatible readonly is ALREADY_EXISTS."""
    await node.attach()
    await stage(node.host, staging(node))

    await publish(node.host, publishing(node, "noexec", read_only=True))
    await publish(node.host, publishing(node, "noexec", read_only=True))
    with pytest.raises(errors.Conflict, match="is ro"):
        await publish(node.host, publishing(node, "noexec"))

    (bind,) = mounts_at(node.target())
    assert {"ro", "noexec"} <= bind.options
    with pytest.raises(OSError, match="Read-only"):
        (node.target() / "new").touch()
    (node.staging() / "new").touch()


@pytest.mark.requirement("csi.node-publish.not-staged")
async def test_an_unstaged_volume_is_not_published(node: LoopNode) -> None:
    """CSI spec, NodePublishVolume: a volume that is not staged is FAILED_PRECONDITION."""
    await node.attach()

    with pytest.raises(errors.NotReady, match="is not staged"):
        await publish(node.host, publishing(node))

    assert not node.target().exists()


@pytest.mark.requirement("csi.unstage-volume.idempotent", "csi.node-unpublish.undone")
async def test_unpublish_and_unstage_remove_everything_and_may_be_repeated(node: LoopNode) -> None:
    """CSI spec, NodeUnpublishVolume and NodeUnstageVolume: idempotent. All stacked mounts of the volume are removed."""
    await node.attach()
    await stage(node.host, staging(node))
    await publish(node.host, publishing(node))
    await command.run(["mount", "--bind", str(node.staging()), str(node.target())])
    assert len(mounts_at(node.target())) == 2

    for _ in range(2):
        await unpublish(node.host, VOLUME, node.target())
        assert not node.target().exists()
    for _ in range(2):
        await unstage(node.host, VOLUME, node.staging())
        assert not node.staging().exists()


async def test_a_target_directory_with_files_in_it_is_not_removed(node: LoopNode) -> None:
    """The files may be a user's."""
    node.target().mkdir()
    (node.target() / "a user's").touch()

    await unpublish(node.host, VOLUME, node.target())

    assert (node.target() / "a user's").exists()


@pytest.mark.requirement("unstage.device-free")
async def test_a_published_volume_is_not_unstaged(node: LoopNode) -> None:
    """The device would stay in use, and its detach would hang. The pod is not disturbed."""
    await node.attach()
    await stage(node.host, staging(node))
    await publish(node.host, publishing(node))

    with pytest.raises(errors.InUse, match=f"still mounted at {node.target()}"):
        await unstage(node.host, VOLUME, node.staging())

    (node.target() / "new").touch()
    await stage(node.host, staging(node))
    assert (node.staging() / "new").exists()


@pytest.mark.requirement("unstage.device-free")
@pytest.mark.parametrize("block", [False, True], ids=["mounted", "raw block"])
async def test_a_published_volume_is_not_unstaged_even_if_its_staging_mount_is_gone(
    node: LoopNode, *, block: bool
) -> None:
    """After a success the controller may detach the device from a pod that still writes to it."""
    await node.attach()
    if not block:
        await stage(node.host, staging(node))
    await publish(node.host, publishing(node, block=block))
    await command.run(["umount", str(node.staging())], ok=frozenset({0, 32}))  # 32: a raw block volume has no mount

    with pytest.raises(errors.InUse, match=f"still mounted at {node.target()}"):
        await unstage(node.host, VOLUME, node.staging())

    await unpublish(node.host, VOLUME, node.target())
    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("unstage.device-free")
async def test_a_volume_that_a_process_uses_is_not_unstaged(node: LoopNode) -> None:
    """A lazy unmount would hide that the device is still in use."""
    await node.attach()
    await stage(node.host, staging(node))
    (node.staging() / "open").touch()

    with open_file(node.staging() / "open"), pytest.raises(errors.InUse, match="a process still uses it"):
        await unstage(node.host, VOLUME, node.staging())

    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("data.foreign-mounts-stay")
@pytest.mark.parametrize("holder", ["another volume", "a tmpfs"])
async def test_a_mount_that_is_not_the_volumes_is_not_unmounted(node: LoopNode, holder: str) -> None:
    """aws-ebs-csi-driver unmounts everything at the path."""
    if holder == "a tmpfs":
        node.staging().mkdir()
        await command.run(["mount", "-t", "tmpfs", "tmpfs", str(node.staging())])
    else:
        await node.attach(OTHER)
        other = Staging(volume_id=OTHER, target=node.staging(), capability=Capability(Mount(), WRITER))
        await stage(node.host, other)

    with pytest.raises(errors.NotReady, match=f"not of volume {VOLUME}"):
        await unstage(node.host, VOLUME, node.staging())
    with pytest.raises(errors.NotReady, match=f"not of volume {VOLUME}"):
        await unpublish(node.host, VOLUME, node.staging())

    assert mounts_at(node.staging())


@pytest.mark.requirement("csi.node-publish.target")
async def test_a_raw_block_volume_is_published_as_a_device_node(node: LoopNode) -> None:
    """CSI spec, NodePublishVolume: the target of a block volume is a file."""
    loop = await node.attach()

    await publish(node.host, publishing(node, block=True))
    await publish(node.host, publishing(node, block=True))

    assert node.target().is_block_device()
    assert node.target().stat().st_rdev == loop.stat().st_rdev
    assert (await measure_bytes(node.host, VOLUME, node.target())).total == GIB
    await node.resize(2 * GIB)
    assert await expand(node.host, VOLUME, node.target(), wanted=2 * GIB) == 2 * GIB
    with pytest.raises(errors.Conflict):
        await publish(node.host, publishing(node, block=True, read_only=True))
    await unpublish(node.host, VOLUME, node.target())
    assert not node.target().exists()


@pytest.mark.parametrize("path", ["relative", "{root}", "{root}/../x", "/", "/outside", "{root}/out/x", "{root}/link"])
async def test_a_path_outside_the_kubelets_directory_is_refused(node: LoopNode, path: str) -> None:
    """The driver must not mount on or unmount any other directory of the host."""
    root = node.directory / "kubelet"
    (root / "out").symlink_to(node.directory)
    (root / "link").symlink_to(root / "elsewhere")

    with pytest.raises(errors.InvalidRequest):
        await unpublish(node.host, VOLUME, Path(path.format(root=root)))


async def test_a_path_may_contain_spaces_and_other_special_characters(node: LoopNode) -> None:
    """proc_pid_mountinfo(5): the kernel escapes them."""
    await node.attach()
    target = node.directory / "kubelet" / "a b\tc\\d\nü,e"
    wanted = Staging(volume_id=VOLUME, target=target, capability=Capability(Mount(), WRITER))

    await stage(node.host, wanted)
    await stage(node.host, wanted)
    await unstage(node.host, VOLUME, target)

    assert not target.exists()


@pytest.mark.requirement("csi.node-expand.idempotent", "csi.node-expand.while-used")
async def test_a_mounted_xfs_grows_to_the_size_of_its_device(node: LoopNode) -> None:
    """CSI spec, NodeExpandVolume: idempotent."""
    await node.attach()
    await stage(node.host, staging(node, filesystem="xfs"))
    await node.resize(2 * GIB)

    assert await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB) == 2 * GIB
    assert await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB) == 2 * GIB

    assert (await measure_bytes(node.host, VOLUME, node.staging())).total > 1.8 * GIB


@pytest.mark.requirement("csi.create-volume.larger-copy")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_staging_grows_a_volume_that_was_restored_with_a_larger_size(node: LoopNode, filesystem: str) -> None:
    """With and without CAP_SYS_RESOURCE, which growing a mounted ext4 needs."""
    await node.attach()
    await stage(node.host, staging(node, filesystem=filesystem))
    (node.staging() / "kept").write_text("data")
    await unstage(node.host, VOLUME, node.staging())
    await node.resize(2 * GIB)

    await stage(node.host, staging(node, filesystem=filesystem))

    assert (await measure_bytes(node.host, VOLUME, node.staging())).total > 1.8 * GIB
    assert (node.staging() / "kept").read_text() == "data"


@pytest.mark.requirement("data.killed-mkfs-heals")
async def test_staging_recovers_from_a_growth_that_was_killed_at_any_moment(node: LoopNode) -> None:
    """A killed resize2fs leaves damage that e2fsck does not repair with -p (e2fsck(8))."""
    await node.attach()
    await stage(node.host, staging(node))
    (node.staging() / "kept").write_text("data")
    await unstage(node.host, VOLUME, node.staging())
    duration, seen = 60.0, set()

    for step in range(-2, 60):
        await node.resize(GIB + (step + 3) * 128 * MIB)
        device = await node.host.find_device(VOLUME)
        await command.run(["e2fsck", "-fp", str(device.path)], ok=frozenset({0, 1}))
        await command.run(["tune2fs", "-M", marker.GROWING, str(device.path)])
        began = time.monotonic()
        with suppress(command.CommandTimedOut):
            await command.run(["resize2fs", str(device.path)], deadline=60 if step < 1 else duration * step / 24)
        if step < 1:  # not interrupted, to measure how long it takes on this machine
            duration = min(duration, time.monotonic() - began)
        left = await node.host.read_contents(device, VOLUME)
        assert isinstance(left, Filesystem)
        seen.add(left.damaged)
        await node.host.repair(device, VOLUME, left, grow=True)
        repaired = await node.host.read_contents(device, VOLUME)
        assert isinstance(repaired, Filesystem)
        assert (repaired.damaged, repaired.marked_growing, repaired.is_smaller_than(device)) == (False, False, False)
        if seen == {True, False} and not left.is_smaller_than(device):
            break

    await stage(node.host, staging(node))
    assert (node.staging() / "kept").read_text() == "data"
    assert True in seen


@pytest.mark.requirement("csi.node-expand.while-used")
async def test_a_mounted_ext4_grows_or_the_error_names_the_missing_capability(node: LoopNode) -> None:
    """UNAVAILABLE, because kubelet never retries an expansion after a final error."""
    await node.attach()
    await stage(node.host, staging(node))
    await node.resize(2 * GIB)

    if await node.host.can_grow_mounted("ext4"):
        assert await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB) == 2 * GIB
        return
    with pytest.raises(errors.Unavailable, match="CAP_SYS_RESOURCE"):
        await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB)


@pytest.mark.requirement("csi.volume-stats.missing", "csi.node-expand.missing")
async def test_a_volume_that_is_not_at_a_path_is_not_found_there(node: LoopNode) -> None:
    """CSI spec, NodeGetVolumeStats: NOT_FOUND. For an expansion kubelet would never retry after NOT_FOUND."""
    await node.attach()
    await node.attach(OTHER)
    await stage(node.host, staging(node, volume_id=OTHER))

    for path in (node.target(), node.directory / "kubelet" / "x", node.staging(OTHER)):
        with pytest.raises(errors.VolumeNotFound):
            await measure(node.host, VOLUME, path)
        with pytest.raises(errors.Unavailable, match="stage it, then try again"):
            await expand(node.host, VOLUME, path, wanted=0)


async def test_a_dead_filesystem_is_reported_and_can_be_staged_again(node: LoopNode) -> None:
    await node.attach()
    await stage(node.host, staging(node, filesystem="xfs"))
    await publish(node.host, publishing(node))
    shut_down(node.staging())

    assert "does not answer" in (await measure(node.host, VOLUME, node.target())).health.message
    with pytest.raises(errors.Unavailable, match="does not answer"):
        await expand(node.host, VOLUME, node.target(), wanted=GIB)
    with pytest.raises(errors.Unavailable, match=f"refuses writes: .* it is used at {node.target()}"):
        await stage(node.host, staging(node, filesystem="xfs"))
    for target in (node.target(), node.target("second pod")):
        with pytest.raises(errors.Unavailable, match="is dead"):
            await publish(node.host, replace(publishing(node), target=target))
    await unpublish(node.host, VOLUME, node.target())
    await stage(node.host, staging(node, filesystem="xfs"))
    await publish(node.host, publishing(node))

    assert (await measure_bytes(node.host, VOLUME, node.target())).used is not None


async def test_a_dead_device_is_reported_even_if_its_filesystem_still_answers(node: LoopNode) -> None:
    """ext4 answers statfs(2) from memory."""
    await node.attach()
    await stage(node.host, staging(node))
    os.truncate(node.image(), 0)

    assert "cannot measure the usage" in (await measure(node.host, VOLUME, node.staging())).health.message


async def test_a_dead_device_can_be_unstaged(node: LoopNode) -> None:
    """Nothing identifies the device any more, and no other volume is mounted there."""
    await node.attach()
    await stage(node.host, staging(node))
    node.link().unlink()
    os.truncate(node.image(), 0)

    await unstage(node.host, VOLUME, node.staging())

    assert mounts_at(node.staging()) == ()


async def test_an_ext4_is_made_with_the_parameters_of_its_storage_class(node: LoopNode) -> None:
    """aws-ebs-csi-driver, docs/parameters.md: blockSize, inodeSize and the other formatting parameters."""
    device = await node.attach()
    wanted = staging_with_format(
        node,
        "ext4",
        blocksize="2048",
        inodesize="512",
        numberofinodes="4096",
        ext4bigalloc="true",
        ext4clustersize="16384",
        ext4encryptionsupport="true",
    )

    await stage(node.host, wanted)
    await stage(node.host, wanted)
    header = (await command.run(["dumpe2fs", "-h", str(device)])).out
    block = os.statvfs(node.staging()).f_bsize
    await unstage(node.host, VOLUME, node.staging())

    assert block == 2048
    for name, value in {"Block size": "2048", "Cluster size": "16384", "Inode size": "512"}.items():
        assert f"{name}: {value}" in " ".join(header.split())
    assert {"bigalloc", "encrypt"} <= set(header.split())


async def test_an_xfs_is_made_with_the_parameters_of_its_storage_class(node: LoopNode) -> None:
    """A parameter that XFS does not support is refused before anything is written."""
    await node.attach()

    with pytest.raises(errors.InvalidRequest, match="bytesPerInode"):
        await stage(node.host, staging_with_format(node, "xfs", bytesperinode="8192"))
    await stage(node.host, staging_with_format(node, "xfs", blocksize="2048", inodesize="1024"))
    block = os.statvfs(node.staging()).f_bsize
    await unstage(node.host, VOLUME, node.staging())

    assert block == 2048
