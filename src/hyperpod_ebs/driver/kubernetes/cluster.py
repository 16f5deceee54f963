"""The cluster as this node's process needs it: its own node, its CSINode, its attachments."""

import os
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote

from hyperpod_ebs.driver.kubernetes import kubeconfig
from hyperpod_ebs.driver.kubernetes.access import Access
from hyperpod_ebs.driver.kubernetes.api import Api, Object
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER, CsiNodeEntry, KubernetesNode, Taint
from hyperpod_ebs.driver.model.node_identity import PartialIdentity

_NODES: Final = "/api/v1/nodes"
_STORAGE: Final = "/apis/storage.k8s.io/v1"
_CSINODES: Final = f"{_STORAGE}/csinodes"
_ATTACHMENTS: Final = f"{_STORAGE}/volumeattachments"
_PAGE: Final = "500"
"""Attachments a page: those of all nodes are listed together, for the API cannot tell one node's from the rest."""


class Kubernetes:
    """One node's view of its cluster."""

    name: ClassVar[str] = "kubernetes"
    """What it is called among the metadata sources."""

    def __init__(self, api: Api, node: str) -> None:
        """`node` is the Kubernetes node's name."""
        self._api = api
        self._node = node

    @classmethod
    @asynccontextmanager
    async def connect(cls, node: str | None, config: Path | None) -> AsyncGenerator[Self]:
        """The cluster that a kubeconfig file, or else the pod's own environment, leads to."""
        api = Api((lambda: kubeconfig.read_access(config)) if config else lambda: Access.from_pod(os.environ))
        try:
            yield cls(api, node or "")
        finally:
            await api.close()

    async def read_identity(self) -> PartialIdentity:
        """Who this node is, by its object.

        Raises:
            Error: It cannot be read, or does not say.
        """
        return (await self.read_node()).identity()

    async def read_node(self) -> KubernetesNode:
        """This node.

        Raises:
            NodeNotFound: It is gone, or never was.
        """
        if not self._node:
            raise errors.Refused("the Kubernetes node's name is not known; set CSI_NODE_NAME from spec.nodeName")
        try:
            return _node(await self._api.get(self._path))
        except errors.NotFound as error:
            raise errors.NodeNotFound(f"{error}; is CSI_NODE_NAME the node's name?") from error

    async def watch_node(self) -> AsyncGenerator[KubernetesNode]:
        """This node as it is, and after each change, until the API server ends the watch or the node is gone."""
        events = self._api.watch(_NODES, fieldSelector=f"metadata.name={self._node}")
        async with aclosing(events) as watched:
            async for event in watched:
                if event.get("type") == "DELETED":
                    return
                yield _node(_object(event))

    async def csinode_entry(self) -> CsiNodeEntry | None:
        """What the node's CSINode says of our driver; None while kubelet has not taken it."""
        try:
            csinode = await self._api.get(f"{_CSINODES}/{quote(self._node)}")
        except errors.NotFound:
            return None
        for driver in csinode.get("spec", {}).get("drivers") or ():
            if driver.get("name") == DRIVER:
                return CsiNodeEntry(volumes=(driver.get("allocatable") or {}).get("count"))
        return None

    async def watch_attachments(self) -> AsyncGenerator[frozenset[str]]:
        """The PersistentVolumes attached to this node by our driver, now and after each change, until the watch ends.

        They are listed once; what changes afterwards is told by the watch alone.
        """
        ours, version = await self._listed()
        yield frozenset(ours.values())
        async with aclosing(self._api.watch(_ATTACHMENTS, resourceVersion=version)) as watched:
            async for event in watched:
                about = _object(event)
                if not self._is_ours(about):
                    continue
                name = about["metadata"]["name"]
                if event.get("type") == "DELETED":
                    ours.pop(name, None)
                else:
                    ours[name] = _volume(about)
                yield frozenset(ours.values())

    async def _listed(self) -> tuple[dict[str, str], str]:
        """Our attachments to this node, each with its volume; and the state of the cluster that they were read at."""
        ours: dict[str, str] = {}
        query = {"limit": _PAGE}
        while True:
            page = await self._api.get(_ATTACHMENTS, **query)
            ours |= {one["metadata"]["name"]: _volume(one) for one in page.get("items") or () if self._is_ours(one)}
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return ours, metadata.get("resourceVersion", "")
            query = {"limit": _PAGE, "continue": metadata["continue"]}

    def _is_ours(self, attachment: Object) -> bool:
        spec = attachment.get("spec") or {}
        return bool(spec.get("attacher") == DRIVER and spec.get("nodeName") == self._node)

    async def remove_taints(self, node: KubernetesNode, taints: Iterable[Taint]) -> None:
        """Take taints off the node as it was read, and leave every other as it is.

        Each is named by its place and taken off only if it still is what stands there: no change that somebody
        else makes meanwhile is lost, as it would be were the whole list written.

        Raises:
            Conflict: The taints have changed since the node was read.
        """
        changes: list[Object] = []
        # From the last to the first, so that none moves the place of the next.
        for place in reversed([node.taints.index(taint) for taint in node.taints if taint in set(taints)]):
            path = f"/spec/taints/{place}"
            changes += [
                {"op": "test", "path": path, "value": _written(node.taints[place])},
                {"op": "remove", "path": path},
            ]
        if changes:
            await self._api.patch(self._path, changes)

    @property
    def _path(self) -> str:
        return f"{_NODES}/{quote(self._node)}"


def _object(event: Object) -> Object:
    """What an event is about.

    Raises:
        Unavailable: It is the API server's word that the watch has to begin anew.
    """
    about: Object = event.get("object") or {}
    if event.get("type") == "ERROR":
        raise errors.Unavailable(f"the API server ends a watch: {about.get('message', 'no reason given')}")
    return about


def _volume(attachment: Object) -> str:
    """The PersistentVolume that is attached, else the attachment's own name."""
    name: str = attachment["spec"].get("source", {}).get("persistentVolumeName") or attachment["metadata"]["name"]
    return name


def _node(found: Object) -> KubernetesNode:
    spec: dict[str, Any] = found.get("spec") or {}  # JSON, of which the types below are made
    metadata: dict[str, Any] = found.get("metadata") or {}  # as above
    return KubernetesNode(
        name=metadata.get("name", ""),
        provider_id=spec.get("providerID", ""),
        labels=metadata.get("labels") or {},
        cordoned=bool(spec.get("unschedulable")),
        taints=tuple(
            Taint(
                key=taint.get("key", ""),
                effect=taint.get("effect", ""),
                value=taint.get("value", ""),
                added=taint.get("timeAdded", ""),
            )
            for taint in spec.get("taints") or ()
        ),
    )


def _written(taint: Taint) -> Object:
    """A taint as the API server writes it: what is empty is left out."""
    fields = {"key": taint.key, "value": taint.value, "effect": taint.effect, "timeAdded": taint.added}
    return {name: value for name, value in fields.items() if value}
