"""What publishing and unpublishing decide, on a node in memory."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.capability import AccessMode, Capability, Mount
from hyperpod_ebs.driver.mounts.host import Host
from hyperpod_ebs.driver.mounts.publish import Publishing, publish, unpublish
from tests.support.plain_host import PlainHost

VOLUME, OTHER = "vol-0123456789abcdef0", "vol-0fedcba9876543210"
STAGING, TARGET = Path("/k/staging"), Path("/k/pod")
WRITER, SINGLE = AccessMode.SINGLE_NODE_WRITER, AccessMode.SINGLE_NODE_SINGLE_WRITER


@pytest.fixture
def node() -> PlainHost:
    """A node on which the volume is staged, and another volume is attached."""
    host = PlainHost()
    host.add_mount(STAGING, host.attach(VOLUME, 1).number)
    host.attach(OTHER, 2)
    return host


def real(host: PlainHost) -> Host:
    return cast("Host", host)  # it lacks what only staging needs


def publishing(*, mode: AccessMode = WRITER, read_only: bool = False, target: Path = TARGET) -> Publishing:
    capability = Capability(Mount("ext4"), mode)
    return Publishing(volume_id=VOLUME, staging=STAGING, target=target, capability=capability, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_repeat_changes_nothing(node: PlainHost, *, read_only: bool) -> None:
    """CSI spec, NodePublishVolume: idempotent."""
    for _ in range(2):
        await publish(real(node), publishing(read_only=read_only))

    assert node.done == [f"bind {STAGING} at {TARGET}"]


@pytest.mark.parametrize("difference", ["another volume", "a directory of the volume", "other options"])
async def test_what_is_mounted_at_the_target_otherwise_is_refused(node: PlainHost, difference: str) -> None:
    """CSI spec, NodePublishVolume: ALREADY_EXISTS."""
    match difference:
        case "another volume":
            node.add_mount(TARGET, node.devices[OTHER].number)
        case "a directory of the volume":
            node.add_mount(TARGET, node.devices[VOLUME].number, root="/part")
        case _:
            node.add_mount(TARGET, node.devices[VOLUME].number, options=["ro"])

    with pytest.raises(errors.Conflict, match="unpublish it first"):
        await publish(real(node), publishing())

    assert node.done == []


async def test_a_dead_mount_at_the_target_is_replaced(node: PlainHost) -> None:
    """Its device was detached by force and attached again."""
    node.add_mount(TARGET, node.devices[VOLUME].number, broken="its device was removed")

    await publish(real(node), publishing())

    assert node.done == [f"unmount {TARGET}", f"bind {STAGING} at {TARGET}"]


async def test_a_dead_mount_of_another_volume_stays(node: PlainHost) -> None:
    """CSI spec, NodePublishVolume."""
    node.add_mount(TARGET, node.devices[OTHER].number, broken="Input/output error")

    with pytest.raises(errors.NotReady, match=f"not of volume {VOLUME}"):
        await publish(real(node), publishing())

    assert node.done == []


@pytest.mark.parametrize(("staged", "why"), [("nothing", "is not staged"), ("another volume", "not of volume")])
async def test_a_volume_that_is_not_staged_is_not_published(node: PlainHost, staged: str, why: str) -> None:
    """CSI spec, NodePublishVolume: FAILED_PRECONDITION."""
    del node.states[STAGING]
    if staged == "another volume":
        node.add_mount(STAGING, node.devices[OTHER].number)

    with pytest.raises(errors.NotReady, match=why):
        await publish(real(node), publishing())

    assert node.done == []


async def test_a_dead_staged_mount_is_not_published_and_its_dead_target_is_not_forgotten(node: PlainHost) -> None:
    """Kubernetes, csi_client.go, isFinalError: kubelet forgets an existing mount after FAILED_PRECONDITION."""
    for path in (STAGING, TARGET):
        node.add_mount(path, node.devices[VOLUME].number, broken="its device was removed")

    with pytest.raises(errors.Unavailable, match="is dead"):
        await publish(real(node), publishing())

    assert node.done == []


async def test_a_single_writer_has_one_target_and_others_may_have_several(node: PlainHost) -> None:
    """CSI spec, NodePublishVolume: FAILED_PRECONDITION for a second target of SINGLE_NODE_SINGLE_WRITER."""
    second = Path("/k/other-pod")
    await publish(real(node), publishing(mode=SINGLE))

    with pytest.raises(errors.InUse, match=str(TARGET)):
        await publish(real(node), publishing(mode=SINGLE, target=second))
    await publish(real(node), publishing(mode=SINGLE))
    await publish(real(node), publishing(target=second))

    assert node.done == [f"bind {STAGING} at {TARGET}", f"bind {STAGING} at {second}"]


async def test_unpublishing_removes_all_mounts_of_the_volume_and_may_be_repeated(node: PlainHost) -> None:
    """CSI spec, NodeUnpublishVolume: idempotent."""
    await publish(real(node), publishing())
    node.add_mount(TARGET, node.devices[VOLUME].number)
    node.done.clear()

    for _ in range(2):
        await unpublish(real(node), VOLUME, TARGET)

    assert node.done == [f"unmount {TARGET}", f"unmount {TARGET}", f"remove {TARGET}", f"remove {TARGET}"]
    assert node.states[STAGING].top


async def test_writes_are_allowed_again_when_a_protected_raw_block_volume_is_unpublished(node: PlainHost) -> None:
    """The next pod may write; an earlier call may have been killed after it unmounted the volume."""
    node.devices[OTHER] = replace(node.devices[OTHER], write_protected=True)

    await unpublish(real(node), OTHER, TARGET)

    assert node.done == [f"remove {TARGET}", f"allow writes to {OTHER}"]
    assert not node.devices[OTHER].write_protected


async def test_a_protected_volume_that_is_still_mounted_stays_protected(node: PlainHost) -> None:
    """Another pod reads it."""
    node.devices[OTHER] = replace(node.devices[OTHER], write_protected=True)
    node.add_mount(Path("/k/reader"), node.devices[OTHER].number)

    await unpublish(real(node), OTHER, TARGET)

    assert node.devices[OTHER].write_protected


async def test_another_volume_is_not_unpublished(node: PlainHost) -> None:
    """CSI spec, NodeUnpublishVolume."""
    node.add_mount(TARGET, node.devices[OTHER].number)

    with pytest.raises(errors.NotReady, match=f"not of volume {VOLUME}"):
        await unpublish(real(node), VOLUME, TARGET)

    assert node.done == []
