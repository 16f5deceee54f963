"""Attach slots of instance types: describe them at EC2."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperpod_ebs.driver.aws.calls import AwsCaller
from hyperpod_ebs.driver.aws.ec2_shapes import filters
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.model.limits import AttachSlots, PublishedSlots

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import DescribeInstanceTypesResultTypeDef


@dataclass(kw_only=True)
class Ec2InstanceTypes(AwsCaller):
    """Implements `volumes.cloud.InstanceTypes`."""

    async def describe_attach_slots(self, types: Collection[str]) -> PublishedSlots:
        """Describe the attach slots of these types."""
        # A filter: with the parameter InstanceTypes, one name that does not exist fails the whole call.
        by_name = filters("instance-type", types)
        return dict(
            await self.call_pages(
                Request(
                    "DescribeInstanceTypes", "instance types", "describe the instance types of the cluster's nodes"
                ),
                lambda aws, page: aws.ec2.describe_instance_types(Filters=by_name, MaxResults=100, **page),
                _attach_slots,
            )
        )


def _attach_slots(answer: "DescribeInstanceTypesResultTypeDef") -> Iterator[tuple[str, AttachSlots]]:
    """The types in the answer whose attach slots can be read."""
    for shape in answer.get("InstanceTypes", ()):
        ebs = shape.get("EbsInfo", {})
        try:
            slots = AttachSlots.parse(f"{ebs.get('MaximumEbsAttachments')} {ebs.get('AttachmentLimitType')}")
        except ValueError:
            continue
        yield shape.get("InstanceType", ""), slots
