"""Objects that the upstream driver left in a cluster, taken over by this driver without touching a volume."""

import hashlib
from typing import Any

from localcluster import cloud
from localcluster.record import NodeRecord
from tests.support import static_volume
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.live_cluster import DRIVER, LiveCluster
from tests.support.waiting import wait_for_cluster


async def test_a_volume_that_the_upstream_driver_created_and_attached_keeps_working(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """A migration takes over the PersistentVolume and the VolumeAttachment as they are."""
    node = live.record.nodes[0]
    volume = await _upstreams_volume(live, node)
    attached_at = [one for one in await live.cloud("attachments") if one["volume"] == volume]
    name = await _upstreams_objects(namespace, live, node, volume)

    await namespace.create_pod("user", "data", on=node.name)
    await namespace.wait_for_pod("user")
    await namespace.run_script("user", "echo kept > /data/file && sync")

    assert [one for one in await live.cloud("attachments") if one["volume"] == volume] == attached_at
    await namespace.delete("pod", "user")
    await live.kubectl("wait", "--for=delete", f"volumeattachment/{name}", "--timeout=120s")
    await namespace.create_pod("user", "data", on=live.record.nodes[1].name)
    await namespace.wait_for_pod("user")
    assert await namespace.run_script("user", "cat /data/file") == "kept"
    await namespace.delete("pod", "user")
    # Before that the volume is not deleted, and tried again ever later.
    await wait_for_cluster(lambda: _is_detached(live, namespace.name))
    await namespace.delete("pvc", "data")
    await live.kubectl("wait", "--for=delete", f"pv/{namespace.name}", "--timeout=120s")
    assert volume not in {one["id"] for one in await live.cloud("volumes")}


async def _is_detached(live: LiveCluster, volume: str) -> bool:
    listed = (await live.kubectl.get("volumeattachments"))["items"]
    return volume not in {one["spec"]["source"].get("persistentVolumeName") for one in listed}


async def _upstreams_volume(live: LiveCluster, node: NodeRecord) -> str:
    """The id of a volume with the tags that upstream's driver gives, attached to a HyperPod node."""
    labels = (await live.kubectl.get("node", node.name))["metadata"]["labels"]
    tags = [{"Key": "CSIVolumeName", "Value": "pvc-of-upstream"}, static_volume.TAG]
    async with live.client("ec2") as ec2, live.client("sagemaker") as sagemaker:
        made = await ec2.create_volume(
            AvailabilityZone=labels["topology.kubernetes.io/zone"],
            Size=1,
            VolumeType="gp3",
            TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
        )
        volume: str = made["VolumeId"]
        await ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
        cluster = await sagemaker.describe_cluster(ClusterName=cloud.NAME)
        await sagemaker.attach_cluster_node_volume(
            ClusterArn=cluster["ClusterArn"], NodeId=node.instance, VolumeId=volume
        )
        await ec2.get_waiter("volume_in_use").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
    return volume


async def _upstreams_objects(namespace: ClusterNamespace, live: LiveCluster, node: NodeRecord, volume: str) -> str:
    """The name of the VolumeAttachment of the claim `data`, made with its volume as upstream's sidecars make them."""
    labels = (await live.kubectl.get("node", node.name))["metadata"]["labels"]
    csi_node = await live.kubectl.get("csinode", node.name)
    id_ = next(one["nodeID"] for one in csi_node["spec"]["drivers"] if one["name"] == DRIVER)
    await live.kubectl.apply(_upstreams_pv(namespace, volume, labels["topology.kubernetes.io/zone"]))
    await namespace.create_claim("data", of="", volumeName=namespace.name)
    await namespace.wait_until_bound("data")
    name = f"csi-{hashlib.sha256(f'{volume}{DRIVER}{node.name}'.encode()).hexdigest()}"
    await live.kubectl.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttachment",
            "metadata": {
                "name": name,
                "annotations": {"csi.alpha.kubernetes.io/node-id": id_},
                "finalizers": ["external-attacher/ebs-csi-aws-com"],
            },
            "spec": {"attacher": DRIVER, "nodeName": node.name, "source": {"persistentVolumeName": namespace.name}},
        }
    )
    return name


def _upstreams_pv(namespace: ClusterNamespace, volume: str, zone: str) -> dict[str, Any]:
    in_zone = {"key": "topology.ebs.csi.aws.com/zone", "operator": "In", "values": [zone]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": namespace.name,
            "annotations": {
                "pv.kubernetes.io/provisioned-by": DRIVER,
                "volume.kubernetes.io/provisioner-deletion-secret-name": "",
                "volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
            },
            "finalizers": [
                "external-provisioner.volume.kubernetes.io/finalizer",
                "kubernetes.io/pv-protection",
                "external-attacher/ebs-csi-aws-com",
            ],
        },
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "",
            "volumeMode": "Filesystem",
            "csi": {
                "driver": DRIVER,
                "volumeHandle": volume,
                "fsType": "ext4",
                "volumeAttributes": {"storage.kubernetes.io/csiProvisionerIdentity": f"1700000000000-1-{DRIVER}"},
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [in_zone]}]}},
            "claimRef": {"namespace": namespace.name, "name": "data"},
        },
    }
