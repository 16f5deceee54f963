"""A mounted filesystem is not always usable: write-protected devices, and filesystems that stopped writing."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Capability, Mount
from hyperpod_ebs.driver.mounts.stage import Staging, stage, unstage
from tests.support.loop_device_node import VOLUME, LoopNode, mounts_at

pytestmark = pytest.mark.root

FILESYSTEMS = ("ext4", "xfs")
WRITER = AccessMode.SINGLE_NODE_WRITER


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[LoopNode]:
    async with LoopNode.create(tmp_path) as running:
        yield running


def staging(node: LoopNode, *flags: str, filesystem: str = "ext4") -> Staging:
    return Staging(volume_id=VOLUME, target=node.staging(), capability=Capability(Mount(filesystem, flags), WRITER))


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

    with pytest.raises(errors.NotReady, match="write-protected"):
        await stage(node.host, staging(node, *flags, filesystem=filesystem))

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
