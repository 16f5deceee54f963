"""What the doctor looks at. Each part is loaded when the first check asks for it, and once; it may be missing."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import urlencode

from hyperpod_ebs.access.aws.clusters import Cluster, ClusterNode, describe_cluster, list_cluster_names, list_nodes
from hyperpod_ebs.access.aws.eks_clusters import (
    EksCluster,
    PodIdentity,
    find_eks_cluster,
    find_pod_identity,
    list_eks_cluster_names,
)
from hyperpod_ebs.access.aws.permissions import principal_arn
from hyperpod_ebs.access.aws.roles import Role, find_role
from hyperpod_ebs.access.aws.session import Aws, Caller
from hyperpod_ebs.access.aws.volumes import EbsVolume, list_volumes
from hyperpod_ebs.access.kubernetes.reader import Reader, list_all
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.driver.model.nodes import HyperPodNode, Node, parse_provider_id

Object = dict[str, Any]  # JSON as the API server writes it
T = TypeVar("T")

IN_POD: Final = "KUBERNETES_SERVICE_HOST"
"""The environment variable that each pod has."""

_WAY: Final = "how the driver gets its role"

ROLE_ANNOTATION: Final = "eks.amazonaws.com/role-arn"

_DEADLINE: Final = 15.0
"""Seconds for loading one part."""


class Missing(Exception):  # noqa: N818 - named for what happened
    """A part cannot be had from here."""

    def __init__(self, part: str, why: str, *, is_elsewhere: bool = False) -> None:
        """`is_elsewhere` says that the part can only be had at another place, such as on a node."""
        self.part = part
        self.why = why
        self.is_elsewhere = is_elsewhere
        super().__init__(f"{part}: {why}")


class Moot(Exception):  # noqa: N818 - named for what happened
    """A check has nothing to look at, because of something that another check reports."""


class Part(Generic[T]):
    """Something that is loaded once; the first check that asks waits for it."""

    def __init__(self, name: str, load: Callable[[], Awaitable[T]]) -> None:
        self._name = name
        self._load = load
        self._lock = asyncio.Lock()
        self._value: list[T] = []
        self._missing: Missing | None = None

    async def get(self) -> T:
        """Load it, or return what was loaded.

        Raises:
            Missing: It cannot be had, or did not come in time.
        """
        async with self._lock:
            if self._missing is None and not self._value:
                try:
                    async with asyncio.timeout(_DEADLINE):
                        self._value.append(await self._load())
                except Missing as missing:
                    self._missing = missing
                except errors.Error as error:
                    self._missing = Missing(self._name, str(error))
                except TimeoutError:
                    self._missing = Missing(self._name, f"no complete answer within {_DEADLINE:g} s")
            if self._missing is not None:
                raise self._missing
            return self._value[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user wants to have checked."""

    cluster: str | None = None
    """A HyperPod cluster; None for all in the region."""

    role: str | None = None
    """The name or ARN of the driver's role; None to find it."""

    namespace: str
    """Where the driver runs."""

    service_account: str
    """The service account of the driver's controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleUse:
    """How the driver's pods get their role."""

    arn: str
    """The role's ARN; of the flag --role, possibly its name."""

    way: Literal["flag", "Pod Identity", "IRSA", "caller"]
    """`caller` is the role of this process, which runs in a pod."""

    eks: EksCluster | None = None
    pod_identity: PodIdentity | None = None


class Context:
    """All that checks may ask for."""

    def __init__(
        self,
        wanted: Wanted,
        open_aws: Callable[[], AbstractAsyncContextManager[Aws]],
        open_reader: Callable[[], AbstractAsyncContextManager[Reader]],
        stack: AsyncExitStack,
    ) -> None:
        """What is opened is closed with the stack."""
        self.wanted = wanted
        self._aws = Part("AWS", lambda: stack.enter_async_context(open_aws()))
        self._caller = Part("AWS", self._load_caller)
        self._reader = Part("Kubernetes", lambda: stack.enter_async_context(open_reader()))
        self._version = Part("Kubernetes", self._load_version)
        self._clusters = Part("HyperPod clusters", self._load_clusters)
        self._cluster_nodes = Part("nodes of HyperPod clusters", self._load_cluster_nodes)
        self._volumes = Part("EBS volumes", self._load_volumes)
        self._eks_clusters = Part("EKS clusters", self._load_eks_clusters)
        self._role_uses = Part("the driver's role", self._load_role_uses)
        self._service_account = Part("the driver's service account", self._load_service_account)
        self._roles: dict[str, Part[Role | None]] = {}
        self.lists: dict[str, Part[list[Object]]] = {}
        """The lists of Kubernetes objects that were asked for, by their paths."""

    async def aws(self) -> Aws:
        """AWS's clients, with credentials that AWS accepts.

        Raises:
            Missing: There are no credentials or no region, or AWS does not accept them.
        """
        await self._caller.get()
        return await self._aws.get()

    async def caller(self) -> Caller:
        """Who signs the calls. Raises `Missing` as `aws` does."""
        return await self._caller.get()

    async def reader(self) -> Reader:
        """The API server, which answers. Raises `Missing` without kubeconfig file or kubectl, or if it is down."""
        await self._version.get()
        return await self._reader.get()

    async def kubernetes_version(self) -> str:
        """The API server's version, such as v1.34.1-eks-3cfe0ce; empty if the caller may not read it."""
        return await self._version.get()

    async def clusters(self) -> list[Cluster]:
        """The HyperPod clusters: the wanted one, or all in the region."""
        return await self._clusters.get()

    async def cluster_nodes(self) -> list[ClusterNode]:
        """The nodes of these clusters."""
        return await self._cluster_nodes.get()

    async def volumes(self) -> list[EbsVolume]:
        """The account's volumes in the region."""
        return await self._volumes.get()

    async def objects(self, path: str, **query: str) -> list[Object]:
        """All Kubernetes objects of a list, such as `/api/v1/nodes`; none if the cluster does not know the kind."""

        async def load() -> list[Object]:
            try:
                return await list_all(await self.reader(), path, **query)
            except errors.Denied as denial:
                raise Missing(f"Kubernetes {path}", str(denial)) from denial
            except errors.NotFound:
                return []
            except errors.Error as error:
                raise Missing("Kubernetes", str(error)) from error

        key = f"{path}?{urlencode(query)}" if query else path
        return await self.lists.setdefault(key, Part("Kubernetes", load)).get()

    async def has_kubernetes(self) -> bool:
        """Whether the API server answers."""
        try:
            await self.objects("/api/v1/nodes")
        except Missing:
            return False
        return True

    async def nodes(self) -> list[Node]:
        """The Kubernetes nodes that are nodes of HyperPod clusters or EC2 instances."""
        found = list[Node]()
        for item in await self.objects("/api/v1/nodes"):
            with suppress(errors.NodeNotFound):  # Fargate, a hybrid node or another cloud's
                found.append(parse_provider_id(item.get("spec", {}).get("providerID", "")))
        return found

    async def driver_volumes(self) -> dict[str, Object]:
        """The PersistentVolumes of the driver by the ids of their volumes."""
        found = {}
        for item in await self.objects("/api/v1/persistentvolumes"):
            csi = item.get("spec", {}).get("csi") or {}
            if csi.get("driver") == DRIVER:
                found[str(csi.get("volumeHandle"))] = item
        return found

    async def eks_clusters(self) -> list[EksCluster]:
        """The EKS clusters of the HyperPod clusters; without any, the region's only EKS cluster."""
        return await self._eks_clusters.get()

    async def clusters_here(self) -> list[Cluster]:
        """The HyperPod clusters whose nodes the Kubernetes cluster has; all if that is not known."""
        clusters = await self.clusters()
        if self.wanted.cluster or not await self.has_kubernetes():
            return clusters
        ids = {node.cluster for node in await self.nodes() if isinstance(node, HyperPodNode)}
        return [cluster for cluster in clusters if cluster.id in ids] if ids else clusters

    async def role_uses(self) -> list[RoleUse]:
        """How the driver gets its role, once for each EKS cluster; empty if it is known to get none."""
        return await self._role_uses.get()

    async def uses_of_existing_roles(self) -> list[RoleUse]:
        """How the driver gets its role, without roles that are known not to exist.

        Raises:
            Missing: That is not known.
            Moot: The driver gets no role, or one that does not exist; the check of the service account reports it.
        """
        uses = [use for use in await self.role_uses() if await self._may_exist(use.arn)]
        if not uses:
            raise Moot
        return uses

    async def uses_in_eks(self) -> list[tuple[RoleUse, EksCluster]]:
        """How the driver gets its role in each EKS cluster.

        Raises:
            Missing: That is not known, or not in which EKS cluster.
            Moot: As for `uses_of_existing_roles`.
        """
        uses = await self.uses_of_existing_roles()
        for use in uses:
            if use.way == "flag":
                raise Missing(_WAY, f"--role names {use.arn}, and not how the driver gets it; repeat without --role")
            if use.eks is None:
                raise Missing(_WAY, f"the EKS cluster whose driver has role {use.arn} is not known; give --cluster")
        return [(use, use.eks) for use in uses if use.eks is not None]

    async def _may_exist(self, role: str) -> bool:
        try:
            return await self.role(role) is not None
        except Missing:
            return True

    async def role_in_annotation(self) -> str:
        """The role in the annotation of the driver's service account; empty without one."""
        account = await self.service_account()
        return str(((account or {}).get("metadata", {}).get("annotations") or {}).get(ROLE_ANNOTATION, ""))

    async def service_account(self) -> Object | None:
        """The service account of the driver's controller; None if the cluster does not have it."""
        return await self._service_account.get()

    async def role(self, arn: str) -> Role | None:
        """The role with this name or ARN; None if it does not exist."""

        async def load() -> Role | None:
            account, fields = (await self.caller()).account, arn.split(":")
            if arn.startswith("arn:") and fields[4] != account:
                raise Missing("the driver's role", f"{arn} is in account {fields[4]}, and the caller in {account}")
            return await find_role(await self.aws(), arn)

        return await self._roles.setdefault(arn, Part("the driver's role", load)).get()

    async def cluster_tag(self) -> str:
        """The value of the controller's flag --k8s-tag-cluster-id; empty without it."""
        for item in await self.objects("/apis/apps/v1/deployments"):
            pod = item.get("spec", {}).get("template", {}).get("spec", {})
            namespace, account = item["metadata"].get("namespace"), pod.get("serviceAccountName")
            if (namespace, account) != (self.wanted.namespace, self.wanted.service_account):
                continue
            for container in pod.get("containers") or ():
                for argument in container.get("args") or ():
                    flag, _, value = str(argument).partition("=")
                    if flag == "--k8s-tag-cluster-id":
                        return value
        return ""

    async def _load_eks_clusters(self) -> list[EksCluster]:
        aws = await self.aws()
        clusters = await self.clusters_here()
        names = sorted({cluster.eks_cluster.rpartition("/")[2] for cluster in clusters if cluster.eks_cluster})
        if not names:
            names = await list_eks_cluster_names(aws)
            names = names if len(names) == 1 else []
        return [cluster for name in names if (cluster := await find_eks_cluster(aws, name))]

    async def _load_role_uses(self) -> list[RoleUse]:
        """Find the role: by the flag, in EKS, in Kubernetes, or as that of this process in the driver's pod."""
        if self.wanted.role:
            return [RoleUse(arn=self.wanted.role, way="flag")]
        eks_clusters, reasons = list[EksCluster](), list[str]()
        try:
            eks_clusters = await self.eks_clusters()
            if uses := await self._pod_identities(eks_clusters):
                return uses
        except (Missing, errors.Error) as reason:
            reasons.append(str(reason))
        try:
            if arn := await self.role_in_annotation():
                known: list[EksCluster | None] = [*eks_clusters]
                return [RoleUse(arn=arn, way="IRSA", eks=eks) for eks in known or [None]]
        except Missing as reason:
            reasons.append(str(reason))
        caller = await self.caller()
        if IN_POD in os.environ and ":assumed-role/" in caller.arn:
            return [RoleUse(arn=await principal_arn(await self.aws(), caller.arn), way="caller")]
        if not eks_clusters:
            reasons.append("no EKS cluster is known to be the driver's")
        if reasons:
            raise Missing("the driver's role", f"it cannot be found ({'; '.join(reasons)}); give --role")
        return []

    async def _pod_identities(self, eks_clusters: list[EksCluster]) -> list[RoleUse]:
        aws, uses = await self.aws(), list[RoleUse]()
        for eks in eks_clusters:
            pod_identity = await find_pod_identity(aws, eks.name, self.wanted.namespace, self.wanted.service_account)
            if pod_identity:
                uses.append(RoleUse(arn=pod_identity.role, way="Pod Identity", eks=eks, pod_identity=pod_identity))
        return uses

    async def _load_service_account(self) -> Object | None:
        path = f"/api/v1/namespaces/{self.wanted.namespace}/serviceaccounts/{self.wanted.service_account}"
        try:
            return await (await self.reader()).get(path)
        except errors.NotFound:
            return None

    async def _load_version(self) -> str:
        """Read the version: of an API server that is down, only this request fails, and not one for each list."""
        try:
            return str((await (await self._reader.get()).get("/version")).get("gitVersion", ""))
        except (errors.Denied, errors.NotFound):
            return ""

    async def _load_caller(self) -> Caller:
        return await (await self._aws.get()).caller()

    async def _load_clusters(self) -> list[Cluster]:
        aws = await self.aws()
        names = [self.wanted.cluster] if self.wanted.cluster else await list_cluster_names(aws)
        return [await describe_cluster(aws, name) for name in names]

    async def _load_cluster_nodes(self) -> list[ClusterNode]:
        aws = await self.aws()
        return [node for cluster in await self.clusters() for node in await list_nodes(aws, cluster)]

    async def _load_volumes(self) -> list[EbsVolume]:
        return await list_volumes(await self.aws())
