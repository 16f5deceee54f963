"""How many volumes a node can have, by its instance type.

The numbers are EC2's `MaximumEbsAttachments`, from DescribeInstanceTypes. Where network
interfaces share the attach slots, the slot of the first interface is subtracted already,
and each further interface takes one. The slots of NVMe disks are subtracted as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from hyperpod_ebs.driver.model.attach_limit_table import SLOTS

_SAGEMAKER_PREFIX: Final = "ml."
_SHARED: Final = "shared"
_LIMIT_TYPES: Final = (_SHARED, "dedicated")

MOST_SLOTS: Final = 128
"""The most slots of any instance type (EC2 user guide, Amazon EBS volume limits). A larger number is not believed."""


@dataclass(frozen=True, slots=True)
class AttachSlots:
    """The attach slots of an instance type. As text: their number and EC2's `AttachmentLimitType`."""

    count: int
    shared: bool
    """Whether network interfaces take slots too."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as `27 shared`.

        Raises:
            ValueError: The text has another form, or the number is not one of 1 to 128.
        """
        count, limit_type = text.split()
        if not 1 <= int(count) <= MOST_SLOTS or limit_type not in _LIMIT_TYPES:
            raise ValueError(f"attach slots {text[:40]!r} are not believable")
        return cls(int(count), limit_type == _SHARED)

    def __str__(self) -> str:
        return f"{self.count} {_LIMIT_TYPES[not self.shared]}"


PublishedSlots = Mapping[str, AttachSlots]
"""The attach slots that the controller has learned from EC2, by EC2's name of the instance type."""

NOTHING_PUBLISHED: Final[PublishedSlots] = MappingProxyType({})

_USUAL_SLOTS: Final = AttachSlots(27, shared=True)
"""The slots of most Nitro types, for a type of which nothing is known."""


def ec2_name(instance_type: str) -> str:
    """EC2's name of an instance type. SageMaker's name of the same type has the prefix `ml.`."""
    return instance_type.removeprefix(_SAGEMAKER_PREFIX)


def is_in_table(instance_type: str) -> bool:
    """Whether the table has the type. It leaves out the many types that have the usual slots."""
    return ec2_name(instance_type) in SLOTS


def attach_limit(
    instance_type: str, *, reserved: int, interfaces: int = 1, published: PublishedSlots = NOTHING_PUBLISHED
) -> int:
    """How many of the driver's volumes a node of this type can have: at least 1, because 0 means any number in CSI.

    Args:
        instance_type: EC2's or SageMaker's name; empty if it is not known.
        reserved: Attach slots for other volumes: the root volume, and on HyperPod the secondary one.
        interfaces: Network interfaces of the node, including the first.
        published: What the controller has learned; the table has priority, because it corrects errors of EC2's.
    """
    name = ec2_name(instance_type)
    slots = AttachSlots(*SLOTS[name]) if name in SLOTS else published.get(name, _USUAL_SLOTS)
    count = slots.count - max(0, interfaces - 1) if slots.shared else slots.count
    return max(1, count - reserved)
