"""Attachments to plain EC2 instances, and the device names that these ask for.

EC2 wants a device name of the caller's choosing, free on the instance. Nitro instances
ignore it, and the node finds its device by the volume's id; so any free name will do.
"""

import string
from collections import defaultdict
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hyperpod_ebs.driver.aws import codec
from hyperpod_ebs.driver.aws.calls import answer
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Ec2Node
from hyperpod_ebs.driver.model.volume import Attachment

if TYPE_CHECKING:
    from types_aiobotocore_ec2 import EC2Client

# What EC2 takes, found by upstream by trial: two letters to xvddx, then one from b on.
NAMES: Final = (
    *(f"/dev/xvd{first}{second}" for first in "abc" for second in string.ascii_lowercase),
    *(f"/dev/xvdd{second}" for second in string.ascii_lowercase[:24]),
    *(f"/dev/xvd{one}" for one in string.ascii_lowercase[1:]),
)
"""Device names for volumes, in the order in which they are given."""

TRIES: Final = 5
"""Names tried for one attach; each that fails was taken by somebody else in between."""

_TAKEN: Final = "is already in use"


@dataclass(slots=True)
class Names:
    """The names that attaches under way have asked for, by instance: EC2 does not show them yet."""

    asked: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @contextmanager
    def held(self, instance: str, used: Collection[str]) -> Generator[str]:
        """A name that nobody else has while the block runs.

        Raises:
            NodeFull: There is none.
        """
        # No await between the look and the note: two attaches never get one name.
        mine = self.asked[instance]
        name = next((one for one in NAMES if one not in used and one not in mine), None)
        if name is None:
            raise errors.NodeFull(f"node {instance} has no device name left: all {len(NAMES)} are in use")
        mine.add(name)
        try:
            yield name
        finally:
            mine.discard(name)
            if not mine:
                self.asked.pop(instance, None)


@dataclass(kw_only=True)
class Ec2Attachments:
    """Puts volumes on EC2 instances and takes them off."""

    ec2: "EC2Client"
    names: Names = field(default_factory=Names)

    async def attach_to_instance(self, volume_id: str, node: Ec2Node) -> Attachment:
        """The attachment as EC2 acknowledges it."""
        used = await self._used(node)
        for left in reversed(range(TRIES)):
            with self.names.held(node.instance, used) as name:
                try:
                    return await self._attach(volume_id, node, name)
                except errors.InvalidRequest as refusal:
                    if _TAKEN not in str(refusal) or not left:
                        raise
                used.add(name)
        raise errors.NotReady(f"node {node} gives no device name to volume {volume_id}; ask again")

    async def detach_from_instance(self, volume_id: str, node: Ec2Node) -> Attachment:
        """The detachment as EC2 acknowledges it."""
        return await answer(
            f"detach volume {volume_id} from {node}",
            lambda: self.ec2.detach_volume(VolumeId=volume_id, InstanceId=node.instance),
            codec.attachment,
        )

    async def _attach(self, volume_id: str, node: Ec2Node, name: str) -> Attachment:
        return await answer(
            f"attach volume {volume_id} to {node} as {name}",
            lambda: self.ec2.attach_volume(VolumeId=volume_id, InstanceId=node.instance, Device=name),
            codec.attachment,
        )

    async def _used(self, node: Ec2Node) -> set[str]:
        """The device names in use on the instance, its root's among them."""
        return await answer(
            f"describe node {node}",
            lambda: self.ec2.describe_instances(InstanceIds=[node.instance]),
            codec.device_names,
        )
