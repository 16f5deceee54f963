"""Create, grow, snapshot and list volumes through signed HTTP."""

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from grpc import StatusCode

from hyperpod_ebs.driver.aws import imds
from hyperpod_ebs.driver.aws.clients import Settings
from hyperpod_ebs.driver.aws.connection import connect
from hyperpod_ebs.driver.csi import status
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.volume import Change
from hyperpod_ebs.driver.volumes.absence import get_volume
from hyperpod_ebs.driver.volumes.listing import list_snapshots, list_volumes
from hyperpod_ebs.driver.volumes.provision import choose_zone, delete_volume, provision_volume
from hyperpod_ebs.driver.volumes.snapshot import delete_snapshot, take_snapshot
from hyperpod_ebs.driver.volumes.watch import Watcher
from tests.support.emulator_clients import ZONE
from tests.support.in_process_controller import Controller, a_snapshot
from tests.support.volume_specs import a_spec


@pytest.fixture(name="controller")
async def open_controller(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Controller]:
    """The controller's code on an emulator whose states change at once."""
    async with Controller.open(monkeypatch) as running:
        yield running


@pytest.mark.requirement("csi.create-volume.idempotent")
async def test_another_process_finds_the_volume_by_its_name(controller: Controller) -> None:
    """The driver keeps state only at AWS, so a controller can be killed at any moment."""
    first = await controller.provision()

    async with connect(Settings()) as cloud, Watcher(cloud) as watcher:
        again = await provision_volume(cloud, watcher, a_spec())

    assert again.id == first.id
    assert await controller.volume_count() == 1


@pytest.mark.requirement("csi.create-volume.idempotent")
async def test_a_create_whose_answer_was_lost_makes_one_volume(controller: Controller) -> None:
    """UNAVAILABLE makes external-provisioner retry, and the retry gets the volume that was created."""
    controller.lose_answers("CreateVolume", times=3)

    with pytest.raises(errors.OutcomeUnknown):
        await controller.provision()
    volume = await controller.provision()

    assert volume.state == "available"
    assert await controller.volume_count() == 1


async def test_a_repeat_finds_its_volume_without_a_second_request(controller: Controller) -> None:
    """At the account's quota EC2 refuses even the client token of a volume that exists."""
    first = await controller.provision()

    again = await controller.provision()

    assert again.id == first.id
    assert await controller.call_count("ec2:CreateVolume") == 1


async def test_a_client_token_of_a_deleted_volume_is_followed_by_the_next_token(
    controller: Controller,
) -> None:
    """EC2 does not accept the client token of a deleted volume again, but the CSI name is free."""
    ids = []
    for _ in range(3):
        volume = await controller.provision()
        assert (await controller.provision()).id == volume.id
        ids.append(volume.id)
        await delete_volume(controller.cloud, volume.id)

    assert len(set(ids)) == 3


@pytest.mark.requirement("csi.create-volume.conflict")
async def test_the_name_of_a_smaller_volume_is_a_conflict_and_that_of_a_grown_volume_is_not(
    controller: Controller,
) -> None:
    """CSI spec, CreateVolume: ALREADY_EXISTS; a larger volume meets the required bytes."""
    volume = await controller.provision()

    with pytest.raises(errors.Conflict, match="1 GiB, not 3 GiB"):
        await controller.provision(gib=3)
    await controller.modifier.expand_volume(volume.id, SizeRange(GiB(3)))

    assert (await controller.provision()).size == 3
    assert (await controller.provision(gib=3)).id == volume.id


@pytest.mark.requirement("csi.create-volume.conflict")
@pytest.mark.parametrize("consistency", ["immediate", "eventual"])
@pytest.mark.parametrize("lost", [0, 3], ids=["answered", "answer lost"])
async def test_one_name_in_two_zones_is_a_conflict_and_one_volume(
    monkeypatch: pytest.MonkeyPatch, consistency: str, lost: int
) -> None:
    """EC2 API reference, "Ensuring idempotency": a client token belongs to one zone."""
    async with Controller.open(monkeypatch, consistency=consistency) as controller:
        if lost:
            controller.lose_answers("CreateVolume", times=lost)
            with pytest.raises(errors.OutcomeUnknown):
                await controller.provision()
        else:
            await controller.provision()

        with pytest.raises(errors.Conflict, match=f"its zone is {ZONE}, not us-west-2b"):
            await controller.provision(zone="us-west-2b")

        assert (await controller.provision()).zone == ZONE
        assert await controller.volume_count() == 1


@pytest.mark.requirement("csi.create-volume.idempotent", "csi.create-volume.topology")
async def test_a_repeated_request_that_prefers_another_of_its_zones_gets_the_first_volume(
    controller: Controller,
) -> None:
    """The provisioner sidecar orders the zones by the nodes that exist, and by the node that the scheduler chose."""
    first = await controller.provision(zone="us-west-2a", other_zones=frozenset({"us-west-2b"}))

    again = await controller.provision(zone="us-west-2b", other_zones=frozenset({"us-west-2a"}))

    assert (again.id, again.zone) == (first.id, "us-west-2a")
    assert await controller.volume_count() == 1


async def test_a_denial_is_final_and_names_action_resource_and_statement(controller: Controller) -> None:
    text = "User: x is not authorized to perform: ec2:CreateVolume on resource: arn:aws:ec2:us-west-2:1:volume/*"
    controller.refuse("CreateVolume", "UnauthorizedOperation", text)

    with pytest.raises(errors.Denied, match='"Action": "ec2:CreateVolume"'):
        await controller.provision()


async def test_throttled_calls_are_retried(controller: Controller) -> None:
    for operation in ("CreateVolume", "DescribeVolumes"):
        controller.refuse(operation, "RequestLimitExceeded")

    assert (await controller.provision()).state == "available"


@pytest.mark.requirement("csi.create-volume.capacity", "csi.create-volume.source-missing")
async def test_a_volume_from_a_snapshot_is_not_smaller_than_the_snapshot(controller: Controller) -> None:
    """CSI spec, CreateVolume: OUT_OF_RANGE; NOT_FOUND for an unknown source."""
    source = await controller.provision(gib=2)
    snapshot = await take_snapshot(controller.cloud, a_snapshot(source))

    with pytest.raises(errors.OutOfRange, match="2 GiB"):
        await controller.provision("small", snapshot_id=snapshot.id)
    with pytest.raises(errors.SnapshotNotFound):
        await controller.provision("lost", snapshot_id="snap-0123456789abcdef0")
    restored = await controller.provision("restored", gib=2, snapshot_id=snapshot.id)

    assert restored.snapshot_id == snapshot.id
    assert (await controller.provision("restored", gib=2, snapshot_id=snapshot.id)).id == restored.id


async def test_a_volume_is_modified_until_aws_refuses_with_the_earliest_time_of_the_next_change(
    controller: Controller,
) -> None:
    """EC2 allows four modifications of a volume in a day."""
    volume = await controller.provision(gib=10)

    assert await controller.modifier.expand_volume(volume.id, SizeRange(GiB(11))) == 11
    assert await controller.modifier.expand_volume(volume.id, SizeRange(GiB(5))) == 11
    with pytest.raises(errors.InvalidRequest, match="too high"):
        await controller.modifier.modify_volume(volume.id, Change(iops=70_000))
    for iops in (4000, 4001, 4002):
        await controller.modifier.modify_volume(volume.id, Change(iops=iops))
    with pytest.raises(errors.RateLimited, match="try again after 20"):
        await controller.modifier.expand_volume(volume.id, SizeRange(GiB(12)))

    assert (await get_volume(controller.cloud, volume.id)).iops == 4002


@pytest.mark.requirement("csi.create-snapshot.idempotent", "csi.delete-snapshot.idempotent")
async def test_a_name_has_one_snapshot_even_after_a_lost_answer(controller: Controller) -> None:
    """EC2's CreateSnapshot has no client token, so the driver looks for the name's tag first."""
    volume, other = await controller.provision(), await controller.provision("pvc-2")
    controller.lose_answers("CreateSnapshot")

    first, again = (
        await take_snapshot(controller.cloud, a_snapshot(volume)),
        await take_snapshot(controller.cloud, a_snapshot(volume)),
    )
    with pytest.raises(errors.Conflict):
        await take_snapshot(controller.cloud, a_snapshot(other))

    assert first.id == again.id
    assert len((await list_snapshots(controller.cloud, 0, "", volume_id="", snapshot_id="")).items) == 1
    for _ in range(2):
        await delete_snapshot(controller.cloud, first.id)
    await delete_volume(controller.cloud, other.id)
    with pytest.raises(errors.VolumeNotFound):
        await take_snapshot(controller.cloud, a_snapshot(other))


@pytest.mark.requirement("create-snapshot.failed-stays")
async def test_a_failed_snapshot_is_the_only_one_until_it_is_deleted(controller: Controller) -> None:
    """external-snapshotter repeats CreateSnapshot until the snapshot is ready; EC2 never repairs a failed one."""
    wanted = a_snapshot(await controller.provision())
    failed = await take_snapshot(controller.cloud, wanted)
    snapshots = controller.emulator.world.store.snapshots
    snapshots.put(replace(snapshots[failed.id], state="error"))

    for _ in range(3):
        with pytest.raises(errors.NotReady, match=f"{failed.id}.*AWS gives no reason; delete the VolumeSnapshot"):
            await take_snapshot(controller.cloud, wanted)

    assert list(snapshots) == [failed.id]
    await delete_snapshot(controller.cloud, failed.id)
    assert (await take_snapshot(controller.cloud, wanted)).id != failed.id


@pytest.mark.requirement("csi.create-snapshot.conflict")
@pytest.mark.parametrize("name", ["sbi?", "sb*", r"sbi\g", "s*?\\"])
async def test_a_name_with_wildcards_is_not_the_name_of_another_snapshot_or_volume(
    controller: Controller, name: str
) -> None:
    """EC2 User Guide, "List and filter using the CLI and API": filter values are patterns unless escaped."""
    volume, other = await controller.provision("sbig"), await controller.provision(name)
    big = await take_snapshot(controller.cloud, a_snapshot(volume, "sbig"))

    first = await take_snapshot(controller.cloud, a_snapshot(volume, name))
    again = await take_snapshot(controller.cloud, a_snapshot(volume, name))

    assert first.id == again.id != big.id
    assert [found.id for found in await controller.cloud.find_volumes_named(name)] == [other.id]


@pytest.mark.requirement("csi.delete-volume.snapshots-stay")
async def test_a_snapshot_outlives_its_volume(controller: Controller) -> None:
    """CSI spec, DeleteVolume: the snapshots stay listed, and are still sources of new volumes."""
    volume = await controller.provision()
    snapshot = await take_snapshot(controller.cloud, a_snapshot(volume))

    await delete_volume(controller.cloud, volume.id)

    listed = await list_snapshots(controller.cloud, 0, "", volume_id=volume.id, snapshot_id="")
    assert [item.id for item in listed.items] == [snapshot.id]
    assert (await controller.provision("restored", snapshot_id=snapshot.id)).snapshot_id == snapshot.id


@pytest.mark.requirement("csi.delete-snapshot.in-use")
async def test_a_snapshot_in_use_is_not_deleted(controller: Controller) -> None:
    """CSI spec, DeleteSnapshot errors; EC2: InvalidSnapshot.InUse while an image is made of the snapshot."""
    snapshot = await take_snapshot(controller.cloud, a_snapshot(await controller.provision()))
    controller.refuse("DeleteSnapshot", "InvalidSnapshot.InUse")

    with pytest.raises(errors.InUse) as caught:
        await delete_snapshot(controller.cloud, snapshot.id)

    assert status.code_for(caught.value, "DeleteSnapshot") is StatusCode.FAILED_PRECONDITION


@pytest.mark.requirement("csi.get-volume.missing")
async def test_a_volume_that_ec2_does_not_have_is_not_found(controller: Controller) -> None:
    """CSI spec, ControllerGetVolume errors."""
    with pytest.raises(errors.VolumeNotFound):
        await get_volume(controller.cloud, "vol-0123456789abcdef0")


@pytest.mark.requirement("csi.list-volumes.pages")
async def test_pages_of_any_size_show_each_volume_once(controller: Controller) -> None:
    """EC2 returns at least five volumes a page in any order; untagged volumes are listed, too."""
    created = {(await controller.provision(f"pvc-{number}")).id for number in range(6)} | {
        await controller.aws.create_volume()
    }

    for size in (1, 2, 3, 6, 7, 0):
        listed, token = [], ""
        while True:
            page = await list_volumes(controller.cloud, size, token)
            listed += [volume.id for volume in page.items]
            if page.next_token is None:
                break
            assert len(page.items) == size
            token = page.next_token
        assert sorted(listed) == sorted(created)


@pytest.mark.requirement("csi.list-snapshots.pages")
async def test_snapshots_are_listed_by_volume_and_by_id(controller: Controller) -> None:
    """CSI spec, ListSnapshots. external-snapshotter looks up a pre-provisioned snapshot by its id."""
    volume, other = await controller.provision(), await controller.provision("pvc-2")
    first = await take_snapshot(controller.cloud, a_snapshot(volume))
    await take_snapshot(controller.cloud, a_snapshot(other, "snapshot-2"))

    by_volume = await list_snapshots(controller.cloud, 0, "", volume_id=volume.id, snapshot_id="")
    by_id = await list_snapshots(controller.cloud, 0, "", volume_id="", snapshot_id=first.id)
    unknown = await list_snapshots(controller.cloud, 0, "", volume_id="", snapshot_id="snap-0123456789abcdef0")

    assert [item.id for item in by_volume.items] == [item.id for item in by_id.items] == [first.id]
    assert unknown.items == ()


@pytest.mark.requirement("csi.list-volumes.token", "csi.list-snapshots.token")
@pytest.mark.parametrize("token", ["nonsense", "W1tdLCAibm9uc2Vuc2UiXQ=="])
async def test_a_stale_token_starts_the_listing_again(controller: Controller, token: str) -> None:
    """CSI spec, ListVolumes: ABORTED for a foreign token and for a token that EC2 no longer accepts."""
    with pytest.raises(errors.Busy):
        await list_volumes(controller.cloud, 0, token)
    with pytest.raises(errors.Busy):
        await list_snapshots(controller.cloud, 0, token, volume_id="", snapshot_id="")


@pytest.mark.requirement("csi.list-snapshots.token")
async def test_a_token_of_the_list_of_volumes_starts_the_list_of_snapshots_again(controller: Controller) -> None:
    """CSI spec, ListSnapshots: ABORTED for a foreign token."""
    for name in ("pvc-1", "pvc-2"):
        await controller.provision(name)
    page = await list_volumes(controller.cloud, 1, "")

    with pytest.raises(errors.Busy):
        await list_snapshots(controller.cloud, 0, page.next_token or "", volume_id="", snapshot_id="")


async def test_the_driver_chooses_a_zone_if_none_is_requested_and_the_same_one_for_the_same_name(
    controller: Controller,
) -> None:
    """CSI spec, CreateVolume: accessibility_requirements are optional."""
    chosen = {await choose_zone(controller.cloud, f"pvc-{number}") for number in range(20)}

    assert ZONE in chosen
    assert len(chosen) > 1
    assert await choose_zone(controller.cloud, "pvc-1") == await choose_zone(controller.cloud, "pvc-1")


async def test_a_node_learns_its_identity_from_instance_metadata(controller: Controller) -> None:
    """EC2 instance metadata service, version 2."""
    node = await controller.run_instance()
    url = controller.emulator.metadata_url(node.instance)

    found = await imds.InstanceMetadata(url).read_identity()

    assert (found.id, found.zone, found.interfaces) == (node, ZONE, 1)
    with pytest.raises(errors.Unavailable, match="404"):
        await imds.InstanceMetadata(f"{url}/nothing").read_identity()
    with pytest.raises(errors.Unavailable):
        await imds.InstanceMetadata("http://127.0.0.1:9").read_identity()
