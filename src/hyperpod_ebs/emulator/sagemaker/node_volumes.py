"""AttachClusterNodeVolume and DetachClusterNodeVolume.

SageMaker checks the cluster and the node and then acts on EC2 in the caller's name;
what EC2 refuses comes back as a ValidationException that has EC2's code only in its text.
"""

import string
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.ec2 import naming
from hyperpod_ebs.emulator.nodes.attachments import Attachments
from hyperpod_ebs.emulator.records import Attachment, Cluster, Instance
from hyperpod_ebs.emulator.sagemaker.clusters import Clusters
from hyperpod_ebs.emulator.state.world import World, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

NAMES: Final = (
    *(f"/dev/xvd{letter}" for letter in string.ascii_lowercase[1:]),
    *(f"/dev/sd{letter}" for letter in string.ascii_lowercase[1:]),
    *(f"/dev/sd{letter}{number}" for letter in "fghijklmnop" for number in range(1, 7)),
)
"""The device names that HyperPod chooses from, in its order: all that the answer's pattern allows, but the root's."""


@dataclass(frozen=True, slots=True)
class NodeVolumes:
    """Volumes on the nodes of clusters."""

    world: World
    clusters: Clusters
    attachments: Attachments

    name = "sagemaker"
    operations = Operations["NodeVolumes"]()

    @operations("AttachClusterNodeVolume")
    async def attach(self, asked: Asked, _: Call) -> Answer:
        """The attachment as it is: attaching, or attached where the clock is instant."""
        await self.world.clock.run_due_steps()
        cluster, node = self._node(asked)
        if cluster.eks is None:
            raise AwsFault("ValidationException", f"Cluster {asked['ClusterArn']} is not orchestrated by EKS.")
        if cluster.state != "InService":
            text = f"Cluster {asked['ClusterArn']} is {cluster.state}: volumes can be attached when it is InService."
            raise AwsFault("ValidationException", text)
        if any(group.name == node.group and group.restricted for group in cluster.instance_groups()):
            text = f"Node {node.id} belongs to the Restricted Instance Group {node.group}, which takes no volumes."
            raise AwsFault("ValidationException", text)
        with _as_validation("attach"):
            volume = naming.found(self.world.store.volumes, asked["VolumeId"], naming.VOLUME)
            if present := self.world.store.attachments.where("volume", volume.id):
                raise AwsFault("VolumeInUse", f"{present[0].volume} is already attached to an instance")
            attachment = self.attachments.begin(volume, node, self._device(node))
        await self.world.clock.run_due_steps()
        shown = self.world.store.attachments.get(attachment.id, attachment)
        return await self.world.acknowledge(_shown(asked, shown, shown.state))

    @operations("DetachClusterNodeVolume")
    async def detach(self, asked: Asked, _: Call) -> Answer:
        """The attachment as it is: detaching, busy, or detached where the clock is instant."""
        await self.world.clock.run_due_steps()
        _cluster, node = self._node(asked)
        with _as_validation("detach"):
            attachment = self._attachment(asked["VolumeId"], node)
            self.attachments.end(attachment)
        await self.world.clock.run_due_steps()
        left = self.world.store.attachments.get(attachment.id)
        return await self.world.acknowledge(_shown(asked, left or attachment, left.state if left else "detached"))

    def _node(self, asked: Asked) -> tuple[Cluster, Instance]:
        cluster = self.clusters.found(asked["ClusterArn"])
        node = self.world.store.instances.get(asked["NodeId"])
        if node is None or node.cluster != cluster.id:
            raise AwsFault("ResourceNotFound", f"Node {asked['NodeId']} not found in cluster {asked['ClusterArn']}.")
        return cluster, node

    def _device(self, node: Instance) -> str:
        used = {one.device for one in self.world.store.attachments.where("instance", node.id)}
        if (name := next((name for name in NAMES if name not in used), None)) is None:
            text = f"Instance {node.id} has {len(NAMES)} volumes attached, which is its limit."
            raise AwsFault("AttachmentLimitExceeded", text)
        return name

    def _attachment(self, volume_id: str, node: Instance) -> Attachment:
        store = self.world.store
        volume = naming.found(store.volumes, volume_id, naming.VOLUME)
        present = store.attachments.where("volume", volume.id)
        if not present:
            raise AwsFault("IncorrectState", f"Volume '{volume.id}' is in the '{volume.state}' state.")
        if (attachment := store.attachments.get(f"{volume.id}/{node.id}")) is None:
            text = f"The volume '{volume.id}' is not attached to instance '{node.id}'."
            raise AwsFault("InvalidAttachment.NotFound", text)
        if attachment.state in {"detaching", "busy"}:
            raise AwsFault("IncorrectState", f"Volume '{volume.id}' is in the 'detaching' state.")
        return attachment


@contextmanager
def _as_validation(doing: str) -> Generator[None]:
    """Give EC2's refusals SageMaker's form."""
    try:
        yield
    except AwsFault as fault:
        text = f"The volume could not be {doing}ed. HyperPod - Ec2ErrCode: {fault.code} : Ec2ErrMsg: {fault.message}"
        raise AwsFault("ValidationException", text) from fault


def _shown(asked: Asked, attachment: Attachment, status: str) -> Answer:
    return {
        "ClusterArn": asked["ClusterArn"],
        "NodeId": attachment.instance,
        "VolumeId": attachment.volume,
        "AttachTime": to_datetime(attachment.since),
        "Status": status,
        "DeviceName": attachment.device,
    }
