"""Whether the volumes of PersistentVolumes exist, are where Kubernetes expects them, and may be used by the driver."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from hyperpod_ebs.access.aws.instances import list_instances
from hyperpod_ebs.access.aws.permissions import Need, simulate
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder, add_tags
from hyperpod_ebs.access.doctor.aws_checks.permissions import DriverSetting, driver_setting
from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context, Object
from hyperpod_ebs.access.doctor.findings import Finding, Remedy, fails, may_fail
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import name_list
from hyperpod_ebs.driver.model import tags
from hyperpod_ebs.driver.model.kubernetes_node import ZONE
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode

_ZONE_ID: Final = "topology.k8s.aws/zone-id"
_IN_TREE: Final = "kubernetes.io/created-for/pvc/name"
_DECIDING: Final[Sequence[str]] = (tags.MANAGED, tags.CLUSTER, tags.VOLUME_NAME, _IN_TREE)
"""The tags by which AWS's policies for the driver know its volumes."""

_PATIENCE: Final = timedelta(minutes=5)
"""How long an attachment may take; EC2 takes seconds."""

_ENDED: Final = frozenset({"terminated", "shutting-down"})


async def _check_existence(context: Context) -> AsyncIterator[Finding]:
    aws, volumes = await context.aws(), {volume.id: volume for volume in await context.volumes()}
    names = await context.driver_volumes()
    if missing := {id_: item["metadata"]["name"] for id_, item in names.items() if id_ not in volumes}:
        account = (await context.caller()).account
        yield fails(
            f"PersistentVolume {name_list(missing.values())}",
            f"volume {name_list(missing)} does not exist in account {account} in {aws.region}",
            "Pods with the claim stay in ContainerCreating",
            "restore the volume from a snapshot and create the PersistentVolume again with the new id; if all volumes "
            "are missing, use the account and region of the cluster",
        )
    for id_, item in names.items():
        if id_ in volumes:
            for finding in _differences(item, volumes[id_]):
                yield finding


def _differences(item: Object, volume: EbsVolume) -> Iterator[Finding]:
    """What of a volume is not as its PersistentVolume wants it."""
    name = item["metadata"]["name"]
    if volume.state not in {"available", "in-use", "creating"}:
        yield fails(
            f"volume {volume.id}",
            f"its state is {volume.state}, and PersistentVolume {name} names it",
            "The volume is not attached to any node",
            f"`aws ec2 describe-volumes --volume-ids {volume.id}`; restore it from a snapshot",
        )
    for key, actual in ((ZONE, volume.zone), (_ZONE_ID, volume.zone_id)):
        zones = _zones(item, key)
        if zones and actual and actual not in zones:
            yield fails(
                f"PersistentVolume {name}",
                f"its node affinity wants {key} {' or '.join(sorted(zones))}, and volume {volume.id} is in {actual}",
                "Pods are scheduled to nodes to which the volume cannot be attached",
                f"create the PersistentVolume again with {key} In [{actual}]",
            )


def _zones(item: Object, key: str) -> set[str]:
    """The values that the node affinity of a PersistentVolume allows for a label."""
    required = (item.get("spec", {}).get("nodeAffinity") or {}).get("required") or {}
    return {
        value
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
        if expression.get("key") == key and expression.get("operator") == "In"
        for value in expression.get("values") or ()
    }


async def _check_tags(context: Context) -> AsyncIterator[Finding]:
    """Whether the role's policies let the driver use volumes that the driver did not create."""
    volumes, names = await context.volumes(), await context.driver_volumes()
    by_tags: dict[tuple[tuple[str, str], ...], list[EbsVolume]] = {}
    for volume in volumes:
        if volume.id in names:
            deciding = tuple((key, _decisive(key, volume.tags[key])) for key in _DECIDING if key in volume.tags)
            by_tags.setdefault(deciding, []).append(volume)
    for use in await context.uses_of_existing_roles():
        if role := await context.role(use.arn):
            setting = await driver_setting(context, use, role)
            for deciding, members in by_tags.items():
                for added in await _tags_to_add(context, role.arn, setting, dict(deciding)):
                    for volume in members:
                        yield _missing_tag(context, role.name, volume, names[volume.id]["metadata"]["name"], added)


def _decisive(key: str, value: str) -> str:
    """The value of a tag, the same for all values between which no policy of AWS distinguishes."""
    return value if key in {tags.MANAGED, tags.CLUSTER} else "any"


async def _tags_to_add(
    context: Context, role: str, setting: DriverSetting, own: Mapping[str, str]
) -> list[Mapping[str, str]]:
    """The tags that a volume with these tags needs; none if it needs none, or if no tag helps."""
    wanted = tags.TagPolicy(cluster=setting.cluster_tag).volume_tags("", {}, ())
    lacking: dict[str, str] = {
        key: wanted[key] for key in (tags.MANAGED, tags.CLUSTER) if key in wanted and wanted[key] != own.get(key)
    }
    if not lacking or await _may_attach(context, role, setting, own):
        return []
    for added in (*({key: value} for key, value in lacking.items()), lacking):
        if await _may_attach(context, role, setting, {**own, **added}):
            return [added]
    return []  # the check of permissions reports it


async def _may_attach(context: Context, role: str, setting: DriverSetting, own: Mapping[str, str]) -> bool:
    keys = {f"ec2:ResourceTag/{key}": [value] for key, value in own.items()}
    need = Need(action="ec2:AttachVolume", resource=setting.arn("volume"), context={**keys, **setting.principal_tags})
    (verdict,) = await simulate(await context.aws(), role, [need])
    return verdict.decision != "denied"


def _missing_tag(context: Context, role: str, volume: EbsVolume, name: str, added: Mapping[str, str]) -> Finding:
    written = " ".join(f"Key={key},Value={value}" for key, value in added.items())
    shown = ", ".join(f"{key}={value}" for key, value in added.items())

    async def apply() -> None:
        await add_tags(await context.aws(), volume.id, added)

    return fails(
        f"volume {volume.id}",
        f"PersistentVolume {name} names it, and it lacks the tag {shown}, without which role {role} may not use it",
        "The volume is not attached to any node",
        f"`aws ec2 create-tags --resources {volume.id} --tags {written}`",
        Remedy(question=f"Add the tag {shown} to volume {volume.id}?", apply=apply),
    )


async def _check_attachments(context: Context) -> AsyncIterator[Finding]:
    """Attachments that take too long, and those to machines that are gone or do not belong to the cluster."""
    volumes = await context.volumes()
    has_kubernetes = await context.has_kubernetes()
    names = await context.driver_volumes() if has_kubernetes else {}
    holders = [
        (volume, holder)
        for volume in volumes
        for holder in volume.holders
        if volume.id in names or volume.tags.get(tags.MANAGED) == "true" or isinstance(holder.node, HyperPodNode)
    ]
    gone = await _absent_machines(context, [holder for _, holder in holders])
    nodes = set(map(str, await context.nodes())) if has_kubernetes else set[str]()
    for volume, holder in holders:
        where = f"volume {volume.id}"
        if (machine := str(holder.node or holder.resource)) in gone:
            yield fails(
                where,
                f"it is {holder.state} to {machine}, and AWS has no such machine any more",
                "The volume cannot be attached to another node",
                f"AWS detaches the volumes of a machine that ends: `hyperpod-ebs volume wait {volume.id} --until "
                "available`; if that does not end, ask AWS Support",
            )
        elif holder.state == "busy":
            yield fails(
                where,
                f"its detachment from {machine} has state busy: the machine still uses the device",
                "The volume cannot be attached to another node",
                f"unmount it on the node; at last {_last_resort(volume, holder)}",
            )
        elif holder.state == "attaching" and holder.since and datetime.now(UTC) - holder.since > _PATIENCE:
            yield fails(
                where,
                f"it has been attaching to {machine} since {holder.since:%Y-%m-%dT%H:%M:%SZ}; that takes seconds",
                "Pods with the volume wait, and no other node can have it",
                _last_resort(volume, holder),
            )
        elif holder.state == "attached" and volume.id in names and nodes and machine not in nodes:
            yield may_fail(
                where,
                f"PersistentVolume {names[volume.id]['metadata']['name']} names it, and it is attached to {machine}, "
                "which is not a node of the Kubernetes cluster",
                "Pods with the volume wait until it is detached there",
                f"{_detach_command(volume, holder)}, once nothing there uses it",
            )


def _last_resort(volume: EbsVolume, holder: Holder) -> str:
    """The command that ends an attachment that AWS does not end; HyperPod has no forced detachment."""
    match holder.node:
        case HyperPodNode(cluster, instance):
            reboot = f"aws sagemaker batch-reboot-cluster-nodes --cluster-name {cluster} --node-ids {instance}"
            return f"reboot the node, which interrupts all its pods: `{reboot}`"
        case _:
            return f"{_detach_command(volume, holder, '--force')}, and restart the machine"


def _detach_command(volume: EbsVolume, holder: Holder, *flags: str) -> str:
    instance = holder.node.instance if holder.node else ""
    words = ["hyperpod-ebs volume detach", volume.id, instance, *flags, "--even-though-kubernetes-manages-it"]
    return f"`{' '.join(word for word in words if word)}`"


async def _absent_machines(context: Context, holders: list[Holder]) -> set[str]:
    """The machines that AWS does not have any more, by CSI node id."""
    clusters = {cluster.id for cluster in await context.clusters()}
    known = {node.csi_id for node in await context.cluster_nodes()}
    hyperpod = {str(each.node) for each in holders if isinstance(each.node, HyperPodNode)}
    gone = {id_ for id_ in hyperpod - known if id_.split("-")[1] in clusters or not context.wanted.cluster}
    instances = {each.node.instance for each in holders if isinstance(each.node, Ec2Node)}
    shown = {
        each.id for each in await list_instances(await context.aws(), sorted(instances)) if each.state not in _ENDED
    }
    return gone | (instances - shown)


CHECKS: Final = (
    Check(name="volumes", promise="the volumes of PersistentVolumes exist, in the right zones", run=_check_existence),
    Check(name="volume tags", promise="the driver's role may use the volumes of PersistentVolumes", run=_check_tags),
    Check(
        name="attachments",
        promise="no attachment is stuck, and none is to a machine that is gone",
        run=_check_attachments,
    ),
)
