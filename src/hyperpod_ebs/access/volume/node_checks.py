"""The preconditions that a node has to meet, and its cluster and account."""

from collections.abc import Iterator
from typing import Final

from hyperpod_ebs.access.aws.clusters import IN_SERVICE, Cluster
from hyperpod_ebs.access.volume.checks import Check, failing, passing, unknown
from hyperpod_ebs.access.volume.facts import Absent, Facts, Machine, Unread
from hyperpod_ebs.driver.model.limits import attach_limit
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode

_HYPERPOD_VOLUMES: Final = 2
"""The root and the secondary volume of a HyperPod node, which EC2 does not show."""

_RUNNING: Final = {HyperPodNode: frozenset({"Running"}), Ec2Node: frozenset({"running", "stopped"})}
"""The states of nodes that take volumes."""

_ENDING: Final = frozenset({"ShuttingDown", "shutting-down", "terminated"})
"""The states of nodes that do not run again."""


def target_checks(facts: Facts, *, is_detach: bool = False) -> Iterator[Check]:
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
        return unknown("account", facts.volume)
    owner = facts.volume.owner or facts.account
    cluster = facts.target.cluster_arn.split(":")[4] if facts.target.cluster_arn else facts.account
    if owner == cluster:
        return passing("account", f"volume and node belong to account {owner}")
    return failing(
        "account",
        f"volume {facts.volume_id} belongs to account {owner}, and node {facts.target.node} to account {cluster}: copy "
        f"the volume into account {cluster} through a shared snapshot",
    )


def _cluster(facts: Facts) -> Check:
    match facts.target.cluster:
        case Absent(message):
            return failing("cluster", f"{message}: give --cluster and --region of a cluster that exists")
        case Cluster() as cluster if cluster.status == IN_SERVICE:
            return passing("cluster", f"cluster {cluster.name} is {cluster.status}")
        case Cluster() as cluster:
            return failing(
                "cluster",
                f"cluster {cluster.name} is {cluster.status}, not {IN_SERVICE}: wait until `aws sagemaker "
                f"describe-cluster --cluster-name {cluster.name}` shows {IN_SERVICE}",
            )
        case other:
            return unknown("cluster", other)


def _orchestrator(facts: Facts) -> Check:
    cluster = facts.target.cluster
    if not isinstance(cluster, Cluster):
        return unknown("orchestrator", cluster)
    if cluster.eks_cluster:
        return passing(
            "orchestrator", f"cluster {cluster.name} is orchestrated by EKS cluster {_name(cluster.eks_cluster)}"
        )
    return failing(
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
            return failing("node", f"{message}: {step}")
        case Machine() if machine.status in _RUNNING[type(node)] or is_detach:
            return passing("node", f"node {node} is {machine.status}")
        case Machine():
            step = "choose another node" if machine.status in _ENDING else "wait until it runs, or choose another node"
            return failing("node", f"node {node} is {machine.status}, not running: {step}")
        case other:
            return unknown("node", other)


def _group(facts: Facts) -> Check:
    cluster, machine = facts.target.cluster, facts.machine
    if not isinstance(machine, Machine):
        return unknown("instance group", machine)
    if not isinstance(cluster, Cluster):
        return unknown("instance group", cluster)
    if machine.group not in cluster.restricted_groups:
        return passing("instance group", f"instance group {machine.group} is not restricted")
    return failing(
        "instance group",
        f"node {facts.target.node} is in the restricted instance group {machine.group}, whose nodes take no volumes: "
        "choose a node of another instance group",
    )


def limit_check(facts: Facts) -> Check:
    """Whether the node can have another volume."""
    node, machine, attached = facts.target.node, facts.machine, facts.attached
    if not isinstance(machine, Machine):
        return unknown("attach limit", machine)
    if isinstance(attached, Unread):
        return unknown("attach limit", attached)
    reserved = _HYPERPOD_VOLUMES if isinstance(node, HyperPodNode) else 0
    limit = attach_limit(machine.type, reserved=reserved, interfaces=machine.interfaces)
    if attached < limit:
        return passing("attach limit", f"node {node} of type {machine.type} has {attached} of at most {limit} volumes")
    return failing(
        "attach limit",
        f"node {node} of type {machine.type} has {attached} volumes, and {limit} is its limit: detach one of them "
        f"(`hyperpod-ebs volume list --node {node}`), or choose another node",
    )


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]
