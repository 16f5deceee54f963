"""What EBS storage costs in a month: list prices of a stated date, as estimates.

Sources, read on the date `AS_OF`: for us-east-1 the amounts that Infracost's test data for `aws_ebs_volume` and
`aws_ebs_snapshot` derive from AWS's price list; for other regions public copies of https://aws.amazon.com/ebs/pricing.
The prices of IOPS and throughput outside of us-east-1 are us-east-1's, raised as the region's price per GiB is; so is
the price of a snapshot. Discounts, taxes and the free tier are not considered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

AS_OF: Final = date(2026, 11, 30)
"""When the prices were looked up."""

FALLBACK: Final = "us-east-1"
"""The region whose prices stand for those of a region that the table does not have."""


@dataclass(frozen=True, slots=True)
class _PerGib:
    """US dollars for a GiB in a month."""

    gp3: float
    gp2: float
    io: float
    """io1 and io2."""

    st1: float
    sc1: float


_PER_GIB: Final[Mapping[str, _PerGib]] = {
    "us-east-1": _PerGib(0.08, 0.10, 0.125, 0.045, 0.015),
    "us-east-2": _PerGib(0.08, 0.10, 0.125, 0.045, 0.015),
    "us-west-2": _PerGib(0.08, 0.10, 0.125, 0.045, 0.015),
    "ap-northeast-1": _PerGib(0.096, 0.12, 0.142, 0.054, 0.018),
    "ap-northeast-2": _PerGib(0.0912, 0.114, 0.1278, 0.051, 0.0174),
    "ap-south-1": _PerGib(0.0912, 0.114, 0.131, 0.051, 0.0174),
    "ap-southeast-1": _PerGib(0.096, 0.12, 0.138, 0.054, 0.018),
    "ap-southeast-2": _PerGib(0.096, 0.12, 0.138, 0.054, 0.018),
    "ca-central-1": _PerGib(0.088, 0.11, 0.138, 0.05, 0.0168),
    "eu-central-1": _PerGib(0.0952, 0.119, 0.149, 0.054, 0.018),
    "eu-north-1": _PerGib(0.0836, 0.1045, 0.1311, 0.0475, 0.01596),
    "eu-west-1": _PerGib(0.088, 0.11, 0.138, 0.05, 0.0168),
    "eu-west-2": _PerGib(0.0928, 0.116, 0.145, 0.053, 0.0174),
    "eu-west-3": _PerGib(0.0928, 0.116, 0.145, 0.053, 0.0174),
    "sa-east-1": _PerGib(0.152, 0.19, 0.238, 0.086, 0.0288),
}

# In us-east-1, each in a month. What a gp3 volume has without extra charge: EBS User Guide, "General Purpose SSD".
_GP3_IOPS: Final = 0.005
_GP3_FREE_IOPS: Final = 3000
_GP3_MIB_PER_SECOND: Final = 0.04
_GP3_FREE_MIB_PER_SECOND: Final = 125
_IO_IOPS: Final = 0.065
_IO2_SECOND_TIER: Final = 32_000
_IO2_THIRD_TIER: Final = 64_000
_IO2_SECOND_SHARE: Final = 0.7
_IO2_THIRD_SHARE: Final = 0.49
_STANDARD: Final = 0.05
_SNAPSHOT: Final = 0.05
_ARCHIVED_SNAPSHOT: Final = 0.0125


def priced_region(region: str) -> str:
    """The region whose prices are used for `region`."""
    return region if region in _PER_GIB else FALLBACK


def volume_cost(region: str, kind: str, gib: int, iops: int = 0, throughput: int = 0) -> float:
    """US dollars for a volume in a month; a type that the table does not have costs as much as gp3."""
    prices, base = _PER_GIB[priced_region(region)], _PER_GIB[FALLBACK]
    io, gp3, gp2 = prices.io / base.io, prices.gp3 / base.gp3, prices.gp2 / base.gp2
    costs = {
        "gp2": gib * prices.gp2,
        "io1": gib * prices.io + iops * _IO_IOPS * io,
        "io2": gib * prices.io + _io2_iops(iops) * _IO_IOPS * io,
        "st1": gib * prices.st1,
        "sc1": gib * prices.sc1,
        "standard": gib * _STANDARD * gp2,
    }
    extra_iops = max(iops - _GP3_FREE_IOPS, 0) * _GP3_IOPS
    extra_throughput = max(throughput - _GP3_FREE_MIB_PER_SECOND, 0) * _GP3_MIB_PER_SECOND
    return costs.get(kind, gib * prices.gp3 + (extra_iops + extra_throughput) * gp3)


def snapshot_cost(region: str, gib: float, *, archived: bool = False) -> float:
    """US dollars for a snapshot in a month, at most: AWS does not say how much it shares with other snapshots."""
    prices, base = _PER_GIB[priced_region(region)], _PER_GIB[FALLBACK]
    return gib * (_ARCHIVED_SNAPSHOT if archived else _SNAPSHOT) * prices.gp2 / base.gp2


def _io2_iops(iops: int) -> float:
    """The IOPS of an io2 volume that are charged in full, with those above each threshold counted in part."""
    second, third = max(iops - _IO2_SECOND_TIER, 0), max(iops - _IO2_THIRD_TIER, 0)
    return iops - second * (1 - _IO2_SECOND_SHARE) - third * (_IO2_SECOND_SHARE - _IO2_THIRD_SHARE)
