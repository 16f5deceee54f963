"""All that the driver does at AWS, step by step, as calls of a controller process that any test can make."""

import itertools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hyperpod_ebs.demo.orchestrator import block_capability
from hyperpod_ebs.driver.aws.device_names import names_in_order
from hyperpod_ebs.pb import csi_pb2
from tests.support.api_server import LABELS, ApiServer
from tests.support.emulator_clients import ZONE, Aws
from tests.support.permission_removals import TAG_IN_CLASS
from tests.support.waiting import wait_until, wait_until_equal

_GIB: Final = 2**30
_IN_TREE: Final = {"kubernetes.io/created-for/pvc/name": "claim"}
"""The tag by which AWS's policies recognise volumes of Kubernetes' old in-tree plugin."""

_LOOKUP_FAILED: Final = "cannot look up the attach limits of new instance types"
_numbers: Final = itertools.count(1)


class LookupFailed(Exception):  # noqa: N818 - named for what happened
    """The controller cannot learn the attach limit of an instance type; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A controller, the administrator's clients, and two nodes."""

    csi: Any  # a stub of the controller service, whose types do not say what a call returns
    aws: Aws
    hyperpod_node: str
    ec2_nodes: Mapping[str, str]
    """Instances by the tag that has the cluster's name."""

    own_tags: Mapping[str, str]
    """The tags that a user gives to a volume of their own, so that the driver may use it."""

    api: ApiServer
    log: Sequence[str]
    """The controller's log so far."""


Prepare = Callable[[Site], Coroutine[Any, Any, str]]
Call = Callable[[Site, str], Coroutine[Any, Any, Any]]


async def _no_undo(_: Site, __: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A call of the controller."""

    name: str
    """What the user wants."""

    rpc: str
    """The CSI call; empty for what the controller does on its own."""

    prepare: Prepare
    """Creates what the call needs; the id or name that it is called with."""

    call: Call
    undo: Call = field(default=_no_undo)
    """Ends what the call began, so that the next call finds room."""

    of: str = ""
    """Whose volume it is, if not one that the driver created for a claim."""

    @property
    def title(self) -> str:
        """The name, with whose volume it is."""
        return f"{self.name} ({self.of})" if self.of else self.name


async def new_name(_: Site) -> str:
    """The name of a new volume."""
    return f"pvc-{next(_numbers)}"


async def create_volume(site: Site, name: str, *, zone: str = ZONE, snapshot: str = "", **parameters: str) -> str:
    """Create a volume as external-provisioner does with the chart's flags; its id."""
    metadata = {"pvc/name": "claim", "pvc/namespace": "team", "pv/name": name}
    request = csi_pb2.CreateVolumeRequest(
        name=name,
        capacity_range=csi_pb2.CapacityRange(required_bytes=_GIB),
        volume_capabilities=[block_capability()],
        parameters={f"csi.storage.k8s.io/{key}": value for key, value in metadata.items()} | parameters,
    )
    if zone:
        topology = csi_pb2.Topology(segments={"topology.kubernetes.io/zone": zone})
        request.accessibility_requirements.requisite.append(topology)
    if snapshot:
        request.volume_content_source.snapshot.snapshot_id = snapshot
    return str((await site.csi.CreateVolume(request)).volume.volume_id)


async def volume_for_claim(site: Site, **parameters: str) -> str:
    """Create a volume; its id."""
    return await create_volume(site, await new_name(site), **parameters)


def _volume_with(tags: Callable[[Site], Mapping[str, str]]) -> Prepare:
    async def create(site: Site) -> str:
        listed = [{"Key": key, "Value": value} for key, value in tags(site).items()]
        specifications = [{"ResourceType": "volume", "Tags": listed}] if listed else []
        return await site.aws.create_volume(TagSpecifications=specifications)

    return create


async def snapshot_of(site: Site, volume: str) -> str:
    """Take a snapshot of a volume and wait until it is complete; its id."""
    taken = (await take_snapshot(site, volume)).snapshot.snapshot_id

    async def state() -> str:
        return str((await site.aws.ec2("describe_snapshots", SnapshotIds=[taken]))["Snapshots"][0]["State"])

    await wait_until_equal(state, "completed")
    return str(taken)


async def _snapshot(site: Site) -> str:
    return await snapshot_of(site, await volume_for_claim(site))


async def _create_without_zone(site: Site, name: str) -> str:
    return await create_volume(site, name, zone="")


async def _restore(site: Site, snapshot: str) -> str:
    return await create_volume(site, f"pvc-of-{snapshot}", snapshot=snapshot)


async def take_snapshot(site: Site, volume: str) -> Any:
    """Take a snapshot of a volume."""
    request = csi_pb2.CreateSnapshotRequest(name=f"snapshot-of-{volume}", source_volume_id=volume)
    return await site.csi.CreateSnapshot(request)


def attach_to(node: Callable[[Site], str]) -> Call:
    """Attach a volume to this node."""

    async def attach(site: Site, volume: str) -> Any:
        request = csi_pb2.ControllerPublishVolumeRequest(
            volume_id=volume, node_id=node(site), volume_capability=block_capability()
        )
        return await site.csi.ControllerPublishVolume(request)

    return attach


def detach_from(node: Callable[[Site], str]) -> Call:
    """Detach a volume from this node."""

    async def detach(site: Site, volume: str) -> Any:
        request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume, node_id=node(site))
        return await site.csi.ControllerUnpublishVolume(request)

    return detach


def create_attached(volume: Prepare, attach: Call) -> Prepare:
    """Create a volume and attach it."""

    async def create(site: Site) -> str:
        id_ = await volume(site)
        await attach(site, id_)
        return id_

    return create


async def _grow(site: Site, volume: str) -> Any:
    request = csi_pb2.ControllerExpandVolumeRequest(
        volume_id=volume, capacity_range=csi_pb2.CapacityRange(required_bytes=2 * _GIB)
    )
    return await site.csi.ControllerExpandVolume(request)


def _modify(**parameters: str) -> Call:
    async def modify(site: Site, volume: str) -> Any:
        request = csi_pb2.ControllerModifyVolumeRequest(volume_id=volume, mutable_parameters=parameters)
        return await site.csi.ControllerModifyVolume(request)

    return modify


async def _create_tagged_volume(site: Site) -> str:
    volume = await volume_for_claim(site)
    await site.aws.ec2("create_tags", Resources=[volume], Tags=[{"Key": TAG_IN_CLASS, "Value": "fast"}])
    return volume


async def _delete(site: Site, volume: str) -> Any:
    return await site.csi.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume))


async def _delete_snapshot(site: Site, snapshot: str) -> Any:
    return await site.csi.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot))


async def _list_volumes(site: Site, _: str) -> Any:
    return await site.csi.ListVolumes(csi_pb2.ListVolumesRequest())


async def _list_snapshots(site: Site, _: str) -> Any:
    return await site.csi.ListSnapshots(csi_pb2.ListSnapshotsRequest())


async def _show(site: Site, volume: str) -> Any:
    return await site.csi.ControllerGetVolume(csi_pb2.ControllerGetVolumeRequest(volume_id=volume))


async def _new_instance_type(_: Site) -> str:
    return f"x99.{next(_numbers)}xlarge"


async def _learn_attach_limit(site: Site, instance_type: str) -> None:
    """Let a node of an instance type join that is not in the driver's table.

    Raises:
        LookupFailed: The controller logs that it cannot learn the type's attach limit.
    """
    begin = len(site.log)
    labels = {**LABELS, "node.kubernetes.io/instance-type": instance_type}
    node = site.api.put_node(f"node-{instance_type}", "aws:///us-west-2a/i-0fedcba9876543210", labels)
    await site.api.send_event("ADDED", node)

    async def outcome() -> str | None:
        later = list(site.log)[begin:]
        return next((line for line in later if _LOOKUP_FAILED in line or _is_about(line, instance_type)), None)

    line = await wait_until(outcome)
    if _LOOKUP_FAILED in line:
        raise LookupFailed(line.partition("why=")[2].strip().strip("'").replace("\\", ""))


def _is_about(line: str, instance_type: str) -> bool:
    return "instance types not known to EC2" in line and instance_type in line


def _steps_of(volume: Prepare, of: str) -> tuple[Step, ...]:
    """The steps in which it matters whose volume it is."""
    attach, detach = attach_to(lambda site: site.hyperpod_node), detach_from(lambda site: site.hyperpod_node)
    return (
        Step(
            name="attach a volume to a HyperPod node",
            rpc="ControllerPublishVolume",
            prepare=volume,
            call=attach,
            undo=detach,
            of=of,
        ),
        Step(
            name="detach a volume from a HyperPod node",
            rpc="ControllerUnpublishVolume",
            prepare=create_attached(volume, attach),
            call=detach,
            of=of,
        ),
        Step(name="grow a volume", rpc="ControllerExpandVolume", prepare=volume, call=_grow, of=of),
        Step(name="take a snapshot", rpc="CreateSnapshot", prepare=volume, call=take_snapshot, of=of),
        Step(name="delete a volume", rpc="DeleteVolume", prepare=volume, call=_delete, of=of),
    )


def _steps_on(tag: str) -> tuple[Step, ...]:
    """The steps on the EC2 instance with this tag; without such an instance there are none."""

    def node(site: Site) -> str:
        return site.ec2_nodes[tag]

    attach, detach = attach_to(node), detach_from(node)
    of = "" if tag == INSTANCE_TAGS[0] else f"an instance with the tag `{tag}`"
    return (
        Step(
            name="attach a volume to an EC2 node",
            rpc="ControllerPublishVolume",
            prepare=volume_for_claim,
            call=attach,
            undo=detach,
            of=of,
        ),
        Step(
            name="detach a volume from an EC2 node",
            rpc="ControllerUnpublishVolume",
            prepare=create_attached(volume_for_claim, attach),
            call=detach,
            of=of,
        ),
    )


async def _prepare_busy_node(site: Site) -> str:
    """Create a volume and run an instance on which another volume has the volume's device name; both ids."""
    volume, other = await volume_for_claim(site), await site.aws.create_volume()
    described = await site.aws.ec2("describe_instances", InstanceIds=[site.ec2_nodes[INSTANCE_TAGS[0]]])
    tags = described["Reservations"][0]["Instances"][0]["Tags"]
    instance = await site.aws.run_instance(
        Placement={"AvailabilityZone": ZONE}, TagSpecifications=[{"ResourceType": "instance", "Tags": tags}]
    )
    await site.aws.ec2("attach_volume", VolumeId=other, InstanceId=instance, Device=names_in_order(volume)[0])
    return f"{volume} {instance}"


async def _attach_to_busy_node(site: Site, ids: str) -> Any:
    volume, instance = ids.split()
    return await attach_to(lambda _: instance)(site, volume)


async def _end_busy_node(site: Site, ids: str) -> None:
    _, instance = ids.split()
    await site.aws.ec2("terminate_instances", InstanceIds=[instance])


INSTANCE_TAGS: Final = ("eks:cluster-name", "eks:eks-cluster-name", "ebs.csi.aws.com/cluster-name")
"""The tags by which AmazonEBSCSIDriverEKSClusterScopedPolicy recognises the cluster's instances."""

STEPS: Final = (
    Step(name="create a volume", rpc="CreateVolume", prepare=new_name, call=create_volume),
    Step(name="create a volume without a zone", rpc="CreateVolume", prepare=new_name, call=_create_without_zone),
    Step(name="restore a snapshot", rpc="CreateVolume", prepare=_snapshot, call=_restore),
    *_steps_of(volume_for_claim, ""),
    *_steps_on(INSTANCE_TAGS[0]),
    Step(
        name="attach a volume to an EC2 node that has another volume under its device name",
        rpc="ControllerPublishVolume",
        prepare=_prepare_busy_node,
        call=_attach_to_busy_node,
        undo=_end_busy_node,
    ),
    Step(
        name="change throughput",
        rpc="ControllerModifyVolume",
        prepare=volume_for_claim,
        call=_modify(throughput="250"),
    ),
    Step(
        name="set a tag",
        rpc="ControllerModifyVolume",
        prepare=volume_for_claim,
        call=_modify(tagSpecification_1=f"{TAG_IN_CLASS}=fast"),
    ),
    Step(
        name="remove a tag",
        rpc="ControllerModifyVolume",
        prepare=_create_tagged_volume,
        call=_modify(tagDeletion_1=TAG_IN_CLASS),
    ),
    Step(
        name="delete a snapshot",
        rpc="DeleteSnapshot",
        prepare=_snapshot,
        call=_delete_snapshot,
    ),
    Step(
        name="list volumes",
        rpc="ListVolumes",
        prepare=new_name,
        call=_list_volumes,
    ),
    Step(
        name="list snapshots",
        rpc="ListSnapshots",
        prepare=new_name,
        call=_list_snapshots,
    ),
    Step(
        name="show a volume",
        rpc="ControllerGetVolume",
        prepare=volume_for_claim,
        call=_show,
    ),
    Step(
        name="learn the attach limit of a new instance type",
        rpc="",
        prepare=_new_instance_type,
        call=_learn_attach_limit,
    ),
    *_steps_of(_volume_with(lambda site: site.own_tags), "a static volume"),
    *_steps_of(_volume_with(lambda _: _IN_TREE), "an in-tree volume"),
    *_steps_on(INSTANCE_TAGS[1]),
    *_steps_on(INSTANCE_TAGS[2]),
)
"""The whole job."""
