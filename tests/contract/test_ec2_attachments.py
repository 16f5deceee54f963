"""AttachVolume, DetachVolume, tags, instances, instance types and zones, called through the AWS SDK."""

from typing import Any

import pytest

from hyperpod_ebs.emulator.state import clock
from hyperpod_ebs.emulator.state.region import SECURITY_GROUP
from tests.support.emulator_clients import ZONE, Aws, cloud
from tests.support.waiting import wait_until_equal

UNKNOWN_VOLUME = "vol-0123456789abcdef0"
UNKNOWN_INSTANCE = "i-0123456789abcdef0"


async def attach(aws: Aws, volume: str, instance: str, device: str = "/dev/xvdba") -> None:
    """Attach a volume, and wait until it is attached."""
    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device=device)
    await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached")


async def test_an_attachment_is_attaching_then_attached_then_gone(aws: Aws) -> None:
    """EC2 user guide, "Amazon EBS volume lifecycle"; EC2 API reference, VolumeAttachment."""
    volume, instance = await aws.create_volume(), await aws.run_instance()

    made = await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")
    shown = (await aws.describe_volume(volume))["Attachments"][0]
    ended = await aws.ec2("detach_volume", VolumeId=volume)

    assert (made["State"], shown["State"], ended["State"]) == ("attaching", "attached", "detaching")
    assert (shown["InstanceId"], shown["Device"]) == (instance, "/dev/xvdba")
    assert await aws.volume_state(volume) == "available"


async def test_filters_find_a_volume_by_its_attachment(aws: Aws) -> None:
    """EC2 API reference, DescribeVolumes: the attachment.* filters."""
    volume, instance = await aws.create_volume(), await aws.run_instance()
    await attach(aws, volume, instance)
    filters = {
        "attachment.instance-id": instance,
        "attachment.device": "/dev/xvdba",
        "attachment.status": "attached",
        "attachment.delete-on-termination": "false",
        "status": "in-use",
    }

    for name, value in filters.items():
        found = await aws.ec2("describe_volumes", Filters=[{"Name": name, "Values": [value]}])

        assert volume in {found_volume["VolumeId"] for found_volume in found["Volumes"]}, name


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_an_attachment_that_ec2_does_not_allow_is_refused(aws: Aws) -> None:
    """EC2 API reference, AttachVolume and "Error codes"."""
    volume, other, far = (
        await aws.create_volume(),
        await aws.create_volume(),
        await aws.create_volume(AvailabilityZone="us-west-2b"),
    )
    instance, second = await aws.run_instance(), await aws.run_instance()
    await attach(aws, volume, instance)

    async def code(volume: str, instance: str, device: str = "/dev/xvdbb") -> str:
        members = {"VolumeId": volume, "InstanceId": instance, "Device": device}
        return (await aws.expect_error("ec2", "attach_volume", **members))[0]

    assert await code(volume, second) == "VolumeInUse"
    assert await code(volume, instance) == "VolumeInUse"
    assert await code(UNKNOWN_VOLUME, instance) == "InvalidVolume.NotFound"
    assert await code(other, UNKNOWN_INSTANCE) == "InvalidInstanceID.NotFound"
    assert await code(far, instance) == "InvalidVolume.ZoneMismatch"
    assert await code(other, instance, "/dev/xvdba") == "InvalidParameterValue"
    assert await code(other, instance, "/dev/xvda") == "InvalidParameterValue"
    assert await code(other, instance, "nonsense") == "InvalidParameterValue"
    assert await aws.volume_state(other) == "available"


async def test_a_full_instance_refuses_another_volume(aws: Aws) -> None:
    """EC2 user guide, "Amazon EBS volume limits": a g5.48xlarge takes 9 volumes, including its root volume."""
    instance = await aws.run_instance(InstanceType="g5.48xlarge")
    for number in range(8):
        volume = await aws.create_volume()
        await attach(aws, volume, instance, f"/dev/xvdb{chr(ord('a') + number)}")
    members = {"VolumeId": await aws.create_volume(), "InstanceId": instance, "Device": "/dev/xvdbz"}

    refusal = await aws.expect_error("ec2", "attach_volume", **members)

    assert refusal[0] == "AttachmentLimitExceeded"


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_a_detach_that_ec2_does_not_allow_is_refused(aws: Aws) -> None:
    """EC2 API reference, DetachVolume and "Error codes"."""
    volume, free = await aws.create_volume(), await aws.create_volume()
    instance, second = await aws.run_instance(), await aws.run_instance()
    await attach(aws, volume, instance)
    root = next(found for found in (await aws.ec2("describe_volumes"))["Volumes"] if found["Size"] == 8)

    unknown = await aws.expect_error("ec2", "detach_volume", VolumeId=UNKNOWN_VOLUME)
    available = await aws.expect_error("ec2", "detach_volume", VolumeId=free)
    elsewhere = await aws.expect_error("ec2", "detach_volume", VolumeId=volume, InstanceId=second)
    rooted = await aws.expect_error("ec2", "detach_volume", VolumeId=root["VolumeId"])
    deleted = await aws.expect_error("ec2", "delete_volume", VolumeId=volume)

    codes = [refusal[0] for refusal in (unknown, available, elsewhere, rooted, deleted)]
    assert codes == [
        "InvalidVolume.NotFound",
        "IncorrectState",
        "InvalidAttachment.NotFound",
        "OperationNotPermitted",
        "VolumeInUse",
    ]


async def test_a_shared_volume_is_attached_to_several_instances_and_detached_from_the_named_one(aws: Aws) -> None:
    """EC2 user guide, "Attach an EBS volume to multiple EC2 instances"."""
    volume = await aws.create_volume(VolumeType="io2", Iops=100, Size=4, MultiAttachEnabled=True)
    instances = [await aws.run_instance(), await aws.run_instance()]
    for instance in instances:
        await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")
    await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached attached")

    unnamed = await aws.expect_error("ec2", "detach_volume", VolumeId=volume)
    await aws.ec2("detach_volume", VolumeId=volume, InstanceId=instances[0])

    assert unnamed[0] == "InvalidParameterCombination"
    assert [attachment["InstanceId"] for attachment in (await aws.describe_volume(volume))["Attachments"]] == [
        instances[1]
    ]


async def test_an_instance_lists_its_volumes_and_deletes_its_root_volume_when_it_terminates(aws: Aws) -> None:
    """EC2 API reference, InstanceBlockDeviceMapping and DeleteOnTermination."""
    volume, instance = await aws.create_volume(), await aws.run_instance(SubnetId="subnet-0000000000000000a")
    await attach(aws, volume, instance)

    found = await aws.ec2("describe_instances", Filters=[{"Name": "instance-id", "Values": [instance]}])
    shown = found["Reservations"][0]["Instances"][0]
    mappings = {mapping["DeviceName"]: mapping["Ebs"] for mapping in shown["BlockDeviceMappings"]}
    await aws.ec2("terminate_instances", InstanceIds=[instance])

    assert (shown["RootDeviceName"], shown["State"]["Name"]) == ("/dev/xvda", "running")
    assert mappings["/dev/xvdba"]["VolumeId"] == volume
    assert mappings["/dev/xvda"]["DeleteOnTermination"]
    assert [found["VolumeId"] for found in (await aws.ec2("describe_volumes"))["Volumes"]] == [volume]
    assert await aws.volume_state(volume) == "available"


async def test_a_root_volume_that_is_being_modified_is_deleted_with_its_instance(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The pending steps of a deleted volume are cancelled; otherwise the emulator would fail on them forever."""
    async with cloud(profile="aws") as (emulator, aws):
        instance = await aws.run_instance()
        (root,) = (await aws.ec2("describe_volumes"))["Volumes"]
        await aws.ec2("modify_volume", VolumeId=root["VolumeId"], Size=9)
        await aws.ec2("terminate_instances", InstanceIds=[instance])

        async def state() -> str:
            found = await aws.ec2("describe_instances", InstanceIds=[instance])
            return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])

        await wait_until_equal(state, "terminated")

        assert [due.step for due in emulator.world.store.dues.values()] == ["instance forgotten"]
        assert (await aws.ec2("describe_volumes"))["Volumes"] == []
    assert caplog.records == []


async def test_the_root_volume_of_a_pending_instance_cannot_be_snapshotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root volume's backing file does not exist before the instance runs."""
    monkeypatch.setitem(clock.AWS_DURATIONS, "instance running", clock.Duration(3600, 3601))
    async with cloud(profile="aws") as (_, aws):
        await aws.ec2("run_instances", ImageId="ami-1", MinCount=1, MaxCount=1)
        (root,) = (await aws.ec2("describe_volumes"))["Volumes"]

        refusal = await aws.expect_error("ec2", "create_snapshot", VolumeId=root["VolumeId"])

    assert (root["State"], refusal[0]) == ("in-use", "IncorrectState")


async def test_instances_are_chosen_by_client_token_zone_and_id(aws: Aws) -> None:
    """EC2 API reference, RunInstances: ClientToken, Placement and SubnetId."""
    request = {
        "ImageId": "ami-1",
        "MinCount": 2,
        "MaxCount": 2,
        "ClientToken": "t",
        "Placement": {"AvailabilityZone": "us-west-2c"},
    }

    first = await aws.ec2("run_instances", **request)
    again = await aws.ec2("run_instances", **request)
    unknown = await aws.expect_error("ec2", "describe_instances", InstanceIds=[UNKNOWN_INSTANCE])
    subnet = await aws.expect_error("ec2", "run_instances", MinCount=1, MaxCount=1, SubnetId="subnet-x")

    assert [instance["InstanceId"] for instance in again["Instances"]] == [
        instance["InstanceId"] for instance in first["Instances"]
    ]
    assert {instance["Placement"]["AvailabilityZone"] for instance in first["Instances"]} == {"us-west-2c"}
    assert (unknown[0], subnet[0]) == ("InvalidInstanceID.NotFound", "InvalidSubnetID.NotFound")


async def test_a_client_token_is_for_the_same_instances_with_each_set_in_any_order(aws: Aws) -> None:
    """EC2 API reference, RunInstances: security groups, tags and devices have no order."""
    sets: dict[str, list[Any]] = {
        "SecurityGroupIds": [SECURITY_GROUP],
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": "a", "Value": ""}, {"Key": "b", "Value": ""}]},
            {"ResourceType": "volume", "Tags": [{"Key": "a", "Value": ""}]},
        ],
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}},
            {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 2}},
        ],
    }
    turned = {name: values[::-1] for name, values in sets.items()}
    request = {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1, "ClientToken": "t"}

    first = await aws.ec2("run_instances", **request, **sets)
    again = await aws.ec2("run_instances", **request, **turned)
    other = await aws.expect_error("ec2", "run_instances", **request, **sets | {"SecurityGroups": ["default"]})

    assert again["Instances"][0]["InstanceId"] == first["Instances"][0]["InstanceId"]
    assert other[0] == "IdempotentParameterMismatch"


@pytest.mark.parametrize("method", ["attach_volume", "detach_volume", "delete_volume"])
async def test_a_dry_run_changes_nothing(aws: Aws, method: str) -> None:
    """EC2 API reference, "Error codes": DryRunOperation."""
    volume, instance = await aws.create_volume(), await aws.run_instance()
    if method == "detach_volume":
        await attach(aws, volume, instance)
    before = await aws.volume_state(volume)
    target = {"InstanceId": instance, "Device": "/dev/xvdba"} if method == "attach_volume" else {}

    refusal = await aws.expect_error("ec2", method, VolumeId=volume, DryRun=True, **target)

    assert refusal[0] == "DryRunOperation"
    assert await aws.volume_state(volume) == before


async def test_there_are_three_zones_and_a_dry_run_shows_that_ec2_responds(aws: Aws) -> None:
    """The upstream driver checks its connection with DescribeAvailabilityZones and DryRun (pkg/cloud/cloud.go)."""
    zones = (await aws.ec2("describe_availability_zones"))["AvailabilityZones"]
    dry = await aws.expect_error("ec2", "describe_availability_zones", DryRun=True)
    named = await aws.ec2("describe_availability_zones", ZoneIds=["usw2-az3"])
    unknown = await aws.expect_error("ec2", "describe_availability_zones", ZoneNames=["us-west-2z"])

    assert {zone["ZoneName"]: zone["ZoneId"] for zone in zones} == {
        "us-west-2a": "usw2-az1",
        "us-west-2b": "usw2-az2",
        "us-west-2c": "usw2-az3",
    }
    assert [zone["ZoneName"] for zone in named["AvailabilityZones"]] == ["us-west-2c"]
    assert (dry[0], unknown[0]) == ("DryRunOperation", "InvalidParameterValue")


async def test_tags_are_set_replaced_and_deleted_on_all_resources_or_on_none(aws: Aws) -> None:
    """EC2 API reference, CreateTags and DeleteTags."""
    volume, instance = await aws.create_volume(), await aws.run_instance()
    both = [volume, instance]
    await aws.ec2("create_tags", Resources=both, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])

    unknown = await aws.expect_error(
        "ec2", "create_tags", Resources=[volume, UNKNOWN_VOLUME], Tags=[{"Key": "c", "Value": "3"}]
    )
    await aws.ec2("create_tags", Resources=[volume], Tags=[{"Key": "a", "Value": "9"}])
    await aws.ec2("delete_tags", Resources=both, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b"}, {"Value": "9"}])

    assert unknown[0] == "InvalidVolume.NotFound"
    assert (await aws.describe_volume(volume))["Tags"] == [{"Key": "a", "Value": "9"}]
    found = await aws.ec2("describe_instances", InstanceIds=[instance])
    assert "Tags" not in found["Reservations"][0]["Instances"][0]


async def test_the_fifty_first_tag_is_refused(aws: Aws) -> None:
    """EC2 user guide, "Tag restrictions": 50 tags per resource."""
    volume = await aws.create_volume()
    tags = [{"Key": f"k{number}", "Value": ""} for number in range(50)]
    await aws.ec2("create_tags", Resources=[volume], Tags=tags)

    refusal = await aws.expect_error("ec2", "create_tags", Resources=[volume], Tags=[{"Key": "more", "Value": ""}])

    assert refusal[0] == "TagLimitExceeded"


async def test_an_instance_takes_as_many_volumes_as_its_type_including_its_root_volume(aws: Aws) -> None:
    """EC2 API reference, EbsInfo: MaximumEbsAttachments."""
    instance = await aws.run_instance(InstanceType="g5.48xlarge")
    (described,) = (await aws.ec2("describe_instance_types", InstanceTypes=["g5.48xlarge"]))["InstanceTypes"]
    most = described["EbsInfo"]["MaximumEbsAttachments"]
    volumes = [await aws.create_volume() for _ in range(most)]

    for number, volume in enumerate(volumes[:-1]):
        await attach(aws, volume, instance, f"/dev/xvdb{chr(ord('a') + number)}")
    one_more = await aws.expect_error(
        "ec2", "attach_volume", VolumeId=volumes[-1], InstanceId=instance, Device="/dev/xvdcz"
    )

    assert most == 9
    assert one_more[0] == "AttachmentLimitExceeded"


async def test_instance_types_show_their_attach_slots_and_whether_interfaces_share_them(aws: Aws) -> None:
    """EC2 API reference, DescribeInstanceTypes and EbsInfo."""
    by_name = await aws.ec2("describe_instance_types", InstanceTypes=["p5.48xlarge", "m5.large"])
    dedicated = await aws.ec2(
        "describe_instance_types",
        Filters=[
            {"Name": "ebs-info.attachment-limit-type", "Values": ["dedicated"]},
            {"Name": "instance-type", "Values": ["g?.48xlarge"]},
        ],
    )
    pages: list[list[str]] = []
    token = ""
    while not pages or token:
        page = await aws.ec2("describe_instance_types", **({"NextToken": token} if token else {}))
        pages.append([instance_type["InstanceType"] for instance_type in page["InstanceTypes"]])
        token = page.get("NextToken", "")
    unknown = await aws.expect_error("ec2", "describe_instance_types", InstanceTypes=["m5.large", "z9.large"])

    ebs_info = {instance_type["InstanceType"]: instance_type["EbsInfo"] for instance_type in by_name["InstanceTypes"]}
    assert {name: (info["MaximumEbsAttachments"], info["AttachmentLimitType"]) for name, info in ebs_info.items()} == {
        "p5.48xlarge": (64, "dedicated"),
        "m5.large": (27, "shared"),
    }
    assert sorted(found["InstanceType"] for found in dedicated["InstanceTypes"]) == ["g6.48xlarge", "g7.48xlarge"]
    assert [len(page) for page in pages[:-1]] == [100] * (len(pages) - 1)
    names = [name for page in pages for name in page]
    assert len(set(names)) == len(names) > 150
    assert unknown == (
        "InvalidInstanceType",
        "The following supplied instance types do not exist: [z9.large]",
    )


async def test_a_new_instance_has_the_tags_of_its_request(aws: Aws) -> None:
    """EC2 API reference, RunInstances: TagSpecification.N."""
    specifications = [{"ResourceType": "instance", "Tags": [{"Key": "of", "Value": "team"}]}]

    instance = await aws.run_instance(TagSpecifications=specifications)

    by_id = [{"Name": "instance-id", "Values": [instance]}]
    described = (await aws.ec2("describe_instances", Filters=by_id))["Reservations"][0]["Instances"][0]
    assert described["Tags"] == [{"Key": "of", "Value": "team"}]


async def test_an_instance_has_a_network_address_only_while_it_runs(aws: Aws) -> None:
    """EC2 user guide, "Terminate Amazon EC2 instances": a terminated instance stays visible for a while, detached."""
    instance = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
    network = ("PrivateDnsName", "PrivateIpAddress", "SubnetId", "VpcId")

    async def describe() -> Any:
        return (await aws.ec2("describe_instances", InstanceIds=[instance]))["Reservations"][0]["Instances"][0]

    running = await describe()
    await aws.ec2("terminate_instances", InstanceIds=[instance])
    ended = await describe()

    assert all(running.get(name) for name in network)
    assert not any(ended.get(name) for name in network)
