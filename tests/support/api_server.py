"""A stand-in for the API server: HTTPS, the few paths that the driver uses, and objects that tests can change."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import trustme
from aiohttp import web

from hyperpod_ebs.driver.kubernetes.access import Access

NODE: Final = "hyperpod-i-0123456789abcdef0"
PROVIDER_ID: Final = "aws:///usw2-az1/sagemaker/cluster/hyperpod-abcdefghijkl-i-0123456789abcdef0"
LABELS: Final = {
    "node.kubernetes.io/instance-type": "ml.g5.8xlarge",
    "topology.kubernetes.io/region": "us-west-2",
    "topology.kubernetes.io/zone": "us-west-2a",
}
STARTUP_TAINT: Final = {
    "key": "ebs.csi.aws.com/agent-not-ready",
    "effect": "NoExecute",
    "timeAdded": "2026-01-01T00:00:00Z",
}
OTHER_TAINT: Final = {"key": "another.program/taint", "effect": "NoSchedule"}
_CA: Final = trustme.CA()


@dataclass
class ApiServer:
    """The API server of one cluster."""

    directory: Path
    """The directory where a pod would find its service account's files."""
    port: int = 0
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    csinodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    attachments: dict[str, dict[str, Any]] = field(default_factory=dict)
    configmaps: dict[str, dict[str, Any]] = field(default_factory=dict)
    token: str = "first"
    forbidden: set[str] = field(default_factory=set)
    """Requests that are answered with status 403: a verb (GET, PATCH, watch), or a verb and the start of a path."""
    broken: bool = False
    """Whether every request is answered with status 500."""
    requests: list[str] = field(default_factory=list)
    """The method and path of each request; the method of a watch is "watch"."""
    watches: list[int] = field(default_factory=list)
    """The requested duration of each watch in seconds."""
    peers: set[object] = field(default_factory=set)
    """The client addresses of all connections."""
    taints_before_patch: list[dict[str, Any]] = field(default_factory=list)
    """Taints to insert before all others, one just before each patch is applied, as if another program added them."""
    version: int = 1
    stop: Callable[[], Awaitable[None]] = field(init=False)
    """Stops the server early."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def start(cls, directory: Path, *, port: int = 0) -> AsyncGenerator[Self]:
        """Start the API server of a cluster with one HyperPod node."""
        server = cls(directory)
        server.put_node(NODE, PROVIDER_ID, LABELS)
        app = web.Application(middlewares=[server._authorize])
        app.router.add_route("*", "/{api:apis?}/{group:.*}/{kind}/{name}", server._answer_object)
        app.router.add_get("/api/v1/nodes", server._answer_list)
        app.router.add_get("/apis/storage.k8s.io/v1/volumeattachments", server._answer_list)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _CA.issue_cert("127.0.0.1").configure_cert(tls)
        _CA.cert_pem.write_to_path(str(directory / "ca.crt"))
        (directory / "token").write_text(server.token)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        server.port = runner.addresses[0][1]
        server.stop = runner.cleanup
        try:
            yield server
        finally:
            await runner.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that Kubernetes sets in a pod."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}

    def access(self) -> Access:
        """The access that a pod of the cluster has."""
        return Access.from_pod(self.environment, self.directory)

    def write_kubeconfig(self) -> Path:
        """Write a kubeconfig file for a process that is not in a pod."""
        config = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [
                {
                    "name": "c",
                    "cluster": {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": "ca.crt"},
                }
            ],
            "users": [{"name": "u", "user": {"tokenFile": "token"}}],
        }
        path = self.directory / "kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def put_node(self, name: str, provider: str, labels: dict[str, str], *taints: dict[str, Any]) -> dict[str, Any]:
        """Create a node, or replace the node with that name."""
        node = {
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": {"providerID": provider, "taints": list(taints)},
        }
        self.nodes[name] = node
        return node

    def register_driver(self, name: str, count: int | None, driver: str = "ebs.csi.aws.com") -> None:
        """Write the driver into the node's CSINode, as kubelet does."""
        allocatable = {} if count is None else {"allocatable": {"count": count}}
        self.csinodes[name] = {"spec": {"drivers": [{"name": driver, "nodeID": "i", **allocatable}]}}

    def add_attachment(self, name: str, node: str, attacher: str = "ebs.csi.aws.com") -> dict[str, Any]:
        """Create a VolumeAttachment."""
        attachment = {
            "metadata": {"name": name},
            "spec": {"attacher": attacher, "nodeName": node, "source": {"persistentVolumeName": f"pv-{name}"}},
        }
        self.attachments[name] = attachment
        return attachment

    async def send_event(self, kind: str, changed: dict[str, Any]) -> None:
        """Send an event to every watch."""
        async with self._changed:
            self.version += 1
            self._events.append((kind, changed))
            self._changed.notify_all()

    @web.middleware
    async def _authorize(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Record the request, and reject it if the token is wrong or the test has set a failure."""
        verb = "watch" if "watch" in request.query else request.method
        self.requests.append(f"{verb} {request.path}")
        self.peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        if self.broken:
            return _status(500, "etcd is down")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        if f"{verb} {request.path}".startswith(tuple(self.forbidden)):
            return _status(403, f'User "node" cannot {verb.lower()} {request.path}')
        return await handler(request)

    async def _answer_object(self, request: web.Request) -> web.Response:
        """Answer a GET of an object by its kind and name, a JSON patch of a node, or a merge patch of a ConfigMap."""
        kind, name = request.match_info["kind"], request.match_info["name"]
        objects = {"nodes": self.nodes, "csinodes": self.csinodes, "configmaps": self.configmaps}
        found = objects.get(kind, {}).get(name)
        if found is None:
            return _status(404, f'{kind} "{name}" not found')
        if request.method != "PATCH":
            return web.json_response(found)
        if request.content_type == "application/merge-patch+json":
            found["data"] = {**found.get("data", {}), **(await request.json())["data"]}
            return web.json_response(found)
        return await self._apply_patch(found, await request.json())

    async def _answer_list(self, request: web.Request) -> web.StreamResponse:
        """Answer a watch of one node, of all nodes or of all attachments, or a page of the attachments."""
        if "watch" not in request.query:
            return self._page(request)
        self.watches.append(int(request.query["timeoutSeconds"]))
        if request.path.endswith("/volumeattachments"):
            return await self._answer_watch(request, [])
        if "resourceVersion" not in request.query:  # kube-apiserver with etcd 3.4, when other objects have changed
            too_new = {"type": "ERROR", "object": {"message": "Too large resource version: 2, current: 1"}}
            return web.json_response(too_new)
        name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        nodes = [node for node in self.nodes.values() if name in ("", node["metadata"]["name"])]
        # Kubernetes API concepts, "Alternate representations of resources": only the metadata.
        if "as=PartialObjectMetadata" in request.headers.get("Accept", ""):
            nodes = [{"metadata": node["metadata"]} for node in nodes]
        return await self._answer_watch(request, nodes)

    def _page(self, request: web.Request) -> web.Response:
        """A page of at most `limit` attachments; `continue` is the index of the first."""
        items, begin = list(self.attachments.values()), int(request.query.get("continue", "0"))
        end = begin + int(request.query.get("limit", len(items)))
        metadata = {"resourceVersion": str(self.version), "continue": str(end) if end < len(items) else ""}
        return web.json_response({"metadata": metadata, "items": items[begin:end]})

    async def _answer_watch(self, request: web.Request, first: list[dict[str, Any]]) -> web.StreamResponse:
        """Send the objects in `first`, and then each event, until an END event."""
        response = web.StreamResponse()
        await response.prepare(request)
        seen = len(self._events)
        for found in first:
            await response.write(json.dumps({"type": "ADDED", "object": found}).encode() + b"\n")
        while True:
            async with self._changed:
                while not (new := self._events[seen:]):
                    await self._changed.wait()
            seen += len(new)
            for kind, changed in new:
                if kind == "END":
                    return response
                await response.write(json.dumps({"type": kind, "object": changed}).encode() + b"\n")

    async def _apply_patch(self, node: dict[str, Any], changes: list[dict[str, Any]]) -> web.Response:
        """Apply a JSON patch to the taints, completely or not at all: `test` and `remove` of RFC 6902."""
        if self.taints_before_patch:
            node["spec"]["taints"].insert(0, self.taints_before_patch.pop(0))
        taints = list(node["spec"]["taints"])
        for change in changes:
            index = int(change["path"].removeprefix("/spec/taints/"))
            if index >= len(taints) or (change["op"] == "test" and taints[index] != change["value"]):
                return _status(422, "the server rejected our request due to an error in our request")
            if change["op"] == "remove":
                del taints[index]
        node["spec"]["taints"] = taints
        return web.json_response(node)


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message, "code": code}, status=code)
