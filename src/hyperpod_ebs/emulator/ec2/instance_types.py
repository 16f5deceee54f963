"""DescribeInstanceTypes, reduced to how many volumes an instance type takes."""

from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import filters, filters_without_data, pages, request_checks
from hyperpod_ebs.emulator.nodes.attach_slots import ATTACH_SLOTS, AttachSlots
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

PAGE_SIZES: Final = (5, 100)

_MAX_TYPES: Final = 100
"""Types that one call may name."""


@dataclass(frozen=True, slots=True)
class _InstanceType:
    name: str
    slots: AttachSlots


_FIELDS: Final[dict[str, filters.Field[_InstanceType]]] = {
    **filters_without_data.INSTANCE_TYPES,
    "bare-metal": lambda instance_type: [filters.boolean(_is_bare_metal(instance_type))],
    "ebs-info.attachment-limit-type": lambda instance_type: [instance_type.slots.limit_type],
    "ebs-info.ebs-optimized-support": lambda _: ["default"],
    "ebs-info.encryption-support": lambda _: ["supported"],
    "ebs-info.maximum-ebs-attachments": lambda instance_type: [str(instance_type.slots.count)],
    "ebs-info.nvme-support": lambda instance_type: [_nvme_support(instance_type)],
    "hypervisor": lambda instance_type: [instance_type.slots.hypervisor],
    "instance-type": lambda instance_type: [instance_type.name],
    "supported-root-device-type": lambda _: ["ebs"],
}


class InstanceTypes:
    """The instance types of the region."""

    operations = Operations["InstanceTypes"]()

    @operations("DescribeInstanceTypes")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """List instance types by name or by filter; an unknown name fails the call."""
        request_checks.refuse_dry_run(parameters)
        names = parameters.get("InstanceTypes", [])
        if len(names) > _MAX_TYPES:
            raise AwsFault("InvalidParameterValue", f"The maximum number of instance types per call is {_MAX_TYPES}")
        if unknown := sorted(set(names) - ATTACH_SLOTS.keys()):
            text = f"The following supplied instance types do not exist: [{', '.join(unknown)}]"
            raise AwsFault("InvalidInstanceType", text)
        known = {name: _InstanceType(name, ATTACH_SLOTS[name]) for name in names or ATTACH_SLOTS}
        matching = filters.matching(known, parameters, _FIELDS, by_id="instance-type")
        limited = parameters if names else {"MaxResults": PAGE_SIZES[1], **parameters}
        this_page, token = pages.page(matching, limited, PAGE_SIZES, key=lambda instance_type: instance_type.name)
        return {"InstanceTypes": [_render(instance_type) for instance_type in this_page], "NextToken": token}


def _is_bare_metal(instance_type: _InstanceType) -> bool:
    return ".metal" in instance_type.name


def _nvme_support(instance_type: _InstanceType) -> str:
    """EbsInfo.NvmeSupport: volumes are NVMe devices on Nitro only."""
    return "required" if instance_type.slots.hypervisor == "nitro" else "unsupported"


def _render(instance_type: _InstanceType) -> dict[str, Any]:  # the members of EC2's InstanceTypeInfo
    return {
        "InstanceType": instance_type.name,
        "BareMetal": _is_bare_metal(instance_type),
        "Hypervisor": instance_type.slots.hypervisor,
        "SupportedRootDeviceTypes": ["ebs"],
        "EbsInfo": {
            "EbsOptimizedSupport": "default",
            "EncryptionSupport": "supported",
            "NvmeSupport": _nvme_support(instance_type),
            "MaximumEbsAttachments": instance_type.slots.count,
            "AttachmentLimitType": instance_type.slots.limit_type,
            "MaximumEbsCards": instance_type.slots.cards,
        },
    }
