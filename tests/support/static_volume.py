"""A volume that nothing of Kubernetes has made: by EC2's own API, with a file that a HyperPod node has put on it."""

from typing import Any, Final

from localcluster import cloud
from tests.support.live_cluster import Live
from tests.support.waiting import wait_for_cluster

WORDS: Final = "written before"
"""What is in its file `file`."""


async def written(live: Live, ec2: Any, *, gib: int) -> str:  # a client of the SDK's
    """The id of a volume with an xfs and the file on it; no node has it."""
    node = live.record.nodes[0]
    labels = (await live.kubectl.get("node", node.name))["metadata"]["labels"]
    zone = labels["topology.kubernetes.io/zone"]
    id_: str = (await ec2.create_volume(AvailabilityZone=zone, Size=gib, VolumeType="gp3"))["VolumeId"]
    await wait_for_cluster(lambda: _is(live, id_, "available"))
    async with live.sagemaker() as sagemaker:
        arn = (await sagemaker.describe_cluster(ClusterName=cloud.NAME))["ClusterArn"]
        at = {"ClusterArn": arn, "NodeId": node.instance, "VolumeId": id_}
        await sagemaker.attach_cluster_node_volume(**at)
        await wait_for_cluster(lambda: _is(live, id_, "in-use"))
        device = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{id_.replace('-', '')}"
        script = f"mkfs.xfs -q {device}; mkdir /run/{id_}; mount {device} /run/{id_}; echo {WORDS} > /run/{id_}/file"
        await live.on_node(node.name, "sh", "-euc", f"{script}; umount /run/{id_}; rmdir /run/{id_}")
        await sagemaker.detach_cluster_node_volume(**at)
    await wait_for_cluster(lambda: _is(live, id_, "available"))
    return id_


async def _is(live: Live, id_: str, state: str) -> bool:
    return any(one["id"] == id_ and one["state"] == state for one in await live.cloud("volumes"))
