"""EKS clusters, their pod identity associations and add-ons (EKS API reference)."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors

ACTIVE: Final = "ACTIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class EksCluster:
    """An EKS cluster."""

    arn: str
    name: str
    status: str
    issuer: str
    """The URL of the issuer of its service account tokens; empty without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """The role that EKS Pod Identity gives to the pods of a service account."""

    id: str
    role: str
    """The role's ARN."""

    has_session_tags: bool
    has_policy: bool
    """Whether a session policy limits what the role's policies allow."""


async def list_eks_cluster_names(aws: Aws) -> list[str]:
    """The names of all EKS clusters in the region.

    Raises:
        Error: AWS refuses to list them.
    """
    eks, names = await aws.eks(), list[str]()
    with translate_sdk_errors(f"list the EKS clusters in {aws.region}"):
        async for page in eks.get_paginator("list_clusters").paginate():
            names += page["clusters"]
    return names


async def find_eks_cluster(aws: Aws, name: str) -> EksCluster | None:
    """The EKS cluster with this name; None if there is none.

    Raises:
        Error: AWS refuses to describe it.
    """
    eks = await aws.eks()
    try:
        with translate_sdk_errors(f"describe EKS cluster {name}"):
            cluster = (await eks.describe_cluster(name=name))["cluster"]
    except errors.NotFound:
        return None
    return EksCluster(
        arn=cluster["arn"],
        name=cluster["name"],
        status=cluster["status"],
        issuer=cluster.get("identity", {}).get("oidc", {}).get("issuer", ""),
    )


async def find_pod_identity(aws: Aws, cluster: str, namespace: str, service_account: str) -> PodIdentity | None:
    """The pod identity association of a service account; None without one.

    Raises:
        Error: AWS refuses to list or describe it.
    """
    eks = await aws.eks()
    with translate_sdk_errors(f"read the pod identity associations of EKS cluster {cluster}"):
        listed = await eks.list_pod_identity_associations(
            clusterName=cluster, namespace=namespace, serviceAccount=service_account
        )
        for entry in listed["associations"]:
            answer = await eks.describe_pod_identity_association(
                clusterName=cluster, associationId=entry["associationId"]
            )
            found = answer["association"]
            return PodIdentity(
                id=found["associationId"],
                role=found["roleArn"],
                has_session_tags=not found.get("disableSessionTags", False),
                has_policy=bool(found.get("policy")),
            )
    return None


async def addon_status(aws: Aws, cluster: str, name: str) -> str | None:
    """The status of an EKS add-on; None if the cluster does not have it.

    Raises:
        Error: AWS refuses to describe it.
    """
    eks = await aws.eks()
    try:
        with translate_sdk_errors(f"describe add-on {name} of EKS cluster {cluster}"):
            return (await eks.describe_addon(clusterName=cluster, addonName=name))["addon"]["status"]
    except errors.NotFound:
        return None
