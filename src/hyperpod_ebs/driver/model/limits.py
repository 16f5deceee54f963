"""How many volumes a node can have, by its instance type.

The numbers are EC2's `MaximumEbsAttachments`, from DescribeInstanceTypes. Where network
interfaces share the attach slots, the slot of the first interface is subtracted already,
and each further interface takes one.
"""

import re
from collections.abc import Mapping
from typing import Final

_SAGEMAKER_PREFIX: Final = "ml."
_SHARING_SLOTS: Final = 27
"""Attach slots of every size in `_SHARING_FAMILIES`, without the first interface's."""

_SMALL_SIZE_SLOTS: Final = 32
"""Attach slots in `_DEDICATED_FAMILIES` of the sizes that are not in `_BY_SIZE`."""

_BY_TYPE: Final[Mapping[str, int]] = {
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
"""Attach slots by instance type, where no family below gives the right number."""

_SHARING_FAMILIES: Final = re.compile(r"[cmr]5(a|b|n|zn)?|[cmr]6(a|g|gn|i|in)|[cmr]7(g|gn)|t3a?|t4g")
"""Families whose volumes share the attach slots with network interfaces. Every size has the same number of slots."""

_DEDICATED_FAMILIES: Final = re.compile(
    r"[cmr]7(a|i|iz|i-flex)|[cmr]8(a|g|gd|i|i-flex)|i[78](i|ie|g|ge)|g6[ef]?|gr6f?|g7e?|p5|trn2"
)
"""Families whose attach slots are for volumes only. The number of slots depends on the size."""

_BY_SIZE: Final[Mapping[str, int]] = {
    "16xlarge": 48,
    "18xlarge": 48,
    "24xlarge": 64,
    "32xlarge": 88,
    "48xlarge": 128,
    "96xlarge": 128,
}
"""Attach slots of the larger sizes in `_DEDICATED_FAMILIES`."""

_SHARING_TYPES: Final = re.compile(r"(g4dn|g5|i3en|r5d|trn1n?)\..*")
"""The types in `_BY_TYPE` whose volumes share the attach slots with network interfaces."""


def attach_limit(instance_type: str, *, reserved: int, interfaces: int = 1) -> int:
    """How many of the driver's volumes a node of this type can have; 0 if unknown, as in CSI.

    Args:
        instance_type: EC2's name, or SageMaker's, which has the prefix `ml.`.
        reserved: Attach slots for other volumes: the root volume, and on HyperPod the secondary one.
        interfaces: Network interfaces of the node, including the first.
    """
    name = instance_type.removeprefix(_SAGEMAKER_PREFIX)
    slots = _slots(name)
    if not slots:
        return 0
    if shares_slots_with_interfaces(name):
        slots -= max(0, interfaces - 1)
    return max(1, slots - reserved)  # in CSI, 0 means that the number is not known


def shares_slots_with_interfaces(name: str) -> bool:
    """Whether each further network interface takes an attach slot on this EC2 instance type."""
    return bool(_SHARING_TYPES.fullmatch(name) or _SHARING_FAMILIES.fullmatch(name.partition(".")[0]))


def _slots(instance_type: str) -> int:
    """The attach slots of an EC2 instance type; 0 if unknown."""
    if exact := _BY_TYPE.get(instance_type):
        return exact
    family, _, size = instance_type.partition(".")
    if size.startswith("metal"):
        return 0
    if _DEDICATED_FAMILIES.fullmatch(family):
        return _BY_SIZE.get(size, _SMALL_SIZE_SLOTS)
    return _SHARING_SLOTS if _SHARING_FAMILIES.fullmatch(family) else 0
