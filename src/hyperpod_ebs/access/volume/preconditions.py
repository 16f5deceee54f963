"""The preconditions of attaching and detaching a volume: a decision about each, and what to do about one that fails.

Sources: SageMaker API reference, AttachClusterNodeVolume and DetachClusterNodeVolume; EC2 API reference, AttachVolume
and DetachVolume; SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from hyperpod_ebs.access.aws.clusters import IN_SERVICE, Cluster
from hyperpod_ebs.access.aws.keys import ENABLED
from hyperpod_ebs.access.aws.permissions import Verdict
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder
from hyperpod_ebs.access.volume.facts import Absent, Facts, Machine, Unread
from hyperpod_ebs.driver.model.limits import attach_limit
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode

Result = Literal["ok", "fails", "not checked"]

DETACHED: Final = "detached"

_HYPERPOD_VOLUMES: Final = 2
"""The root and the secondary volume of a HyperPod node, which EC2 does not show."""

_MULTI_ATTACH_LIMIT: Final = 16
"""Instances to which a Multi-Attach volume can be attached (EBS User Guide)."""

_RUNNING: Final = {HyperPodNode: frozenset({"Running"}), Ec2Node: frozenset({"running", "stopped"})}
"""The states of nodes that take volumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was found about a precondition."""

    name: str
    result: Result
    text: str
    """A sentence with both values, and with the next step unless it is ok."""


def attach_checks(facts: Facts, *, leaving: Holder | None = None, managed_is_fine: bool = False) -> list[Check]:
    """The preconditions of attaching the volume to the node.

    Args:
        facts: What is known.
        leaving: The holder that the volume is detached from first.
        managed_is_fine: Whether the volume may be one that Kubernetes manages.
    """
    return [
        *_target_checks(facts),
        _volume_to_attach(facts, leaving),
        _zone(facts),
        _limit(facts),
        _key(facts),
        _kubernetes(facts, managed_is_fine=managed_is_fine),
        *map(_permission, facts.permissions),
    ]


def detach_checks(facts: Facts, *, managed_is_fine: bool = False) -> list[Check]:
    """The preconditions of detaching the volume from the node."""
    return [
        *_target_checks(facts, is_detach=True),
        _volume_to_detach(facts),
        _kubernetes(facts, managed_is_fine=managed_is_fine),
        *map(_permission, facts.permissions),
    ]


def holder_here(facts: Facts) -> Holder | None:
    """The attachment of the volume to the node; None without one."""
    if isinstance(facts.volume, Unread):
        return None
    here = (each for each in facts.volume.holders if each.node == facts.target.node and each.state != DETACHED)
    return next(here, None)


def _target_checks(facts: Facts, *, is_detach: bool = False) -> Iterator[Check]:
    """The preconditions that attaching and detaching have in common."""
    yield _account(facts)
    if isinstance(facts.target.node, HyperPodNode):
        yield _cluster(facts)
        yield _orchestrator(facts)
    yield _node(facts, is_detach=is_detach)
    if isinstance(facts.target.node, HyperPodNode):
        yield _group(facts)


def _account(facts: Facts) -> Check:
    if isinstance(facts.volume, Unread):
        return _no_check("account", facts.volume)
    owner = facts.volume.owner or facts.account
    cluster = facts.target.cluster_arn.split(":")[4] if facts.target.cluster_arn else facts.account
    if owner == cluster:
        return _ok("account", f"volume and node belong to account {owner}")
    return _fails(
        "account",
        f"volume {facts.volume_id} belongs to account {owner}, and node {facts.target.node} to account {cluster}: copy "
        f"the volume into account {cluster} through a shared snapshot",
    )


def _cluster(facts: Facts) -> Check:
    match facts.target.cluster:
        case Absent(message):
            return _fails("cluster", f"{message}: give --cluster and --region of a cluster that exists")
        case Cluster() as cluster if cluster.status == IN_SERVICE:
            return _ok("cluster", f"cluster {cluster.name} is {cluster.status}")
        case Cluster() as cluster:
            return _fails(
                "cluster",
                f"cluster {cluster.name} is {cluster.status}, not {IN_SERVICE}: wait until `aws sagemaker "
                f"describe-cluster --cluster-name {cluster.name}` shows {IN_SERVICE}",
            )
        case other:
            return _no_check("cluster", other)


def _orchestrator(facts: Facts) -> Check:
    cluster = facts.target.cluster
    if not isinstance(cluster, Cluster):
        return _no_check("orchestrator", cluster)
    if cluster.eks_cluster:
        return _ok(
            "orchestrator", f"cluster {cluster.name} is orchestrated by EKS cluster {_name(cluster.eks_cluster)}"
        )
    return _fails(
        "orchestrator",
        f"cluster {cluster.name} is orchestrated by Slurm, not by EKS: HyperPod attaches volumes only to nodes of EKS "
        "clusters; use a node of another cluster",
    )


def _node(facts: Facts, *, is_detach: bool) -> Check:
    node, machine = facts.target.node, facts.machine
    match machine:
        case Absent(message):
            step = (
                f"AWS detaches the volumes of a node that ends; follow that with `hyperpod-ebs volume wait "
                f"{facts.volume_id} --until available`"
                if is_detach
                else "choose one of the present nodes; HyperPod may have replaced this one"
            )
            return _fails("node", f"{message}: {step}")
        case Machine() if machine.status in _RUNNING[type(node)] or is_detach:
            return _ok("node", f"node {node} is {machine.status}")
        case Machine():
            return _fails(
                "node", f"node {node} is {machine.status}, not running: wait until it runs, or choose another node"
            )
        case other:
            return _no_check("node", other)


def _group(facts: Facts) -> Check:
    cluster, machine = facts.target.cluster, facts.machine
    if not isinstance(machine, Machine):
        return _no_check("instance group", machine)
    if not isinstance(cluster, Cluster):
        return _no_check("instance group", cluster)
    if machine.group not in cluster.restricted_groups:
        return _ok("instance group", f"instance group {machine.group} is not restricted")
    return _fails(
        "instance group",
        f"node {facts.target.node} is in the restricted instance group {machine.group}, whose nodes take no volumes: "
        "choose a node of another instance group",
    )


def _volume_to_attach(facts: Facts, leaving: Holder | None) -> Check:
    volume = facts.volume
    if isinstance(volume, Unread):
        return _no_check("volume", volume)
    others = [each for each in volume.holders if each != leaving and each.state != DETACHED]
    if is_shareable(facts) and len(others) < _MULTI_ATTACH_LIMIT:
        return _ok("volume", f"Multi-Attach volume {volume.id} is attached to {len(others)} instances")
    if is_shareable(facts):
        return _fails(
            "volume",
            f"Multi-Attach volume {volume.id} is attached to {len(others)} instances, and {_MULTI_ATTACH_LIMIT} is the "
            "limit: detach it from one of them",
        )
    if others:
        return _fails("volume", _use_text(volume, others[0], facts))
    if volume.state == "available" or leaving is not None:
        return _ok("volume", f"volume {volume.id} is {volume.state}")
    step = "wait until it is available" if volume.state == "creating" else "use another volume"
    return _fails("volume", f"volume {volume.id} is in state {volume.state}, not available: {step}")


def is_shareable(facts: Facts) -> bool:
    """Whether the volume can be attached to the node besides others: a Multi-Attach volume in use, on EC2."""
    volume = facts.volume
    return (
        isinstance(volume, EbsVolume)
        and volume.multi_attach
        and volume.state == "in-use"
        and isinstance(facts.target.node, Ec2Node)
        and all(isinstance(each.node, Ec2Node) for each in volume.holders)
    )


def _use_text(volume: EbsVolume, holder: Holder, facts: Facts) -> str:
    what = f"volume {volume.id} is in use, not available: it is {holder.state} at {holder.node or holder.resource}"
    if holder.node is None:
        return f"{what}, which belongs to another AWS service; detach it with that service"
    if volume.multi_attach and isinstance(facts.target.node, HyperPodNode):
        return f"{what}, and HyperPod attaches also a Multi-Attach volume only while it is available; detach it first"
    if holder.state != "attached":
        return f"{what}; wait until it is available with `hyperpod-ebs volume wait {volume.id} --until available`"
    return f"{what}; move it with `hyperpod-ebs volume move {volume.id} {facts.target.node}`"


def _volume_to_detach(facts: Facts) -> Check:
    volume, node = facts.volume, facts.target.node
    if isinstance(volume, Unread):
        return _no_check("volume", volume)
    if here := holder_here(facts):
        return _ok("volume", f"volume {volume.id} is {here.state} at {node}")
    if not volume.holders:
        return _fails("volume", f"volume {volume.id} is {volume.state}, not attached to {node}: there is nothing to do")
    holders = ", ".join(str(each.node or each.resource) for each in volume.holders)
    return _fails(
        "volume", f"volume {volume.id} is attached to {holders}, not to {node}: give the node that it is attached to"
    )


def _zone(facts: Facts) -> Check:
    volume, machine = facts.volume, facts.machine
    if isinstance(volume, Unread):
        return _no_check("zone", volume)
    if not isinstance(machine, Machine):
        return _no_check("zone", machine)
    known = [(volume.zone_id, machine.zone_id), (volume.zone, machine.zone)]
    pair = next((pair for pair in known if all(pair)), None)
    if pair is None:
        return Check(name="zone", result="not checked", text=f"AWS does not show the zone of node {facts.target.node}")
    if pair[0] == pair[1]:
        return _ok("zone", f"volume and node are in zone {volume.zone}")
    return _fails(
        "zone",
        f"volume {volume.id} is in zone {volume.zone}, and node {facts.target.node} in zone "
        f"{machine.zone or machine.zone_id}: choose a node in {volume.zone}, or create a volume in the node's zone "
        f"from a snapshot (`hyperpod-ebs volume snapshot {volume.id}`)",
    )


def _limit(facts: Facts) -> Check:
    node, machine, attached = facts.target.node, facts.machine, facts.attached
    if not isinstance(machine, Machine):
        return _no_check("attach limit", machine)
    if isinstance(attached, Unread):
        return _no_check("attach limit", attached)
    reserved = _HYPERPOD_VOLUMES if isinstance(node, HyperPodNode) else 0
    limit = attach_limit(machine.type, reserved=reserved, interfaces=machine.interfaces)
    if attached < limit:
        return _ok("attach limit", f"node {node} of type {machine.type} has {attached} of at most {limit} volumes")
    return _fails(
        "attach limit",
        f"node {node} of type {machine.type} has {attached} volumes, and {limit} is its limit: detach one of them "
        f"(`hyperpod-ebs volume list --node {node}`), or choose another node",
    )


def _key(facts: Facts) -> Check:
    match facts.key:
        case None:
            return _ok("key", f"volume {facts.volume_id} is not encrypted")
        case Absent(message):
            return _fails("key", f"{message}: the volume's data cannot be read without it; restore a backup")
        case Unread() as unread:
            return _no_check("key", unread)
        case key if key.state == ENABLED:
            return _ok("key", f"KMS key {key.arn} is {key.state}")
        case key:
            until = f" until {key.deletion:%Y-%m-%d}" if key.deletion else ""
            steps = {
                "Disabled": f"enable it with `aws kms enable-key --key-id {key.arn}`",
                "PendingDeletion": f"cancel that with `aws kms cancel-key-deletion --key-id {key.arn}`, then enable it",
            }
            step = steps.get(key.state, f"make it usable; see `aws kms describe-key --key-id {key.arn}`")
            text = (
                f"KMS key {key.arn} of volume {facts.volume_id} is in state {key.state}{until}, not {ENABLED}: {step}"
            )
            return _fails("key", text)


def _kubernetes(facts: Facts, *, managed_is_fine: bool) -> Check:
    if not facts.managed_by and facts.unread_kubernetes:
        text = (
            f"the tags of volume {facts.volume_id} do not show that Kubernetes manages it; persistent volumes were not "
        )
        return Check(name="kubernetes", result="not checked", text=f"{text}read: {facts.unread_kubernetes}")
    if not facts.managed_by:
        return _ok("kubernetes", f"Kubernetes does not manage volume {facts.volume_id}")
    what = f"Kubernetes manages volume {facts.volume_id} ({facts.managed_by})"
    if managed_is_fine:
        return _ok("kubernetes", f"{what}; the command continues nevertheless")
    return _fails(
        "kubernetes",
        f"{what}, and attaching or detaching it by hand takes it away from its pods: use a pod for it, or repeat the "
        "command with --even-though-kubernetes-manages-it",
    )


def _permission(verdict: Verdict) -> Check:
    name = f"permission {verdict.need.action}"
    match verdict.decision:
        case "allowed":
            return _ok(name, f"the caller may {verdict.need.action} on {verdict.need.resource}")
        case "denied":
            step = (
                f'allow it: {{"Effect": "Allow", "Action": "{verdict.need.action}", "Resource": "{_scope(verdict)}"}}'
            )
            has_step = "allow it" in verdict.reason  # a denial of AWS says it already
            return _fails(name, verdict.reason if has_step else f"{verdict.reason}; {step}")
        case _:
            return Check(name=name, result="not checked", text=verdict.reason)


def _scope(verdict: Verdict) -> str:
    """The resources of the statement to add: all volumes, but the very cluster or key."""
    resource = verdict.need.resource
    return f"{resource.partition('/')[0]}/*" if ":volume/" in resource else resource


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _ok(name: str, text: str) -> Check:
    return Check(name=name, result="ok", text=text)


def _fails(name: str, text: str) -> Check:
    return Check(name=name, result="fails", text=text)


def _no_check(name: str, cause: Unread | Absent | None) -> Check:
    """A check of what could not be read; an object that does not exist has a failing check of its own."""
    match cause:
        case Unread(reason):
            return Check(name=name, result="not checked", text=reason)
        case Absent(message):
            return Check(name=name, result="not checked", text=message)
        case None:
            return Check(name=name, result="not checked", text="it is not known")
