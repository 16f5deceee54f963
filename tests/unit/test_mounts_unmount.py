"""What unstaging decides, on a node in memory."""

from pathlib import Path
from typing import cast

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.mounts.host import Host
from hyperpod_ebs.driver.mounts.stage import unstage
from tests.support.plain_host import PlainHost

VOLUME, OTHER = "vol-0123456789abcdef0", "vol-0fedcba9876543210"
STAGING, TARGET = Path("/k/staging"), Path("/k/pod")


@pytest.fixture
def node() -> PlainHost:
    """A node to which two volumes are attached."""
    host = PlainHost()
    host.attach(VOLUME, 1)
    host.attach(OTHER, 2)
    return host


def real(host: PlainHost) -> Host:
    return cast("Host", host)  # it lacks what only staging needs


async def test_all_stacked_mounts_are_unmounted_before_the_wait_for_the_device(node: PlainHost) -> None:
    """The removal of the path drops the copies of its mount in other mount namespaces."""
    for _ in range(2):
        node.add_mount(STAGING, node.devices[VOLUME].number)

    await unstage(real(node), VOLUME, STAGING)

    unmount = f"unmount {STAGING}"
    assert node.done == [unmount, unmount, f"remove {STAGING}", f"wait for {VOLUME}"]


async def test_the_device_is_waited_for_even_if_nothing_is_mounted(node: PlainHost) -> None:
    """An earlier unmount may still be writing."""
    await unstage(real(node), VOLUME, STAGING)

    assert node.done == [f"remove {STAGING}", f"wait for {VOLUME}"]


async def test_a_mount_of_another_volume_stays(node: PlainHost) -> None:
    """CSI spec, NodeUnstageVolume: it undoes the staging of this volume."""
    node.add_mount(STAGING, node.devices[OTHER].number)

    with pytest.raises(errors.NotReady, match=f"not of volume {VOLUME}"):
        await unstage(real(node), VOLUME, STAGING)

    assert node.done == []


async def test_a_volume_with_another_mount_is_unmounted_but_not_released(node: PlainHost) -> None:
    """A success would let the controller detach it."""
    node.add_mount(STAGING, node.devices[VOLUME].number)
    node.add_mount(TARGET, node.devices[VOLUME].number)

    with pytest.raises(errors.InUse, match=f"still mounted at {TARGET}"):
        await unstage(real(node), VOLUME, STAGING)

    assert node.done == [f"unmount {STAGING}"]
