"""An API server over HTTPS that serves recorded objects: a HyperPod cluster on which all is in order.

The release's objects are those of the chart's snapshot; nodes, pods and volumes are added to it as Kubernetes, kubelet
and the sidecars write them.
"""

import copy
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import trustme
import yaml
from aiohttp import web

from hyperpod_ebs.access.kubernetes.reader import Reader
from hyperpod_ebs.driver.kubernetes.access import Access
from hyperpod_ebs.driver.kubernetes.api import Api

Object = dict[str, Any]  # JSON as the API server writes it

DRIVER: Final = "ebs.csi.aws.com"
CLUSTER: Final = "abcdef123456"
HYPERPOD_NODES: Final = ("hyperpod-i-0123456789abcdef0", "hyperpod-i-0123456789abcdef1")
EC2_NODE: Final = "ip-10-0-0-1.us-west-2.compute.internal"
VOLUME: Final = "pvc-00000000-0000-0000-0000-000000000001"
CLAIM: Final = "checkpoints-0"

_SNAPSHOT: Final = Path(__file__).parent.parent / "chart" / "snapshots" / "hyperpod.yaml"
_CA: Final = trustme.CA()
_CERTIFICATE: Final = _CA.issue_cert("127.0.0.1")
_GROUPS: Final = {"v1": "/api/v1", "": "/api/v1"}
_PLURALS: Final = {
    "StorageClass": "storageclasses",
    "VolumeSnapshotClass": "volumesnapshotclasses",
    "VolumeAttributesClass": "volumeattributesclasses",
    "NetworkPolicy": "networkpolicies",
}
_LISTED: Final = {
    "PersistentVolume": "v1",
    "PersistentVolumeClaim": "v1",
    "Event": "v1",
    "VolumeAttachment": "storage.k8s.io/v1",
    "VolumeSnapshotContent": "snapshot.storage.k8s.io/v1",
}
"""Kinds of which a cluster without volumes has no objects."""

_INSTALLED: Final = "2026-01-01T00:00:00Z"


def ago(time: timedelta) -> str:
    """The moment before this time, as in an object."""
    return f"{datetime.now(UTC) - time:%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class RecordedCluster:
    """A cluster, which a test may change."""

    lists: dict[str, list[Object]] = field(default_factory=dict)
    """The objects by their plural names."""

    version: str = "v1.34.1-eks-3cfe0ce"
    absent: set[str] = field(default_factory=set)
    """Plural names, and groups with their versions, that the API server does not know."""

    forbidden: set[str] = field(default_factory=set)
    """Plural names that the caller may not list."""

    port: int = 0
    requests: list[str] = field(default_factory=list)
    """The method and path of each request."""

    paths: dict[str, str] = field(default_factory=dict)
    """The plural name of each list, by its path."""

    token: str = "marked-secret-token"

    @classmethod
    def healthy(cls) -> Self:
        """A cluster with two HyperPod nodes and an EC2 node, the driver, and a volume that a pod uses."""
        cluster = cls()
        for document in _read_release():
            cluster.add(copy.deepcopy(document))
        cluster._add_nodes()
        cluster._add_pods()
        cluster._add_volume()
        return cluster

    def add(self, item: Object) -> Object:
        """Add an object as it is created; the object."""
        plural = _PLURALS.get(item["kind"], f"{item['kind'].lower()}s")
        group = item["apiVersion"]
        self.paths[f"{_GROUPS.get(group, f'/apis/{group}')}/{plural}"] = plural
        item["metadata"] = {
            "creationTimestamp": _INSTALLED,
            "uid": f"uid-{item['kind']}-{item['metadata']['name']}",
            **item["metadata"],
        }
        self.lists.setdefault(plural, []).append(item)
        return item

    def get(self, plural: str, name: str) -> Object:
        """The object with this name."""
        return next(item for item in self.lists[plural] if item["metadata"]["name"] == name)

    def remove(self, plural: str, name: str) -> None:
        """Delete the object with this name."""
        self.lists[plural].remove(self.get(plural, name))

    def container(self, plural: str, workload: str, name: str) -> Object:
        """A container in the pods of a DaemonSet or a Deployment."""
        containers = self.get(plural, workload)["spec"]["template"]["spec"]["containers"]
        return next(container for container in containers if container["name"] == name)

    def pods(self, app: str) -> list[Object]:
        """The pods of the driver's DaemonSet or Deployment."""
        return [pod for pod in self.lists["pods"] if pod["metadata"]["labels"]["app"] == app]

    def add_volume(self, name: str, *, annotations: Object | None = None, **spec: Any) -> Object:
        """Add a PersistentVolume without a claim."""
        fields = {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "10Gi"},
            "csi": {"driver": DRIVER, "volumeHandle": "vol-0123456789abcdef9", "fsType": "ext4"},
            "nodeAffinity": zone_affinity("us-west-2a"),
            "persistentVolumeReclaimPolicy": "Delete",
            "volumeMode": "Filesystem",
        }
        return self.add(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name, "annotations": annotations or {}},
                "spec": fields | spec,
                "status": {"phase": "Available"},
            }
        )

    def add_claim(self, name: str, **spec: Any) -> Object:
        """Add a claim that is pending."""
        fields = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
        return self.add(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": "training", "annotations": {}},
                "spec": fields | spec,
                "status": {"phase": "Pending"},
            }
        )

    def add_attachment(self, name: str, *, node: str, volume: str = VOLUME, **status: Any) -> Object:
        """Add a VolumeAttachment."""
        return self.add(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "VolumeAttachment",
                "metadata": {"name": name},
                "spec": {"attacher": DRIVER, "nodeName": node, "source": {"persistentVolumeName": volume}},
                "status": status,
            }
        )

    def add_daemonset(self, name: str, image: str, **pod_spec: Any) -> Object:
        """Add a DaemonSet of another program, whose pods run on every node."""
        spec = {"containers": [{"name": "main", "image": image}], "tolerations": [{"operator": "Exists"}]}
        return self.add(
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": {"name": name, "namespace": "storage", "labels": {}},
                "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"spec": spec | pod_spec}},
            }
        )

    def add_hyperpod_nodes(self, count: int) -> None:
        """Add nodes like the first, each with the driver's pod."""
        first = HYPERPOD_NODES[0]
        node, csi_node, pod = self.get("nodes", first), self.get("csinodes", first), self.pods("ebs-csi-node")[0]
        for number in range(count):
            instance = f"i-1{number:016x}"
            name, id_ = f"hyperpod-{instance}", f"hyperpod-{CLUSTER}-{instance}"
            node, csi_node, pod = copy.deepcopy((node, csi_node, pod))
            node["metadata"]["name"] = csi_node["metadata"]["name"] = pod["spec"]["nodeName"] = name
            node["spec"]["providerID"] = f"aws:///usw2-az1/sagemaker/cluster/{id_}"
            csi_node["spec"]["drivers"][1]["nodeID"] = id_
            pod["metadata"]["name"] = f"ebs-csi-node-x{number}"
            for item in (node, csi_node, pod):
                self.add(item)

    def _add_nodes(self) -> None:
        for number, name in enumerate((*HYPERPOD_NODES, EC2_NODE)):
            instance = f"i-0123456789abcdef{number}"
            is_ec2 = name == EC2_NODE
            id_ = instance if is_ec2 else f"hyperpod-{CLUSTER}-{instance}"
            self.add(
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {
                        "name": name,
                        "labels": {
                            "kubernetes.io/os": "linux",
                            "kubernetes.io/hostname": name,
                            "node.kubernetes.io/instance-type": "m5.large" if is_ec2 else "ml.g5.8xlarge",
                            "topology.kubernetes.io/region": "us-west-2",
                            "topology.kubernetes.io/zone": "us-west-2b" if is_ec2 else "us-west-2a",
                        },
                    },
                    "spec": {
                        "providerID": f"aws:///us-west-2b/{id_}"
                        if is_ec2
                        else f"aws:///usw2-az1/sagemaker/cluster/{id_}",
                        "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}],
                    },
                    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
                }
            )
            entry = {"name": DRIVER, "nodeID": id_, "allocatable": {"count": 25 if is_ec2 else 20}}
            self.add(
                {
                    "apiVersion": "storage.k8s.io/v1",
                    "kind": "CSINode",
                    "metadata": {"name": name},
                    "spec": {"drivers": [{"name": "efs.csi.aws.com", "nodeID": instance}, entry]},
                }
            )

    def _add_pods(self) -> None:
        self._add_pods_of("daemonsets", "ebs-csi-node", (*HYPERPOD_NODES, EC2_NODE))
        self._add_pods_of("deployments", "ebs-csi-controller", (EC2_NODE, EC2_NODE))

    def _add_pods_of(self, plural: str, name: str, nodes: tuple[str, ...]) -> None:
        template = self.get(plural, name)["spec"]["template"]
        for number, node in enumerate(nodes):
            containers = template["spec"]["containers"]
            self.add(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{name}-{number}",
                        "namespace": "kube-system",
                        "labels": dict(template["metadata"]["labels"]),
                    },
                    "spec": {"nodeName": node, "containers": containers},
                    "status": {
                        "phase": "Running",
                        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": _INSTALLED}],
                        "containerStatuses": [
                            {"name": container["name"], "ready": True, "restartCount": 0, "state": {"running": {}}}
                            for container in containers
                        ],
                    },
                }
            )

    def _add_volume(self) -> None:
        for kind, group in _LISTED.items():
            plural = f"{kind.lower()}s"
            self.paths[f"{_GROUPS.get(group, f'/apis/{group}')}/{plural}"] = plural
            self.lists.setdefault(plural, [])
        volume = self.add_volume(
            VOLUME,
            annotations={"pv.kubernetes.io/provisioned-by": DRIVER},
            csi={"driver": DRIVER, "volumeHandle": "vol-0123456789abcdef0", "fsType": "xfs"},
            claimRef={"namespace": "training", "name": CLAIM},
            storageClassName="checkpoints",
        )
        volume["status"] = {"phase": "Bound"}
        claim = self.add_claim(CLAIM, storageClassName="checkpoints", volumeName=VOLUME)
        claim["status"] = {"phase": "Bound", "capacity": {"storage": "10Gi"}}
        self.add_claim("waits-for-its-pod", storageClassName="checkpoints")
        self.add_attachment("csi-1", node=HYPERPOD_NODES[0], attached=True)

    @asynccontextmanager
    async def serve(self, directory: Path) -> AsyncGenerator[Self]:
        """Serve the objects; `directory` gets the files of a service account."""
        app = web.Application()
        app.router.add_get("/version", self._answer_version)
        app.router.add_get("/{path:.*}", self._answer)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _CERTIFICATE.configure_cert(tls)
        _CA.cert_pem.write_to_path(str(directory / "ca.crt"))
        (directory / "token").write_text(self.token)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    @asynccontextmanager
    async def open_reader(self, directory: Path) -> AsyncGenerator[Reader]:
        """Read the API server as a pod does whose service account has its files in `directory`."""
        api = Api(lambda: Access.from_pod(self.environment, directory))
        try:
            yield api
        finally:
            await api.close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that Kubernetes sets in a pod."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}

    async def _answer_version(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path}")
        return web.json_response({"gitVersion": self.version})

    async def _answer(self, request: web.Request) -> web.Response:
        """Answer a list, page by page, or the kinds of a group."""
        self.requests.append(f"{request.method} {request.path_qs}")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        plural = self.paths.get(request.path)
        if request.path in self.absent or plural in self.absent:
            return _status(404, "the server could not find the requested resource")
        if plural is None:
            kinds = [name for path, name in self.paths.items() if path.rpartition("/")[0] == request.path]
            if not kinds:
                return _status(404, "the server could not find the requested resource")
            names = [name for name in kinds if name not in self.absent]
            return web.json_response({"kind": "APIResourceList", "resources": [{"name": name} for name in names]})
        if plural in self.forbidden:
            return _status(
                403, f'{plural} is forbidden: User "tester" cannot list resource "{plural}" at the cluster scope'
            )
        items = [item for item in self.lists[plural] if _is_selected(item, request)]
        begin, limit = int(request.query.get("continue", "0")), int(request.query.get("limit", "500"))
        more = str(begin + limit) if begin + limit < len(items) else ""
        return web.json_response({"metadata": {"continue": more}, "items": items[begin : begin + limit]})


def zone_affinity(zone: str) -> Object:
    """The node affinity of a volume in a zone."""
    expression = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


@cache
def _read_release() -> list[Object]:
    """Read the objects of the chart's release, with a parser that takes a while."""
    return [document for document in yaml.safe_load_all(_SNAPSHOT.read_text()) if document]


def _is_selected(item: Object, request: web.Request) -> bool:
    labels = item["metadata"].get("labels", {})
    for term in filter(None, request.query.get("labelSelector", "").split(",")):
        key, _, value = term.partition("=")
        if labels.get(key) != value:
            return False
    for term in filter(None, request.query.get("fieldSelector", "").split(",")):
        key, _, value = term.partition("=")
        found: Any = item
        for part in key.split("."):
            found = found.get(part, {})
        if found != value:
            return False
    return True


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message, "code": code}, status=code)
