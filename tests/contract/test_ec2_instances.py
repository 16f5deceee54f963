"""What RunInstances does with its parameters, and instances that are stopped and started."""

from collections.abc import Mapping
from typing import Any, Final

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity_records import InstanceProfile
from hyperpod_ebs.emulator.state import clock
from hyperpod_ebs.emulator.state.region import SECURITY_GROUP
from hyperpod_ebs.emulator.state.world import now
from tests.support.callers import resources
from tests.support.emulator_clients import GROUP, ZONE, Aws, cloud
from tests.support.waiting import wait_until_equal

ONE: Final = {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1}

REFUSALS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "no image": ({"ImageId": None}, "MissingParameter"),
    "malformed image": ({"ImageId": "image-1"}, "InvalidAMIID.Malformed"),
    "unknown type": ({"InstanceType": "m99.large"}, "InvalidParameterValue"),
    "unknown security group": ({"SecurityGroupIds": ["sg-1"]}, "InvalidGroup.NotFound"),
    "unknown security group name": ({"SecurityGroups": ["web"]}, "InvalidGroup.NotFound"),
    "unknown profile": ({"IamInstanceProfile": {"Name": "unknown"}}, "InvalidParameterValue"),
    "tenancy": ({"Placement": {"Tenancy": "dedicated"}}, "UnsupportedOperation"),
    "user data": ({"UserData": "#!/bin/sh"}, "UnsupportedOperation"),
    "tags of an interface": (
        {"TagSpecifications": [{"ResourceType": "network-interface", "Tags": [{"Key": "a", "Value": "b"}]}]},
        "InvalidParameterValue",
    ),
    "device twice": (
        {"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}] * 2},
        "InvalidBlockDeviceMapping",
    ),
    "device name": (
        {"BlockDeviceMappings": [{"DeviceName": "/dev/hda", "Ebs": {"VolumeSize": 1}}]},
        "InvalidBlockDeviceMapping",
    ),
    "small root volume": (
        {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 4}}]},
        "InvalidBlockDeviceMapping",
    ),
    "no size": ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {}}]}, "MissingParameter"),
    "unknown snapshot": (
        {"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "snap-0123456789abcdef0"}}]},
        "InvalidSnapshot.NotFound",
    ),
    "instance store": (
        {"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "VirtualName": "ephemeral0"}]},
        "UnsupportedOperation",
    ),
    "too many volumes": (
        {
            "InstanceType": "g5.48xlarge",
            "BlockDeviceMappings": [
                {"DeviceName": f"/dev/sd{letter}", "Ebs": {"VolumeSize": 1}} for letter in "fghijklmn"
            ],
        },
        "AttachmentLimitExceeded",
    ),
    "too many instances": ({"MinCount": 60_000, "MaxCount": 60_000}, "InstanceLimitExceeded"),
    "too many volumes of all instances": (
        {"MaxCount": 600, "BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]},
        "VolumeLimitExceeded",
    ),
}
"""Parameters that the emulator does not give effect to, so it refuses them."""


async def describe(aws: Aws, instance: str) -> Any:
    """The instance in the answer of DescribeInstances."""
    return (await aws.ec2("describe_instances", InstanceIds=[instance]))["Reservations"][0]["Instances"][0]


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_request_that_cannot_be_carried_out_is_refused(name: str, emulator: Emulator, aws: Aws) -> None:
    """EC2 API reference, RunInstances and "Error codes"; a parameter is never ignored."""
    changed, code = REFUSALS[name]
    before = resources(emulator)
    request = {key: value for key, value in {**ONE, **changed}.items() if value is not None}
    if "ImageId" not in request:  # boto3 does not check this parameter, because a launch template can have it
        assert changed == {"ImageId": None}

    refused = await aws.expect_error("ec2", "run_instances", **request)

    assert refused[0] == code
    assert resources(emulator) == before


async def test_an_instance_has_what_its_request_names(emulator: Emulator, aws: Aws) -> None:
    """EC2 API reference, RunInstances."""
    profile = InstanceProfile(id="node", unique_id="AIPAEXAMPLE", created=now())
    emulator.world.store.instance_profiles.put(profile)
    tags = [{"Key": "a", "Value": "b"}]

    instance = await aws.run_instance(
        InstanceType="m5.large",
        KeyName="mine",
        SecurityGroupIds=[SECURITY_GROUP],
        EbsOptimized=True,
        ClientToken="once",
        Placement={"AvailabilityZoneId": "usw2-az2", "Tenancy": "default"},
        IamInstanceProfile={"Name": "node"},
        Monitoring={"Enabled": False},
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}, {"ResourceType": "volume", "Tags": tags}],
    )
    shown = await describe(aws, instance)
    (volume,) = (await aws.ec2("describe_volumes"))["Volumes"]

    assert (shown["KeyName"], shown["EbsOptimized"], shown["ClientToken"]) == ("mine", True, "once")
    assert shown["SecurityGroups"] == [{"GroupId": SECURITY_GROUP, "GroupName": "default"}]
    assert shown["Placement"]["AvailabilityZone"] == volume["AvailabilityZone"] == "us-west-2b"
    assert shown["IamInstanceProfile"]["Id"] == "AIPAEXAMPLE"
    assert shown["Tags"] == volume["Tags"] == tags


async def test_volumes_of_the_mappings_are_attached_and_stay_if_they_are_to(emulator: Emulator, aws: Aws) -> None:
    """EC2 User Guide, "Preserve data when an instance is terminated": a data volume is deleted by default."""
    source = await aws.create_volume(Size=3)
    snapshot = (await aws.ec2("create_snapshot", VolumeId=source))["SnapshotId"]
    await aws.ec2("describe_snapshots")
    mappings = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20, "DeleteOnTermination": False}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 9, "VolumeType": "gp3", "Iops": 3500, "Throughput": 150}},
        {"DeviceName": "/dev/sdg", "Ebs": {"SnapshotId": snapshot, "DeleteOnTermination": False}},
        {"DeviceName": "/dev/sdh", "NoDevice": ""},
    ]

    instance = await aws.run_instance(BlockDeviceMappings=mappings, Placement={"AvailabilityZone": ZONE})
    shown = {each["DeviceName"]: each["Ebs"] for each in (await describe(aws, instance))["BlockDeviceMappings"]}
    volumes = {device: await aws.describe_volume(ebs["VolumeId"]) for device, ebs in shown.items()}
    devices = {path.name for path in emulator.device_directory(instance).iterdir()}
    await aws.ec2("terminate_instances", InstanceIds=[instance])
    await wait_until_equal(lambda: instance_state(aws, instance), "terminated")
    left = {each["VolumeId"]: each["State"] for each in (await aws.ec2("describe_volumes"))["Volumes"]}

    assert {device: (ebs["Status"], ebs["DeleteOnTermination"]) for device, ebs in shown.items()} == {
        "/dev/xvda": ("attached", False),
        "/dev/sdf": ("attached", True),
        "/dev/sdg": ("attached", False),
    }
    assert {device: (each["Size"], each["VolumeType"], each["State"]) for device, each in volumes.items()} == {
        "/dev/xvda": (20, "gp3", "in-use"),
        "/dev/sdf": (9, "gp3", "in-use"),
        "/dev/sdg": (3, "gp2", "in-use"),
    }
    assert (volumes["/dev/sdf"]["Iops"], volumes["/dev/sdg"]["SnapshotId"]) == (3500, snapshot)
    assert {"sdf", "sdg"} <= devices
    assert left == {
        source: "available",
        shown["/dev/xvda"]["VolumeId"]: "available",
        shown["/dev/sdg"]["VolumeId"]: "available",
    }


async def test_a_volume_that_is_to_stay_exists_also_if_its_instance_never_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminated instance leaves the volumes that its request wanted to keep."""
    monkeypatch.setitem(clock.AWS_DURATIONS, "instance running", clock.Duration(3600, 3601))
    monkeypatch.setitem(clock.AWS_DURATIONS, "instance terminated", clock.Duration(0.001, 0.002))
    mapping = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": False}}
    async with cloud(profile="aws") as (emulator, aws):
        started = await aws.ec2("run_instances", **ONE, BlockDeviceMappings=[mapping])
        instance = started["Instances"][0]["InstanceId"]

        await aws.ec2("terminate_instances", InstanceIds=[instance])
        await wait_until_equal(lambda: instance_state(aws, instance), "terminated")
        (volume,) = (await aws.ec2("describe_volumes"))["Volumes"]

        assert (volume["Size"], volume["State"]) == (1, "available")
        assert emulator.world.backing_files.path(volume["VolumeId"]).exists()


async def instance_state(aws: Aws, instance: str) -> str:
    """The instance's state."""
    return str((await describe(aws, instance))["State"]["Name"])


async def test_a_stopped_instance_keeps_its_volumes_but_has_no_devices(emulator: Emulator, aws: Aws) -> None:
    """EC2 User Guide, "Stop and start Amazon EC2 instances"."""
    instance, volume = await aws.run_instance(Placement={"AvailabilityZone": ZONE}), await aws.create_volume()
    late = await aws.create_volume()
    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached")
    directory = emulator.device_directory(instance)
    has_devices = (directory / "sdf").exists()

    stopped = await aws.ec2("stop_instances", InstanceIds=[instance])
    await wait_until_equal(lambda: instance_state(aws, instance), "stopped")
    again = await aws.ec2("stop_instances", InstanceIds=[instance])
    await aws.ec2("attach_volume", VolumeId=late, InstanceId=instance, Device="/dev/sdg")
    await wait_until_equal(lambda: aws.volume_state(late), "in-use attached")
    while_stopped = [(directory / name).exists() for name in ("sdf", "sdg")]
    states = [await aws.volume_state(each) for each in (volume, late)]
    await aws.ec2("start_instances", InstanceIds=[instance])
    await wait_until_equal(lambda: instance_state(aws, instance), "running")
    started = [(directory / name).exists() for name in ("sdf", "sdg")]

    assert stopped["StoppingInstances"] == [
        {
            "InstanceId": instance,
            "PreviousState": {"Code": 16, "Name": "running"},
            "CurrentState": {"Code": 64, "Name": "stopping"},
        }
    ]
    assert again["StoppingInstances"][0]["CurrentState"] == {"Code": 80, "Name": "stopped"}
    assert while_stopped == [False, False]
    assert states == ["in-use attached"] * 2
    assert started == [has_devices] * 2


async def test_instances_change_their_state_together_or_not_at_all(emulator: Emulator, aws: Aws) -> None:
    """EC2 API reference, "Error codes": IncorrectInstanceState."""
    running, ended = await aws.run_instance(), await aws.run_instance()
    await aws.ec2("terminate_instances", InstanceIds=[ended])
    await wait_until_equal(lambda: instance_state(aws, ended), "terminated")
    before = resources(emulator)

    refusals = [
        await aws.expect_error("ec2", method, InstanceIds=[running, ended])
        for method in ("stop_instances", "start_instances")
    ]

    assert [code for code, _ in refusals] == ["IncorrectInstanceState"] * 2
    assert f"The instance '{ended}' is not in a state from which it can be stopped." == refusals[0][1]
    assert resources(emulator) == before


async def test_private_host_names_of_the_oldest_region_have_a_domain_of_their_own() -> None:
    """EC2 User Guide, "EC2 instance hostnames and domains": us-east-1 has ec2.internal."""
    async with cloud(region="us-east-1") as (_, aws):
        instance = await aws.run_instance()
        cluster, _ = await aws.create_cluster(InstanceGroups=[GROUP])
        (node,) = (await aws("sagemaker", "list_cluster_nodes", ClusterName=cluster))["ClusterNodeSummaries"]
        shown = await describe(aws, instance)

    assert shown["PrivateDnsName"] == f"ip-{shown['PrivateIpAddress'].replace('.', '-')}.ec2.internal"
    assert node["PrivateDnsHostname"].endswith(".ec2.internal")
