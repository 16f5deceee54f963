"""What the doctor looks at. Each part is loaded when the first check asks for it, and once; it may be missing."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from hyperpod_ebs.access.aws.clusters import Cluster, ClusterNode, describe_cluster, list_cluster_names, list_nodes
from hyperpod_ebs.access.aws.session import Aws, AwsOptions, Caller, open_aws
from hyperpod_ebs.access.aws.volumes import EbsVolume, list_volumes
from hyperpod_ebs.access.kubernetes.reader import KubernetesOptions, Reader, list_all, open_reader
from hyperpod_ebs.driver.model import errors

Object = dict[str, Any]  # JSON as the API server writes it
T = TypeVar("T")

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


class Context:
    """All that checks may ask for."""

    def __init__(self, wanted: Wanted, aws: AwsOptions, kubernetes: KubernetesOptions, stack: AsyncExitStack) -> None:
        """What is opened is closed with the stack."""
        self.wanted = wanted
        self._aws = Part("AWS", lambda: stack.enter_async_context(open_aws(aws)))
        self._caller = Part("AWS", self._load_caller)
        self._reader = Part("Kubernetes", lambda: stack.enter_async_context(open_reader(kubernetes)))
        self._clusters = Part("HyperPod clusters", self._load_clusters)
        self._cluster_nodes = Part("nodes of HyperPod clusters", self._load_cluster_nodes)
        self._volumes = Part("EBS volumes", self._load_volumes)
        self._lists: dict[str, Part[list[Object]]] = {}

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
        """The API server. Raises `Missing` without kubeconfig file or kubectl."""
        return await self._reader.get()

    async def clusters(self) -> list[Cluster]:
        """The HyperPod clusters: the wanted one, or all in the region."""
        return await self._clusters.get()

    async def cluster_nodes(self) -> list[ClusterNode]:
        """The nodes of these clusters."""
        return await self._cluster_nodes.get()

    async def volumes(self) -> list[EbsVolume]:
        """The account's volumes in the region."""
        return await self._volumes.get()

    async def objects(self, path: str) -> list[Object]:
        """All Kubernetes objects of a list, such as `/api/v1/nodes`; none if the cluster does not know the kind."""

        async def load() -> list[Object]:
            try:
                return await list_all(await self.reader(), path)
            except errors.Denied as denial:
                raise Missing(f"Kubernetes {path}", str(denial)) from denial
            except errors.NotFound:
                return []
            except errors.Error as error:
                raise Missing("Kubernetes", str(error)) from error

        return await self._lists.setdefault(path, Part("Kubernetes", load)).get()

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
