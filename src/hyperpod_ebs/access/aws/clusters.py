"""HyperPod clusters and their nodes (SageMaker API reference: ListClusters, DescribeCluster, ListClusterNodes)."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

import re
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors

IN_SERVICE = "InService"
_PAGE = 100

_ID: Final = re.compile(r"[a-z0-9]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A HyperPod cluster."""

    arn: str
    name: str
    status: str
    eks_cluster: str
    """The ARN of the EKS cluster that orchestrates it; empty if Slurm does."""

    restricted_groups: frozenset[str]
    """The names of its restricted instance groups, on whose nodes the two volume APIs do not work."""

    @property
    def id(self) -> str:
        """The 12 characters at the end of the ARN."""
        return self.arn.rpartition("/")[2]

    @property
    def account(self) -> str:
        """The account that owns the cluster."""
        return self.arn.split(":")[4]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNode:
    """A node of a HyperPod cluster."""

    cluster: Cluster
    instance: str
    group: str
    type: str
    status: str
    zone: str = ""
    """Empty in a list of nodes."""

    zone_id: str = ""

    @property
    def kubernetes_name(self) -> str:
        """The name of its Kubernetes node."""
        return f"hyperpod-{self.instance}"

    @property
    def csi_id(self) -> str:
        """Its id in CSI and in the provider id."""
        return f"hyperpod-{self.cluster.id}-{self.instance}"


async def find_cluster(aws: Aws, wanted: str | None) -> Cluster:
    """The cluster with this name, id or ARN; without any of them, the region's only one.

    Raises:
        NotFound: There is none.
        InvalidRequest: There are several, and `wanted` is None.
    """
    if wanted is None:
        names = await list_cluster_names(aws)
        if len(names) != 1:
            choice = f"give --cluster: {', '.join(names)}" if names else "create one, or give --region"
            kind: type[errors.Error] = errors.InvalidRequest if names else errors.NotFound
            raise kind(f"{len(names)} HyperPod clusters are in {aws.region}; {choice}")
        wanted = names[0]
    try:
        return await describe_cluster(aws, wanted)
    except errors.NotFound:
        if not _ID.fullmatch(wanted):
            raise
    return await describe_cluster(aws, await cluster_arn(aws, wanted))


async def cluster_arn(aws: Aws, cluster_id: str) -> str:
    """The ARN of a cluster of the caller's account in the region.

    Raises:
        Error: The caller cannot be identified.
    """
    account = (await aws.caller()).account
    return f"arn:{aws.partition}:sagemaker:{aws.region}:{account}:cluster/{cluster_id}"


async def list_cluster_names(aws: Aws) -> list[str]:
    """The names of all clusters in the region.

    Raises:
        Error: AWS refuses to list them.
    """
    sagemaker, names = await aws.sagemaker(), list[str]()
    with translate_sdk_errors(f"list the HyperPod clusters in {aws.region}"):
        async for page in sagemaker.get_paginator("list_clusters").paginate():
            names += [summary["ClusterName"] for summary in page["ClusterSummaries"]]
    return names


async def describe_cluster(aws: Aws, name_or_arn: str) -> Cluster:
    """Describe a cluster by name, id or ARN.

    Raises:
        NotFound: There is none.
    """
    sagemaker = await aws.sagemaker()
    with translate_sdk_errors(f"describe HyperPod cluster {name_or_arn}"):
        answer = await sagemaker.describe_cluster(ClusterName=name_or_arn)
        return Cluster(
            arn=answer["ClusterArn"],
            name=answer.get("ClusterName", ""),
            status=answer["ClusterStatus"],
            eks_cluster=answer.get("Orchestrator", {}).get("Eks", {}).get("ClusterArn", ""),
            restricted_groups=frozenset(
                group.get("InstanceGroupName", "") for group in answer.get("RestrictedInstanceGroups", ())
            ),
        )


async def describe_node(aws: Aws, cluster: Cluster, instance: str) -> ClusterNode:
    """Describe a node of a cluster, with its zone.

    Raises:
        NodeNotFound: The cluster has no such node.
    """
    sagemaker = await aws.sagemaker()
    with translate_sdk_errors(f"describe node {instance} of HyperPod cluster {cluster.name or cluster.arn}"):
        answer = await sagemaker.describe_cluster_node(ClusterName=cluster.arn, NodeId=instance)
        node = answer["NodeDetails"]
        placement = node.get("Placement", {})
        return ClusterNode(
            cluster=cluster,
            instance=node["InstanceId"],
            group=node["InstanceGroupName"],
            type=node["InstanceType"],
            status=node["InstanceStatus"]["Status"],
            zone=placement.get("AvailabilityZone", ""),
            zone_id=placement.get("AvailabilityZoneId", ""),
        )


async def list_nodes(aws: Aws, cluster: Cluster) -> list[ClusterNode]:
    """All nodes of a cluster.

    Raises:
        Error: AWS refuses to list them.
    """
    sagemaker, nodes = await aws.sagemaker(), list[ClusterNode]()
    with translate_sdk_errors(f"list the nodes of HyperPod cluster {cluster.name}"):
        pages = sagemaker.get_paginator("list_cluster_nodes")
        async for page in pages.paginate(ClusterName=cluster.arn, PaginationConfig={"PageSize": _PAGE}):
            nodes += [
                ClusterNode(
                    cluster=cluster,
                    instance=node["InstanceId"],
                    group=node["InstanceGroupName"],
                    type=node["InstanceType"],
                    status=node["InstanceStatus"]["Status"],
                )
                for node in page["ClusterNodeSummaries"]
            ]
    return nodes


async def describe_oidc_issuer(aws: Aws, eks_cluster: str) -> str:
    """The URL of the EKS cluster's OIDC issuer, which signs the tokens of service accounts.

    Raises:
        NotFound: There is no such cluster, or the cluster has no issuer.
    """
    eks = await aws.eks()
    with translate_sdk_errors(f"describe EKS cluster {eks_cluster}"):
        answer = await eks.describe_cluster(name=eks_cluster)
    if not (issuer := answer["cluster"].get("identity", {}).get("oidc", {}).get("issuer", "")):
        raise errors.NotFound(f"EKS cluster {eks_cluster} has no OIDC issuer; use --trust pod-identity")
    return issuer
