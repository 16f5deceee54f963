"""The controller killed while the cloud works for it: whoever comes after finishes, and nothing is done twice.

Each is killed when the cloud has done what it was asked for, and before it could answer: the
one who asked never learns what became of it.
"""

import pytest

from tests.support.cluster_namespace import Space
from tests.support.driver_pods import Sidecar, killed_in_the_middle
from tests.support.live_cluster import Live, eventually

pytestmark = [pytest.mark.exclusive, pytest.mark.usefixtures("relieved")]


async def test_a_volume_is_created_once_by_a_controller_that_is_killed_meanwhile(space: Space, live: Live) -> None:
    """A volume that nobody knows of would cost for ever."""
    before = {one["id"] for one in await live.cloud("volumes")}
    name = await space.storage_class(type="gp3")
    async with killed_in_the_middle(live, Sidecar.PROVISIONER, "CreateVolume"):
        await space.claim("data", of=name)
        await space.pod("user", "data")

    await space.running("user")

    made = {one["id"] for one in await live.cloud("volumes")} - before
    assert made == {(await live.volume(await space.bound("data")))["id"]}


async def test_a_volume_is_attached_once_by_a_controller_that_is_killed_meanwhile(space: Space, live: Live) -> None:
    """The node's pod starts, and the volume has one attachment."""
    volume = await _unused(space, live)
    async with killed_in_the_middle(live, Sidecar.ATTACHER, "AttachClusterNodeVolume"):
        await space.pod("user", "data", on=live.record.nodes[0].name)

    await space.running("user")

    attachments = [one for one in await live.cloud("attachments") if one["volume"] == volume]
    assert [one["instance"] for one in attachments] == [live.record.nodes[0].instance]


async def test_a_volume_is_detached_by_a_controller_that_is_killed_meanwhile(space: Space, live: Live) -> None:
    """And so comes to the next node, with its data."""
    first, second = live.record.nodes[:2]
    await space.claim("data", of=await space.storage_class(type="gp3"))
    await space.pod("user", "data", on=first.name)
    await space.running("user")
    await space.shell("user", "echo kept > /data/file && sync")
    async with killed_in_the_middle(live, Sidecar.ATTACHER, "DetachClusterNodeVolume"):
        await space.gone("pod", "user")

    await space.pod("user", "data", on=second.name)
    await space.running("user")

    assert await space.shell("user", "cat /data/file") == "kept"


async def test_a_volume_is_deleted_by_a_controller_that_is_killed_meanwhile(space: Space, live: Live) -> None:
    """That it is gone already is what the next one wants."""
    volume = await _unused(space, live)
    claim = await space.bound("data")
    async with killed_in_the_middle(live, Sidecar.PROVISIONER, "DeleteVolume"):
        await space.gone("pvc", "data")

    await live.kubectl("wait", "--for=delete", f"pv/{claim['spec']['volumeName']}", "--timeout=120s")

    assert volume not in {one["id"] for one in await live.cloud("volumes")}


async def test_a_snapshot_is_taken_once_by_a_controller_that_is_killed_meanwhile(space: Space, live: Live) -> None:
    """A second one would be of a later moment, and cost for ever."""
    volume = await _unused(space, live)
    class_ = await space.snapshot_class()
    async with killed_in_the_middle(live, Sidecar.SNAPSHOTTER, "CreateSnapshot"):
        await space.snapshot("kept", "data", of=class_)

    await space.ready("kept")

    assert len([one for one in await live.cloud("snapshots") if one["volume"] == volume]) == 1


async def test_a_volume_grows_once_under_a_controller_that_is_killed_meanwhile(space: Space, live: Live) -> None:
    """AWS allows one modification in six hours, so that a second one would not be had."""
    volume = await _unused(space, live)
    async with killed_in_the_middle(live, Sidecar.RESIZER, "ModifyVolume"):
        await space.resize("data", "2Gi")

    async def grown() -> bool:
        bound = await live.kubectl.get("persistentvolume", (await space.bound("data"))["spec"]["volumeName"])
        return bool(bound["spec"]["capacity"]["storage"] == "2Gi")

    await eventually(grown)

    assert (await live.volume(await space.bound("data")))["size_gib"] == 2
    assert await live.modifications(volume) == 1


async def _unused(space: Space, live: Live) -> str:
    """The cloud's id of the volume of a new claim `data`, which no pod has asked for yet."""
    await space.claim("data", of=await space.storage_class(type="gp3", binding="Immediate"))
    volume: str = (await live.volume(await space.bound("data")))["id"]
    return volume
