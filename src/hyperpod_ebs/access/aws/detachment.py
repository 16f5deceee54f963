"""Detach a volume through the API that attached it (EC2: DetachVolume; SageMaker: DetachClusterNodeVolume)."""

from typing import assert_never

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.aws.volumes import Holder
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode


async def request_detach(aws: Aws, volume_id: str, holder: Holder, *, force: bool = False) -> None:
    """Ask AWS to detach the volume from its holder; AWS finishes it later.

    With `force`, EC2 does not wait for the instance's operating system; SageMaker has no such call.

    Raises:
        Refused: Another AWS service holds the volume.
        Error: AWS refuses to detach it.
    """
    match holder.node:
        case Ec2Node(instance):
            ec2 = await aws.ec2()
            with translate_sdk_errors(f"detach volume {volume_id} from instance {instance}"):
                await ec2.detach_volume(VolumeId=volume_id, InstanceId=instance, Force=force)
        case HyperPodNode(_, instance):
            sagemaker = await aws.sagemaker()
            with translate_sdk_errors(f"detach volume {volume_id} from node {holder.node}"):
                await sagemaker.detach_cluster_node_volume(
                    ClusterArn=holder.resource.removesuffix(f"-{instance}"), NodeId=instance, VolumeId=volume_id
                )
        case None:
            raise errors.Refused(
                f"cannot detach volume {volume_id} from {holder.resource}: another AWS service attached it; "
                "detach it there"
            )
        case _:
            assert_never(holder.node)
