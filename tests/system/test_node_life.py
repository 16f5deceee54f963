"""Stage, publish, grow, measure, unpublish, unstage: on loop devices, with the kernel's own mounts."""

import fcntl
import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hyperpod_ebs.driver.linux import growth, marker, mkfs
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Block, Capability, Mount
from hyperpod_ebs.driver.model.disk import Filesystem
from hyperpod_ebs.driver.model.formatting import Formatting
from hyperpod_ebs.driver.mounts.expand import expand
from hyperpod_ebs.driver.mounts.publish import Publishing, publish, unpublish
from hyperpod_ebs.driver.mounts.stage import Staging, stage, unstage
from hyperpod_ebs.driver.mounts.usage import usage
from hyperpod_ebs.kit import command
from tests.support.loop_device_node import GIB, OTHER, VOLUME, LoopNode, mounts_at

pytestmark = pytest.mark.root

MIB = 2**20
FILESYSTEMS = ("ext4", "xfs")
XFS_IOC_GOINGDOWN = 0x8004587D
WRITER = AccessMode.SINGLE_NODE_WRITER


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[LoopNode]:
    async with LoopNode.running(tmp_path) as running:
        yield running


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that were run, in order."""
    ran: list[str] = []
    run = command.run

    async def noted(argv: list[str], **how: object) -> command.Finished:
        ran.append(argv[0])
        return await run(argv, **how)  # type: ignore[arg-type] # handed on as given

    monkeypatch.setattr(command, "run", noted)
    return ran


def staging(node: LoopNode, *flags: str, filesystem: str = "ext4", volume_id: str = VOLUME) -> Staging:
    capability = Capability(Mount(filesystem, flags), WRITER)
    return Staging(volume_id=volume_id, target=node.staging(volume_id), capability=capability)


def formatted(node: LoopNode, filesystem: str, **said: str) -> Staging:
    capability = Capability(Mount(filesystem), WRITER)
    wish = Formatting.parse(said)
    return Staging(volume_id=VOLUME, target=node.staging(), capability=capability, formatting=wish)


def publishing(node: LoopNode, *flags: str, read_only: bool = False, block: bool = False) -> Publishing:
    return Publishing(
        volume_id=VOLUME,
        staging=node.staging(),
        target=node.target(),
        capability=Capability(Block() if block else Mount("ext4", flags), WRITER),
        read_only=read_only,
    )


@contextmanager
def used(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield
    finally:
        os.close(handle)


def shut_down(path: Path) -> None:
    """Make an XFS fail as it does when its device dies."""
    handle = os.open(path, os.O_RDONLY)
    fcntl.ioctl(handle, XFS_IOC_GOINGDOWN, (2).to_bytes(4, "little"))
    os.close(handle)


@pytest.mark.requirement("csi.stage-volume.idempotent")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_staging_runs_no_program_that_it_does_not_need(
    node: LoopNode, programs: list[str], filesystem: str
) -> None:
    """Ours: three programs for a blank volume, two for a formatted one, none for a repeat."""
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
async def test_a_volume_keeps_its_data_on_its_way_to_another_node(node: LoopNode, tmp_path: Path) -> None:
    """CSI spec §NodeStageVolume."""
    await node.attach()
    await stage(node.host, staging(node))
    await publish(node.host, publishing(node))
    (node.target() / "kept").write_text("data")
    await unpublish(node.host, VOLUME, node.target())
    await unstage(node.host, VOLUME, node.staging())
    await node.detach()

    async with LoopNode.running(tmp_path / "other") as other:
        os.link(node.image(), other.image())
        await other.attach()
        await stage(other.host, staging(other))
        assert (other.staging() / "kept").read_text() == "data"


@pytest.mark.requirement("csi.stage-volume.conflict")
async def test_a_stage_on_other_terms_is_refused(node: LoopNode) -> None:
    """CSI spec: a repeat that is incompatible is ALREADY_EXISTS."""
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


async def test_a_raw_block_volume_is_staged_when_its_device_is_there(node: LoopNode, programs: list[str]) -> None:
    """CSI spec: nothing else is to be done."""
    wanted = Staging(volume_id=VOLUME, target=node.staging(), capability=Capability(Block(), WRITER))
    with pytest.raises(errors.DeviceNotReady):
        await stage(node.host, wanted)

    await node.attach()
    programs.clear()
    await stage(node.host, wanted)
    await unstage(node.host, VOLUME, node.staging())

    assert programs == []


async def test_a_restored_copy_is_mounted_beside_its_source(node: LoopNode) -> None:
    """XFS: two filesystems of one UUID exclude each other without nouuid."""
    await node.attach(size=GIB)
    await stage(node.host, staging(node, filesystem="xfs"))
    await command.run(["sync"])
    await command.run(["cp", "--sparse=always", str(node.image()), str(node.image(OTHER))])
    await node.attach(OTHER)

    await stage(node.host, staging(node, filesystem="xfs", volume_id=OTHER))

    assert len({mounts_at(node.staging(one))[0].number for one in (VOLUME, OTHER)}) == 2


async def test_what_fails_after_a_mount_is_unmounted(node: LoopNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """kubelet: it never unstages what failed with a final code, so a mount would leak."""
    await node.attach()
    await stage(node.host, staging(node, filesystem="xfs"))
    await unstage(node.host, VOLUME, node.staging())
    await node.resize(2 * GIB)
    monkeypatch.setattr(growth, "RESIZE_DEADLINE", 0.0)

    with pytest.raises(errors.Unavailable):
        await stage(node.host, staging(node, filesystem="xfs"))

    assert mounts_at(node.staging()) == ()


async def test_what_fails_after_a_mount_and_cannot_be_unmounted_is_asked_for_again(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kubelet: after a final code it would forget the mount, and never unstage it."""
    await node.attach()
    await stage(node.host, staging(node, filesystem="xfs"))
    await unstage(node.host, VOLUME, node.staging())
    await node.resize(2 * GIB)
    monkeypatch.setattr(growth, "RESIZE_DEADLINE", 0.0)

    async def in_use(target: Path) -> None:
        raise errors.InUse(f"{target} is still used by a process")

    with monkeypatch.context() as held:
        held.setattr(node.host, "unmount", in_use)
        with pytest.raises(errors.Unavailable, match="what was mounted stays"):
            await stage(node.host, staging(node, filesystem="xfs"))

    await unstage(node.host, VOLUME, node.staging())


async def test_a_mount_program_that_fails_after_mounting_leaves_nothing_or_is_asked_again(
    node: LoopNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kubelet, as above: mount(8) binds first and sets the options after."""
    await node.attach()
    await stage(node.host, staging(node))
    run = command.run

    async def fails_after(argv: list[str], **how: object) -> command.Finished:
        finished = await run(argv, **how)  # type: ignore[arg-type] # handed on as given
        if argv[0] == "mount":
            raise command.CommandFailed(argv, "exited with 32", code=32)
        return finished

    monkeypatch.setattr(command, "run", fails_after)
    with pytest.raises(errors.NotReady):
        await publish(node.host, publishing(node))
    assert mounts_at(node.target()) == ()

    async def busy(argv: list[str], **how: object) -> command.Finished:
        if argv[0] == "umount":
            raise command.CommandFailed(argv, "exited with 32", code=32, said="target is busy")
        return await fails_after(argv, **how)

    monkeypatch.setattr(command, "run", busy)
    with pytest.raises(errors.Unavailable, match="what was mounted stays"):
        await publish(node.host, publishing(node))


async def test_a_damaged_filesystem_is_repaired_before_it_is_mounted(node: LoopNode, programs: list[str]) -> None:
    """Ours: a check only where the superblock itself asks for it."""
    loop = await node.attach()
    await command.run([*mkfs.PROGRAMS["ext4"], str(loop)])
    await command.run(["debugfs", "-w", "-R", "ssv state 3", str(loop)])

    programs.clear()
    await stage(node.host, staging(node))

    assert programs == ["blkid", "e2fsck", "mount"]


@pytest.mark.requirement("csi.node-publish.idempotent", "csi.node-publish.conflict", "csi.node-publish.read-only")
async def test_publishing_again_is_success_and_on_other_terms_refused(node: LoopNode) -> None:
    """csi-sanity: a changed readonly is ALREADY_EXISTS."""
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
    """CSI spec: FAILED_PRECONDITION."""
    await node.attach()

    with pytest.raises(errors.NotReady, match="is not staged"):
        await publish(node.host, publishing(node))

    assert not node.target().exists()


@pytest.mark.requirement("csi.unstage-volume.idempotent", "csi.node-unpublish.undone")
async def test_unpublish_and_unstage_leave_nothing_and_may_be_repeated(node: LoopNode) -> None:
    """CSI spec: success where nothing is there; stacked mounts are all ours."""
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


async def test_a_directory_with_something_in_it_is_not_removed(node: LoopNode) -> None:
    """Ours: nothing is ever deleted with what is in it."""
    node.target().mkdir()
    (node.target() / "somebody's").touch()

    await unpublish(node.host, VOLUME, node.target())

    assert (node.target() / "somebody's").exists()


@pytest.mark.requirement("unstage.device-free")
async def test_a_published_volume_is_not_unstaged(node: LoopNode) -> None:
    """Ours: the device would stay in use, and its detach hang."""
    await node.attach()
    await stage(node.host, staging(node))
    await publish(node.host, publishing(node))

    with pytest.raises(errors.InUse, match=f"still mounted at {node.target()}"):
        await unstage(node.host, VOLUME, node.staging())

    assert mounts_at(node.staging())


@pytest.mark.requirement("unstage.device-free")
@pytest.mark.parametrize("block", [False, True], ids=["mounted", "raw block"])
async def test_a_published_volume_is_not_unstaged_though_nothing_is_at_its_staging_path(
    node: LoopNode, *, block: bool
) -> None:
    """Ours: success lets the attacher detach the device, below a pod that writes to it."""
    await node.attach()
    await stage(node.host, staging(node))
    await publish(node.host, publishing(node, block=block))
    await command.run(["umount", str(node.staging())])

    with pytest.raises(errors.InUse, match=f"still mounted at {node.target()}"):
        await unstage(node.host, VOLUME, node.staging())

    await unpublish(node.host, VOLUME, node.target())
    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("unstage.device-free")
async def test_a_volume_that_a_process_uses_is_not_unstaged(node: LoopNode) -> None:
    """Ours: no lazy unmount, which would hide that the device is still written to."""
    await node.attach()
    await stage(node.host, staging(node))
    (node.staging() / "open").touch()

    with used(node.staging() / "open"), pytest.raises(errors.InUse, match="still used by a process"):
        await unstage(node.host, VOLUME, node.staging())

    await unstage(node.host, VOLUME, node.staging())


@pytest.mark.requirement("data.foreign-mounts-stay")
@pytest.mark.parametrize("holder", ["another volume", "a tmpfs"])
async def test_what_is_somebody_elses_is_not_unmounted(node: LoopNode, holder: str) -> None:
    """Upstream unmounts whatever is there."""
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
    """CSI spec: the target is a file."""
    loop = await node.attach()

    await publish(node.host, publishing(node, block=True))
    await publish(node.host, publishing(node, block=True))

    assert node.target().is_block_device()
    assert node.target().stat().st_rdev == loop.stat().st_rdev
    assert (await usage(node.host, VOLUME, node.target())).bytes.total == GIB
    await node.resize(2 * GIB)
    assert await expand(node.host, VOLUME, node.target(), wanted=2 * GIB) == 2 * GIB
    with pytest.raises(errors.Conflict):
        await publish(node.host, publishing(node, block=True, read_only=True))
    await unpublish(node.host, VOLUME, node.target())
    assert not node.target().exists()


@pytest.mark.parametrize("path", ["relative", "{root}", "{root}/../x", "/", "/outside", "{root}/out/x", "{root}/link"])
async def test_a_path_that_is_not_the_nodes_own_is_refused(node: LoopNode, path: str) -> None:
    """Ours: nothing outside the kubelet's directory is mounted on or unmounted."""
    root = node.directory / "kubelet"
    (root / "out").symlink_to(node.directory)
    (root / "link").symlink_to(root / "elsewhere")

    with pytest.raises(errors.InvalidRequest):
        await unpublish(node.host, VOLUME, Path(path.format(root=root)))


async def test_a_path_with_odd_characters_is_a_path(node: LoopNode) -> None:
    """Ours: the kernel writes them escaped."""
    await node.attach()
    target = node.directory / "kubelet" / "a b\tc\\d\nü,e"
    wanted = Staging(volume_id=VOLUME, target=target, capability=Capability(Mount(), WRITER))

    await stage(node.host, wanted)
    await stage(node.host, wanted)
    await unstage(node.host, VOLUME, target)

    assert not target.exists()


@pytest.mark.requirement("csi.node-expand.idempotent", "csi.node-expand.while-used")
async def test_xfs_grows_while_it_is_used_and_only_when_it_must(node: LoopNode, programs: list[str]) -> None:
    """CSI spec §NodeExpandVolume."""
    await node.attach()
    await stage(node.host, staging(node, filesystem="xfs"))
    await node.resize(2 * GIB)

    programs.clear()
    assert await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB) == 2 * GIB
    assert await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB) == 2 * GIB

    assert programs == ["xfs_growfs"]
    assert (await usage(node.host, VOLUME, node.staging())).bytes.total > 1.8 * GIB


@pytest.mark.requirement("csi.create-volume.larger-copy")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_volume_that_was_restored_larger_is_grown_when_it_is_staged(node: LoopNode, filesystem: str) -> None:
    """Ours: with or without the capability to grow a mounted ext4."""
    await node.attach()
    await stage(node.host, staging(node, filesystem=filesystem))
    (node.staging() / "kept").write_text("data")
    await unstage(node.host, VOLUME, node.staging())
    await node.resize(2 * GIB)

    await stage(node.host, staging(node, filesystem=filesystem))

    assert (await usage(node.host, VOLUME, node.staging())).bytes.total > 1.8 * GIB
    assert (node.staging() / "kept").read_text() == "data"


@pytest.mark.requirement("data.killed-mkfs-heals")
async def test_a_growth_that_is_killed_at_any_moment_heals(node: LoopNode) -> None:
    """Ours: resize2fs leaves what e2fsck repairs only when it is told that it may."""
    await node.attach()
    await stage(node.host, staging(node))
    (node.staging() / "kept").write_text("data")
    await unstage(node.host, VOLUME, node.staging())
    whole, seen = 60.0, set()

    for step in range(-2, 60):
        await node.resize(GIB + (step + 3) * 128 * MIB)
        device = await node.host.device(VOLUME)
        await command.run(["e2fsck", "-fp", str(device.path)], ok=frozenset({0, 1}))
        marker.begin_resize(device.path, device.size, VOLUME)
        began = time.monotonic()
        with suppress(command.CommandTimedOut):
            await command.run(["resize2fs", str(device.path)], deadline=60 if step < 1 else whole * step / 24)
        if step < 1:  # it was left in peace, to learn how long it takes here
            whole = min(whole, time.monotonic() - began)
        left = await node.host.contents(device, VOLUME)
        assert isinstance(left, Filesystem)
        seen.add(left.damaged)
        await node.host.repair(device, VOLUME, left, grow=True)
        healed = await node.host.contents(device, VOLUME)
        assert isinstance(healed, Filesystem)
        assert (healed.damaged, healed.marked_growing, healed.is_smaller_than(device)) == (False, False, False)
        if seen == {True, False} and not left.is_smaller_than(device):
            break

    await stage(node.host, staging(node))
    assert (node.staging() / "kept").read_text() == "data"
    assert True in seen


@pytest.mark.requirement("csi.node-expand.while-used")
async def test_a_mounted_ext4_grows_or_says_what_it_lacks(node: LoopNode) -> None:
    """kubelet, expand: a refusal that can heal is UNAVAILABLE."""
    await node.attach()
    await stage(node.host, staging(node))
    await node.resize(2 * GIB)

    if await node.host.grows_mounted("ext4"):
        assert await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB) == 2 * GIB
        return
    with pytest.raises(errors.Unavailable, match="CAP_SYS_RESOURCE"):
        await expand(node.host, VOLUME, node.staging(), wanted=2 * GIB)


@pytest.mark.requirement("csi.volume-stats.missing", "csi.node-expand.missing")
async def test_a_volume_that_is_not_at_a_path_is_not_found_there(node: LoopNode) -> None:
    """csi-sanity, NodeGetVolumeStats; kubelet calls a growth infeasible for ever after NOT_FOUND."""
    await node.attach()
    await node.attach(OTHER)
    await stage(node.host, staging(node, volume_id=OTHER))

    for path in (node.target(), node.directory / "kubelet" / "x", node.staging(OTHER)):
        with pytest.raises(errors.VolumeNotFound):
            await usage(node.host, VOLUME, path)
        with pytest.raises(errors.Unavailable, match="stage it, then try again"):
            await expand(node.host, VOLUME, path, wanted=0)


async def test_a_dead_filesystem_is_told_and_staged_anew(node: LoopNode) -> None:
    """Ours: statistics survive a dead device, and so does the volume."""
    await node.attach()
    await stage(node.host, staging(node, filesystem="xfs"))
    await publish(node.host, publishing(node))
    shut_down(node.staging())

    with pytest.raises(errors.Unavailable, match="does not answer"):
        await usage(node.host, VOLUME, node.target())
    with pytest.raises(errors.NotReady, match="is dead"):
        await publish(node.host, publishing(node))
    await unpublish(node.host, VOLUME, node.target())
    await stage(node.host, staging(node, filesystem="xfs"))
    await publish(node.host, publishing(node))

    assert (await usage(node.host, VOLUME, node.target())).bytes.used is not None


async def test_a_device_that_died_under_a_filesystem_that_did_not_notice_is_told(node: LoopNode) -> None:
    """Ours: ext4 answers statfs from memory."""
    await node.attach()
    await stage(node.host, staging(node))
    os.truncate(node.image(), 0)

    with pytest.raises(errors.Unavailable, match="measuring"):
        await usage(node.host, VOLUME, node.staging())


async def test_a_dead_device_can_be_unstaged(node: LoopNode) -> None:
    """Ours: whose it was cannot be told any more, and nobody else's is there."""
    await node.attach()
    await stage(node.host, staging(node))
    node.link().unlink()
    os.truncate(node.image(), 0)

    await unstage(node.host, VOLUME, node.staging())

    assert mounts_at(node.staging()) == ()


async def test_a_filesystem_is_made_as_its_class_says(node: LoopNode) -> None:
    """Upstream's blockSize, inodeSize and the like: seen by the kernel, and by the next look at the device."""
    device = await node.attach()
    wanted = formatted(
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
    told = (await command.run(["dumpe2fs", "-h", str(device)])).out
    block = os.statvfs(node.staging()).f_bsize
    await unstage(node.host, VOLUME, node.staging())

    assert block == 2048
    for name, value in {"Block size": "2048", "Cluster size": "16384", "Inode size": "512"}.items():
        assert f"{name}: {value}" in " ".join(told.split())
    assert {"bigalloc", "encrypt"} <= set(told.split())


async def test_an_xfs_is_made_as_its_class_says(node: LoopNode) -> None:
    """As above; what a filesystem has no word for is refused before anything is written."""
    await node.attach()

    with pytest.raises(errors.InvalidRequest, match="bytesPerInode"):
        await stage(node.host, formatted(node, "xfs", bytesperinode="8192"))
    await stage(node.host, formatted(node, "xfs", blocksize="2048", inodesize="1024"))
    block = os.statvfs(node.staging()).f_bsize
    await unstage(node.host, VOLUME, node.staging())

    assert block == 2048
