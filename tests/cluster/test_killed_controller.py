"""The controller killed in the middle of an AWS call: its successor finishes, and nothing is done twice.

Each controller is killed after the cloud has carried out a request and before the answer
arrives, so the caller never learns the result.
"""

import pytest

from tests.support.cluster_namespace import ClusterNamespace
from tests.support.driver_pods import Sidecar, kill_during_operation
from tests.support.live_cluster import LiveCluster
from tests.support.waiting import wait_for_cluster

pytestmark = [pytest.mark.exclusive, pytest.mark.usefixtures("pod_replacement")]


@pytest.mark.requirement("kills.controller")
async def test_a_volume_is_created_once_when_the_controller_is_killed_during_the_call(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """An unknown second volume would cost money for ever."""
    before = {one["id"] for one in await live.cloud("volumes")}
    name = await namespace.create_storage_class(type="gp3")
    async with kill_during_operation(live, Sidecar.PROVISIONER, "CreateVolume"):
        await namespace.create_claim("data", of=name)
        await namespace.create_pod("user", "data")

    await namespace.wait_for_pod("user")

    made = {one["id"] for one in await live.cloud("volumes")} - before
    assert made == {(await live.volume(await namespace.wait_until_bound("data")))["id"]}


@pytest.mark.requirement("kills.controller")
async def test_a_volume_is_attached_once_when_the_controller_is_killed_during_the_call(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    volume = await _create_unused_volume(namespace, live)
    async with kill_during_operation(live, Sidecar.ATTACHER, "AttachClusterNodeVolume"):
        await namespace.create_pod("user", "data", on=live.record.nodes[0].name)

    await namespace.wait_for_pod("user")

    attachments = [one for one in await live.cloud("attachments") if one["volume"] == volume]
    assert [one["instance"] for one in attachments] == [live.record.nodes[0].instance]


@pytest.mark.requirement("kills.controller")
async def test_a_volume_moves_with_its_data_when_the_controller_is_killed_during_the_detach(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    first, second = live.record.nodes[:2]
    await namespace.create_claim("data", of=await namespace.create_storage_class(type="gp3"))
    await namespace.create_pod("user", "data", on=first.name)
    await namespace.wait_for_pod("user")
    await namespace.run_script("user", "echo kept > /data/file && sync")
    async with kill_during_operation(live, Sidecar.ATTACHER, "DetachClusterNodeVolume"):
        await namespace.delete("pod", "user")

    await namespace.create_pod("user", "data", on=second.name)
    await namespace.wait_for_pod("user")

    assert await namespace.run_script("user", "cat /data/file") == "kept"


@pytest.mark.requirement("kills.controller")
async def test_a_volume_is_deleted_when_the_controller_is_killed_during_the_call(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """CSI spec, DeleteVolume: a volume that does not exist is deleted."""
    volume = await _create_unused_volume(namespace, live)
    claim = await namespace.wait_until_bound("data")
    async with kill_during_operation(live, Sidecar.PROVISIONER, "DeleteVolume"):
        await namespace.delete("pvc", "data")

    await live.kubectl("wait", "--for=delete", f"pv/{claim['spec']['volumeName']}", "--timeout=120s")

    assert volume not in {one["id"] for one in await live.cloud("volumes")}


@pytest.mark.requirement("kills.controller")
async def test_a_snapshot_is_taken_once_when_the_controller_is_killed_during_the_call(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """A second snapshot would show a later moment, and cost money for ever."""
    volume = await _create_unused_volume(namespace, live)
    class_ = await namespace.create_snapshot_class()
    async with kill_during_operation(live, Sidecar.SNAPSHOTTER, "CreateSnapshot"):
        await namespace.create_snapshot("kept", "data", of=class_)

    await namespace.wait_for_snapshot("kept")

    assert len([one for one in await live.cloud("snapshots") if one["volume"] == volume]) == 1


@pytest.mark.requirement("kills.controller")
async def test_a_volume_grows_once_when_the_controller_is_killed_during_the_call(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """AWS limits the modifications of a volume in a day, so a second request could be refused."""
    volume = await _create_unused_volume(namespace, live)
    async with kill_during_operation(live, Sidecar.RESIZER, "ModifyVolume"):
        await namespace.resize_claim("data", "2Gi")

    async def is_grown() -> bool:
        bound = await live.kubectl.get(
            "persistentvolume", (await namespace.wait_until_bound("data"))["spec"]["volumeName"]
        )
        return bool(bound["spec"]["capacity"]["storage"] == "2Gi")

    await wait_for_cluster(is_grown)

    assert (await live.volume(await namespace.wait_until_bound("data")))["size_gib"] == 2
    assert await live.modification_count(volume) == 1


async def _create_unused_volume(namespace: ClusterNamespace, live: LiveCluster) -> str:
    """Create a claim `data` that no pod uses, and return the id of its volume."""
    await namespace.create_claim("data", of=await namespace.create_storage_class(type="gp3", binding="Immediate"))
    volume: str = (await live.volume(await namespace.wait_until_bound("data")))["id"]
    return volume
