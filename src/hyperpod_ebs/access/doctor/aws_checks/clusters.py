"""Whether the HyperPod clusters can take volumes: their status, orchestrator, restricted groups and nodes."""

from collections.abc import AsyncIterator
from typing import Final

from hyperpod_ebs.access.aws import eks_clusters
from hyperpod_ebs.access.aws.clusters import IN_SERVICE, ClusterNode
from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import name_list
from hyperpod_ebs.driver.model.nodes import HyperPodNode

_PASSING: Final = frozenset({"Creating", "SystemUpdating", "Updating"})
"""The statuses of a cluster that AWS ends by itself."""

_RUNNING: Final = "Running"
_FAILURE: Final = "Failure"


async def _check_status(context: Context) -> AsyncIterator[Finding]:
    for cluster in await context.clusters_here():
        if cluster.status == IN_SERVICE:
            continue
        evidence = f"its status is {cluster.status}, and volumes can be attached only in status {IN_SERVICE}"
        if cluster.status in _PASSING:
            yield may_fail(
                f"HyperPod cluster {cluster.name}",
                evidence,
                "Attaching and detaching fail until AWS has finished",
                f"wait: `aws sagemaker describe-cluster --cluster-name {cluster.name} --query ClusterStatus`",
            )
        else:
            yield fails(
                f"HyperPod cluster {cluster.name}",
                evidence,
                "No volume can be attached to its nodes or detached from them",
                f"read why: `aws sagemaker describe-cluster --cluster-name {cluster.name} --query FailureMessage`",
            )


async def _check_orchestrator(context: Context) -> AsyncIterator[Finding]:
    aws = await context.aws()
    for cluster in await context.clusters_here():
        if not cluster.eks_cluster:
            yield may_fail(
                f"HyperPod cluster {cluster.name}",
                "it is orchestrated by Slurm, and the two volume APIs need EKS",
                "No volume can be attached to its nodes",
                "use a cluster that is orchestrated by EKS, or name another one with --cluster",
            )
            continue
        name = cluster.eks_cluster.rpartition("/")[2]
        eks = await eks_clusters.find_eks_cluster(aws, name)
        if eks is None:
            yield fails(
                f"EKS cluster {name}",
                f"it orchestrates HyperPod cluster {cluster.name}, and it does not exist",
                "No pod runs on the nodes of the HyperPod cluster",
                f"create HyperPod cluster {cluster.name} again with another EKS cluster",
            )
        elif eks.status != eks_clusters.ACTIVE:
            yield may_fail(
                f"EKS cluster {name}",
                f"its status is {eks.status}, not {eks_clusters.ACTIVE}",
                "Pods may not start, and the driver may not get credentials",
                f"`aws eks describe-cluster --name {name} --query cluster.health`",
            )


async def _check_restricted_groups(context: Context) -> AsyncIterator[Finding]:
    nodes = await context.cluster_nodes()
    for cluster in await context.clusters_here():
        for group in sorted(cluster.restricted_groups):
            count = sum(node.cluster.id == cluster.id and node.group == group for node in nodes)
            if count:
                yield may_fail(
                    f"instance group {group} of HyperPod cluster {cluster.name}",
                    f"it is a restricted instance group, and its nodes ({count}) take no volumes",
                    "A pod with a volume that is scheduled to one of these nodes stays in ContainerCreating",
                    f"keep such pods off the group: a node affinity with "
                    f"sagemaker.amazonaws.com/instance-group-name NotIn [{group}]",
                )


async def _check_nodes(context: Context) -> AsyncIterator[Finding]:
    here = {cluster.id for cluster in await context.clusters_here()}
    by_status: dict[tuple[str, str], list[ClusterNode]] = {}
    for node in await context.cluster_nodes():
        if node.cluster.id in here and node.status != _RUNNING:
            by_status.setdefault((node.cluster.name, node.status), []).append(node)
    for (cluster, status), nodes in sorted(by_status.items()):
        report = fails if status == _FAILURE else may_fail
        yield report(
            f"node {name_list(node.kubernetes_name for node in nodes)}",
            f"the status in HyperPod cluster {cluster} is {status}, not {_RUNNING}",
            "Volumes cannot be attached to such a node, and those on it may not be detached",
            f"`aws sagemaker describe-cluster-node --cluster-name {cluster} --node-id {nodes[0].instance}`; "
            "if it stays so, replace the node",
        )


async def _check_kubernetes_nodes(context: Context) -> AsyncIterator[Finding]:
    """Nodes in Kubernetes that HyperPod does not know."""
    clusters = {cluster.id: cluster for cluster in await context.clusters()}
    known = {(node.cluster.id, node.instance) for node in await context.cluster_nodes()}
    unknown: dict[str, list[str]] = {}
    for node in await context.nodes():
        if isinstance(node, HyperPodNode) and (node.cluster, node.instance) not in known:
            unknown.setdefault(node.cluster, []).append(f"hyperpod-{node.instance}")
    aws = await context.aws()
    for id_, names in unknown.items():
        cluster = clusters.get(id_)
        if cluster is None and context.wanted.cluster:
            continue
        account = f"cluster {id_} is not in account {(await context.caller()).account} in {aws.region}"
        yield fails(
            f"node {name_list(names)}",
            f"its provider id names HyperPod cluster {id_}, and "
            + (f"HyperPod cluster {cluster.name} does not have the node" if cluster else account),
            "Volumes of its pods can be neither attached nor detached",
            "delete the Node object if the instance is gone, or use the account and region of the cluster",
        )


CHECKS: Final = (
    Check(name="cluster status", promise="the HyperPod clusters are in service", run=_check_status),
    Check(name="orchestrator", promise="the HyperPod clusters are orchestrated by EKS", run=_check_orchestrator),
    Check(name="restricted groups", promise="no restricted instance group has nodes", run=_check_restricted_groups),
    Check(name="cluster nodes", promise="the nodes of the HyperPod clusters are running", run=_check_nodes),
    Check(name="HyperPod nodes in Kubernetes", promise="HyperPod knows them", run=_check_kubernetes_nodes),
)
