"""A volume that is created with EC2's API, without Kubernetes, and has a file on it."""

from pathlib import Path
from typing import Any, Final

from localcluster import cloud
from tests.support.device_links import volume_link
from tests.support.live_cluster import LiveCluster
from tests.support.waiting import wait_for_cluster

TAG: Final = {"Key": "ebs.csi.aws.com/cluster", "Value": "true"}
"""The tag that AmazonEBSCSIDriverPolicyV2 requires of volumes and snapshots that the driver uses."""

CONTENT: Final = "written before"
"""The content of the volume's file `file`."""


async def create_volume(live: LiveCluster, ec2: Any, *, gib: int) -> str:  # a client of the SDK's
    """Create a volume, make an xfs with the file on it from a HyperPod node, and detach it; its id."""
    node = live.record.nodes[0]
    labels = (await live.kubectl.get("node", node.name))["metadata"]["labels"]
    zone = labels["topology.kubernetes.io/zone"]
    tags = [{"ResourceType": "volume", "Tags": [TAG]}]
    created = await ec2.create_volume(AvailabilityZone=zone, Size=gib, VolumeType="gp3", TagSpecifications=tags)
    id_: str = created["VolumeId"]
    await wait_for_cluster(lambda: _has_state(live, id_, "available"))
    async with live.client("sagemaker") as sagemaker:
        arn = (await sagemaker.describe_cluster(ClusterName=cloud.NAME))["ClusterArn"]
        attachment = {"ClusterArn": arn, "NodeId": node.instance, "VolumeId": id_}
        await sagemaker.attach_cluster_node_volume(**attachment)
        await wait_for_cluster(lambda: _has_state(live, id_, "in-use"))
        device = volume_link(Path("/dev"), id_)
        script = f"mkfs.xfs -q {device}; mkdir /run/{id_}; mount {device} /run/{id_}; echo {CONTENT} > /run/{id_}/file"
        await live.run_on_node(node.name, "sh", "-euc", f"{script}; umount /run/{id_}; rmdir /run/{id_}")
        await sagemaker.detach_cluster_node_volume(**attachment)
    await wait_for_cluster(lambda: _has_state(live, id_, "available"))
    return id_


async def _has_state(live: LiveCluster, id_: str, state: str) -> bool:
    return any(volume["id"] == id_ and volume["state"] == state for volume in await live.cloud("volumes"))
