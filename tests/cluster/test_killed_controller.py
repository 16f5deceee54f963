"""The controller killed in the middle of an AWS call: its successor finishes, and nothing is done twice.

Each controller is killed after the cloud has carried out a request and before the answer
arrives, so the caller never learns the result.
"""

import pytest

from tests.support.cluster_namespace import Space
from tests.support.driver_pods import Sidecar, killed_in_the_middle
from tests.support.live_cluster import Live
from tests.support.waiting import wait_for_cluster

pytestmark = [pytest.mark.exclusive, pytest.mark.usefixtures("replace_damaged_pods")]


@pytest.mark.requirement("kills.controller")
async def test_a_volume_is_created_once_when_the_controller_is_killed_during_the_call(space: Space, live: Live) -> None:
    """An unknown second volume would cost money for ever."""
    before = {one["id"] for one in await live.cloud("volumes")}
    name = await space.storage_class(type="gp3")
    async with killed_in_the_middle(live, Sidecar.PROVISIONER, "CreateVolume"):
        await space.claim("data", of=name)
        await space.pod("user", "data")

    await space.running("user")

    made = {one["id"] for one in await live.cloud("volumes")} - before
    assert made == {(await live.volume(await space.bound("data")))["id"]}


@pytest.mark.requirement("kills.controller")
async def test_a_volume_is_attached_once_when_the_controller_is_killed_during_the_call(
    space: Space, live: Live
) -> None:
    volume = await _create_unused_volume(space, live)
    async with killed_in_the_middle(live, Sidecar.ATTACHER, "AttachClusterNodeVolume"):
        await space.pod("user", "data", on=live.record.nodes[0].name)

    await space.running("user")

    attachments = [one for one in await live.cloud("attachments") if one["volume"] == volume]
    assert [one["instance"] for one in attachments] == [live.record.nodes[0].instance]


@pytest.mark.requirement("kills.controller")
async def test_a_volume_moves_with_its_data_when_the_controller_is_killed_during_the_detach(
    space: Space, live: Live
) -> None:
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


@pytest.mark.requirement("kills.controller")
async def test_a_volume_is_deleted_when_the_controller_is_killed_during_the_call(space: Space, live: Live) -> None:
    """CSI spec, DeleteVolume: a volume that does not exist is deleted."""
    volume = await _create_unused_volume(space, live)
    claim = await space.bound("data")
    async with killed_in_the_middle(live, Sidecar.PROVISIONER, "DeleteVolume"):
        await space.gone("pvc", "data")

    await live.kubectl("wait", "--for=delete", f"pv/{claim['spec']['volumeName']}", "--timeout=120s")

    assert volume not in {one["id"] for one in await live.cloud("volumes")}


@pytest.mark.requirement("kills.controller")
async def test_a_snapshot_is_taken_once_when_the_controller_is_killed_during_the_call(space: Space, live: Live) -> None:
    """A second snapshot would show a later moment, and cost money for ever."""
    volume = await _create_unused_volume(space, live)
    class_ = await space.snapshot_class()
    async with killed_in_the_middle(live, Sidecar.SNAPSHOTTER, "CreateSnapshot"):
        await space.snapshot("kept", "data", of=class_)

    await space.ready("kept")

    assert len([one for one in await live.cloud("snapshots") if one["volume"] == volume]) == 1


@pytest.mark.requirement("kills.controller")
async def test_a_volume_grows_once_when_the_controller_is_killed_during_the_call(space: Space, live: Live) -> None:
    """AWS limits the modifications of a volume in a day, so a second request could be refused."""
    volume = await _create_unused_volume(space, live)
    async with killed_in_the_middle(live, Sidecar.RESIZER, "ModifyVolume"):
        await space.resize("data", "2Gi")

    async def is_grown() -> bool:
        bound = await live.kubectl.get("persistentvolume", (await space.bound("data"))["spec"]["volumeName"])
        return bool(bound["spec"]["capacity"]["storage"] == "2Gi")

    await wait_for_cluster(is_grown)

    assert (await live.volume(await space.bound("data")))["size_gib"] == 2
    assert await live.modifications(volume) == 1


async def _create_unused_volume(space: Space, live: Live) -> str:
    """Create a claim `data` that no pod uses, and return the id of its volume."""
    await space.claim("data", of=await space.storage_class(type="gp3", binding="Immediate"))
    volume: str = (await live.volume(await space.bound("data")))["id"]
    return volume
