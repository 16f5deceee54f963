"""EC2 instances, and the zones of the region (EC2 API reference, DescribeInstances, DescribeAvailabilityZones)."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors

_IDS_PER_CALL: Final = 200
"""Values of one filter (EC2 API reference, DescribeInstances)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ec2Instance:
    """An EC2 instance."""

    id: str
    type: str
    zone: str
    state: str
    interfaces: int
    """Network interfaces; at least 1."""

    devices: frozenset[str]
    """The device names that are in use, with that of the root volume."""

    tags: Mapping[str, str]


async def list_instances(aws: Aws, ids: Sequence[str]) -> list[Ec2Instance]:
    """The instances with these ids; those that EC2 does not know are left out.

    Raises:
        Error: AWS refuses to describe them.
    """
    ec2, instances, wanted = await aws.ec2(), list[Ec2Instance](), sorted(set(ids))
    for begin in range(0, len(wanted), _IDS_PER_CALL):
        by_id = {"Name": "instance-id", "Values": wanted[begin : begin + _IDS_PER_CALL]}
        with translate_sdk_errors("describe the instances of the nodes"):
            async for page in ec2.get_paginator("describe_instances").paginate(Filters=[by_id]):  # type: ignore[list-item] # a filter
                for reservation in page["Reservations"]:
                    instances += [
                        Ec2Instance(
                            id=instance["InstanceId"],
                            type=instance["InstanceType"],
                            zone=instance.get("Placement", {}).get("AvailabilityZone", ""),
                            state=instance["State"]["Name"],
                            interfaces=max(1, len(instance.get("NetworkInterfaces", ()))),
                            devices=frozenset(each["DeviceName"] for each in instance.get("BlockDeviceMappings", ())),
                            tags={tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())},
                        )
                        for instance in reservation["Instances"]
                    ]
    return instances


async def find_instances_by_name(aws: Aws, name: str) -> list[str]:
    """The ids of the instances with this private DNS name, in order; in several VPCs, there may be several.

    Raises:
        Error: AWS refuses to describe it.
    """
    ec2 = await aws.ec2()
    by_name = {"Name": "private-dns-name", "Values": [name]}
    with translate_sdk_errors(f"describe the instance with the private DNS name {name}"):
        answer = await ec2.describe_instances(Filters=[by_name])  # type: ignore[list-item] # a filter
        return sorted(instance["InstanceId"] for each in answer["Reservations"] for instance in each["Instances"])


async def zone_names(aws: Aws) -> Mapping[str, str]:
    """The ids of the region's availability zones by their names.

    Raises:
        Error: AWS refuses to describe them.
    """
    ec2 = await aws.ec2()
    with translate_sdk_errors(f"describe the availability zones of {aws.region}"):
        answer = await ec2.describe_availability_zones()
        return {zone["ZoneName"]: zone["ZoneId"] for zone in answer["AvailabilityZones"]}
