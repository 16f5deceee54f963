"""How many volumes a node takes, by its instance type.

The numbers are EC2's `MaximumEbsAttachments`, from DescribeInstanceTypes. Where
they are shared with network interfaces the first interface is taken off already,
and each further one takes a volume's place.
"""

import re
from collections.abc import Mapping
from typing import Final

_ML: Final = "ml."
_SMALLEST: Final = 32
_SHARED: Final = 27

_EXACT: Final[Mapping[str, int]] = {
    "g4dn.xlarge": 25,
    "g4dn.2xlarge": 25,
    "g4dn.4xlarge": 25,
    "g4dn.8xlarge": 25,
    "g4dn.12xlarge": 22,
    "g4dn.16xlarge": 25,
    "g5.xlarge": 25,
    "g5.2xlarge": 25,
    "g5.4xlarge": 25,
    "g5.8xlarge": 25,
    "g5.12xlarge": 22,
    "g5.16xlarge": 25,
    "g5.24xlarge": 22,
    "g5.48xlarge": 9,
    "i3en.large": 26,
    "i3en.xlarge": 26,
    "i3en.2xlarge": 25,
    "i3en.3xlarge": 26,
    "i3en.6xlarge": 25,
    "i3en.12xlarge": 23,
    "i3en.24xlarge": 19,
    "p4d.24xlarge": 28,
    "p4de.24xlarge": 28,
    "p5.48xlarge": 64,
    "p5e.48xlarge": 64,
    "p5en.48xlarge": 64,
    "p6-b200.48xlarge": 64,
    "p6-b300.48xlarge": 64,
    "r5d.16xlarge": 23,
    "trn1.2xlarge": 25,
    "trn1.32xlarge": 28,
    "trn1n.32xlarge": 28,
    "trn2.48xlarge": 64,
}
_SHARING: Final = re.compile(r"[cmr]5(a|b|n|zn)?|[cmr]6(a|g|gn|i|in)|[cmr]7(g|gn)|t3a?|t4g")
"""Families that share their places with network interfaces, the same number whatever their size."""

_DEDICATED: Final = re.compile(
    r"[cmr]7(a|i|iz|i-flex)|[cmr]8(a|g|gd|i|i-flex)|i[78](i|ie|g|ge)|g6[ef]?|gr6f?|g7e?|p5|trn2"
)
"""Families whose places are for volumes alone, as many as their size says."""

_BY_SIZE: Final[Mapping[str, int]] = {
    "16xlarge": 48,
    "18xlarge": 48,
    "24xlarge": 64,
    "32xlarge": 88,
    "48xlarge": 128,
    "96xlarge": 128,
}


_EXACT_BUT_SHARED: Final = re.compile(r"(g4dn|g5|i3en|r5d|trn1n?)\..*")
"""Of the types above, those whose places are shared all the same."""


def attach_limit(instance_type: str, *, taken: int, interfaces: int = 1) -> int:
    """How many volumes of ours a node of this type takes; 0 where that is not known, as CSI has it.

    Args:
        instance_type: EC2's name, or SageMaker's with `ml.` before it.
        taken: Volumes that the node has anyway: its root, and on HyperPod the secondary one.
        interfaces: Network interfaces that the node has, the first included.
    """
    name = instance_type.removeprefix(_ML)
    limit = _limit(name)
    if shares_slots_with_interfaces(name):
        limit -= max(0, interfaces - 1)
    return max(1, limit - taken) if _limit(name) else 0


def shares_slots_with_interfaces(name: str) -> bool:
    """Whether further network interfaces take volumes' places on a type, by EC2's name for it."""
    return bool(_EXACT_BUT_SHARED.fullmatch(name) or _SHARING.fullmatch(name.partition(".")[0]))


def _limit(instance_type: str) -> int:
    family, _, size = instance_type.partition(".")
    if exact := _EXACT.get(instance_type):
        return exact
    if size.startswith("metal"):
        return 0
    if _DEDICATED.fullmatch(family):
        return _BY_SIZE.get(size, _SMALLEST)
    return _SHARED if _SHARING.fullmatch(family) else 0
