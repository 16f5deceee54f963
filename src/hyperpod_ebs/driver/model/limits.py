"""How many volumes a node can have, by its instance type.

The numbers are EC2's `MaximumEbsAttachments`, from DescribeInstanceTypes. Where network
interfaces share the attach slots, the slot of the first interface is subtracted already,
and each further interface takes one.
"""

from typing import Final

from hyperpod_ebs.driver.model.attach_limit_table import SLOTS

_SAGEMAKER_PREFIX: Final = "ml."
_USUAL_SLOTS: Final = (27, True)
"""The slots of a type that the table does not have, as for most Nitro types, and that interfaces share them."""


def attach_limit(instance_type: str, *, reserved: int, interfaces: int = 1) -> int:
    """How many of the driver's volumes a node of this type can have: at least 1, because 0 means any number in CSI.

    Args:
        instance_type: EC2's name, or SageMaker's, which has the prefix `ml.`; empty if it is not known.
        reserved: Attach slots for other volumes: the root volume, and on HyperPod the secondary one.
        interfaces: Network interfaces of the node, including the first.
    """
    slots, shares_with_interfaces = SLOTS.get(instance_type.removeprefix(_SAGEMAKER_PREFIX), _USUAL_SLOTS)
    if shares_with_interfaces:
        slots -= max(0, interfaces - 1)
    return max(1, slots - reserved)
