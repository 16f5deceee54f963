"""Every filter that EC2 documents is accepted, whether the emulator has data for it or not."""

import html
import re
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from tests.support.emulator_clients import ZONE, Aws
from tests.support.waiting import wait_until_equal

OPERATIONS = (
    "DescribeAvailabilityZones",
    "DescribeInstanceStatus",
    "DescribeInstanceTypes",
    "DescribeInstances",
    "DescribeRegions",
    "DescribeSnapshots",
    "DescribeTags",
    "DescribeVolumeStatus",
    "DescribeVolumes",
    "DescribeVolumesModifications",
)


def documented_filters(operation: str) -> list[str]:
    """The names of the operation's filters, from the text that AWS's model has about its parameter Filters."""
    model = botocore.session.get_session().get_service_model("ec2").operation_model(operation)
    assert model.input_shape is not None
    items = re.findall(r"<li>(.*?)</li>", model.input_shape.members["Filters"].documentation, re.DOTALL)
    names = [name for item in items for name in re.findall(r"<code>([^<]*)</code>", item.split(" - ")[0])]
    return ["tag:app" if name in {"tag", "tag:<key>"} else name for name in map(html.unescape, names)]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_documented_filter_is_accepted(operation: str, aws: Aws) -> None:
    """EC2 API reference: the lists of filters; a value that nothing has finds nothing."""
    await aws.run_instance()
    names = documented_filters(operation)

    for name in names:
        answer = await aws.ec2(xform_name(operation), Filters=[{"Name": name, "Values": ["no such value"]}])
        assert [value for value in answer.values() if isinstance(value, list)] == [[]], name
    invalid = await aws.expect_error("ec2", xform_name(operation), Filters=[{"Name": "colour", "Values": ["red"]}])

    assert len(names) >= 3
    assert invalid == ("InvalidParameterValue", "The filter 'colour' is invalid")


async def test_an_instance_is_found_by_each_property_that_its_description_shows(aws: Aws) -> None:
    """EC2 API reference, DescribeInstances: Filters."""
    instance = await aws.run_instance(InstanceType="m5.large", Placement={"AvailabilityZone": ZONE})
    shown = (await aws.ec2("describe_instances"))["Reservations"][0]["Instances"][0]
    (root,) = shown["BlockDeviceMappings"]
    values = {
        "architecture": shown["Architecture"],
        "availability-zone": ZONE,
        "block-device-mapping.attach-time": "20*Z",
        "block-device-mapping.delete-on-termination": "true",
        "block-device-mapping.device-name": shown["RootDeviceName"],
        "block-device-mapping.volume-id": root["Ebs"]["VolumeId"],
        "hypervisor": "nitro",
        "image-id": shown["ImageId"],
        "instance-state-code": "16",
        "instance-type": "m5.large",
        "launch-time": "20*Z",
        "network-interface.mac-address": "0a:*",
        "network-interface.private-ip-address": shown["PrivateIpAddress"],
        "network-interface.subnet-id": shown["SubnetId"],
        "owner-id": "123456789012",
        "private-dns-name": shown["PrivateDnsName"],
        "root-device-name": shown["RootDeviceName"],
        "root-device-type": "ebs",
        "subnet-id": shown["SubnetId"],
        "tenancy": "default",
        "virtualization-type": "hvm",
        "vpc-id": shown["VpcId"],
    }

    found = {name: await instances_found(aws, name, value) for name, value in values.items()}

    assert found == {name: [instance] for name in values}


async def instances_found(aws: Aws, name: str, value: str) -> list[str]:
    """The instances that a filter finds."""
    answer = await aws.ec2("describe_instances", Filters=[{"Name": name, "Values": [value]}])
    return [entry["InstanceId"] for reservation in answer["Reservations"] for entry in reservation["Instances"]]


@pytest.mark.parametrize(
    ("name", "value", "example"),
    [
        ("bare-metal", "true", "m5.metal"),
        ("ebs-info.encryption-support", "supported", "m5.large"),
        ("ebs-info.ebs-optimized-support", "default", "m5.large"),
        ("supported-root-device-type", "ebs", "m5.large"),
    ],
)
async def test_an_instance_type_is_found_by_what_its_description_shows(
    name: str, value: str, example: str, aws: Aws
) -> None:
    """EC2 API reference, DescribeInstanceTypes: Filters."""
    by_value = [{"Name": name, "Values": [value]}]

    found = await aws.ec2("describe_instance_types", InstanceTypes=[example], Filters=by_value)

    assert [each["InstanceType"] for each in found["InstanceTypes"]] == [example]


async def test_a_snapshot_and_a_modification_are_found_by_their_newer_filters(aws: Aws) -> None:
    """EC2 API reference, DescribeSnapshots and DescribeVolumesModifications: Filters."""
    volume = await aws.create_volume()
    await aws.ec2("create_snapshot", VolumeId=volume)
    await aws.ec2("modify_volume", VolumeId=volume, Size=2)

    async def counts() -> list[int]:
        transfer: list[Any] = [{"Name": "transfer-type", "Values": ["standard"]}]
        multi_attach = [{"Name": "targetMultiAttachEnabled", "Values": ["false"]}]
        snapshots = await aws.ec2("describe_snapshots", Filters=transfer)
        modifications = await aws.ec2("describe_volumes_modifications", Filters=multi_attach)
        return [len(snapshots["Snapshots"]), len(modifications["VolumesModifications"])]

    await wait_until_equal(counts, [1, 1])
