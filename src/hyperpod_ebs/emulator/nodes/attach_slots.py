"""How many EBS volumes an instance of each type takes: the emulator's own table, which the driver does not use.

The numbers are those that EC2's DescribeInstanceTypes returns (EbsInfo.MaximumEbsAttachments and
AttachmentLimitType). For the limit type "shared", network interfaces take attach slots too; the numbers
here already exclude the first interface and the instance store, and emulated machines have no
second interface. A root volume takes a slot like any other volume.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.nodes.instance_type_table import INSTANCE_TYPES


@dataclass(frozen=True, slots=True)
class AttachSlots:
    """The attach slots of an instance type."""

    count: int
    limit_type: str
    """EC2's AttachmentLimitType, `shared` or `dedicated`: whether network interfaces take attach slots too."""
    cards: int = 1
    hypervisor: str = "nitro"


def _parse(line: str) -> tuple[str, AttachSlots]:
    """The type of a line of the table, and its slots."""
    name, hypervisor, limit_type, count, cards = line.split()
    return name, AttachSlots(int(count), limit_type, int(cards), hypervisor)


ATTACH_SLOTS: Final[Mapping[str, AttachSlots]] = dict(map(_parse, INSTANCE_TYPES.splitlines()))
"""By instance type."""

DEFAULT_SLOTS: Final = AttachSlots(27, "shared")
"""For a type that is not in the table: the slots of most Nitro types."""

HYPERPOD_VOLUMES: Final = 2
"""Volumes that HyperPod itself attaches to each node: a root and a secondary volume. Customers do not see them."""


def attach_slots(instance_type: str) -> AttachSlots:
    """The attach slots of an instance of this type."""
    return ATTACH_SLOTS.get(instance_type, DEFAULT_SLOTS)
