"""IOPS in proportion to a volume's size: what a StorageClass asks for with `iopsPerGB`.

The limits are EC2's, of its page "Amazon EBS volume types". What is above them is lowered,
as upstream does; what is below the least is raised where the class allows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB

PER_GIB: Final = "ebs.csi.aws.com/IOPSPerGb"
"""The tag that keeps the ratio."""

GROWS: Final = "ebs.csi.aws.com/AllowAutoIOPSIncreaseOnModify"
"""The tag that says whether a larger volume is to have more IOPS, too."""


@dataclass(frozen=True, slots=True)
class _Limits:
    least: int
    most: int
    per_gib: int


_BY_TYPE: Final[Mapping[str, _Limits]] = {
    "gp3": _Limits(3000, 80_000, 500),
    "io1": _Limits(100, 64_000, 50),
    "io2": _Limits(100, 256_000, 1000),
}


def for_size(type_: str, per_gib: int, size: GiB, *, at_least: bool) -> int:
    """The IOPS of a volume of this type and size.

    Args:
        type_: The volume's type.
        per_gib: What is asked for each GiB.
        size: The volume's size.
        at_least: Whether what is too little is raised to the least that the type has.

    Raises:
        InvalidRequest: Volumes of this type have no IOPS to ask for.
    """
    limits = _BY_TYPE.get(type_)
    if limits is None:
        raise errors.InvalidRequest(
            f"iopsPerGB is given for type {type_}, which has no IOPS to ask for; take {', '.join(_BY_TYPE)}"
        )
    wanted = min(per_gib * size, limits.most)
    allowed = limits.per_gib * size
    if allowed >= limits.least:
        wanted = min(wanted, allowed)
    return max(wanted, limits.least) if at_least else wanted


def after_growth(type_: str, tags: Mapping[str, str], size: GiB) -> int | None:
    """The IOPS that the tags of a volume promise it at `size`; None where they promise nothing."""
    ratio = tags.get(PER_GIB, "")
    if tags.get(GROWS) != "true" or not (ratio.isascii() and ratio.isdecimal()) or type_ not in _BY_TYPE:
        return None
    return for_size(type_, int(ratio), size, at_least=True)
