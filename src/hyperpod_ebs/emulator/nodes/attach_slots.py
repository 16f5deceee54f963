"""How many EBS volumes an instance of each type takes: the emulator's own table, which the driver does not use.

The table has the instance types that HyperPod offers, with the numbers that EC2's
DescribeInstanceTypes returns (EbsInfo.MaximumEbsAttachments and AttachmentLimitType).
For the limit type "shared", network interfaces take attach slots too; the numbers here
already exclude the first interface and the instance store, and emulated machines have no
second interface. A root volume takes a slot like any other volume.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

LimitType = Literal["shared", "dedicated"]
"""EC2's AttachmentLimitType: whether network interfaces take attach slots too."""


@dataclass(frozen=True, slots=True)
class AttachSlots:
    """The attach slots of an instance type."""

    count: int
    limit_type: LimitType


_TABLE: Final[tuple[tuple[LimitType, str, str], ...]] = (
    ("shared", "c5", "27: large xlarge 2xlarge 4xlarge 9xlarge 12xlarge 18xlarge 24xlarge"),
    ("shared", "c5n", "27: large 2xlarge 4xlarge 9xlarge 18xlarge"),
    ("shared", "m5", "27: large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge"),
    ("shared", "t3", "27: medium large xlarge 2xlarge"),
    ("shared", "c6g c7g m6g m7g", "27: medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
    ("shared", "c6i m6i r6i", "27: large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge"),
    ("shared", "c6a m6a", "27: large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge"),
    ("shared", "r5d", "23: 16xlarge"),
    ("shared", "g4dn", "25: xlarge 2xlarge 4xlarge 8xlarge 16xlarge; 22: 12xlarge"),
    ("shared", "g5", "25: xlarge 2xlarge 4xlarge 8xlarge 16xlarge; 22: 12xlarge 24xlarge; 9: 48xlarge"),
    ("shared", "i3en", "26: large xlarge 3xlarge; 25: 2xlarge 6xlarge; 23: 12xlarge; 19: 24xlarge"),
    ("shared", "trn1 trn1n", "28: 32xlarge"),
    ("dedicated", "p4d p4de", "28: 24xlarge"),
    ("dedicated", "p5", "32: 4xlarge; 64: 48xlarge"),
    ("dedicated", "p5e p5en p6-b200 p6-b300", "64: 48xlarge"),
    ("dedicated", "trn2", "32: 3xlarge; 64: 48xlarge"),
    ("dedicated", "g6 g6e", "32: xlarge 2xlarge 4xlarge 8xlarge 12xlarge; 48: 16xlarge; 64: 24xlarge; 128: 48xlarge"),
    ("dedicated", "gr6", "32: 4xlarge 8xlarge"),
    ("dedicated", "g7 g7e", "32: 2xlarge 4xlarge 8xlarge 12xlarge; 64: 24xlarge; 128: 48xlarge"),
    (
        "dedicated",
        "m7i r7i",
        "32: large xlarge 2xlarge 4xlarge 8xlarge 12xlarge; 48: 16xlarge; 64: 24xlarge; 128: 48xlarge",
    ),
    (
        "dedicated",
        "c8g m8g",
        "32: medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge; 48: 16xlarge; 64: 24xlarge; 128: 48xlarge",
    ),
    ("dedicated", "c8a m8a", "48: 16xlarge"),
)


def _counts(sizes: str) -> Mapping[str, int]:
    """The slots by size, read from text such as `25: xlarge 2xlarge; 9: 48xlarge`."""
    rows = [row.split(": ") for row in sizes.split("; ")]
    return {size: int(count) for count, names in rows for size in names.split()}


ATTACH_SLOTS: Final[Mapping[str, AttachSlots]] = {
    f"{family}.{size}": AttachSlots(count, limit_type)
    for limit_type, families, sizes in _TABLE
    for family in families.split()
    for size, count in _counts(sizes).items()
}
"""By instance type."""

DEFAULT_SLOTS: Final = AttachSlots(27, "shared")
"""For a type that is not in the table: the slots of most Nitro types."""

HYPERPOD_VOLUMES: Final = 2
"""Volumes that HyperPod itself attaches to each node: a root and a secondary volume. Customers do not see them."""


def attach_slots(instance_type: str) -> AttachSlots:
    """The attach slots of an instance of this type."""
    return ATTACH_SLOTS.get(instance_type, DEFAULT_SLOTS)
