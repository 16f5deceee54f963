"""How many EBS volumes an instance of each type takes: the cloud's own table, which no driver sees.

The types are those that HyperPod offers, the numbers what EC2's DescribeInstanceTypes
says of them (EbsInfo.MaximumEbsAttachments and AttachmentLimitType). Where the places
are shared with network interfaces, the number has the first interface and the instance
store taken off already; machines here have no second interface. A root volume takes a
place like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Way = Literal["shared", "dedicated"]


@dataclass(frozen=True, slots=True)
class Places:
    """The places for volumes that a machine has."""

    most: int
    way: Way
    """Whether network interfaces take them, too."""


_TABLE: Final[tuple[tuple[Way, str, str], ...]] = (
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


def _read(sizes: str) -> Mapping[str, int]:
    """`25: xlarge 2xlarge; 9: 48xlarge`, by size."""
    rows = [row.split(": ") for row in sizes.split("; ")]
    return {size: int(most) for most, names in rows for size in names.split()}


PLACES: Final[Mapping[str, Places]] = {
    f"{family}.{size}": Places(most, way)
    for way, families, sizes in _TABLE
    for family in families.split()
    for size, most in _read(sizes).items()
}
"""Each instance type and its places."""

OTHERS: Final = Places(27, "shared")
"""A type that is not in the table: what most Nitro types have."""

HYPERPOD_OWN: Final = 2
"""Volumes that HyperPod gives each of its nodes by default, a root and a secondary one; no customer sees them."""


def places(kind: str) -> Places:
    """The places of an instance of the type `kind`."""
    return PLACES.get(kind, OTHERS)
