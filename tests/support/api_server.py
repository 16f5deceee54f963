"""A stand-in for the API server: real HTTPS, the few paths that a node process asks, and a node that can be changed."""

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
PROVIDER: Final = "aws:///usw2-az1/sagemaker/cluster/hyperpod-abcdefghijkl-i-0123456789abcdef0"
LABELS: Final = {
    "node.kubernetes.io/instance-type": "ml.g5.8xlarge",
    "topology.kubernetes.io/region": "us-west-2",
    "topology.kubernetes.io/zone": "us-west-2a",
}
TAINT: Final = {"key": "ebs.csi.aws.com/agent-not-ready", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
OTHER: Final = {"key": "somebody.else/taint", "effect": "NoSchedule"}
_CA: Final = trustme.CA()


@dataclass
class ApiServer:
    """One cluster."""

    directory: Path
    """Where a pod would find its service account's files."""
    port: int = 0
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    csinodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    attachments: dict[str, dict[str, Any]] = field(default_factory=dict)
    token: str = "first"
    forbidden: set[str] = field(default_factory=set)
    """Methods and verbs that are answered with 403: GET, PATCH, watch."""
    broken: bool = False
    """Whether everything is answered with 500."""
    asked: list[str] = field(default_factory=list)
    """Each request's method and path."""
    watches: list[int] = field(default_factory=list)
    """After how many seconds each watch was to end."""
    peers: set[object] = field(default_factory=set)
    """The other ends of all connections."""
    meddle: list[dict[str, Any]] = field(default_factory=list)
    """Taints that somebody else puts before all others just before a patch is looked at, one each."""
    version: int = 1
    stop: Callable[[], Awaitable[None]] = field(init=False)
    """Ends it before its time."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def running(cls, directory: Path, *, port: int = 0) -> AsyncGenerator[Self]:
        """A cluster with one HyperPod node."""
        server = cls(directory)
        server.node(NODE, PROVIDER, LABELS)
        app = web.Application(middlewares=[server._admit])
        app.router.add_route("*", "/{api:apis?}/{group:.*}/{kind}/{name}", server._one)
        app.router.add_get("/api/v1/nodes", server._all)
        app.router.add_get("/apis/storage.k8s.io/v1/volumeattachments", server._all)
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
        """What a pod has in its environment."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}

    def access(self) -> Access:
        """What a pod would find."""
        return Access.from_pod(self.environment, self.directory)

    def kubeconfig(self) -> Path:
        """A file for a process that is no pod."""
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

    def node(self, name: str, provider: str, labels: dict[str, str], *taints: dict[str, Any]) -> dict[str, Any]:
        """Have a node, new or in place of the one of that name."""
        made = {
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": {"providerID": provider, "taints": list(taints)},
        }
        self.nodes[name] = made
        return made

    def enrol(self, name: str, count: int | None, driver: str = "ebs.csi.aws.com") -> None:
        """Have kubelet write the driver into the node's CSINode."""
        allocatable = {} if count is None else {"allocatable": {"count": count}}
        self.csinodes[name] = {"spec": {"drivers": [{"name": driver, "nodeID": "i", **allocatable}]}}

    def attach(self, name: str, node: str, attacher: str = "ebs.csi.aws.com") -> dict[str, Any]:
        """Have a VolumeAttachment."""
        made = {
            "metadata": {"name": name},
            "spec": {"attacher": attacher, "nodeName": node, "source": {"persistentVolumeName": f"pv-{name}"}},
        }
        self.attachments[name] = made
        return made

    async def tell(self, kind: str, about: dict[str, Any]) -> None:
        """Send an event to every watch."""
        async with self._changed:
            self.version += 1
            self._events.append((kind, about))
            self._changed.notify_all()

    @web.middleware
    async def _admit(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Note who asks for what, and refuse what is to be refused."""
        verb = "watch" if "watch" in request.query else request.method
        self.asked.append(f"{verb} {request.path}")
        self.peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        if self.broken:
            return _status(500, "etcd is away")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        if verb in self.forbidden:
            return _status(403, f'User "node" cannot {verb.lower()} {request.path}')
        return await handler(request)

    async def _one(self, request: web.Request) -> web.Response:
        """An object by its kind and name; a node can be patched."""
        kind, name = request.match_info["kind"], request.match_info["name"]
        found = {"nodes": self.nodes, "csinodes": self.csinodes}.get(kind, {}).get(name)
        if found is None:
            return _status(404, f'{kind} "{name}" not found')
        return (
            await self._patched(found, await request.json()) if request.method == "PATCH" else web.json_response(found)
        )

    async def _all(self, request: web.Request) -> web.StreamResponse:
        """A watch of one node or of all attachments, or a page of these."""
        only = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        if "watch" in request.query:
            self.watches.append(int(request.query["timeoutSeconds"]))
            return await self._watched(request, [self.nodes[only]] if only in self.nodes else [])
        return self._page(request)

    def _page(self, request: web.Request) -> web.Response:
        """At most `limit` attachments, from where the last page ended."""
        items, begin = list(self.attachments.values()), int(request.query.get("continue", "0"))
        end = begin + int(request.query.get("limit", len(items)))
        metadata = {"resourceVersion": str(self.version), "continue": str(end) if end < len(items) else ""}
        return web.json_response({"metadata": metadata, "items": items[begin:end]})

    async def _watched(self, request: web.Request, first: list[dict[str, Any]]) -> web.StreamResponse:
        """What is there, and then every event that comes."""
        response = web.StreamResponse()
        await response.prepare(request)
        seen = len(self._events)
        for one in first:
            await response.write(json.dumps({"type": "ADDED", "object": one}).encode() + b"\n")
        while True:
            async with self._changed:
                while not (new := self._events[seen:]):
                    await self._changed.wait()
            seen += len(new)
            for kind, about in new:
                if kind == "END":
                    return response
                await response.write(json.dumps({"type": kind, "object": about}).encode() + b"\n")

    async def _patched(self, node: dict[str, Any], changes: list[dict[str, Any]]) -> web.Response:
        """JSON patch of taints, all or nothing: RFC 6902's `test` and `remove`."""
        if self.meddle:
            node["spec"]["taints"].insert(0, self.meddle.pop(0))
        taints = list(node["spec"]["taints"])
        for change in changes:
            place = int(change["path"].removeprefix("/spec/taints/"))
            if place >= len(taints) or (change["op"] == "test" and taints[place] != change["value"]):
                return _status(422, "the server rejected our request due to an error in our request")
            if change["op"] == "remove":
                del taints[place]
        node["spec"]["taints"] = taints
        return web.json_response(node)


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message, "code": code}, status=code)
