"""What an expansion decides, on a node in memory."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import DeviceNumber
from hyperpod_ebs.driver.mounts.expand import expand
from hyperpod_ebs.driver.mounts.host import Host
from tests.support.plain_host import PlainHost

VOLUME = "vol-0123456789abcdef0"
GIB = 2**30
PATH = Path("/k/staging")


@pytest.fixture
def node() -> PlainHost:
    """A node on which the volume is mounted; its device has 2 GiB."""
    host = PlainHost()
    device = host.attach(VOLUME, 1)
    host.devices[VOLUME] = replace(device, size=2 * GIB)
    host.add_mount(PATH, device.number)
    return host


def real(host: PlainHost) -> Host:
    return cast("Host", host)  # it lacks what only staging needs


async def test_a_filesystem_grows_to_the_size_of_its_device(node: PlainHost) -> None:
    """CSI spec, NodeExpandVolume."""
    assert await expand(real(node), VOLUME, PATH, wanted=2 * GIB) == 2 * GIB

    assert node.done == [f"grow {PATH} to {2 * GIB}"]


async def test_nothing_grows_before_the_device_has_the_wanted_size(node: PlainHost) -> None:
    """EC2 shows the new size to the node some time after the modification has begun."""
    with pytest.raises(errors.DeviceNotReady):
        await expand(real(node), VOLUME, PATH, wanted=3 * GIB)

    assert node.done == []


async def test_a_mount_of_a_removed_device_does_not_grow(node: PlainHost) -> None:
    """The volume was detached under the mount, and attached again as another device."""
    node.devices[VOLUME] = replace(node.devices[VOLUME], number=DeviceNumber(259, 7))

    with pytest.raises(errors.Unavailable, match=r"is of device 259:1, but volume .* is now device 259:7"):
        await expand(real(node), VOLUME, PATH, wanted=2 * GIB)

    assert node.done == []


async def test_a_raw_block_volume_has_nothing_to_grow(node: PlainHost) -> None:
    """Kubelet calls NodeExpandVolume for it too, with a path at which nothing is mounted."""
    assert await expand(real(node), VOLUME, Path("/k/block"), wanted=2 * GIB, block=True) == 2 * GIB

    assert node.done == []
