"""DescribeInstanceTypes, as far as it tells how many volumes a type takes."""

from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import listing, naming
from hyperpod_ebs.emulator.nodes.instance_types import PLACES, Places
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

PAGES: Final = (5, 100)

_TYPES: Final = 100
"""Types that one call may name."""


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    places: Places


_KINDS: Final = {name: _Kind(name, places) for name, places in PLACES.items()}

_FIELDS: Final[dict[str, listing.Field[_Kind]]] = {
    "ebs-info.attachment-limit-type": lambda one: [one.places.way],
    "ebs-info.maximum-ebs-attachments": lambda one: [str(one.places.most)],
    "ebs-info.nvme-support": lambda _: ["required"],
    "hypervisor": lambda _: ["nitro"],
    "instance-type": lambda one: [one.name],
}


class InstanceTypes:
    """The types that there are."""

    name = "ec2"
    operations = Operations["InstanceTypes"]()

    @operations("DescribeInstanceTypes")
    async def describe(self, asked: Asked, _: Call) -> Answer:
        """The types by names, of which an unknown one fails the call, or by filters."""
        naming.dry_run(asked)
        names = asked.get("InstanceTypes", [])
        if len(names) > _TYPES:
            raise AwsFault("InvalidParameterValue", f"The maximum number of instance types per call is {_TYPES}")
        if unknown := sorted(set(names) - set(_KINDS)):
            text = f"The following supplied instance types do not exist: [{', '.join(unknown)}]"
            raise AwsFault("InvalidInstanceType", text)
        known = {name: _KINDS[name] for name in names} if names else _KINDS
        chosen = listing.selected(known, asked, _FIELDS, by_id="instance-type")
        limited = asked if names else {"MaxResults": PAGES[1], **asked}
        this, token = listing.page(chosen, limited, PAGES, key=lambda one: one.name)
        return {"InstanceTypes": [_shown(one) for one in this], "NextToken": token}


def _shown(kind: _Kind) -> dict[str, Any]:  # the members of EC2's InstanceTypeInfo
    return {
        "InstanceType": kind.name,
        "BareMetal": False,
        "Hypervisor": "nitro",
        "SupportedRootDeviceTypes": ["ebs"],
        "EbsInfo": {
            "EbsOptimizedSupport": "default",
            "EncryptionSupport": "supported",
            "NvmeSupport": "required",
            "MaximumEbsAttachments": kind.places.most,
            "AttachmentLimitType": kind.places.way,
        },
    }
