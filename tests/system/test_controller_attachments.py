"""Attach and detach through signed HTTP, on HyperPod nodes and on EC2 nodes."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import replace

import pytest

from hyperpod_ebs.driver.aws import connection
from hyperpod_ebs.driver.aws.clients import Settings
from hyperpod_ebs.driver.aws.device_names import NAMES, names_in_order
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode, Node
from hyperpod_ebs.driver.volumes.attach import attach_volume, detach_volume
from hyperpod_ebs.driver.volumes.cloud import Cloud
from hyperpod_ebs.driver.volumes.provision import delete_volume
from tests.support.emulator_clients import ZONE
from tests.support.in_process_controller import Controller
from tests.support.waiting import wait_until


@pytest.fixture(name="controller")
async def open_controller(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Controller]:
    """The controller's code on an emulator whose states change at once."""
    async with Controller.open(monkeypatch) as running:
        yield running


async def create_two_nodes(controller: Controller, kind: str) -> tuple[Node, Node]:
    """Create two nodes: HyperPod nodes, EC2 instances, or one of each."""
    match kind:
        case "hyperpod":
            first, second = await controller.create_nodes()
            return first, second
        case "ec2":
            return await controller.run_instance(), await controller.run_instance()
        case _:
            return (await controller.create_nodes(1))[0], await controller.run_instance()


@pytest.mark.parametrize("kind", ["hyperpod", "ec2", "mixed"])
async def test_a_volume_moves_between_nodes_and_each_step_can_be_repeated(controller: Controller, kind: str) -> None:
    """CSI spec, ControllerPublishVolume: a volume attached elsewhere is refused with the node that has it."""
    first, second = await create_two_nodes(controller, kind)
    volume = await controller.provision()

    for node, other in ((first, second), (second, first)):
        for _ in range(2):
            await attach_volume(controller.cloud, controller.watcher, volume.id, node)
            assert await controller.holders(volume) == [str(node)]
        with pytest.raises(errors.InUse, match=str(node)):
            await attach_volume(controller.cloud, controller.watcher, volume.id, other)
        for _ in range(2):
            await detach_volume(controller.cloud, controller.watcher, volume.id, node)
            assert await controller.holders(volume) == []


@pytest.mark.parametrize("kind", ["hyperpod", "ec2"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_call_whose_answer_was_lost_succeeds_in_the_end(controller: Controller, kind: str, times: int) -> None:
    """The driver finds an attachment or detachment whose answer was lost: in the same call, or in its retry."""
    node, _ = await create_two_nodes(controller, kind)
    volume = await controller.provision()
    service = {"hyperpod": "ClusterNodeVolume", "ec2": "Volume"}[kind]

    for operation, verb, holders in ((attach_volume, "Attach", [str(node)]), (detach_volume, "Detach", [])):
        if times == 1:
            controller.lose_answers(verb + service)
        else:
            controller.emulator.faults.plan(verb + service, drop=True, times=3)
            with pytest.raises(errors.Unavailable):
                await operation(controller.cloud, controller.watcher, volume.id, node)
        await operation(controller.cloud, controller.watcher, volume.id, node)
        assert await controller.holders(volume) == holders


@pytest.mark.requirement("detach.live-volume-stays")
async def test_a_wrong_name_does_not_free_a_live_volume(controller: Controller) -> None:
    """Success would let external-attacher give the volume to another node."""
    (node,) = await controller.create_nodes(1)
    volume = await controller.provision()
    await attach_volume(controller.cloud, controller.watcher, volume.id, node)

    for wrong_node in (HyperPodNode("zzzzzzzzzzzz", node.instance), Ec2Node(node.instance)):
        with pytest.raises(errors.NotReady, match=str(node)):
            await detach_volume(controller.cloud, controller.watcher, volume.id, wrong_node)

    assert await controller.holders(volume) == [str(node)]


@pytest.mark.requirement("csi.unpublish-volume.idempotent")
async def test_detaching_succeeds_for_a_volume_a_node_or_a_cluster_that_is_gone(
    controller: Controller,
) -> None:
    """CSI spec, ControllerUnpublishVolume."""
    node, instance = (await controller.create_nodes(1))[0], await controller.run_instance()
    volume, deleted = await controller.provision(), await controller.provision("pvc-2")
    await delete_volume(controller.cloud, deleted.id)
    await controller.aws.ec2("terminate_instances", InstanceIds=[instance.instance])
    await controller.aws("sagemaker", "delete_cluster", ClusterName="hp")

    pairs = ((deleted, node), (deleted, instance), (volume, node), (volume, instance), (deleted, None))
    for any_volume, any_node in pairs:
        await detach_volume(controller.cloud, controller.watcher, any_volume.id, any_node)


@pytest.mark.requirement("csi.publish-volume.missing")
async def test_attaching_an_unknown_volume_or_to_an_unknown_node_is_not_found(controller: Controller) -> None:
    """CSI spec, ControllerPublishVolume: NOT_FOUND."""
    node, instance = (await controller.create_nodes(1))[0], await controller.run_instance()
    volume, deleted = await controller.provision(), await controller.provision("pvc-2")
    await delete_volume(controller.cloud, deleted.id)

    existing_nodes: list[Node] = [node, instance]
    for existing in existing_nodes:
        with pytest.raises(errors.VolumeNotFound):
            await attach_volume(controller.cloud, controller.watcher, deleted.id, existing)
    unknown_id = "i-0fedcba9876543210"
    unknown_nodes: list[Node] = [HyperPodNode(node.cluster, unknown_id), Ec2Node(unknown_id)]
    for unknown in unknown_nodes:
        with pytest.raises(errors.NodeNotFound):
            await attach_volume(controller.cloud, controller.watcher, volume.id, unknown)


@pytest.mark.parametrize("method", ["batch_replace_cluster_nodes", "batch_delete_cluster_nodes", "delete_cluster"])
async def test_a_volume_of_a_node_that_hyperpod_deleted_can_be_attached_elsewhere(
    controller: Controller, method: str
) -> None:
    """The detach succeeds once AWS shows the volume free; attaching to the deleted node is NOT_FOUND."""
    old, other = await controller.create_nodes(2)
    instance = await controller.run_instance()
    volume = await controller.provision()
    await attach_volume(controller.cloud, controller.watcher, volume.id, old)

    await controller.aws(
        "sagemaker", method, ClusterName="hp", **({"NodeIds": [old.instance]} if "nodes" in method else {})
    )
    await retry_until_it_succeeds(lambda: detach_volume(controller.cloud, controller.watcher, volume.id, old))

    assert await controller.holders(volume) == []
    with pytest.raises(errors.NodeNotFound, match=str(old)):
        await attach_volume(controller.cloud, controller.watcher, volume.id, old)
    elsewhere: Node = instance if method == "delete_cluster" else other
    await retry_until_it_succeeds(lambda: attach_volume(controller.cloud, controller.watcher, volume.id, elsewhere))
    await detach_volume(controller.cloud, controller.watcher, volume.id, old)
    assert await controller.holders(volume) == [str(elsewhere)]


async def retry_until_it_succeeds(call: Callable[[], Awaitable[object]]) -> None:
    """Retry an attach or a detach like external-attacher; a cluster in state Updating refuses both for a while."""

    async def succeeds() -> bool:
        try:
            await call()
        except (errors.Refused, errors.Unavailable):
            return False
        return True

    await wait_until(succeeds)


@pytest.mark.requirement("csi.unpublish-volume.all-nodes")
async def test_an_empty_node_id_detaches_a_volume_from_every_node(controller: Controller) -> None:
    """CSI spec, ControllerUnpublishVolume: without a node id, from all nodes."""
    node, instance = (await controller.create_nodes(1))[0], await controller.run_instance()
    volumes = [
        await controller.provision("pvc-1"),
        await controller.provision("pvc-2"),
        await controller.provision("pvc-3"),
    ]
    nodes: list[Node] = [node, instance]
    for volume, holder in zip(volumes, nodes, strict=False):
        await attach_volume(controller.cloud, controller.watcher, volume.id, holder)

    for volume in volumes:
        await detach_volume(controller.cloud, controller.watcher, volume.id, None)

    assert [await controller.holders(volume) for volume in volumes] == [[], [], []]


async def test_concurrent_attachments_to_one_instance_get_different_device_names(
    controller: Controller,
) -> None:
    """The caller of EC2's AttachVolume chooses the device name, which must be free."""
    instance = await controller.run_instance()
    async with asyncio.TaskGroup() as group:
        creations = [group.create_task(controller.provision(f"pvc-{number}")) for number in range(8)]
    volumes = [creation.result() for creation in creations]

    async with asyncio.TaskGroup() as group:
        for volume in volumes:
            group.create_task(attach_volume(controller.cloud, controller.watcher, volume.id, instance))

    found = await controller.aws.ec2("describe_instances", InstanceIds=[instance.instance])
    devices = [mapping["DeviceName"] for mapping in found["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]]
    assert len(set(devices)) == len(devices) >= len(volumes)


async def attach_at_once(cloud: Cloud, volumes: Iterable[str], node: Node) -> None:
    """Request these attachments at the same time."""
    async with asyncio.TaskGroup() as group:
        for volume in volumes:
            group.create_task(cloud.attach(volume, node))


async def create_volumes(controller: Controller, count: int) -> list[str]:
    """Provision this many volumes at once; their ids."""
    async with asyncio.TaskGroup() as group:
        creations = [group.create_task(controller.provision(f"pvc-{number}")) for number in range(count)]
    return [creation.result().id for creation in creations]


@pytest.mark.parametrize("consistency", ["immediate", "eventual"])
async def test_many_attachments_to_one_node_need_one_call_each(
    monkeypatch: pytest.MonkeyPatch, consistency: str
) -> None:
    """EC2 developer guide, eventual consistency: a device name is in use before DescribeInstances shows it."""
    async with Controller.open(monkeypatch, consistency=consistency) as controller:
        instance, volumes = await controller.run_instance(), await create_volumes(controller, 26)
        looks = await controller.call_count("ec2:DescribeInstances")

        for batch in (volumes[:13], volumes[13:]):  # the second batch begins when EC2 has answered the first
            await attach_at_once(controller.cloud, batch, instance)

        assert await controller.call_count("ec2:AttachVolume") == 26
        assert await controller.call_count("ec2:DescribeInstances") == looks


async def test_a_new_process_looks_once_at_the_device_names_that_others_have_taken(controller: Controller) -> None:
    """A process that was killed has taken names, and its successor wants the same ones."""
    instance, volumes = await controller.run_instance(), await create_volumes(controller, 26)
    old, new = volumes[:20], volumes[20:]
    taken = {names_in_order(volume)[0] for volume in new}
    for volume, name in zip(old, taken, strict=False):
        await controller.aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance.instance, Device=name)
    await attach_at_once(controller.cloud, old[len(taken) :], instance)
    operations = ("ec2:AttachVolume", "ec2:DescribeInstances")
    before = [await controller.call_count(operation) for operation in operations]

    async with connection.connect(Settings()) as successor:
        await successor.attach(new[0], instance)
        await attach_at_once(successor, new[1:], instance)

    after = [await controller.call_count(operation) for operation in operations]
    assert [now - then for now, then in zip(after, before, strict=True)] == [len(new) + 1, 1]


async def test_attachments_at_once_share_the_look_at_device_names(controller: Controller) -> None:
    """The device names of several nodes fit into one call."""
    instances = [await controller.run_instance() for _ in range(3)]
    volumes = await create_volumes(controller, 12)
    for _ in volumes:
        controller.refuse("AttachVolume", "InvalidParameterValue", "Attachment point /dev/xvdaa is already in use")
    before = await controller.call_count("ec2:DescribeInstances")

    async with asyncio.TaskGroup() as group:
        for number, instance in enumerate(instances):
            group.create_task(attach_at_once(controller.cloud, volumes[number::3], instance))

    assert 1 <= await controller.call_count("ec2:DescribeInstances") - before <= 6


async def test_a_device_name_taken_by_another_caller_is_followed_by_another_name(
    controller: Controller,
) -> None:
    """The driver may not know of an attachment that another client has made."""
    instance = await controller.run_instance()
    volume, other = await controller.provision(), await controller.provision("pvc-2")
    first, second, *_ = names_in_order(volume.id)
    await controller.aws.ec2("attach_volume", VolumeId=other.id, InstanceId=instance.instance, Device=first)

    await attach_volume(controller.cloud, controller.watcher, volume.id, instance)

    description = await controller.aws.describe_volume(volume.id)
    assert description["Attachments"][0]["Device"] == second


def attach_volumes_of_others(controller: Controller, instance: Ec2Node, names: Iterable[str]) -> None:
    """Attach a volume that is not the driver's under each of these device names."""
    store = controller.emulator.world.store
    root, *_ = store.attachments.where("instance", instance.instance)
    for number, name in enumerate(names):
        volume = replace(store.volumes[root.volume], id=f"vol-{number:017x}")
        store.volumes.put(volume)
        store.attachments.put(replace(root, volume=volume.id, device=name))


@pytest.mark.requirement("csi.publish-volume.full")
async def test_an_instance_without_a_free_device_name_is_full(controller: Controller) -> None:
    """CSI spec, ControllerPublishVolume: RESOURCE_EXHAUSTED when a node has the most volumes that it can have."""
    instance, volume = await controller.run_instance(), await controller.provision()
    attach_volumes_of_others(controller, instance, NAMES)

    with pytest.raises(errors.NodeFull, match=f"{instance} has no free device name: all 127 are in use"):
        await controller.cloud.attach(volume.id, instance)


async def test_the_device_name_of_a_volume_that_has_just_left_is_free_for_another_one(controller: Controller) -> None:
    """An instance that is full for no reason makes Kubernetes fail the pod."""
    large = await controller.aws.run_instance(InstanceType="x8i.48xlarge", Placement={"AvailabilityZone": ZONE})
    instance = Ec2Node(large)
    leaving, coming = await create_volumes(controller, 2)
    name = await attach_volume(controller.cloud, controller.watcher, leaving, instance)
    attach_volumes_of_others(controller, instance, set(NAMES) - {name})

    await detach_volume(controller.cloud, controller.watcher, leaving, instance)

    assert await attach_volume(controller.cloud, controller.watcher, coming, instance) == name


@pytest.mark.requirement("csi.publish-volume.full")
async def test_attaching_to_a_node_at_its_attach_limit_is_resource_exhausted(controller: Controller) -> None:
    """CSI spec, ControllerPublishVolume: RESOURCE_EXHAUSTED means the node's limit."""
    (node,) = await controller.create_nodes(1)
    volume = await controller.provision()
    text = "The volume could not be attached. HyperPod - Ec2ErrCode: AttachmentLimitExceeded : Ec2ErrMsg: full"
    controller.refuse("AttachClusterNodeVolume", "ValidationException", text)

    with pytest.raises(errors.NodeFull):
        await attach_volume(controller.cloud, controller.watcher, volume.id, node)


@pytest.mark.requirement("csi.delete-volume.in-use")
async def test_a_volume_in_use_is_not_deleted(controller: Controller) -> None:
    """CSI spec, DeleteVolume: FAILED_PRECONDITION."""
    (node,) = await controller.create_nodes(1)
    volume = await controller.provision()
    await attach_volume(controller.cloud, controller.watcher, volume.id, node)

    with pytest.raises(errors.InUse):
        await delete_volume(controller.cloud, volume.id)


@pytest.mark.parametrize("verb", ["delete", "replace"])
async def test_a_volume_of_a_node_that_is_gone_is_detached_and_moves_elsewhere(
    controller: Controller, verb: str
) -> None:
    """HyperPod releases the volumes of a node that ends; the detach from the unknown node succeeds."""
    lost, other = await controller.create_nodes()
    volume = await controller.provision()
    await attach_volume(controller.cloud, controller.watcher, volume.id, lost)

    method = f"batch_{verb}_cluster_nodes"
    await controller.aws("sagemaker", method, ClusterName="hp", NodeIds=[lost.instance])
    await detach_volume(controller.cloud, controller.watcher, volume.id, lost)
    await attach_volume(controller.cloud, controller.watcher, volume.id, other)

    assert await controller.holders(volume) == [str(other)]
