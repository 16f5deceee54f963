"""Attaching and detaching through signed HTTP, on HyperPod nodes and EC2 nodes alike."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode, Node
from hyperpod_ebs.driver.volumes.attach import attach_volume, detach_volume
from hyperpod_ebs.driver.volumes.provision import remove
from tests.support.driver_fleet import eventually
from tests.support.in_process_controller import Steered


@pytest.fixture
async def steered(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Steered]:
    """A cloud that takes no time."""
    async with Steered.running(monkeypatch) as running:
        yield running


async def two_nodes(steered: Steered, kind: str) -> tuple[Node, Node]:
    """Two nodes to move between."""
    match kind:
        case "hyperpod":
            one, other = await steered.nodes()
            return one, other
        case "ec2":
            return await steered.instance(), await steered.instance()
        case _:
            return (await steered.nodes(1))[0], await steered.instance()


@pytest.mark.parametrize("kind", ["hyperpod", "ec2", "mixed"])
async def test_a_volume_moves_between_nodes_and_each_step_can_be_repeated(steered: Steered, kind: str) -> None:
    """CSI: repeats succeed; elsewhere is refused with the holder's name; off is off."""
    one, other = await two_nodes(steered, kind)
    volume = await steered.volume()

    for here, there in ((one, other), (other, one)):
        for _ in range(2):
            await attach_volume(steered.cloud, steered.watcher, volume.id, here)
            assert await steered.holders(volume) == [str(here)]
        with pytest.raises(errors.InUse, match=str(here)):
            await attach_volume(steered.cloud, steered.watcher, volume.id, there)
        for _ in range(2):
            await detach_volume(steered.cloud, steered.watcher, volume.id, here)
            assert await steered.holders(volume) == []


@pytest.mark.parametrize("kind", ["hyperpod", "ec2"])
@pytest.mark.parametrize("times", [1, 3])
async def test_lost_answers_lead_to_the_same_end(steered: Steered, kind: str, times: int) -> None:
    """Ours: an attach that happened unseen is found, by this call or by the next."""
    node, _ = await two_nodes(steered, kind)
    volume = await steered.volume()
    service = {"hyperpod": "ClusterNodeVolume", "ec2": "Volume"}[kind]

    for act, verb, holders in ((attach_volume, "Attach", [str(node)]), (detach_volume, "Detach", [])):
        if times == 1:
            steered.lose_answers(verb + service)
        else:
            steered.emulator.faults.plan(verb + service, drop=True, times=3)
            with pytest.raises(errors.Unavailable):
                await act(steered.cloud, steered.watcher, volume.id, node)
        await act(steered.cloud, steered.watcher, volume.id, node)
        assert await steered.holders(volume) == holders


@pytest.mark.requirement("detach.live-volume-stays")
async def test_a_wrong_name_does_not_free_a_live_volume(steered: Steered) -> None:
    """Attacher: success would let another node have it."""
    (node,) = await steered.nodes(1)
    volume = await steered.volume()
    await attach_volume(steered.cloud, steered.watcher, volume.id, node)

    for wrong in (HyperPodNode("zzzzzzzzzzzz", node.instance), Ec2Node(node.instance)):
        with pytest.raises(errors.NotReady, match=str(node)):
            await detach_volume(steered.cloud, steered.watcher, volume.id, wrong)

    assert await steered.holders(volume) == [str(node)]


@pytest.mark.requirement("csi.unpublish-volume.idempotent")
async def test_what_is_gone_is_off(steered: Steered) -> None:
    """CSI: ControllerUnpublish of a volume, node or cluster that is gone succeeds."""
    node, instance = (await steered.nodes(1))[0], await steered.instance()
    volume, gone = await steered.volume(), await steered.volume("pvc-2")
    await remove(steered.cloud, gone.id)
    await steered.aws.ec2("terminate_instances", InstanceIds=[instance.instance])
    await steered.aws("sagemaker", "delete_cluster", ClusterName="hp")

    for one, where in ((gone, node), (gone, instance), (volume, node), (volume, instance), (gone, None)):
        await detach_volume(steered.cloud, steered.watcher, one.id, where)


@pytest.mark.requirement("csi.publish-volume.missing")
async def test_what_is_gone_cannot_be_attached(steered: Steered) -> None:
    """CSI: NOT_FOUND for a volume, and for a node."""
    node, instance = (await steered.nodes(1))[0], await steered.instance()
    volume, gone = await steered.volume(), await steered.volume("pvc-2")
    await remove(steered.cloud, gone.id)

    somewheres: list[Node] = [node, instance]
    for where in somewheres:
        with pytest.raises(errors.VolumeNotFound):
            await attach_volume(steered.cloud, steered.watcher, gone.id, where)
    nobody = "i-0fedcba9876543210"
    nowheres: list[Node] = [HyperPodNode(node.cluster, nobody), Ec2Node(nobody)]
    for nowhere in nowheres:
        with pytest.raises(errors.NodeNotFound):
            await attach_volume(steered.cloud, steered.watcher, volume.id, nowhere)


@pytest.mark.parametrize("ended", ["batch_replace_cluster_nodes", "batch_delete_cluster_nodes", "delete_cluster"])
async def test_a_node_that_hyperpod_took_away_gives_its_volume_back(steered: Steered, ended: str) -> None:
    """Issue: a detach from what is gone succeeds once AWS shows it free, an attach to it is NOT_FOUND; others go on."""
    old, other = await steered.nodes(2)
    instance = await steered.instance()
    volume = await steered.volume()
    await attach_volume(steered.cloud, steered.watcher, volume.id, old)

    await steered.aws("sagemaker", ended, ClusterName="hp", **({"NodeIds": [old.instance]} if "nodes" in ended else {}))
    await unpublish_at_last(steered, volume.id, old)

    assert await steered.holders(volume) == []
    with pytest.raises(errors.NodeNotFound, match=str(old)):
        await attach_volume(steered.cloud, steered.watcher, volume.id, old)
    elsewhere: Node = instance if ended == "delete_cluster" else other
    await publish_at_last(steered, volume.id, elsewhere)
    await detach_volume(steered.cloud, steered.watcher, volume.id, old)
    assert await steered.holders(volume) == [str(elsewhere)]


async def unpublish_at_last(steered: Steered, volume_id: str, node: Node) -> None:
    """Ask as the attacher does: again, until the node is gone far enough."""

    async def done() -> bool:
        try:
            await detach_volume(steered.cloud, steered.watcher, volume_id, node)
        except (errors.Refused, errors.Unavailable):
            return False
        return True

    await eventually(done)


async def publish_at_last(steered: Steered, volume_id: str, node: Node) -> None:
    """As `unpublish_at_last`: a cluster that is updating takes no attachments for a while."""

    async def done() -> bool:
        try:
            await attach_volume(steered.cloud, steered.watcher, volume_id, node)
        except (errors.Refused, errors.Unavailable):
            return False
        return True

    await eventually(done)


@pytest.mark.requirement("csi.unpublish-volume.all-nodes")
async def test_a_volume_comes_off_whatever_node_has_it(steered: Steered) -> None:
    """CSI: an empty node id means everywhere."""
    node, instance = (await steered.nodes(1))[0], await steered.instance()
    volumes = [await steered.volume("pvc-1"), await steered.volume("pvc-2"), await steered.volume("pvc-3")]
    somewheres: list[Node] = [node, instance]
    for volume, where in zip(volumes, somewheres, strict=False):
        await attach_volume(steered.cloud, steered.watcher, volume.id, where)

    for volume in volumes:
        await detach_volume(steered.cloud, steered.watcher, volume.id, None)

    assert [await steered.holders(volume) for volume in volumes] == [[], [], []]


async def test_attaches_to_one_instance_at_once_all_have_names(steered: Steered) -> None:
    """EC2: a device name is the caller's to choose, and can be had once."""
    instance = await steered.instance()
    async with asyncio.TaskGroup() as group:
        making = [group.create_task(steered.volume(f"pvc-{number}")) for number in range(8)]
    volumes = [task.result() for task in making]

    async with asyncio.TaskGroup() as group:
        for volume in volumes:
            group.create_task(attach_volume(steered.cloud, steered.watcher, volume.id, instance))

    found = await steered.aws.ec2("describe_instances", InstanceIds=[instance.instance])
    devices = [one["DeviceName"] for one in found["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]]
    assert len(set(devices)) == len(devices) >= len(volumes)


async def test_a_name_that_somebody_took_in_between_is_followed_by_the_next(steered: Steered) -> None:
    """EC2: what DescribeInstances shows may be a moment old."""
    instance = await steered.instance()
    volume = await steered.volume()
    text = "Invalid value '/dev/xvdaa' for unixDevice. Attachment point /dev/xvdaa is already in use"
    steered.refuse("AttachVolume", "InvalidParameterValue", text)

    await attach_volume(steered.cloud, steered.watcher, volume.id, instance)

    shown = await steered.aws.shown(volume.id)
    assert shown["Attachments"][0]["Device"] == "/dev/xvdab"


@pytest.mark.requirement("csi.publish-volume.full")
async def test_a_full_node_is_no_room_and_not_the_volumes_fault(steered: Steered) -> None:
    """Kubelet: RESOURCE_EXHAUSTED on publish only for this node's attach limit."""
    (node,) = await steered.nodes(1)
    volume = await steered.volume()
    text = "The volume could not be attached. HyperPod - Ec2ErrCode: AttachmentLimitExceeded : Ec2ErrMsg: full"
    steered.refuse("AttachClusterNodeVolume", "ValidationException", text)

    with pytest.raises(errors.NodeFull):
        await attach_volume(steered.cloud, steered.watcher, volume.id, node)


@pytest.mark.requirement("csi.delete-volume.in-use")
async def test_a_volume_in_use_is_not_removed(steered: Steered) -> None:
    """CSI: FAILED_PRECONDITION."""
    (node,) = await steered.nodes(1)
    volume = await steered.volume()
    await attach_volume(steered.cloud, steered.watcher, volume.id, node)

    with pytest.raises(errors.InUse):
        await remove(steered.cloud, volume.id)


@pytest.mark.parametrize("verb", ["delete", "replace"])
async def test_a_volume_of_a_node_that_is_gone_is_off_it_and_goes_elsewhere(steered: Steered, verb: str) -> None:
    """HyperPod: a node that ends lets its volumes go; CSI: off is off, also for a node that nobody knows any more."""
    gone, stays = await steered.nodes()
    volume = await steered.volume()
    await attach_volume(steered.cloud, steered.watcher, volume.id, gone)

    method = f"batch_{verb}_cluster_nodes"
    await steered.aws("sagemaker", method, ClusterName="hp", NodeIds=[gone.instance])
    await detach_volume(steered.cloud, steered.watcher, volume.id, gone)
    await attach_volume(steered.cloud, steered.watcher, volume.id, stays)

    assert await steered.holders(volume) == [str(stays)]
