"""The setting `eventual`: describing calls show each change some time after the call that made it.

The EC2 developer guide, "Ensure idempotency and eventual consistency", says what a client must expect. These tests stop
the emulator's clock for what is shown, so that they depend on no machine's speed.
"""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.state import views
from tests.support.emulator_clients import GROUP, ZONE, Aws, cloud

VOLUME = {"AvailabilityZone": ZONE, "Size": 1, "VolumeType": "gp3"}


class ShownClock:
    """The clock by which the emulator decides what to show; it moves only when a test moves it."""

    now = 1_000_000.0

    def time(self) -> float:
        """The instant at which this clock stands."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ShownClock:
    """The clock of what is shown."""
    clock = ShownClock()
    monkeypatch.setattr(views, "time", clock)
    return clock


@pytest.fixture
async def running(clock: ShownClock) -> AsyncGenerator[tuple[Emulator, Aws]]:
    """An eventually consistent emulator and its clients."""
    del clock
    async with cloud(consistency="eventual") as both:
        yield both


async def catch_up(aws: Aws, clock: ShownClock) -> None:
    """Let pending state changes happen, and move on until all changes are shown."""
    await aws.ec2("describe_volumes")
    clock.now += 2


async def create(aws: Aws, **members: Any) -> str:
    """Create a volume and return its id without waiting for it."""
    created = await aws.ec2("create_volume", **(VOLUME | members))
    return str(created["VolumeId"])


async def test_a_new_volume_is_unknown_to_every_call_until_it_is_shown(aws: Aws, clock: ShownClock) -> None:
    """EC2 developer guide: "the ID might not have propagated throughout the system", also for a call that modifies."""
    volume = await create(aws)

    listed = (await aws.ec2("describe_volumes"))["Volumes"]
    refusals = {
        (await aws.expect_error("ec2", method, **members))[0]
        for method, members in (
            ("describe_volumes", {"VolumeIds": [volume]}),
            ("delete_volume", {"VolumeId": volume}),
            ("modify_volume", {"VolumeId": volume, "Size": 2}),
            ("create_snapshot", {"VolumeId": volume}),
            ("create_tags", {"Resources": [volume], "Tags": [{"Key": "a", "Value": "b"}]}),
        )
    }
    await catch_up(aws, clock)

    assert listed == []
    assert refusals == {"InvalidVolume.NotFound"}
    assert await aws.volume_state(volume) == "available"


async def test_an_attachment_and_a_detachment_are_shown_late_and_acted_on_at_once(aws: Aws, clock: ShownClock) -> None:
    instance, volume = await run_instance(aws, clock), await create(aws)
    await catch_up(aws, clock)
    place = {"VolumeId": volume, "InstanceId": instance}

    await aws.ec2("attach_volume", **place, Device="/dev/xvdaa")
    states = [await aws.volume_state(volume)]
    twice = await aws.expect_error("ec2", "attach_volume", **place, Device="/dev/xvdab")
    await catch_up(aws, clock)
    states.append(await aws.volume_state(volume))
    await aws.ec2("detach_volume", **place)
    states.append(await aws.volume_state(volume))
    await catch_up(aws, clock)
    states.append(await aws.volume_state(volume))

    assert states == ["available", "in-use attached", "in-use attached", "available"]
    assert twice[0] == "VolumeInUse"


async def test_the_devices_of_an_instance_are_shown_late(aws: Aws, clock: ShownClock) -> None:
    instance, volume = await run_instance(aws, clock), await create(aws)
    await catch_up(aws, clock)

    await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdaa")
    before = await devices(aws, instance)
    await catch_up(aws, clock)

    assert (before, await devices(aws, instance)) == ({"/dev/xvda"}, {"/dev/xvda", "/dev/xvdaa"})


async def test_tags_are_found_late(aws: Aws, clock: ShownClock) -> None:
    volume = await create(aws)
    await catch_up(aws, clock)
    tags, by_tag = [{"Key": "a", "Value": "b"}], [{"Name": "tag:a", "Values": ["b"]}]

    await aws.ec2("create_tags", Resources=[volume], Tags=tags)
    before = (await aws.ec2("describe_volumes", Filters=by_tag))["Volumes"]
    await catch_up(aws, clock)

    assert before == []
    assert (await aws.describe_volume(volume))["Tags"] == tags


async def test_a_modification_is_shown_late_and_refuses_a_second_one_at_once(aws: Aws, clock: ShownClock) -> None:
    volume = await create(aws)
    await catch_up(aws, clock)

    await aws.ec2("modify_volume", VolumeId=volume, Size=2)
    shown = await aws.expect_error("ec2", "describe_volumes_modifications", VolumeIds=[volume])
    size = (await aws.describe_volume(volume))["Size"]
    await catch_up(aws, clock)
    later = (await aws.ec2("describe_volumes_modifications", VolumeIds=[volume]))["VolumesModifications"]

    assert (shown[0], size) == ("InvalidVolumeModification.NotFound", 1)
    assert later[0]["TargetSize"] == (await aws.describe_volume(volume))["Size"] == 2


async def test_a_snapshot_is_shown_late_and_stays_shown_after_its_deletion(aws: Aws, clock: ShownClock) -> None:
    volume = await create(aws)
    await catch_up(aws, clock)

    snapshot = (await aws.ec2("create_snapshot", VolumeId=volume))["SnapshotId"]
    early = await aws.expect_error("ec2", "create_volume", **VOLUME, SnapshotId=snapshot)
    await catch_up(aws, clock)
    await aws.ec2("delete_snapshot", SnapshotId=snapshot)
    shown = (await aws.ec2("describe_snapshots", SnapshotIds=[snapshot]))["Snapshots"]
    again = await aws.expect_error("ec2", "delete_snapshot", SnapshotId=snapshot)
    await catch_up(aws, clock)
    gone = await aws.expect_error("ec2", "describe_snapshots", SnapshotIds=[snapshot])

    assert len(shown) == 1
    assert {early[0], again[0], gone[0]} == {"InvalidSnapshot.NotFound"}


async def test_the_nodes_of_a_cluster_are_listed_late(aws: Aws, clock: ShownClock) -> None:
    eks = await aws.create_eks_cluster()
    terms = {"ClusterName": "hp", "InstanceGroups": [GROUP], "Orchestrator": {"Eks": {"ClusterArn": eks}}}

    await aws("sagemaker", "create_cluster", **terms)
    before = (await aws("sagemaker", "list_cluster_nodes", ClusterName="hp"))["ClusterNodeSummaries"]
    await catch_up(aws, clock)
    after = (await aws("sagemaker", "list_cluster_nodes", ClusterName="hp"))["ClusterNodeSummaries"]

    assert (len(before), len(after)) == (0, 1)


async def test_each_object_has_a_lag_of_its_own(aws: Aws, clock: ShownClock) -> None:
    """A client must not conclude from one object what is shown of another."""
    for _ in range(20):
        await create(aws)

    clock.now += 1

    assert 0 < len((await aws.ec2("describe_volumes"))["Volumes"]) < 20


async def run_instance(aws: Aws, clock: ShownClock) -> str:
    """Run an instance in the volumes' zone and wait until it is shown; its id."""
    answer = await aws.ec2(
        "run_instances", MinCount=1, MaxCount=1, ImageId="ami-1", Placement={"AvailabilityZone": ZONE}
    )
    await catch_up(aws, clock)
    return str(answer["Instances"][0]["InstanceId"])


async def devices(aws: Aws, instance: str) -> set[str]:
    """The device names that EC2 shows on an instance."""
    shown = await aws.ec2("describe_instances", InstanceIds=[instance])
    return {mapping["DeviceName"] for mapping in shown["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]}
