"""All mount options of mount(8), ext4 and XFS at the CSI socket: on loop devices, with real mounts.

The options are those of mount(8), ext4(5), xfs(5) and of the kernel's parameter tables (fs/ext4/super.c,
fs/xfs/xfs_super.c). Options that do not influence each other share a row, so that the table takes few mounts.
"""

import os
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import pytest

from hyperpod_ebs.kit import command
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from tests.support.driver_process import node_arguments, start_driver
from tests.support.loop_device_node import VOLUME, LoopNode, mounts_at

pytestmark = pytest.mark.root

MIB: Final = 2**20
SIZE: Final = 320 * MIB
"""Bytes: mkfs.xfs makes no smaller filesystem."""

FILESYSTEMS: Final = ("ext4", "xfs")
OK: Final = grpc.StatusCode.OK
REFUSALS: Final = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}

GENERIC: Final[Sequence[list[str]]] = (
    [],
    ["noatime,nodiratime"],
    ["noatime", "relatime"],
    ["strictatime"],
    ["strictatime", "noatime"],
    ["noatime", "atime"],
    ["nodiratime", "strictatime"],
    ["ro", "rw"],
    ["rw,ro"],
    ["user"],
    ["users", "exec"],
    ["exec,owner"],
    ["group", "dev"],
    ["sync"],
    ["sync", "async"],
    ["dirsync,lazytime"],
    ["mand", "silent", "iversion"],
    ["nosuid", "nodev", "noexec", "nosymfollow"],
    ["suid,dev,exec,async,diratime,norelatime,nostrictatime,nolazytime,symfollow,loud,nomand,noiversion,rw"],
    ["defaults", "auto", "nofail", "_netdev", "nouser", "noowner", "nogroup", "comment=a", "x-systemd.automount"],
    ["noauto,x-a=b,X-c,X-mount.mkdir,x-mount.mkdir=0700,,seclabel"],
    ['context="system_u:object_r:container_file_t:s0:c1,c2",noatime'],
    ["context=system_u:object_r:container_file_t:s0"],
    ["fscontext=system_u:object_r:tmp_t:s0", "defcontext=system_u:object_r:tmp_t:s0"],
    ["rootcontext=system_u:object_r:tmp_t:s0"],
)
"""Options of every filesystem."""

ACCEPTED: Final = {
    "ext4": (
        ["bsddf,nogrpid,errors=continue,user_xattr,acl,barrier,delalloc,block_validity,nodiscard,auto_da_alloc"],
        ["data=ordered,data_err=ignore,journal_checksum,dioread_nolock,init_itable,nowarn_on_error,barrier=1"],
        ["resuid=0,resgid=0,commit=0,min_batch_time=0,max_batch_time=15000,journal_ioprio=3,stripe=0,noquota"],
        ["inode_readahead_blks=32,max_dir_size_kb=0,mb_optimize_scan=1,prefetch_block_bitmaps,i_version,barrier=2"],
        ["minixdf,grpid,nouid32,debug,errors=remount-ro,resuid=1,resgid=1,commit=30,nodelalloc,discard"],
        ["noblock_validity,noauto_da_alloc,nojournal_checksum,dioread_lock,noinit_itable,nombcache,nobarrier"],
        ["min_batch_time=10,max_batch_time=10,journal_ioprio=1,stripe=4,inode_readahead_blks=16,max_dir_size_kb=10"],
        ["bsdgroups", "data_err=abort", "init_itable=5", "warn_on_error", "mb_optimize_scan=0", "no_mbcache"],
        ["sysvgroups,nodioread_nolock,no_prefetch_block_bitmaps,debug_want_extra_isize=32,barrier=0"],
        ["bh,nobh,orlov,oldalloc,mblk_io_submit,nomblk_io_submit,check=none,nocheck,reservation,noreservation"],
        ["discard", "nodiscard"],
        ["nobarrier", "barrier=2"],
        ["data=journal"],
        ["data=writeback", "errors=panic"],
        ["noload"],
        ["ro", "norecovery"],
        ["sb=1"],
    ),
    "xfs": (
        ["nodiscard,nogrpid,noikeep,inode64,nolargeio,logbufs=8,logbsize=32k,noquota,nouuid"],
        ["discard,grpid,filestreams,inode32,largeio,swalloc,wsync,logbufs=4,logbsize=65536,allocsize=65536"],
        ["bsdgroups", "ikeep", "allocsize=64k", "noalign", "sync"],
        ["sysvgroups", "largeio,nolargeio", "discard,nodiscard", "logbsize=64k"],
        ["ro,norecovery"],
    ),
}
"""Options that the kernel accepts for a filesystem."""

PERHAPS: Final = {
    "ext4": (
        *(["quota"], ["usrquota"], ["grpquota"], ["prjquota"], ["usrjquota=a"], ["jqfmt=vfsv1"], ["grpjquota="]),
        *(["dax"], ["dax=inode"], ["dax=never"], ["inlinecrypt"], ["test_dummy_encryption"], ["fc_debug_force"]),
        *(["journal_async_commit"], ["nouser_xattr"], ["noacl"], ["sb=32768"], ["lazytime", "journal=update"]),
    ),
    "xfs": (
        *(["quota"], ["usrquota,grpquota"], ["uqnoenforce"], ["gqnoenforce"], ["pquota"], ["pqnoenforce"]),
        *(["attr2"], ["noattr2"], ["dax"], ["dax=inode"], ["dax=never"], ["lifetime"], ["max_atomic_write=4k"]),
        *(["norecovery"], ["sunit=8,swidth=8"], ["nobarrier"], ["barrier"]),
    ),
}
"""Options that depend on the kernel's version and configuration, and on the features of the filesystem."""

REFUSED: Final = (
    *("loop", "loop=/dev/loop9", "offset=0", "sizelimit=1048576", "encryption=aes"),
    *("bind", "rbind", "move", "remount", "remount,ro"),
    *("shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"),
    *("helper=x", "uhelper=x", "source=/dev/null", "abort"),
    *("logdev=/dev/null", "rtdev=/dev/null", "journal_dev=0x700", "journal_path=/dev/null"),
    *("X-mount.subdir=lost+found", "X-mount.owner=1", "X-mount.mode=0700", "X-mount.idmap=b:0:1:1", "x-mount.subdir=a"),
    *("verity.roothash=a", "verity.hashdevice=/dev/null"),
    *("ro=vfs", "rw=a", "noexec=recursive", "user=root"),
    *("noatime, ro", "noatime\n", "a\0b", 'context="a', 'usrjquota="a,journal_path=/b,grpjquota=c"', "a\\,ro", "=a"),
    "x-" + 4096 * "a",
)
"""Options that are refused even where the kernel would accept them."""


class Answer(NamedTuple):
    """How a call ended."""

    code: grpc.StatusCode
    message: str = ""


@dataclass(frozen=True, slots=True)
class Kubelet:
    """A kubelet's calls to the node process for one volume."""

    node: LoopNode
    stub: csi_pb2_grpc.NodeStub

    async def stage(self, flags: Sequence[str], filesystem: str = "ext4") -> Answer:
        """Call NodeStageVolume."""
        request = csi_pb2.NodeStageVolumeRequest(
            volume_id=VOLUME,
            staging_target_path=str(self.node.staging()),
            volume_capability=capability(filesystem, flags),
        )
        return await answer(self.stub.NodeStageVolume(request))

    async def publish(self, flags: Sequence[str], filesystem: str = "ext4", *, block: bool = False) -> Answer:
        """Call NodePublishVolume."""
        request = csi_pb2.NodePublishVolumeRequest(
            volume_id=VOLUME,
            staging_target_path=str(self.node.staging()),
            target_path=str(self.node.target()),
            volume_capability=capability(filesystem, flags, block=block),
        )
        return await answer(self.stub.NodePublishVolume(request))

    async def leave(self) -> None:
        """Unpublish and unstage the volume."""
        path = str(self.node.target())
        await self.stub.NodeUnpublishVolume(csi_pb2.NodeUnpublishVolumeRequest(volume_id=VOLUME, target_path=path))
        path = str(self.node.staging())
        await self.stub.NodeUnstageVolume(csi_pb2.NodeUnstageVolumeRequest(volume_id=VOLUME, staging_target_path=path))


def capability(filesystem: str, flags: Sequence[str], *, block: bool = False) -> csi_pb2.VolumeCapability:
    """The capability of a single writer."""
    wanted = csi_pb2.VolumeCapability(
        mount=csi_pb2.VolumeCapability.MountVolume(fs_type=filesystem, mount_flags=flags),
        access_mode=csi_pb2.VolumeCapability.AccessMode(
            mode=csi_pb2.VolumeCapability.AccessMode.Mode.SINGLE_NODE_WRITER
        ),
    )
    if block:
        wanted.block.SetInParent()
    return wanted


async def answer(call: Awaitable[object]) -> Answer:
    """Wait for a call, and return how it ended."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return Answer(error.code(), error.details() or "")
    return Answer(OK)


@asynccontextmanager
async def open_kubelet(node: LoopNode, sockets: Path, **env: str) -> AsyncGenerator[Kubelet]:
    """Start a node process with the devices and the directory of `node`, and connect to its socket."""
    directories = (f"--device-directory={node.directory / 'dev'}", f"--kubelet-root={node.directory / 'kubelet'}")
    async with (
        start_driver(*node_arguments(sockets), *directories, **env),
        grpc.aio.insecure_channel(f"unix://{sockets / 'csi.sock'}") as channel,
    ):
        await csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest(), wait_for_ready=True)
        yield Kubelet(node, csi_pb2_grpc.NodeStub(channel))


@pytest.fixture
async def kubelet(tmp_path: Path, short_path: Path) -> AsyncGenerator[Kubelet]:
    async with LoopNode.create(tmp_path) as node:
        await node.attach(size=SIZE)
        async with open_kubelet(node, short_path) as connected:
            yield connected


@pytest.mark.requirement("csi.stage-volume.idempotent", "csi.node-publish.idempotent")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_repeat_with_any_mount_options_answers_what_the_first_call_answered(
    kubelet: Kubelet, filesystem: str
) -> None:
    """CSI spec, NodeStageVolume and NodePublishVolume: idempotent. A kubelet that restarts repeats its calls."""
    wrong: list[object] = []
    for flags in (*GENERIC, *ACCEPTED[filesystem], *PERHAPS[filesystem]):
        calls = [
            await kubelet.stage(flags, filesystem),
            await kubelet.stage(flags, filesystem),
            await kubelet.publish(flags, filesystem),
            await kubelet.publish(flags, filesystem),
        ]
        codes = {call.code for call in calls}
        is_refused = flags in PERHAPS[filesystem] and codes <= REFUSALS and not mounts_at(kubelet.node.staging())
        if codes != {OK} and not is_refused:
            wrong.append((flags, calls))
        await kubelet.leave()

    assert wrong == []


async def test_the_flags_of_a_mount_are_those_that_mount_gives_it(kubelet: Kubelet, tmp_path: Path) -> None:
    """mount(8), FILESYSTEM-INDEPENDENT MOUNT OPTIONS: the order of the options decides."""
    plain = tmp_path / "plain"
    plain.mkdir()
    loop = str(kubelet.node.loops[VOLUME])
    wrong: list[object] = []
    for flags in GENERIC:
        assert (await kubelet.stage(flags)).code == OK
        (staged,) = mounts_at(kubelet.node.staging())
        await kubelet.leave()
        await command.run(["mount", "-t", "ext4", "-o", ",".join(["rw", *flags]), loop, str(plain)])
        (mounted,) = mounts_at(plain)
        await command.run(["umount", str(plain)])
        if (staged.options, staged.super_options) != (mounted.options, mounted.super_options):
            wrong.append((flags, staged, mounted))

    assert wrong == []


@pytest.mark.requirement("mount.own-device")
async def test_an_option_that_makes_mount_do_something_else_is_refused_by_name(kubelet: Kubelet) -> None:
    """mount(8), ext4(5), xfs(5). Bad input changes nothing: the blank volume stays blank."""
    for option in REFUSED:
        answers = [await kubelet.stage([flags]) for flags in (option, f"noatime,{option}")]

        assert {answer.code for answer in answers} == {grpc.StatusCode.INVALID_ARGUMENT}, (option, answers)
        assert all("mount option" in answer.message for answer in answers), (option, answers)
        assert (await kubelet.publish([option])).code == grpc.StatusCode.INVALID_ARGUMENT

    assert not kubelet.node.staging().exists()
    assert not kubelet.node.image().stat().st_blocks


@pytest.mark.requirement("mount.own-device")
async def test_a_mount_of_another_device_is_undone(tmp_path: Path, short_path: Path) -> None:
    """The names of options that do something else are a list, and a newer mount(8) may have more of them."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "mount").write_text('#!/bin/sh\nexec /usr/bin/mount -o loop "$@"\n')
    (programs / "mount").chmod(0o755)
    async with LoopNode.create(tmp_path / "node") as node:
        await node.attach(size=SIZE)
        async with open_kubelet(node, short_path, PATH=f"{programs}:{os.environ['PATH']}") as kubelet:
            refused = await kubelet.stage([])

        assert refused.code == grpc.StatusCode.UNAVAILABLE
        assert "was mounted there" in refused.message
        assert not node.staging().exists()


async def test_an_option_that_the_kernel_does_not_know_is_quoted_and_nothing_is_mounted(kubelet: Kubelet) -> None:
    refused = await kubelet.stage(["noatme"])

    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "noatme" in refused.message
    assert not kubelet.node.staging().exists()


SEEN: Final = {
    "ext4": [
        *("noatime", "nodiratime", "noexec", "nosuid", "nodev", "nosymfollow", "sync", "dirsync", "lazytime"),
        *("discard", "data=journal", "errors=panic", "nobarrier", "noauto_da_alloc", "grpid"),
    ],
    "xfs": [
        *("strictatime", "nodiratime", "noexec", "nosuid", "nodev", "nosymfollow", "dirsync", "lazytime"),
        *("discard", "wsync", "largeio", "swalloc", "grpid", "filestreams"),
    ],
}
"""Options whose effect the kernel always shows."""


@pytest.mark.requirement("csi.stage-volume.conflict", "csi.node-publish.conflict")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_repeat_with_another_effect_is_refused(kubelet: Kubelet, filesystem: str) -> None:
    """CSI spec, NodeStageVolume and NodePublishVolume: ALREADY_EXISTS."""
    every = SEEN[filesystem]
    assert (await kubelet.stage([], filesystem)).code == OK
    one_more = {
        option: (await kubelet.stage([option], filesystem)).code for option in (*every, "ro", "sync", "norecovery")
    }
    assert (await kubelet.publish([], filesystem)).code == OK
    published = {flag: (await kubelet.publish([flag], filesystem)).code for flag in ("ro", "noexec", "noatime")}
    await kubelet.leave()
    assert (await kubelet.stage(every, filesystem)).code == OK
    one_less = {
        left_out: (await kubelet.stage([option for option in every if option != left_out], filesystem)).code
        for left_out in every
    }
    assert (await kubelet.stage(every, filesystem)).code == OK
    await kubelet.leave()

    for codes in (one_more, published, one_less):
        assert {option for option, code in codes.items() if code != grpc.StatusCode.ALREADY_EXISTS} == set()


@pytest.mark.requirement("csi.stage-volume.idempotent")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_discard_on_a_device_without_trim_is_no_difference(
    tmp_path: Path, short_path: Path, filesystem: str
) -> None:
    """The kernel drops the option (fs/ext4/super.c, fs/xfs/xfs_super.c), and EBS volumes have no TRIM."""
    ram = tmp_path / "ram"
    ram.mkdir()
    # The files of a ramfs cannot have holes, so a loop device on one of them has no TRIM. LoopNode unmounts the ramfs.
    await command.run(["mount", "-t", "ramfs", "ramfs", str(ram)])
    async with LoopNode.create(ram) as node:
        await node.attach(size=SIZE, direct_io=False)
        async with open_kubelet(node, short_path) as kubelet:
            answers = [await kubelet.stage(["discard"], filesystem) for _ in range(2)]
            assert [answer.code for answer in answers] == [OK, OK], answers
            assert "discard" not in mounts_at(node.staging())[0].super_options
            await kubelet.leave()


@pytest.mark.requirement("csi.stage-volume.idempotent")
async def test_an_option_that_is_also_the_filesystems_default_is_no_difference(kubelet: Kubelet) -> None:
    """tune2fs(8), -o and -e: the mount table leaves out the options that the superblock has as defaults."""
    await kubelet.stage([])
    await kubelet.leave()
    defaults = ["-o", "discard,journal_data_writeback,nobarrier", "-e", "remount-ro"]
    await command.run(["tune2fs", *defaults, str(kubelet.node.loops[VOLUME])])

    for flags in ([], ["discard", "data=writeback", "nobarrier", "errors=remount-ro"]):
        answers = [await kubelet.stage(again) for again in (flags, flags, [])]
        assert [answer.code for answer in answers] == [OK, OK, OK], answers
        refused = await kubelet.stage(["nodiscard", "data=ordered"])
        assert refused.code == grpc.StatusCode.ALREADY_EXISTS
        await kubelet.leave()


@pytest.mark.requirement("csi.node-publish.idempotent")
async def test_a_raw_block_volume_is_published_again_although_the_device_directory_has_options(
    tmp_path: Path, short_path: Path
) -> None:
    """Systemd mounts /dev with nosuid and strictatime; a bind mount of a device node inherits these flags."""
    devices = tmp_path / "dev"
    async with LoopNode.create(tmp_path) as node:
        await command.run(["mount", "-t", "tmpfs", "-o", "nosuid,noexec,strictatime", "tmpfs", str(devices)])
        (devices / "disk" / "by-id").mkdir(parents=True)
        await node.attach(size=SIZE)
        async with open_kubelet(node, short_path) as kubelet:
            answers = [await kubelet.publish([], block=True) for _ in range(2)]
            assert [answer.code for answer in answers] == [OK, OK], answers
            await kubelet.leave()
