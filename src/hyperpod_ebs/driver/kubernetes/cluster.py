"""This node's objects in its cluster: its Node, its CSINode, its VolumeAttachments."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, ClassVar, Final
from urllib.parse import quote

from hyperpod_ebs.driver.kubernetes.api import ANY_VERSION, Api, Object
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER, CsiNodeEntry, KubernetesNode, Taint
from hyperpod_ebs.driver.model.node_identity import PartialIdentity

NODES: Final = "/api/v1/nodes"
_STORAGE: Final = "/apis/storage.k8s.io/v1"
_CSINODES: Final = f"{_STORAGE}/csinodes"
_ATTACHMENTS: Final = f"{_STORAGE}/volumeattachments"
_PAGE: Final = "500"
"""VolumeAttachments in a page. Those of all nodes are listed, because the API cannot select by node."""


class Kubernetes:
    """The cluster, as one node needs it."""

    name: ClassVar[str] = "kubernetes"
    """Its name in `--metadata-sources`."""

    def __init__(self, api: Api, node: str) -> None:
        """`node` is the Kubernetes node's name; empty if it is not known."""
        self._api = api
        self._node = node

    async def read_identity(self) -> PartialIdentity:
        """Read what this node's object says about its identity.

        Raises:
            Error: The object cannot be read, or lacks a label or the provider id.
        """
        return (await self.read_node()).identity()

    async def read_node(self) -> KubernetesNode:
        """Read this node's object.

        Raises:
            NodeNotFound: It does not exist.
        """
        if not self._node:
            raise errors.Refused("the Kubernetes node's name is not known; set CSI_NODE_NAME from spec.nodeName")
        try:
            return _parse_node(await self._api.get(self._path))
        except errors.NotFound as error:
            raise errors.NodeNotFound(f"{error}; check that CSI_NODE_NAME is the node's name") from error

    async def watch_node(self) -> AsyncGenerator[KubernetesNode]:
        """Yield this node's object, now and after each change, until the watch ends or the node is deleted."""
        events = self._api.watch(NODES, fieldSelector=f"metadata.name={self._node}", resourceVersion=ANY_VERSION)
        async with aclosing(events) as watched:
            async for event in watched:
                if event.get("type") == "DELETED":
                    return
                yield _parse_node(changed_object(event))

    async def read_csinode_entry(self) -> CsiNodeEntry | None:
        """Read the driver's entry in this node's CSINode; None if kubelet has not registered the driver."""
        try:
            csinode = await self._api.get(f"{_CSINODES}/{quote(self._node)}")
        except errors.NotFound:
            return None
        for driver in csinode.get("spec", {}).get("drivers") or ():
            if driver.get("name") == DRIVER:
                return CsiNodeEntry(attach_limit=(driver.get("allocatable") or {}).get("count"))
        return None

    async def watch_attachments(self) -> AsyncGenerator[frozenset[str]]:
        """Yield the PersistentVolumes that the driver has attached to this node, now and after each change.

        The attachments are listed once; the watch reports later changes.
        """
        volumes, version = await self._list_attachments()
        yield frozenset(volumes.values())
        async with aclosing(self._api.watch(_ATTACHMENTS, resourceVersion=version)) as watched:
            async for event in watched:
                attachment = changed_object(event)
                if not self._is_to_this_node(attachment):
                    continue
                name = attachment["metadata"]["name"]
                if event.get("type") == "DELETED":
                    volumes.pop(name, None)
                else:
                    volumes[name] = _volume_name(attachment)
                yield frozenset(volumes.values())

    async def _list_attachments(self) -> tuple[dict[str, str], str]:
        """List the driver's attachments to this node, each with its volume, and the list's resource version."""
        volumes: dict[str, str] = {}
        query = {"limit": _PAGE}
        while True:
            page = await self._api.get(_ATTACHMENTS, **query)
            here = [attachment for attachment in page.get("items") or () if self._is_to_this_node(attachment)]
            volumes |= {attachment["metadata"]["name"]: _volume_name(attachment) for attachment in here}
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return volumes, metadata.get("resourceVersion", "")
            query = {"limit": _PAGE, "continue": metadata["continue"]}

    def _is_to_this_node(self, attachment: Object) -> bool:
        """Whether the driver attaches a volume to this node."""
        spec = attachment.get("spec") or {}
        return bool(spec.get("attacher") == DRIVER and spec.get("nodeName") == self._node)

    async def remove_taints(self, node: KubernetesNode, taints: Iterable[Taint]) -> None:
        """Remove taints from the node; `node` is its object as last read.

        The patch names each taint by its index, and applies only if the taint is still there. To write the whole list
        instead would undo what other programs change at the same time.

        Raises:
            Conflict: The node's taints have changed since the node was read.
        """
        changes: list[Object] = []
        # From the last to the first, so that no removal changes the index of the next taint.
        for index in reversed([node.taints.index(taint) for taint in node.taints if taint in set(taints)]):
            path = f"/spec/taints/{index}"
            changes += [
                {"op": "test", "path": path, "value": _render_taint(node.taints[index])},
                {"op": "remove", "path": path},
            ]
        if changes:
            await self._api.patch(self._path, changes)

    @property
    def _path(self) -> str:
        return f"{NODES}/{quote(self._node)}"


def changed_object(event: Object) -> Object:
    """The object that a watch event is about.

    Raises:
        Unavailable: The API server has ended the watch with an error, and it must be started again.
    """
    changed: Object = event.get("object") or {}
    if event.get("type") == "ERROR":
        raise errors.Unavailable(f"the API server ended a watch: {changed.get('message', 'no reason given')}")
    return changed


def _volume_name(attachment: Object) -> str:
    """The name of the attached PersistentVolume; of the attachment itself if it has none."""
    name: str = attachment["spec"].get("source", {}).get("persistentVolumeName") or attachment["metadata"]["name"]
    return name


def _parse_node(found: Object) -> KubernetesNode:
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


def _render_taint(taint: Taint) -> Object:
    """A taint as the API server writes it, without its empty fields."""
    fields = {"key": taint.key, "value": taint.value, "effect": taint.effect, "timeAdded": taint.added}
    return {name: value for name, value in fields.items() if value}
