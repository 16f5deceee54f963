"""Attach and detach volumes: HyperPod nodes through SageMaker, plain EC2 instances through EC2."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, assert_never

from hyperpod_ebs.driver.aws.calls import AwsCaller
from hyperpod_ebs.driver.aws.device_names import NAMES, DeviceNames
from hyperpod_ebs.driver.aws.ec2_shapes import filters
from hyperpod_ebs.driver.aws.shared_looks import SharedLooks, TakeKeys
from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode, Node
from hyperpod_ebs.driver.model.volume import Attachment, AttachState

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import (
        DescribeInstancesResultTypeDef,
        VolumeAttachmentResponseTypeDef,
        VolumeAttachmentTypeDef,
    )
    from types_aiobotocore_sagemaker.type_defs import (
        AttachClusterNodeVolumeResponseTypeDef,
        DetachClusterNodeVolumeResponseTypeDef,
    )

NAME_ATTEMPTS: Final = 5
"""Device names tried for one attachment. After the first, a failure means that the name was taken a moment ago."""

_DESCRIBE_SEVERAL: Final = "describe nodes"
_NAME_TAKEN: Final = "is already in use"
_AVAILABLE: Final = "is in the 'available' state"


@dataclass(kw_only=True)
class Attachments(AwsCaller):
    """Implements `volumes.cloud.Attachments`: the kind of node decides which service attaches."""

    device_names: DeviceNames = field(default_factory=DeviceNames)

    async def attach(self, volume_id: str, node: Node) -> Attachment:
        """Request the attachment and return its state as the service acknowledges it."""
        match node:
            case HyperPodNode():
                cluster_arn = await self._resolve_cluster_arn(node)
                return await self.call(
                    Request(
                        "AttachClusterNodeVolume",
                        volume_id,
                        f"attach volume {volume_id} to node {node}",
                        service="sagemaker",
                    ),
                    lambda aws: aws.sagemaker.attach_cluster_node_volume(
                        ClusterArn=cluster_arn, NodeId=node.instance, VolumeId=volume_id
                    ),
                    lambda answer: _cluster_node_attachment(node, answer),
                )
            case Ec2Node():
                return await self._attach_to_instance(volume_id, node)
            case _:
                assert_never(node)

    async def detach(self, volume_id: str, node: Node) -> Attachment:
        """Request the detachment and return the attachment's state as the service acknowledges it."""
        try:
            return await self._detach(volume_id, node)
        except errors.NotReady as refusal:
            if _AVAILABLE in str(refusal):  # IncorrectState also means that the volume is being detached
                raise errors.NotAttached(str(refusal)) from refusal
            raise

    async def _detach(self, volume_id: str, node: Node) -> Attachment:
        action = f"detach volume {volume_id} from node {node}"
        match node:
            case HyperPodNode():
                cluster_arn = await self._resolve_cluster_arn(node)
                return await self.call(
                    Request("DetachClusterNodeVolume", volume_id, action, service="sagemaker"),
                    lambda aws: aws.sagemaker.detach_cluster_node_volume(
                        ClusterArn=cluster_arn, NodeId=node.instance, VolumeId=volume_id
                    ),
                    lambda answer: _cluster_node_attachment(node, answer),
                )
            case Ec2Node():
                detaching = await self.call(
                    Request("DetachVolume", volume_id, action),
                    lambda aws: aws.ec2.detach_volume(VolumeId=volume_id, InstanceId=node.instance),
                    parse_attachment,
                )
                self.device_names.note_detached(node.instance, volume_id)
                return detaching
            case _:
                assert_never(node)

    async def _resolve_cluster_arn(self, node: HyperPodNode) -> str:
        account_id = await self.resolve_account_id()
        return (await self.clients()).account.cluster_arn(account_id, node.cluster)

    async def _attach_to_instance(self, volume_id: str, node: Ec2Node) -> Attachment:
        """Request the attachment under a free device name; try another name if that one is taken."""
        for _ in range(NAME_ATTEMPTS):
            name = await self._take_device_name(volume_id, node)
            try:
                return await self.call(
                    Request("AttachVolume", volume_id, f"attach volume {volume_id} to node {node}"),
                    lambda aws: aws.ec2.attach_volume(VolumeId=volume_id, InstanceId=node.instance, Device=name),  # noqa: B023 - called before `name` changes
                    parse_attachment,
                )
            except errors.InvalidRequest as error:
                if _NAME_TAKEN not in str(error):
                    self.device_names.free(node.instance, name)
                    raise
                self.device_names.note_in_use(node.instance, name)
                if not self.device_names.were_shown(node.instance):
                    await self._look_at_device_names(node)
            except (errors.NotFound, errors.NoRoom, errors.Denied):
                self.device_names.free(node.instance, name)
                raise
        raise errors.Unavailable(
            f"cannot attach volume {volume_id} to node {node}: {NAME_ATTEMPTS} device names are in use, but "
            "EC2 does not show them yet; try again"
        )

    async def _take_device_name(self, volume_id: str, node: Ec2Node) -> str:
        """Take a name that is not known to be in use; if all are, look which of them are free again.

        Raises:
            NodeFull: All device names of the instance are in use.
        """
        name = self.device_names.take(node.instance, volume_id)
        if name is None:
            await self._look_at_device_names(node)
            name = self.device_names.take(node.instance, volume_id)
        if name is None:
            raise errors.NodeFull(
                f"node {node} has no free device name: all {len(NAMES)} are in use; detach a volume from it first"
            )
        return name

    async def _look_at_device_names(self, node: Ec2Node) -> None:
        shown = await self._device_names_by_instance.look(node.instance, f"describe node {node}")
        self.device_names.note_shown(node.instance, shown)

    @cached_property
    def _device_names_by_instance(self) -> SharedLooks[str]:
        return SharedLooks(_DESCRIBE_SEVERAL, self._show_device_names)

    async def _show_device_names(self, take_ids: TakeKeys) -> tuple[tuple[str, str], ...]:
        return await self.call_pages(
            Request("DescribeInstances", "nodes", _DESCRIBE_SEVERAL),
            lambda aws, page: aws.ec2.describe_instances(Filters=filters("instance-id", take_ids()), **page),
            _device_names_in_use,
        )


def parse_attachment(answer: "VolumeAttachmentTypeDef | VolumeAttachmentResponseTypeDef") -> Attachment:
    """Parse EC2's description of an attachment; for a HyperPod node it has a resource instead of an instance."""
    resource = answer.get("AssociatedResource")
    node: Node | None = HyperPodNode.from_resource(resource) if resource else None
    if instance := answer.get("InstanceId"):
        node = nodes.parse(instance)
    return Attachment(
        state=AttachState(answer["State"]),
        node=node,
        holder=str(node or resource or "a resource that EC2 does not name"),
        since=answer.get("AttachTime"),
        device=answer.get("Device") or "",
    )


def _cluster_node_attachment(
    node: HyperPodNode, answer: "AttachClusterNodeVolumeResponseTypeDef | DetachClusterNodeVolumeResponseTypeDef"
) -> Attachment:
    return Attachment(state=AttachState(answer["Status"]), node=node, holder=str(node), since=answer["AttachTime"])


def _device_names_in_use(answer: "DescribeInstancesResultTypeDef") -> tuple[tuple[str, str], ...]:
    """The device names of the instances in the answer with their ids, including those of their root volumes."""
    return tuple(
        (instance["InstanceId"], mapping["DeviceName"])
        for reservation in answer["Reservations"]
        for instance in reservation["Instances"]
        for mapping in instance.get("BlockDeviceMappings", ())
    )
