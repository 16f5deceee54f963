"""IOPS in proportion to a volume's size, for StorageClasses with `iopsPerGB`.

The limits are those of the EBS User Guide, "Amazon EBS volume types". IOPS above the maximum are
lowered to it, as upstream does; IOPS below the minimum are raised to it if the class allows that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB

PER_GIB_TAG: Final = "ebs.csi.aws.com/IOPSPerGb"
"""The tag that keeps the IOPS for each GiB."""

GROW_TAG: Final = "ebs.csi.aws.com/AllowAutoIOPSIncreaseOnModify"
"""The tag that says whether the IOPS grow with the volume."""


@dataclass(frozen=True, slots=True)
class _Limits:
    minimum: int
    maximum: int
    per_gib: int


_BY_TYPE: Final[Mapping[str, _Limits]] = {
    "gp3": _Limits(3000, 80_000, 500),
    "io1": _Limits(100, 64_000, 50),
    "io2": _Limits(100, 256_000, 1000),
}


def for_size(type_: str, per_gib: int, size: GiB, *, raise_to_minimum: bool) -> int:
    """The IOPS of a volume of this type and size.

    Args:
        type_: The volume's type.
        per_gib: The requested IOPS for each GiB.
        size: The volume's size.
        raise_to_minimum: Whether IOPS below the type's minimum are raised to the minimum; if not, EC2 refuses them.

    Raises:
        InvalidRequest: Volumes of this type have no configurable IOPS.
    """
    limits = _BY_TYPE.get(type_)
    if limits is None:
        raise errors.InvalidRequest(
            f"iopsPerGB is {per_gib}, but volumes of type {type_} have no configurable IOPS; "
            f"use one of the types {', '.join(_BY_TYPE)}"
        )
    wanted = min(per_gib * size, limits.maximum)
    allowed = limits.per_gib * size
    if allowed >= limits.minimum:
        wanted = min(wanted, allowed)
    return max(wanted, limits.minimum) if raise_to_minimum else wanted


def after_growth(type_: str, tags: Mapping[str, str], size: GiB) -> int | None:
    """The IOPS that the volume's tags ask for at the new `size`; None if its IOPS do not grow with its size."""
    per_gib = tags.get(PER_GIB_TAG, "")
    if tags.get(GROW_TAG) != "true" or not (per_gib.isascii() and per_gib.isdecimal()) or type_ not in _BY_TYPE:
        return None
    return for_size(type_, int(per_gib), size, raise_to_minimum=True)
