"""Claims of pods: volumes created, found, grown, and used in each way that Kubernetes offers."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import pytest

from tests.support import static_volume
from tests.support.cluster_namespace import XFS, Space
from tests.support.live_cluster import DRIVER, Live
from tests.support.pod_manifests import COUNT, NOTICED
from tests.support.waiting import wait_for_cluster

GIB: Final = 2**30

RAW: Final[Mapping[str, Any]] = {"volumeMounts": [], "volumeDevices": [{"name": "data", "devicePath": "/dev/data"}]}
"""A container's settings for the raw device instead of a mount."""


@pytest.fixture
async def existing_volume(live: Live) -> AsyncGenerator[str]:
    """A volume with a file on it, created and deleted through the EC2 API."""
    async with live.ec2() as ec2:
        id_ = await static_volume.written(live, ec2, gib=2)
        try:
            yield id_
        finally:
            await ec2.delete_volume(VolumeId=id_)


async def test_a_volume_is_created_in_the_zone_of_its_first_pod_and_its_data_outlives_the_pod(
    space: Space, live: Live
) -> None:
    """Kubernetes, volume binding mode WaitForFirstConsumer."""
    await space.claim("data", of=await space.storage_class(type="gp3"))
    await space.says("data", "^WaitForFirstConsumer: waiting for first consumer to be created before binding$")
    await space.pod("first", "data")
    ready = await space.running("first")
    await space.shell("first", "dd if=/dev/urandom of=/data/file bs=1M count=8 && sync")
    digest = await space.shell("first", "sha256sum /data/file")

    await space.gone("pod", "first")
    await space.pod("second", "data")
    await space.running("second")

    assert await space.shell("second", "sha256sum /data/file") == digest
    claim = await space.bound("data")
    volume = await live.volume(claim)
    node = await live.kubectl.get("node", ready["spec"]["nodeName"])
    assert volume["zone"] == node["metadata"]["labels"]["topology.kubernetes.io/zone"]
    assert (volume["size_gib"], volume["type"]) == (1, "gp3")
    await space.says("data", f"^ProvisioningSucceeded: Successfully provisioned volume {claim['spec']['volumeName']}$")
    await space.says("first", "^SuccessfulAttachVolume: AttachVolume.Attach succeeded for volume")


async def test_an_existing_volume_is_used_and_stays_when_its_claim_is_deleted(
    live: Live, existing_volume: str, space: Space
) -> None:
    """Kubernetes, static provisioning with the reclaim policy Retain."""
    name = f"{space.name}-found"
    await live.kubectl.apply(_persistent(name, existing_volume))
    await space.claim("data", of="", size="2Gi", volumeName=name)
    await space.pod("user", "data")
    await space.running("user")
    assert await space.shell("user", "cat /data/file") == static_volume.WORDS

    await space.gone("pod", "user")
    await space.gone("pvc", "data")

    await live.kubectl("wait", "--for=jsonpath={.status.phase}=Released", f"persistentvolume/{name}", "--timeout=60s")
    await live.kubectl("delete", "persistentvolume", name, "--wait")
    found = next(one for one in await live.cloud("volumes") if one["id"] == existing_volume)
    assert found["state"] == "available"


@pytest.mark.requirement("data.changes-under-pod", "csi.expand-volume.online")
@pytest.mark.parametrize("filesystem", ["xfs", pytest.param("ext4", marks=pytest.mark.online_ext4_growth)])
async def test_a_volume_grows_while_its_pod_keeps_writing(space: Space, live: Live, filesystem: str) -> None:
    """CSI spec, NodeExpandVolume with ONLINE volume expansion."""
    await space.claim("data", of=await space.storage_class(**{"csi.storage.k8s.io/fstype": filesystem}))
    await space.pod("writer", "data", script=COUNT)
    before = await space.running("writer")
    await space.counts_on("writer")

    await space.resize("data", "3Gi")
    await space.says("data", "^FileSystemResizeSuccessful: MountVolume.NodeExpandVolume succeeded")

    await space.counts_on("writer")
    assert await space.longest_pause("writer") < NOTICED
    after = await space.get("pod", "writer")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert (await live.volume(await space.sized("data", "3Gi")))["size_gib"] == 3
    assert int(await space.shell("writer", "df -m /data | awk 'END { print $2 }'")) > 2 * 1024
    assert [one for one in await live.events(space.name, "data") if one.startswith("Resizing: External resizer")]


async def test_a_raw_block_claim_is_a_device_in_the_pod_and_grows_and_moves_with_its_data(
    space: Space, live: Live
) -> None:
    """Kubernetes, volumeMode Block. The second pod runs on another node."""
    here, there = (node.name for node in live.record.nodes[:2])
    await space.claim("data", of=await space.storage_class(), volumeMode="Block")
    await space.pod("first", "data", on=here, container=RAW)
    await space.running("first")
    await space.shell("first", "dd if=/dev/urandom of=/dev/data bs=1M seek=900 count=8 conv=fsync")
    digest = await space.shell("first", "dd if=/dev/data bs=1M skip=900 count=8 | sha256sum")

    await space.resize("data", "2Gi")
    await wait_for_cluster(lambda: _is_sized(space, "first", 2 * GIB))
    await space.sized("data", "2Gi")
    await space.gone("pod", "first")
    await space.pod("second", "data", on=there, container=RAW)
    await space.running("second")

    assert await space.shell("second", "dd if=/dev/data bs=1M skip=900 count=8 | sha256sum") == digest
    assert await _is_sized(space, "second", 2 * GIB)


@pytest.mark.requirement("cluster.workload-leaves-nothing")
async def test_a_generic_ephemeral_volume_is_created_and_deleted_with_its_pod(space: Space, live: Live) -> None:
    """Kubernetes, generic ephemeral volumes."""
    template = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": await space.storage_class(),
        "resources": {"requests": {"storage": "1Gi"}},
    }
    ephemeral = {"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": template}}}
    await space.pod("cache", "", volumes=[ephemeral])
    await space.running("cache")
    await space.shell("cache", "echo warm > /data/layer && sync")
    volume = await live.volume(await space.bound("cache-data"))

    await space.gone("pod", "cache")

    async def is_deleted() -> bool:
        return volume["id"] not in {one["id"] for one in await live.cloud("volumes")}

    await wait_for_cluster(is_deleted)
    assert (await space.get("pvc"))["items"] == []


async def test_a_claim_for_one_pod_keeps_the_second_pod_waiting_until_the_first_is_gone(space: Space) -> None:
    """Kubernetes, access mode ReadWriteOncePod."""
    await space.claim("data", of=await space.storage_class(), mode="ReadWriteOncePod")
    await space.pod("first", "data")
    await space.running("first")
    await space.pod("second", "data")
    await space.says("second", "^FailedScheduling: .*ReadWriteOncePod access mode")

    await space.gone("pod", "first")

    await space.running("second")


async def test_files_belong_to_the_group_that_the_pod_names_and_its_user_may_write(space: Space) -> None:
    """Kubernetes, fsGroup with the CSIDriver's fsGroupPolicy File."""
    security = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "runAsNonRoot": True}
    await space.claim("data", of=await space.storage_class())

    await space.pod("user", "data", securityContext=security)
    await space.running("user")

    await space.shell("user", "echo mine > /data/file")
    assert await space.shell("user", "stat -c '%u:%g' /data/file") == "1000:2000"
    assert await space.shell("user", "stat -c '%g %A' /data") == "2000 drwxrwsr-x"


async def test_parts_of_a_volume_are_mounted_by_their_paths(space: Space) -> None:
    """Kubernetes, subPath."""
    parts = {"/data": "", "/one": "one", "/two": "deep/two"}
    mounts = [{"name": "data", "mountPath": at, **({"subPath": path} if path else {})} for at, path in parts.items()]
    await space.claim("data", of=await space.storage_class())
    await space.pod("user", "data", container={"volumeMounts": mounts})
    await space.running("user")

    await space.shell("user", "echo 1 > /one/file && echo 2 > /two/file")

    assert await space.shell("user", "cat /data/one/file /data/deep/two/file") == "1\n2"


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


async def _is_sized(space: Space, name: str, size: int) -> bool:
    return int(await space.shell(name, "blockdev --getsize64 /dev/data")) == size
