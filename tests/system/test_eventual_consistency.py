"""The controller on a cloud that shows each change some time after the call that made it.

The EC2 developer guide, "Ensure idempotency and eventual consistency", says what a client must expect.
"""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.tags import TagChanges
from hyperpod_ebs.driver.model.volume import Change
from hyperpod_ebs.driver.volumes.attach import attach_volume, detach_volume
from hyperpod_ebs.driver.volumes.listing import list_snapshots
from hyperpod_ebs.driver.volumes.provision import delete_volume
from hyperpod_ebs.driver.volumes.snapshot import delete_snapshot, take_snapshot
from tests.support.in_process_controller import Controller, a_snapshot
from tests.support.volume_specs import a_spec
from tests.support.waiting import wait_until


@pytest.fixture(name="controller")
async def open_controller(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Controller]:
    """The controller's code on an eventually consistent emulator."""
    async with Controller.open(monkeypatch, consistency="eventual") as running:
        yield running


def true_state(controller: Controller) -> dict[str, list[str]]:
    """What exists in the emulator, shown or not."""
    store = controller.emulator.world.store
    return {
        "volumes": [volume.id for volume in store.volumes.values() if volume.state != "deleting"],
        "attachments": [attachment.instance for attachment in store.attachments.values() if attachment.unit],
        "snapshots": list(store.snapshots),
    }


@pytest.mark.requirement("absence.proved", "csi.create-volume.conflict")
async def test_a_name_gets_one_volume_whatever_is_asked_next(controller: Controller) -> None:
    """CSI spec, CreateVolume: "Volume already exists but is incompatible"."""
    volume = await controller.provision("pvc-1", gib=1)

    with pytest.raises(errors.Conflict):
        await controller.provision("pvc-1", gib=5)

    assert (await controller.provision("pvc-1", gib=1)).id == volume.id
    assert true_state(controller)["volumes"] == [volume.id]


@pytest.mark.requirement("absence.proved", "csi.create-volume.conflict")
async def test_a_name_whose_volume_ec2_does_not_find_yet_gets_no_second_one_in_another_zone(
    controller: Controller,
) -> None:
    """A caller that left after EC2's acknowledgement asks again; a client token holds in one zone only."""
    names = [f"pvc-{number}" for number in range(4)]

    for name in names:
        await controller.cloud.create_volume(a_spec(name), f"token of {name}")
        with pytest.raises(errors.Conflict, match="zone"):
            await controller.provision(name, zone="us-west-2b")

    assert len(true_state(controller)["volumes"]) == len(names)


@pytest.mark.requirement("absence.proved", "csi.create-snapshot.idempotent")
async def test_a_name_whose_snapshot_ec2_does_not_find_yet_gets_no_second_one(controller: Controller) -> None:
    """EC2 has no client token for snapshots."""
    volume = await controller.provision()

    for name in (f"snapshot-{number}" for number in range(4)):
        first = await controller.cloud.create_snapshot(a_snapshot(volume, name))
        assert (await take_snapshot(controller.cloud, a_snapshot(volume, name))).id == first.id


@pytest.mark.requirement("absence.proved", "detach.live-volume-stays")
@pytest.mark.parametrize("kind", ["hyperpod", "ec2"])
async def test_a_detach_ends_when_the_volume_is_detached_and_not_before(controller: Controller, kind: str) -> None:
    """CSI spec, ControllerUnpublishVolume: the call is idempotent, and another node may have the volume afterwards."""
    hyperpod = kind == "hyperpod"
    nodes = await controller.create_nodes() if hyperpod else [await controller.run_instance() for _ in range(2)]
    volume = await controller.provision()

    for node in nodes:
        for _ in range(2):
            await attach_volume(controller.cloud, controller.watcher, volume.id, node)
            assert true_state(controller)["attachments"] == [node.instance]
        for _ in range(2):
            await detach_volume(controller.cloud, controller.watcher, volume.id, node)
            assert true_state(controller)["attachments"] == []


@pytest.mark.requirement("absence.proved", "csi.unpublish-volume.all-nodes")
async def test_a_new_attachment_is_found_and_ended_without_its_node(controller: Controller) -> None:
    """CSI spec, ControllerUnpublishVolume: without a node id, unpublish from all nodes."""
    instance, volume = await controller.run_instance(), await controller.provision()
    await controller.cloud.attach(volume.id, instance)

    await detach_volume(controller.cloud, controller.watcher, volume.id, None)

    assert true_state(controller)["attachments"] == []


@pytest.mark.requirement("absence.proved", "csi.create-snapshot.idempotent")
async def test_a_snapshot_is_taken_once_used_at_once_and_deleted_at_once(controller: Controller) -> None:
    """EC2 has no client token for snapshots."""
    volume = await controller.provision()

    first, second = [await take_snapshot(controller.cloud, a_snapshot(volume)) for _ in range(2)]
    restored = await controller.provision("pvc-2", snapshot_id=first.id)
    await delete_snapshot(controller.cloud, first.id)

    assert second.id == first.id
    assert true_state(controller) == {"volumes": [volume.id, restored.id], "attachments": [], "snapshots": []}


@pytest.mark.requirement("absence.proved", "csi.delete-volume.idempotent")
async def test_a_volume_that_ec2_does_not_show_yet_is_deleted(controller: Controller) -> None:
    """A killed controller may have created the volume a moment ago; after a success it would stay for ever."""
    created = await controller.aws.ec2("create_volume", AvailabilityZone="us-west-2a", Size=1, VolumeType="gp3")

    for _ in range(2):
        await delete_volume(controller.cloud, created["VolumeId"])

    assert true_state(controller)["volumes"] == []


@pytest.mark.requirement("absence.proved", "csi.delete-snapshot.idempotent")
async def test_a_snapshot_that_ec2_does_not_show_yet_is_found_and_deleted(controller: Controller) -> None:
    """A killed controller may have taken the snapshot a moment ago; after a success it would stay for ever."""
    volume = await controller.provision()
    taken = [(await controller.aws.ec2("create_snapshot", VolumeId=volume.id))["SnapshotId"]]
    listed = await list_snapshots(controller.cloud, 0, "", volume_id="", snapshot_id=taken[0])
    taken.append((await controller.aws.ec2("create_snapshot", VolumeId=volume.id))["SnapshotId"])

    for snapshot in [*taken, *taken]:
        await delete_snapshot(controller.cloud, snapshot)

    assert [snapshot.id for snapshot in listed.items] == taken[:1]
    assert true_state(controller)["snapshots"] == []


async def test_a_volume_grows_to_the_size_that_is_then_shown(controller: Controller) -> None:
    volume = await controller.provision()

    size = await controller.modifier.expand_volume(volume.id, SizeRange(GiB(3)))

    assert size == 3

    async def is_shown() -> bool:
        return (await controller.cloud.describe_volume(volume.id)).size == size

    await wait_until(is_shown)


@pytest.mark.requirement("csi.modify-volume.last-change")
async def test_tags_that_change_back_at_once_end_as_asked_for_last(controller: Controller) -> None:
    """KEP-3751: a claim's class may change again as soon as the last change is acknowledged."""
    volume = await controller.provision()
    await controller.cloud.tag_volume(volume.id, {"owner": "a"})

    async def is_shown() -> bool:
        return "owner" in (await controller.cloud.describe_volume(volume.id)).tags

    await wait_until(is_shown)

    for owner in ("b", "a"):
        tags = TagChanges(put={"owner": owner})
        await controller.modifier.modify_volume(volume.id, Change(), tags)

    assert controller.emulator.world.store.volumes[volume.id].tags["owner"] == "a"


@pytest.mark.requirement("csi.expand-volume.idempotent")
async def test_a_repeated_expansion_requests_one_modification(controller: Controller) -> None:
    """EBS user guide, "Requirements for EBS volume modifications": a volume can be modified a few times a day."""
    volumes = [await controller.provision(f"pvc-{number}") for number in range(8)]

    async def expand_twice(volume_id: str) -> None:
        for _ in range(2):
            await controller.modifier.expand_volume(volume_id, SizeRange(GiB(3)))

    async with asyncio.TaskGroup() as group:
        for volume in volumes:
            group.create_task(expand_twice(volume.id))

    assert await controller.call_count("ec2:ModifyVolume") == len(volumes)
