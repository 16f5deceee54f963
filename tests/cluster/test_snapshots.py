"""Snapshots: taken while the pod writes, restored, imported, deleted."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from tests.support import static_volume
from tests.support.cluster_namespace import XFS, ClusterNamespace
from tests.support.live_cluster import DRIVER, SNAPSHOTS, LiveCluster
from tests.support.pod_manifests import COUNT
from tests.support.waiting import wait_for_cluster


@pytest.fixture
async def existing_snapshot(live: LiveCluster) -> AsyncGenerator[str]:
    """A snapshot of a volume with a file, created and deleted through the EC2 API."""
    async with live.client("ec2") as ec2:
        volume = await static_volume.create_volume(live, ec2, gib=1)
        tags = [{"ResourceType": "snapshot", "Tags": [static_volume.TAG]}]
        id_: str = (await ec2.create_snapshot(VolumeId=volume, TagSpecifications=tags))["SnapshotId"]
        try:
            await wait_for_cluster(lambda: _is_in(live, "snapshots", id_, "completed"))
            await ec2.delete_volume(VolumeId=volume)
            yield id_
        finally:
            await ec2.delete_snapshot(SnapshotId=id_)


@pytest.mark.requirement("data.snapshot-exact")
async def test_a_snapshot_taken_while_a_pod_writes_holds_exactly_what_was_written_up_to_it(
    namespace: ClusterNamespace,
) -> None:
    """The restored volume is mounted on the node of its source, which has the same filesystem UUID."""
    class_ = await namespace.create_storage_class(**XFS)
    await namespace.create_claim("data", of=class_)
    await namespace.create_pod("writer", "data", script=COUNT)
    node = (await namespace.wait_for_pod("writer"))["spec"]["nodeName"]
    before = await namespace.last_number("writer")

    await namespace.create_snapshot("moment", "data", of=await namespace.create_snapshot_class())
    await namespace.wait_for_snapshot("moment")
    after = await namespace.last_number("writer")
    await namespace.create_claim("copy", of=class_, dataSource=_snapshot("moment"))
    await namespace.create_pod("reader", "copy", on=node)
    await namespace.wait_for_pod("reader")

    copied = await namespace.last_number("reader")
    assert before <= copied <= after
    assert await namespace.run_script("reader", "sha256sum < /data/log") == await namespace.run_script(
        "writer", f"head -n {copied} /data/log | sha256sum"
    )
    await namespace.wait_for_more_numbers("writer")
    await namespace.wait_for_event(
        "moment", "^SnapshotCreated: Snapshot .*/moment was successfully created by the CSI driver.$"
    )
    await namespace.wait_for_event("moment", "^SnapshotReady: Snapshot .*/moment is ready to use.$")


@pytest.mark.requirement("csi.create-snapshot.restorable")
async def test_a_snapshot_made_outside_of_kubernetes_is_imported_restored_and_kept(
    live: LiveCluster, existing_snapshot: str, namespace: ClusterNamespace
) -> None:
    """Kubernetes, pre-provisioned snapshots: a VolumeSnapshotContent names the snapshot's handle."""
    content = f"{namespace.name}-content"
    await live.kubectl.apply(_content(content, existing_snapshot, namespace.name))
    await namespace.apply(_imported_snapshot("found", content))
    await namespace.wait_for_snapshot("found")

    await namespace.create_claim("copy", of=await namespace.create_storage_class(**XFS), dataSource=_snapshot("found"))
    await namespace.create_pod("reader", "copy")
    await namespace.wait_for_pod("reader")

    assert await namespace.run_script("reader", "cat /data/file") == static_volume.CONTENT
    async with live.client("ec2") as ec2:
        id_ = (await live.volume(await namespace.wait_until_bound("copy")))["id"]
        volume = (await ec2.describe_volumes(VolumeIds=[id_]))["Volumes"][0]
    assert volume["SnapshotId"] == existing_snapshot
    await namespace.delete("volumesnapshot", "found")
    await live.kubectl("delete", "volumesnapshotcontent", content, "--wait")
    assert await _is_in(live, "snapshots", existing_snapshot, "completed")


async def test_a_snapshot_of_a_class_with_policy_delete_is_deleted_with_its_object(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """Kubernetes, DeletionPolicy."""
    content = await _take_snapshot(namespace, "Delete")

    await namespace.delete("volumesnapshot", "moment")

    await live.kubectl("wait", "--for=delete", f"volumesnapshotcontent/{content['metadata']['name']}", "--timeout=60s")
    assert content["status"]["snapshotHandle"] not in {one["id"] for one in await live.cloud("snapshots")}


async def test_a_snapshot_of_a_class_with_policy_retain_stays_in_the_cloud(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """Kubernetes, DeletionPolicy."""
    content = await _take_snapshot(namespace, "Retain")

    await namespace.delete("volumesnapshot", "moment")
    await live.kubectl("delete", "volumesnapshotcontent", content["metadata"]["name"], "--wait")

    assert await _is_in(live, "snapshots", content["status"]["snapshotHandle"], "completed")
    async with live.client("ec2") as ec2:
        await ec2.delete_snapshot(SnapshotId=content["status"]["snapshotHandle"])


async def _take_snapshot(namespace: ClusterNamespace, policy: str) -> Any:  # a document of Kubernetes'
    """Take a snapshot of a new volume and return its VolumeSnapshotContent."""
    await namespace.create_claim("data", of=await namespace.create_storage_class())
    await namespace.create_pod("user", "data")
    await namespace.wait_for_pod("user")
    await namespace.create_snapshot("moment", "data", of=await namespace.create_snapshot_class(policy))
    return await namespace.wait_for_snapshot("moment")


def _snapshot(name: str) -> Mapping[str, Any]:
    """A claim's data source: the snapshot of this name."""
    return {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name}


def _content(name: str, handle: str, namespace: str) -> Mapping[str, Any]:
    """A VolumeSnapshotContent for a snapshot in the cloud, bound to the VolumeSnapshot `found` of a namespace."""
    return {
        "apiVersion": SNAPSHOTS,
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": name},
        "spec": {
            "driver": DRIVER,
            "deletionPolicy": "Retain",
            "source": {"snapshotHandle": handle},
            "volumeSnapshotRef": {"name": "found", "namespace": namespace},
        },
    }


def _imported_snapshot(name: str, content: str) -> Mapping[str, Any]:
    return {
        "apiVersion": SNAPSHOTS,
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {"source": {"volumeSnapshotContentName": content}},
    }


async def _is_in(live: LiveCluster, kind: str, id_: str, state: str) -> bool:
    return any(one["id"] == id_ and one["state"] == state for one in await live.cloud(kind))
