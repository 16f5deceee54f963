"""Volumes on Xen instances, which show them as xvd disks without a serial number."""

from pathlib import Path

import pytest

from hyperpod_ebs.demo.orchestrator import filesystem_capability
from tests.support.driver_fleet import Fleet

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


async def test_a_volume_moves_with_its_data_between_xen_instances(short_path: Path) -> None:
    """EC2 user guide, Device names for volumes on Linux instances: instances that are not Nitro have no NVMe links."""
    del short_path  # the fleet's sandbox is in it
    async with Fleet.start(kind="xen") as fleet:
        co = fleet.orchestrator
        first, second = co.nodes["node-1"], co.nodes["node-2"]
        claim = await co.create("data", gib=1, capability=filesystem_capability("ext4"))
        other = await co.create("other", gib=1, capability=filesystem_capability("xfs"))

        contexts = [await co.attach(claim, first), await co.attach(claim, first)]
        (await co.mount(claim, first, contexts[0]) / "file").write_text("of the first volume")
        mounted_other = await co.mount(other, first, await co.attach(other, first))
        (mounted_other / "file").write_text("of the second volume")
        for each in (claim, other):
            await co.unmount(each, first)
            await co.detach(each, first)
        mounts = [await co.mount(each, second, await co.attach(each, second)) for each in (claim, other)]

        assert contexts[0] == contexts[1]
        assert contexts[0]["devicePath"].startswith("/dev/xvd")
        assert [(mount / "file").read_text() for mount in mounts] == ["of the first volume", "of the second volume"]
        for each in (claim, other):
            await co.unmount(each, second)
            await co.detach(each, second)
