"""AttachClusterNodeVolume and DetachClusterNodeVolume.

SageMaker checks the cluster and the node, and then calls EC2 on behalf of the caller. An error
of EC2's is returned as a ValidationException, with EC2's code only in the message.
"""

import string
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.ec2 import resource_ids
from hyperpod_ebs.emulator.identity.authorizer import Authorizer
from hyperpod_ebs.emulator.nodes.attachments import Attachments
from hyperpod_ebs.emulator.records import Attachment, Cluster, Instance, attachment_id
from hyperpod_ebs.emulator.sagemaker.clusters import Clusters
from hyperpod_ebs.emulator.sagemaker.needs import SageMakerNeeds
from hyperpod_ebs.emulator.state.world import World, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

DEVICE_NAMES: Final = (
    *(f"/dev/xvd{letter}" for letter in string.ascii_lowercase[1:]),
    *(f"/dev/sd{letter}" for letter in string.ascii_lowercase[1:]),
    *(f"/dev/sd{letter}{number}" for letter in "fghijklmnop" for number in range(1, 7)),
)
"""The device names that the emulated HyperPod assigns, in this order.

These are all names that the pattern of the response's DeviceName allows, except the root device's.
"""


@dataclass(frozen=True, slots=True)
class NodeVolumes:
    """Volumes on HyperPod nodes."""

    world: World
    clusters: Clusters
    attachments: Attachments
    authorizer: Authorizer
    needs: SageMakerNeeds

    operations = Operations["NodeVolumes"]()

    @operations("AttachClusterNodeVolume")
    async def attach(self, parameters: Parameters, call: Call) -> Answer:
        """Start to attach a volume to a node; with the profile `instant`, the answer's status is already attached."""
        cluster, node = self._find_node(parameters)
        if cluster.eks is None:
            raise AwsFault("ValidationException", f"Cluster {parameters['ClusterArn']} is not orchestrated by EKS.")
        if cluster.state != "InService":
            text = (
                f"Cluster {parameters['ClusterArn']} is {cluster.state}: volumes can be attached when it is InService."
            )
            raise AwsFault("ValidationException", text)
        if any(group.name == node.group and group.restricted for group in cluster.instance_groups()):
            text = f"Node {node.id} belongs to the Restricted Instance Group {node.group}, which takes no volumes."
            raise AwsFault("ValidationException", text)
        with _wrap_ec2_errors("attached"):
            self._require_volume(call, parameters)
            volume = resource_ids.find_volume(self.world, parameters["VolumeId"])
            if present := self.world.store.attachments.where("volume", volume.id):
                raise AwsFault("VolumeInUse", f"{present[0].volume} is already attached to an instance")
            attachment = self.attachments.attach(volume, node, self._free_device_name(node), call)
        await self.world.clock.run_due_steps()
        current = self.world.store.attachments.get(attachment.id, attachment)
        return await self.world.acknowledge(_render(parameters, current, current.state))

    @operations("DetachClusterNodeVolume")
    async def detach(self, parameters: Parameters, call: Call) -> Answer:
        """Start to detach a volume; with the profile `instant`, the answer's status is already detached, or busy."""
        _cluster, node = self._find_node(parameters)
        with _wrap_ec2_errors("detached"):
            self._require_volume(call, parameters)
            attachment = self._find_attachment(parameters["VolumeId"], node)
            self.attachments.detach(attachment)
        await self.world.clock.run_due_steps()
        current = self.world.store.attachments.get(attachment.id)
        status = current.state if current else "detached"
        return await self.world.acknowledge(_render(parameters, current or attachment, status))

    def _require_volume(self, call: Call, parameters: Parameters) -> None:
        self.authorizer.require(call, [self.needs.on_volume(call.operation, parameters["VolumeId"])], service="ec2")

    def _find_node(self, parameters: Parameters) -> tuple[Cluster, Instance]:
        cluster = self.clusters.find(parameters["ClusterArn"])
        node = self.world.store.instances.get(parameters["NodeId"])
        if node is None or node.cluster != cluster.id:
            raise AwsFault(
                "ResourceNotFound", f"Node {parameters['NodeId']} not found in cluster {parameters['ClusterArn']}."
            )
        return cluster, node

    def _free_device_name(self, node: Instance) -> str:
        used = {attachment.device for attachment in self.world.store.attachments.where("instance", node.id)}
        if (name := next((name for name in DEVICE_NAMES if name not in used), None)) is None:
            text = f"Instance {node.id} has {len(DEVICE_NAMES)} volumes attached, which is its limit."
            raise AwsFault("AttachmentLimitExceeded", text)
        return name

    def _find_attachment(self, volume_id: str, node: Instance) -> Attachment:
        store = self.world.store
        volume = resource_ids.find_volume(self.world, volume_id)
        present = store.attachments.where("volume", volume.id)
        if not present:
            raise AwsFault("IncorrectState", f"Volume '{volume.id}' is in the '{volume.state}' state.")
        if (attachment := store.attachments.get(attachment_id(volume.id, node.id))) is None:
            text = f"The volume '{volume.id}' is not attached to instance '{node.id}'."
            raise AwsFault("InvalidAttachment.NotFound", text)
        if attachment.state in {"detaching", "busy"}:
            raise AwsFault("IncorrectState", f"Volume '{volume.id}' is in the 'detaching' state.")
        return attachment


@contextmanager
def _wrap_ec2_errors(participle: str) -> Generator[None]:
    """Turn EC2's errors into SageMaker's ValidationException."""
    try:
        yield
    except AwsFault as fault:
        text = f"The volume could not be {participle}. HyperPod - Ec2ErrCode: {fault.code} : Ec2ErrMsg: {fault.message}"
        raise AwsFault("ValidationException", text) from fault


def _render(parameters: Parameters, attachment: Attachment, status: str) -> Answer:
    return {
        "ClusterArn": parameters["ClusterArn"],
        "NodeId": attachment.instance,
        "VolumeId": attachment.volume,
        "AttachTime": to_datetime(attachment.since),
        "Status": status,
        "DeviceName": attachment.device,
    }
