"""A volume whose first bytes are lost is refused as long as a copy of its metadata is left: at the CSI socket."""

import hashlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import grpc
import pytest

from hyperpod_ebs.kit import command
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from tests.support.driver_process import node_arguments, start_driver
from tests.support.loop_device_node import GIB, VOLUME, LoopNode, mounts_at

pytestmark = pytest.mark.root

MIB: Final = 2**20
BLOCK: Final = 4096
DEADLINE: Final = 120.0
FILES: Final = frozenset(f"file-{number}" for number in range(20))
REPAIRED: Final = frozenset({0, 1})
"""e2fsck(8): the exit codes without and with repairs."""


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncGenerator[LoopNode]:
    async with LoopNode.create(tmp_path) as running:
        yield running


@pytest.fixture
async def node(machine: LoopNode, short_path: Path) -> AsyncGenerator[csi_pb2_grpc.NodeStub]:
    """The node service of a node process on this machine, at its socket."""
    flags = (f"--kubelet-root={machine.directory / 'kubelet'}", f"--device-directory={machine.directory / 'dev'}")
    async with (
        start_driver(*node_arguments(short_path), *flags),
        grpc.aio.insecure_channel(f"unix://{short_path / 'csi.sock'}") as channel,
    ):
        yield csi_pb2_grpc.NodeStub(channel)


def stage_request(machine: LoopNode, filesystem: str) -> csi_pb2.NodeStageVolumeRequest:
    return csi_pb2.NodeStageVolumeRequest(
        volume_id=VOLUME,
        staging_target_path=str(machine.staging()),
        volume_capability=csi_pb2.VolumeCapability(
            mount=csi_pb2.VolumeCapability.MountVolume(fs_type=filesystem),
            access_mode=csi_pb2.VolumeCapability.AccessMode(
                mode=csi_pb2.VolumeCapability.AccessMode.Mode.SINGLE_NODE_WRITER
            ),
        ),
    )


async def stage_and_unstage_with_files(machine: LoopNode, node: csi_pb2_grpc.NodeStub, filesystem: str) -> None:
    await node.NodeStageVolume(stage_request(machine, filesystem), timeout=DEADLINE, wait_for_ready=True)
    for name in FILES:
        (machine.staging() / name).write_text(f"content of {name}")
    request = csi_pb2.NodeUnstageVolumeRequest(volume_id=VOLUME, staging_target_path=str(machine.staging()))
    await node.NodeUnstageVolume(request, timeout=DEADLINE)


def digest_of_data(image: Path) -> str:
    """A digest of the image's blocks that are not zero, and of their positions."""
    digest = hashlib.sha256()
    with image.open("rb") as file:
        end = 0
        while (begin := next_data(file.fileno(), end)) is not None:
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            for offset in range(begin, end, BLOCK):
                block = os.pread(file.fileno(), BLOCK, offset)
                if any(block):
                    digest.update(offset.to_bytes(8) + block)
    return digest.hexdigest()


def next_data(handle: int, offset: int) -> int | None:
    """Where the file's next data begins; None if the rest is a hole."""
    try:
        return os.lseek(handle, offset, os.SEEK_DATA)
    except OSError:
        return None


@pytest.mark.requirement("data.format-only-blank")
@pytest.mark.parametrize(
    ("filesystem", "found", "next_step"),
    [
        ("ext4", f"a backup superblock of ext4 in block 32768 (byte {128 * MIB})", "e2fsck -b 32768 -B 4096"),
        ("xfs", f"a superblock of an XFS allocation group at byte {25 * GIB}", "xfs_repair"),
    ],
)
async def test_a_filesystem_whose_start_is_zero_is_refused(
    machine: LoopNode, node: csi_pb2_grpc.NodeStub, filesystem: str, found: str, next_step: str
) -> None:
    """https://github.com/kubernetes/kubernetes/issues/140376."""
    loop = await machine.attach(size=100 * GIB)
    await stage_and_unstage_with_files(machine, node, filesystem)
    await command.run(["dd", "if=/dev/zero", f"of={loop}", "bs=1M", "count=5", "conv=notrunc,fsync"])
    before = digest_of_data(machine.image())

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await node.NodeStageVolume(stage_request(machine, filesystem), timeout=DEADLINE)

    assert refusal.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    message = refusal.value.details() or ""
    assert found in message
    assert f'"{next_step} {machine.directory}/dev/nvme1n1"' in message
    assert digest_of_data(machine.image()) == before
    assert not mounts_at(machine.staging())


async def test_the_command_in_the_refusal_recovers_the_files(machine: LoopNode, node: csi_pb2_grpc.NodeStub) -> None:
    """e2fsck(8), -b and -B."""
    loop = await machine.attach(size=10 * GIB)
    await stage_and_unstage_with_files(machine, node, "ext4")
    await command.run(["dd", "if=/dev/zero", f"of={loop}", "bs=4k", "count=1", "conv=notrunc,fsync"])
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await node.NodeStageVolume(stage_request(machine, "ext4"), timeout=DEADLINE)

    quoted = (refusal.value.details() or "").split('"')[1]
    await command.run([*quoted.split(), "-y"], ok=REPAIRED)
    await node.NodeStageVolume(stage_request(machine, "ext4"), timeout=DEADLINE)

    assert {path.name for path in machine.staging().glob("file-*")} == FILES
