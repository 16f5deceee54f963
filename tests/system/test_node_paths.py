"""Paths on the node: links and replaced directories, on real mounts."""

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Block, Capability, Mount
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.mounts.expand import expand
from hyperpod_ebs.driver.mounts.publish import Publishing, publish, unpublish
from hyperpod_ebs.driver.mounts.stage import Staging, stage, unstage
from hyperpod_ebs.driver.mounts.usage import measure
from hyperpod_ebs.kit import command, files
from tests.support.directory_swap import keep_swapping
from tests.support.loop_device_node import GIB, OTHER, VOLUME, LoopNode, measure_bytes, mount_points_below, mounts_at

pytestmark = pytest.mark.root

ROUNDS = 25
WRITER = AccessMode.SINGLE_NODE_WRITER
MOUNTED = Capability(Mount(), WRITER)
XFS = Capability(Mount("xfs"), WRITER)
MIB = 2**20


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[LoopNode]:
    async with LoopNode.create(tmp_path) as running:
        yield running


def publishing(node: LoopNode, volume_id: str) -> Publishing:
    return Publishing(volume_id=volume_id, staging=node.staging(volume_id), target=node.target(), capability=MOUNTED)


async def measure_volume(node: LoopNode, path: Path) -> None:
    usage = (await measure(node.host, VOLUME, path)).usage
    assert usage is None or usage.bytes.total == await files.off_loop(filesystem_size, node.staging())


def filesystem_size(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


@pytest.mark.requirement("data.below-kubelet-only")
async def test_nothing_is_mounted_or_removed_outside_while_a_parent_is_swapped_for_a_link(node: LoopNode) -> None:
    """Kubelet had such a fault, CVE-2021-25741: https://github.com/kubernetes/kubernetes/issues/104980."""
    await node.attach()
    await node.attach(OTHER)
    await stage(node.host, Staging(volume_id=VOLUME, target=node.staging(), capability=MOUNTED))
    root = node.directory / "kubelet"
    outside, pods, link = node.directory / "outside", root / "pods", root / "link"
    names = ("mounted", "raw", "staged", "removed")
    for parent in (outside, pods):
        parent.mkdir()
    for name in names:
        (outside / name).mkdir()
    link.symlink_to(outside)
    inode = (outside / "removed").stat().st_ino
    mounted = Publishing(
        volume_id=VOLUME, staging=node.staging(), target=pods / "mounted", capability=MOUNTED, read_only=True
    )
    raw = Publishing(
        volume_id=VOLUME, staging=node.staging(), target=pods / "raw", capability=Capability(Block(), WRITER)
    )
    staging = Staging(volume_id=OTHER, target=pods / "staged", capability=MOUNTED)

    with keep_swapping(pods, link):
        for _ in range(ROUNDS):
            for call in (
                partial(publish, node.host, mounted),
                partial(publish, node.host, raw),
                partial(measure_volume, node, pods / "mounted"),
                partial(stage, node.host, staging),
                partial(unpublish, node.host, VOLUME, pods / "mounted"),
                partial(unpublish, node.host, VOLUME, pods / "raw"),
                partial(unpublish, node.host, VOLUME, pods / "removed"),
                partial(unstage, node.host, OTHER, pods / "staged"),
            ):
                with suppress(errors.Error):
                    await call()
                assert mount_points_below(outside) == ()
                assert sorted(path.name for path in outside.iterdir()) == sorted(names)

    assert (outside / "removed").stat().st_ino == inode
    await unpublish(node.host, VOLUME, pods / "mounted")
    await unpublish(node.host, VOLUME, pods / "raw")
    await unstage(node.host, OTHER, pods / "staged")
    assert mount_points_below(pods) == ()


@pytest.mark.requirement("data.below-kubelet-only")
@pytest.mark.parametrize("leads_to", ["outside", "kubelet/inside"])
async def test_no_other_volume_is_grown_or_measured_while_a_parent_is_replaced(node: LoopNode, leads_to: str) -> None:
    """xfs_growfs(8) resolves the path of the mount again."""
    pods, instead = node.directory / "kubelet" / "pods", node.directory / leads_to
    for parent, volume_id in ((pods, VOLUME), (instead, OTHER)):
        parent.mkdir()
        await node.attach(volume_id, size=GIB if volume_id == VOLUME else GIB // 2)
        await stage(node.host, Staging(volume_id=volume_id, target=node.staging(volume_id), capability=XFS))
        await node.resize(4 * GIB, volume_id)
        (parent / "volume").mkdir()
        await command.run(["mount", "--bind", str(node.staging(volume_id)), str(parent / "volume")])
    other_size = await files.off_loop(filesystem_size, node.staging(OTHER))
    if leads_to == "outside":
        instead = node.directory / "kubelet" / "link"
        instead.symlink_to(node.directory / leads_to)

    with keep_swapping(pods, instead):
        for round_ in range(ROUNDS):
            await node.resize(GIB + (round_ + 1) * 64 * MIB)
            with suppress(errors.Error):
                await expand(node.host, VOLUME, pods / "volume", wanted=GIB)
            with suppress(errors.Error):
                found = (await measure(node.host, VOLUME, pods / "volume")).usage
                assert found is None or found.bytes.total != other_size
            assert await files.off_loop(filesystem_size, node.staging(OTHER)) == other_size

    await expand(node.host, VOLUME, pods / "volume", wanted=GIB)
    assert await files.off_loop(filesystem_size, node.staging()) > 2 * GIB


@pytest.mark.requirement("data.below-kubelet-only")
async def test_a_pod_gets_the_whole_volume_while_a_parent_of_its_staging_path_is_replaced(node: LoopNode) -> None:
    """A directory of the volume has the volume's device number too."""
    await node.attach()
    pods, link, seen = (node.directory / "kubelet" / name for name in ("pods", "link", "seen"))
    pods.mkdir()
    staged = pods / "staged"
    await stage(node.host, Staging(volume_id=VOLUME, target=staged, capability=MOUNTED))
    (staged / "inside" / "staged").mkdir(parents=True)
    seen.mkdir()
    await command.run(["mount", "--bind", str(staged), str(seen)])
    link.symlink_to(seen / "inside")
    wanted = Publishing(volume_id=VOLUME, staging=staged, target=node.target(), capability=MOUNTED)

    with keep_swapping(pods, link):
        for _ in range(ROUNDS):
            with suppress(errors.Error):
                await publish(node.host, wanted)
            assert {mount.root for mount in mounts_at(node.target())} <= {"/"}
            await command.run(["umount", str(node.target())], ok=frozenset({0, 1, 32}))


@pytest.mark.requirement("data.below-kubelet-only")
async def test_kubelets_directory_may_be_a_symbolic_link(node: LoopNode) -> None:
    """HyperPod's lifecycle scripts may link /var/lib/kubelet to a larger disk."""
    await node.attach()
    root = node.directory / "var-lib-kubelet"
    root.symlink_to(node.directory / "kubelet")
    host = LinuxHost(devices=node.directory / "dev", root=root)
    for named in (root, node.directory / "kubelet"):
        wanted = Publishing(
            volume_id=VOLUME, staging=named / "staging", target=named / "pod", capability=MOUNTED, read_only=True
        )

        for _ in range(2):
            await stage(host, Staging(volume_id=VOLUME, target=named / "staging", capability=MOUNTED))
            await publish(host, wanted)
        assert mounts_at(node.target("pod"))
        assert (await measure_bytes(host, VOLUME, named / "pod")).total > 0
        for _ in range(2):
            await unpublish(host, VOLUME, named / "pod")
            await unstage(host, VOLUME, named / "staging")

        assert list((node.directory / "kubelet").iterdir()) == []


async def test_kubelets_directory_may_be_a_mount_of_the_filesystem_that_has_the_device_nodes(node: LoopNode) -> None:
    """In the driver's pod, kubelet's directory is a mount, and /dev may be on the same filesystem."""
    root = node.directory / "kubelet"
    await command.run(["mount", "--bind", str(root), str(root)])
    await node.attach()
    staging = Staging(volume_id=VOLUME, target=node.staging(), capability=MOUNTED)

    await stage(node.host, staging)
    await publish(node.host, publishing(node, VOLUME))
    await unpublish(node.host, VOLUME, node.target())
    await unstage(node.host, VOLUME, node.staging())

    assert mount_points_below(root) == (root,)
    await command.run(["umount", str(root)])


@pytest.mark.requirement("data.below-kubelet-only")
@pytest.mark.parametrize("leads_to", ["outside", "kubelet/inside"])
async def test_a_path_through_a_symbolic_link_below_kubelets_directory_is_refused(
    node: LoopNode, leads_to: str
) -> None:
    """CSI spec, NodeStageVolume: the caller creates the parent directory itself."""
    await node.attach()
    (node.directory / leads_to).mkdir()
    (node.target("link")).symlink_to(node.directory / leads_to)
    through = node.target("link") / "volume"

    with pytest.raises(errors.InvalidRequest, match="'link', which is a symbolic link"):
        await stage(node.host, Staging(volume_id=VOLUME, target=through, capability=MOUNTED))
    with pytest.raises(errors.InvalidRequest, match="'link', which is a symbolic link"):
        await unpublish(node.host, VOLUME, through)

    assert list((node.directory / leads_to).iterdir()) == []


async def test_a_path_whose_parent_is_absent_is_unpublished_already_and_cannot_be_staged(node: LoopNode) -> None:
    """CSI spec, NodeUnpublishVolume: idempotent. NodeStageVolume: the caller creates the parent directory."""
    await node.attach()
    target = node.target("absent") / "volume"

    await unpublish(node.host, VOLUME, target)
    await unstage(node.host, VOLUME, target)
    with pytest.raises(errors.NotReady, match=f"directory {target.parent} is absent"):
        await stage(node.host, Staging(volume_id=VOLUME, target=target, capability=MOUNTED))


async def test_a_file_with_data_at_the_target_path_is_not_removed(node: LoopNode) -> None:
    """The file may be a user's; an empty file is what publishing a raw block volume creates."""
    await node.attach()
    node.target("data").write_bytes(b"x")
    node.target("empty").touch()

    await unpublish(node.host, VOLUME, node.target("data"))
    await unpublish(node.host, VOLUME, node.target("empty"))

    assert node.target("data").read_bytes() == b"x"
    assert not node.target("empty").exists()


@pytest.mark.parametrize("found", ["a link", "a directory"])
async def test_a_raw_block_volume_is_not_published_over_something_else(node: LoopNode, found: str) -> None:
    """Decision 0035."""
    await node.attach()
    target = node.target()
    if found == "a link":
        target.symlink_to(node.directory / "absent")
    else:
        target.mkdir()
    raw = Publishing(volume_id=VOLUME, staging=node.staging(), target=target, capability=Capability(Block(), WRITER))

    with pytest.raises((errors.InvalidRequest, errors.NotReady), match=str(target)):
        await publish(node.host, raw)

    assert mount_points_below(node.directory) == ()


async def test_a_mounts_error_names_the_path_and_not_how_the_driver_reaches_it(node: LoopNode) -> None:
    """The text of mount(8) reaches the pod's events."""
    await node.attach()

    with pytest.raises(errors.NotReady, match=f"mount: {node.staging()}: ") as caught:
        await stage(
            node.host,
            Staging(
                volume_id=VOLUME,
                target=node.staging(),
                capability=Capability(Mount("ext4", MountOptions.parse(["no-such"])), WRITER),
            ),
        )

    assert "/proc/" not in str(caught.value)
    assert not node.staging().exists()


@pytest.mark.parametrize("call", ["publish", "unpublish"])
async def test_a_raw_block_volume_whose_device_number_went_to_another_volume_is_unmounted(
    node: LoopNode, call: str
) -> None:
    """The kernel gives the number of a removed device to the next one; the removed device's node is still mounted."""
    loop = await node.attach()
    raw = Publishing(
        volume_id=VOLUME, staging=node.staging(), target=node.target(), capability=Capability(Block(), WRITER)
    )
    await publish(node.host, raw)
    node.pass_device_on(VOLUME, OTHER)
    assert "its device was removed" in (await measure(node.host, VOLUME, node.target())).health.message

    if call == "unpublish":
        await unpublish(node.host, VOLUME, node.target())
        assert not node.target().exists()
    else:
        new = await node.attach()
        await publish(node.host, raw)
        assert node.target().stat().st_rdev == new.stat().st_rdev != loop.stat().st_rdev
        assert len(mounts_at(node.target())) == 1


@pytest.mark.requirement("data.foreign-mounts-stay")
async def test_a_raw_block_volume_is_not_unpublished_from_another_volumes_path(node: LoopNode) -> None:
    """CSI spec, NodeUnpublishVolume."""
    await node.attach()
    await node.attach(OTHER)
    raw = Publishing(
        volume_id=OTHER, staging=node.staging(OTHER), target=node.target(), capability=Capability(Block(), WRITER)
    )
    await publish(node.host, raw)

    with pytest.raises(errors.NotReady, match=f"not of volume {VOLUME}"):
        await unpublish(node.host, VOLUME, node.target())

    assert mounts_at(node.target())


@pytest.mark.requirement("csi.node-publish.conflict")
async def test_another_volume_at_the_target_path_does_not_count_as_published(node: LoopNode) -> None:
    """CSI spec, NodePublishVolume: ALREADY_EXISTS."""
    for volume_id in (VOLUME, OTHER):
        await node.attach(volume_id)
        await stage(node.host, Staging(volume_id=volume_id, target=node.staging(volume_id), capability=MOUNTED))
    await publish(node.host, publishing(node, OTHER))

    with pytest.raises(errors.Conflict, match="unpublish it first"):
        await publish(node.host, publishing(node, VOLUME))

    assert mounts_at(node.target())[-1].number == mounts_at(node.staging(OTHER))[-1].number


@pytest.mark.requirement("csi.node-publish.conflict")
async def test_a_directory_of_the_volume_at_the_target_path_does_not_count_as_published(node: LoopNode) -> None:
    """CSI spec, NodePublishVolume: ALREADY_EXISTS. Kubelet mounts directories of a volume for `subPath`."""
    await node.attach()
    await stage(node.host, Staging(volume_id=VOLUME, target=node.staging(), capability=MOUNTED))
    (node.staging() / "part").mkdir()
    node.target().mkdir()
    await command.run(["mount", "--bind", str(node.staging() / "part"), str(node.target())])

    with pytest.raises(errors.Conflict, match="unpublish it first"):
        await publish(node.host, publishing(node, VOLUME))


async def test_a_stale_mount_is_not_grown(node: LoopNode) -> None:
    """After a forced detach and a new attach, the old mount is of a device that is not the volume any more."""
    await node.attach()
    await stage(node.host, Staging(volume_id=VOLUME, target=node.staging(), capability=MOUNTED))
    number = mounts_at(node.staging())[-1].number
    node.pass_device_on(VOLUME, None)
    await node.attach()

    with pytest.raises(errors.Unavailable, match=f"is of device {number}, but volume {VOLUME} is now device"):
        await expand(node.host, VOLUME, node.staging(), wanted=GIB)


async def test_statistics_follow_every_change_of_the_mount_table(node: LoopNode) -> None:
    """proc_pid_mounts(5): poll reports a change; a call that missed one would measure another filesystem."""
    for volume_id in (VOLUME, OTHER):
        await node.attach(volume_id)
        await stage(node.host, Staging(volume_id=volume_id, target=node.staging(volume_id), capability=MOUNTED))

    for _ in range(5):
        for mounted, absent in ((VOLUME, OTHER), (OTHER, VOLUME)):
            await publish(node.host, publishing(node, mounted))
            assert (await measure_bytes(node.host, mounted, node.target())).total > 0
            with pytest.raises(errors.VolumeNotFound):
                await measure(node.host, absent, node.target())
            await unpublish(node.host, mounted, node.target())
            with pytest.raises(errors.VolumeNotFound):
                await measure(node.host, mounted, node.target())


@pytest.mark.requirement("unstage.device-free")
async def test_bind_mounts_are_found_in_a_chroot_whose_root_directory_is_no_mount_point(node: LoopNode) -> None:
    """chroot(2): the mount table then lacks the mount that holds the root directory."""
    await node.attach()
    raw = Publishing(
        volume_id=VOLUME, staging=node.staging(), target=node.target(), capability=Capability(Block(), WRITER)
    )
    await publish(node.host, raw)
    (node.directory / "proc").mkdir()
    await command.run(["mount", "--bind", "/proc", str(node.directory / "proc")])
    program = (
        "import os, sys; from pathlib import Path; from hyperpod_ebs.driver.linux import paths; os.chroot(sys.argv[1]);"
        "print(*paths.bind_mounts_of(Path('/dev/nvme1n1'), Path('/kubelet')))"
    )

    finished = await command.run([sys.executable, "-c", program, str(node.directory)])

    assert finished.out == "/kubelet/pod\n"
