"""Claims of pods: volumes created, found, grown, and used in each way that Kubernetes offers."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import pytest

from tests.support import static_volume
from tests.support.cluster_namespace import XFS, ClusterNamespace
from tests.support.live_cluster import DRIVER, LiveCluster
from tests.support.pod_manifests import COUNT, INTERRUPTION
from tests.support.waiting import wait_for_cluster

GIB: Final = 2**30

RAW: Final[Mapping[str, Any]] = {"volumeMounts": [], "volumeDevices": [{"name": "data", "devicePath": "/dev/data"}]}
"""A container's settings for the raw device instead of a mount."""


@pytest.fixture
async def existing_volume(live: LiveCluster) -> AsyncGenerator[str]:
    """A volume with a file on it, created and deleted through the EC2 API."""
    async with live.client("ec2") as ec2:
        id_ = await static_volume.create_volume(live, ec2, gib=2)
        try:
            yield id_
        finally:
            await ec2.delete_volume(VolumeId=id_)


async def test_a_volume_is_created_in_the_zone_of_its_first_pod_and_its_data_outlives_the_pod(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """Kubernetes, volume binding mode WaitForFirstConsumer."""
    await namespace.create_claim("data", of=await namespace.create_storage_class(type="gp3"))
    await namespace.wait_for_event(
        "data", "^WaitForFirstConsumer: waiting for first consumer to be created before binding$"
    )
    await namespace.create_pod("first", "data")
    ready = await namespace.wait_for_pod("first")
    await namespace.run_script("first", "dd if=/dev/urandom of=/data/file bs=1M count=8 && sync")
    digest = await namespace.run_script("first", "sha256sum /data/file")

    await namespace.delete("pod", "first")
    await namespace.create_pod("second", "data")
    await namespace.wait_for_pod("second")

    assert await namespace.run_script("second", "sha256sum /data/file") == digest
    claim = await namespace.wait_until_bound("data")
    volume = await live.volume(claim)
    node = await live.kubectl.get("node", ready["spec"]["nodeName"])
    assert volume["zone"] == node["metadata"]["labels"]["topology.kubernetes.io/zone"]
    assert (volume["size_gib"], volume["type"]) == (1, "gp3")
    await namespace.wait_for_event(
        "data", f"^ProvisioningSucceeded: Successfully provisioned volume {claim['spec']['volumeName']}$"
    )
    await namespace.wait_for_event("first", "^SuccessfulAttachVolume: AttachVolume.Attach succeeded for volume")


async def test_a_pod_has_no_warning_about_the_clusters_dns(namespace: ClusterNamespace, live: LiveCluster) -> None:
    """docs/guides/troubleshooting.md begins with the warnings; kubelet would repeat this one for every pod."""
    await namespace.create_claim("data", of=await namespace.create_storage_class())
    await namespace.create_pod("user", "data")
    await namespace.wait_for_pod("user")
    await namespace.wait_for_event("user", "^Started: ")

    assert [event for event in await live.events(namespace.name, "user") if "DNS" in event] == []


async def test_an_existing_volume_is_used_and_stays_when_its_claim_is_deleted(
    live: LiveCluster, existing_volume: str, namespace: ClusterNamespace
) -> None:
    """Kubernetes, static provisioning with the reclaim policy Retain."""
    name = f"{namespace.name}-found"
    await live.kubectl.apply(_persistent(name, existing_volume))
    await namespace.create_claim("data", of="", size="2Gi", volumeName=name)
    await namespace.create_pod("user", "data")
    await namespace.wait_for_pod("user")
    assert await namespace.run_script("user", "cat /data/file") == static_volume.CONTENT

    await namespace.delete("pod", "user")
    await namespace.delete("pvc", "data")

    await live.kubectl("wait", "--for=jsonpath={.status.phase}=Released", f"persistentvolume/{name}", "--timeout=60s")
    await live.kubectl("delete", "persistentvolume", name, "--wait")
    found = next(one for one in await live.cloud("volumes") if one["id"] == existing_volume)
    assert found["state"] == "available"


@pytest.mark.requirement("data.changes-under-pod", "csi.expand-volume.online")
@pytest.mark.parametrize("filesystem", ["xfs", pytest.param("ext4", marks=pytest.mark.online_ext4_growth)])
async def test_a_volume_grows_while_its_pod_keeps_writing(
    namespace: ClusterNamespace, live: LiveCluster, filesystem: str
) -> None:
    """CSI spec, NodeExpandVolume with ONLINE volume expansion."""
    await namespace.create_claim(
        "data", of=await namespace.create_storage_class(**{"csi.storage.k8s.io/fstype": filesystem})
    )
    await namespace.create_pod("writer", "data", script=COUNT)
    before = await namespace.wait_for_pod("writer")
    await namespace.wait_for_more_numbers("writer")

    await namespace.resize_claim("data", "3Gi")
    await namespace.wait_for_event("data", "^FileSystemResizeSuccessful: MountVolume.NodeExpandVolume succeeded")

    await namespace.wait_for_more_numbers("writer")
    assert await namespace.longest_pause("writer") < INTERRUPTION
    after = await namespace.get("pod", "writer")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert (await live.volume(await namespace.wait_for_size("data", "3Gi")))["size_gib"] == 3
    assert int(await namespace.run_script("writer", "df -m /data | awk 'END { print $2 }'")) > 2 * 1024
    assert [one for one in await live.events(namespace.name, "data") if one.startswith("Resizing: External resizer")]


async def test_a_raw_block_claim_is_a_device_in_the_pod_and_grows_and_moves_with_its_data(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """Kubernetes, volumeMode Block. The second pod runs on another node."""
    here, there = (node.name for node in live.record.nodes[:2])
    await namespace.create_claim("data", of=await namespace.create_storage_class(), volumeMode="Block")
    await namespace.create_pod("first", "data", on=here, container=RAW)
    await namespace.wait_for_pod("first")
    await namespace.run_script("first", "dd if=/dev/urandom of=/dev/data bs=1M seek=900 count=8 conv=fsync")
    digest = await namespace.run_script("first", "dd if=/dev/data bs=1M skip=900 count=8 | sha256sum")

    await namespace.resize_claim("data", "2Gi")
    await wait_for_cluster(lambda: _is_sized(namespace, "first", 2 * GIB))
    await namespace.wait_for_size("data", "2Gi")
    await namespace.delete("pod", "first")
    await namespace.create_pod("second", "data", on=there, container=RAW)
    await namespace.wait_for_pod("second")

    assert await namespace.run_script("second", "dd if=/dev/data bs=1M skip=900 count=8 | sha256sum") == digest
    assert await _is_sized(namespace, "second", 2 * GIB)


@pytest.mark.requirement("cluster.workload-leaves-nothing")
async def test_a_generic_ephemeral_volume_is_created_and_deleted_with_its_pod(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """Kubernetes, generic ephemeral volumes."""
    template = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": await namespace.create_storage_class(),
        "resources": {"requests": {"storage": "1Gi"}},
    }
    ephemeral = {"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": template}}}
    await namespace.create_pod("cache", "", volumes=[ephemeral])
    await namespace.wait_for_pod("cache")
    await namespace.run_script("cache", "echo warm > /data/layer && sync")
    volume = await live.volume(await namespace.wait_until_bound("cache-data"))

    await namespace.delete("pod", "cache")

    async def is_deleted() -> bool:
        return volume["id"] not in {one["id"] for one in await live.cloud("volumes")}

    await wait_for_cluster(is_deleted)
    assert (await namespace.get("pvc"))["items"] == []


async def test_a_claim_for_one_pod_keeps_the_second_pod_waiting_until_the_first_is_gone(
    namespace: ClusterNamespace,
) -> None:
    """Kubernetes, access mode ReadWriteOncePod."""
    await namespace.create_claim("data", of=await namespace.create_storage_class(), mode="ReadWriteOncePod")
    await namespace.create_pod("first", "data")
    await namespace.wait_for_pod("first")
    await namespace.create_pod("second", "data")
    await namespace.wait_for_event("second", "^FailedScheduling: .*ReadWriteOncePod access mode")

    await namespace.delete("pod", "first")

    await namespace.wait_for_pod("second")


async def test_files_belong_to_the_group_that_the_pod_names_and_its_user_may_write(namespace: ClusterNamespace) -> None:
    """Kubernetes, fsGroup with the CSIDriver's fsGroupPolicy File."""
    security = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "runAsNonRoot": True}
    await namespace.create_claim("data", of=await namespace.create_storage_class())

    await namespace.create_pod("user", "data", securityContext=security)
    await namespace.wait_for_pod("user")

    await namespace.run_script("user", "echo mine > /data/file")
    assert await namespace.run_script("user", "stat -c '%u:%g' /data/file") == "1000:2000"
    assert await namespace.run_script("user", "stat -c '%g %A' /data") == "2000 drwxrwsr-x"


async def test_parts_of_a_volume_are_mounted_by_their_paths(namespace: ClusterNamespace) -> None:
    """Kubernetes, subPath."""
    parts = {"/data": "", "/one": "one", "/two": "deep/two"}
    mounts = [{"name": "data", "mountPath": at, **({"subPath": path} if path else {})} for at, path in parts.items()]
    await namespace.create_claim("data", of=await namespace.create_storage_class())
    await namespace.create_pod("user", "data", container={"volumeMounts": mounts})
    await namespace.wait_for_pod("user")

    await namespace.run_script("user", "echo 1 > /one/file && echo 2 > /two/file")

    assert await namespace.run_script("user", "cat /data/one/file /data/deep/two/file") == "1\n2"


def _persistent(name: str, id_: str) -> Mapping[str, Any]:
    """A PersistentVolume for a volume of the cloud, with the reclaim policy Retain."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "2Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "csi": {"driver": DRIVER, "volumeHandle": id_, "fsType": XFS["csi.storage.k8s.io/fstype"]},
        },
    }


async def _is_sized(namespace: ClusterNamespace, name: str, size: int) -> bool:
    return int(await namespace.run_script(name, "blockdev --getsize64 /dev/data")) == size
