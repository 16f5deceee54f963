"""The Kubernetes objects that checks look at, and what they ask of a single object."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context, Object
from hyperpod_ebs.access.doctor.findings import Finding
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER

_NAMED: Final = 5
"""How many names of a group of objects are written out."""

_STORAGE: Final = "/apis/storage.k8s.io/v1"
_SNAPSHOTS: Final = "/apis/snapshot.storage.k8s.io/v1"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"

PATHS: Final[Mapping[str, str]] = {
    "nodes": "/api/v1/nodes",
    "persistentvolumes": "/api/v1/persistentvolumes",
    "claims": "/api/v1/persistentvolumeclaims",
    "claim events": "/api/v1/events",
    "driver pods": "/api/v1/pods",
    "attach limits": "/api/v1/configmaps",
    "daemonsets": "/apis/apps/v1/daemonsets",
    "deployments": "/apis/apps/v1/deployments",
    "csinodes": f"{_STORAGE}/csinodes",
    "csidrivers": f"{_STORAGE}/csidrivers",
    "storageclasses": f"{_STORAGE}/storageclasses",
    "volumeattachments": f"{_STORAGE}/volumeattachments",
    "volumeattributesclasses": f"{_STORAGE}/volumeattributesclasses",
    "volumesnapshotclasses": f"{_SNAPSHOTS}/volumesnapshotclasses",
    "volumesnapshotcontents": f"{_SNAPSHOTS}/volumesnapshotcontents",
    "clusterroles": f"{_RBAC}/clusterroles",
    "clusterrolebindings": f"{_RBAC}/clusterrolebindings",
    "roles": f"{_RBAC}/roles",
    "rolebindings": f"{_RBAC}/rolebindings",
}
"""Where the objects of each kind are listed."""

_QUERIES: Final[Mapping[str, Mapping[str, str]]] = {
    "claim events": {"fieldSelector": "involvedObject.kind=PersistentVolumeClaim,type=Warning"},
    "driver pods": {"labelSelector": "app.kubernetes.io/component=csi-driver"},
    "attach limits": {"fieldSelector": "metadata.name=ebs-csi-attach-limits"},
}
"""Which objects of a kind are listed, if not all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterObjects:
    """The objects that a check looks at."""

    lists: Mapping[str, Sequence[Object]]
    """By their kinds, the keys of `PATHS`."""
    now: datetime

    def __getitem__(self, kind: str) -> Sequence[Object]:
        """The objects of a kind, which the check has said that it needs."""
        return self.lists[kind]


Find = Callable[[ClusterObjects], Iterator[Finding]]
"""A decision: what is wrong with the objects."""


async def read_objects(context: Context, *kinds: str) -> ClusterObjects:
    """Read the objects of these kinds, unless another check has read them.

    Raises:
        Missing: The API server does not answer, or the caller may not list one of the kinds.
    """
    lists = {kind: await context.objects(PATHS[kind], **_QUERIES.get(kind, {})) for kind in kinds}
    return ClusterObjects(lists=lists, now=datetime.now(UTC))


def object_check(name: str, promise: str, find: Find, *kinds: str) -> Check:
    """A check that reads objects of these kinds and decides from them alone."""

    async def run(context: Context) -> AsyncIterator[Finding]:
        for finding in find(await read_objects(context, *kinds)):
            yield finding

    return Check(name=name, promise=promise, run=run)


def name_of(item: Object) -> str:
    """The object's name."""
    return str(item.get("metadata", {}).get("name", ""))


def full_name(item: Object) -> str:
    """The object's namespace and name; of an object without a namespace, its name."""
    namespace = item.get("metadata", {}).get("namespace")
    return f"{namespace}/{name_of(item)}" if namespace else name_of(item)


def labels_of(item: Object) -> Mapping[str, str]:
    """The object's labels."""
    return item.get("metadata", {}).get("labels") or {}


def annotations_of(item: Object) -> Mapping[str, str]:
    """The object's annotations."""
    return item.get("metadata", {}).get("annotations") or {}


def age_since(moment: str | None, now: datetime) -> timedelta:
    """The time since a moment in an object; nothing if the object does not have it."""
    return now - datetime.fromisoformat(moment) if moment else timedelta()


def age_of(item: Object, now: datetime) -> timedelta:
    """The time since the object was created."""
    return age_since(item.get("metadata", {}).get("creationTimestamp"), now)


def is_terminating(item: Object) -> bool:
    """Whether the object is being deleted."""
    return bool(item.get("metadata", {}).get("deletionTimestamp"))


def driver_entry(csi_node: Object) -> Object | None:
    """The driver's entry in a CSINode; None if kubelet has not registered the driver."""
    drivers = csi_node.get("spec", {}).get("drivers") or ()
    return next((driver for driver in drivers if driver.get("name") == DRIVER), None)


def pod_spec(pod: Object) -> Object:
    """The pod's spec; empty if the answer lacks it."""
    return pod.get("spec") or {}


def condition(item: Object, kind: str) -> Object:
    """The object's condition of a kind; empty if it has none."""
    conditions = item.get("status", {}).get("conditions") or ()
    return next((found for found in conditions if found.get("type") == kind), {})


def name_list(names: Iterable[str]) -> str:
    """The first of the names, and how many there are beyond them."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(ordered[:_NAMED]) + more
