"""Attachments to HyperPod nodes, at SageMaker."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperpod_ebs.driver.aws import codec
from hyperpod_ebs.driver.aws.calls import answer
from hyperpod_ebs.driver.aws.sts import Identity
from hyperpod_ebs.driver.model.nodes import HyperPodNode
from hyperpod_ebs.driver.model.volume import Attachment

if TYPE_CHECKING:
    from types_aiobotocore_sagemaker import SageMakerClient


@dataclass(kw_only=True)
class HyperPodAttachments:
    """Puts volumes on nodes of clusters and takes them off; SageMaker chooses the device name."""

    sagemaker: "SageMakerClient"
    identity: Identity

    async def attach_to_cluster_node(self, volume_id: str, node: HyperPodNode) -> Attachment:
        """The attachment in the state that SageMaker answers."""
        cluster = await self.identity.cluster_arn(node.cluster)
        return await answer(
            f"attach volume {volume_id} to {node}",
            lambda: self.sagemaker.attach_cluster_node_volume(
                ClusterArn=cluster, NodeId=node.instance, VolumeId=volume_id
            ),
            lambda said: codec.node_attachment(node, said),
        )

    async def detach_from_cluster_node(self, volume_id: str, node: HyperPodNode) -> Attachment:
        """The detachment in the state that SageMaker answers."""
        cluster = await self.identity.cluster_arn(node.cluster)
        return await answer(
            f"detach volume {volume_id} from {node}",
            lambda: self.sagemaker.detach_cluster_node_volume(
                ClusterArn=cluster, NodeId=node.instance, VolumeId=volume_id
            ),
            lambda said: codec.node_attachment(node, said),
        )
