"""The check of RBAC: whether the service accounts of the driver have the rights that its containers use.

The table holds what the chart grants; a test compares the two. Rights are compared role by role, without asking the API
server on behalf of the service account, because that takes a right which few callers have.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Object
from hyperpod_ebs.access.doctor.findings import Finding, fails
from hyperpod_ebs.access.doctor.kubernetes_checks.installation import INSTALLED
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import ClusterObjects, name_list, name_of, object_check
from hyperpod_ebs.access.doctor.kubernetes_checks.workloads import PLUGIN, Workload, flags, present_installation

_STORAGE: Final = "storage.k8s.io"
_SNAPSHOT: Final = "snapshot.storage.k8s.io"


@dataclass(frozen=True, slots=True)
class Right:
    """Verbs on a resource."""

    group: str
    resource: str
    verbs: str
    """Separated by spaces."""

    feature: str = ""
    """The feature without which it is not needed: `snapshots`, `classes` (VolumeAttributesClass) or `taints`."""

    def __str__(self) -> str:
        """As in a rule: `patch persistentvolumes/status in storage.k8s.io`."""
        return f"{self.verbs.replace(' ', ', ')} {self.resource}" + (f" in {self.group}" if self.group else "")


RIGHTS: Final[Mapping[str, Sequence[Right]]] = {
    "csi-provisioner": (
        Right("", "persistentvolumes", "get list watch create patch delete"),
        Right("", "persistentvolumeclaims", "get list watch update"),
        Right("", "events", "create patch"),
        Right("", "nodes", "list watch"),
        Right(_STORAGE, "csinodes", "list watch"),
        Right(_STORAGE, "storageclasses", "list watch"),
        Right(_STORAGE, "volumeattachments", "list watch"),
        Right(_STORAGE, "volumeattributesclasses", "get", "classes"),
        Right(_SNAPSHOT, "volumesnapshots", "get list watch update", "snapshots"),
        Right(_SNAPSHOT, "volumesnapshotcontents", "get", "snapshots"),
    ),
    "csi-attacher": (
        Right("", "persistentvolumes", "list watch patch"),
        Right(_STORAGE, "csinodes", "list watch"),
        Right(_STORAGE, "volumeattachments", "list watch patch"),
        Right(_STORAGE, "volumeattachments/status", "patch"),
    ),
    "csi-resizer": (
        Right("", "persistentvolumes", "list watch patch"),
        Right("", "persistentvolumeclaims", "list watch"),
        Right("", "persistentvolumeclaims/status", "patch"),
        Right("", "events", "create patch"),
        Right(_STORAGE, "volumeattributesclasses", "list watch", "classes"),
    ),
    "csi-snapshotter": (
        Right("", "events", "create patch"),
        Right(_SNAPSHOT, "volumesnapshotclasses", "list watch"),
        Right(_SNAPSHOT, "volumesnapshotcontents", "get list watch patch"),
        Right(_SNAPSHOT, "volumesnapshotcontents/status", "update patch"),
    ),
    "node": (
        Right("", "nodes", "get"),
        Right("", "nodes", "watch patch", "taints"),
        Right(_STORAGE, "csinodes", "get", "taints"),
        Right(_STORAGE, "volumeattachments", "list watch"),
    ),
}
"""Cluster-wide rights, by the container that uses them; `node` is the driver's container in the node's pods."""

_CONSEQUENCES: Final[Mapping[str, str]] = {
    "csi-provisioner": "Volumes are not created or deleted, and claims stay Pending",
    "csi-attacher": "Volumes are not attached or detached",
    "csi-resizer": "Claims do not grow or change",
    "csi-snapshotter": "Snapshots are not made",
    "node": "Nodes do not know themselves, keep the start-up taint, or end before their volumes are detached",
}

_LEASES: Final[Mapping[str, str]] = {
    "csi-provisioner": "ebs-csi-aws-com",
    "csi-attacher": "external-attacher-leader-ebs-csi-aws-com",
    "csi-resizer": "external-resizer-ebs-csi-aws-com",
    "csi-snapshotter": "external-snapshotter-leader-ebs-csi-aws-com",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """A service account, and the rules that its bindings give it."""

    namespace: str
    name: str
    cluster_rules: Sequence[Object]
    namespace_rules: Sequence[Object]

    def missing_verbs(self, right: Right) -> list[str]:
        """The verbs of a cluster-wide right that no rule grants."""
        return [verb for verb in right.verbs.split() if not _is_granted(self.cluster_rules, right, verb)]

    def missing_lease_verbs(self, lease: str) -> list[str]:
        """The verbs on the lease in the account's namespace that no rule grants."""
        right, rules = Right("coordination.k8s.io", "leases", ""), [*self.cluster_rules, *self.namespace_rules]
        return [verb for verb in ("create", "get", "update") if not _is_granted(rules, right, verb, lease)]


def _find_rights(objects: ClusterObjects) -> Iterator[Finding]:
    own = present_installation(objects)
    for workload in own.workloads:
        account, features = _account(workload, objects), _features(workload, own.controllers)
        missing: dict[str, str] = {}
        for container in workload.containers:
            is_node = workload.kind == "DaemonSet" and container.get("name") == PLUGIN
            name = "node" if is_node else str(container.get("name"))
            if texts := _missing_rights(name, container, account, features):
                missing[name] = f"{container.get('name')} needs {'; '.join(texts)}"
        if missing:
            yield fails(
                f"service account {account.namespace}/{account.name}",
                f"containers of {workload} need rights that no role grants: {'. '.join(missing.values())}",
                ". ".join(_CONSEQUENCES[name] for name in missing),
                "upgrade the release: the chart writes the ClusterRoles, Roles and bindings",
            )


def _missing_rights(name: str, container: Object, account: _Account, features: set[str]) -> list[str]:
    """The rights that a container needs and its service account does not have."""
    texts = [
        str(Right(right.group, right.resource, " ".join(verbs)))
        for right in RIGHTS.get(name, ())
        if (not right.feature or right.feature in features) and (verbs := account.missing_verbs(right))
    ]
    if name in _LEASES and flags(container).get("leader-election", "true") != "false":
        verbs = account.missing_lease_verbs(_LEASES[name])
        texts += [f"{', '.join(verbs)} leases in coordination.k8s.io"] if verbs else []
    return texts


def _features(workload: Workload, controllers: Sequence[Workload]) -> set[str]:
    """The features for which the workload's containers use rights."""
    plugin, resizer = workload.container(PLUGIN), workload.container("csi-resizer")
    environment = {variable.get("name") for variable in (plugin or {}).get("env") or ()}
    snapshots = any(controller.container("csi-snapshotter") for controller in controllers)
    classes = resizer and "VolumeAttributesClass=false" not in flags(resizer).get("feature-gates", "")
    taints = "DISABLE_TAINT_WATCHER" not in environment
    return {name for name, has in (("snapshots", snapshots), ("classes", classes), ("taints", taints)) if has}


def _account(workload: Workload, objects: ClusterObjects) -> _Account:
    """The workload's service account with its rules."""
    name, namespace = workload.service_account, workload.namespace
    cluster_roles = {name_of(role): role.get("rules") or () for role in objects["clusterroles"]}
    roles = {name_of(role): role.get("rules") or () for role in objects["roles"] if _is_in(role, namespace)}
    cluster_rules, namespace_rules = list[Object](), list[Object]()
    for binding in objects["clusterrolebindings"]:
        if _binds(binding, name, namespace):
            cluster_rules += cluster_roles.get(binding.get("roleRef", {}).get("name"), ())
    for binding in objects["rolebindings"]:
        if _is_in(binding, namespace) and _binds(binding, name, namespace):
            reference = binding.get("roleRef", {})
            namespace_rules += (cluster_roles if reference.get("kind") == "ClusterRole" else roles).get(
                reference.get("name"), ()
            )
    return _Account(
        namespace=namespace, name=name, cluster_rules=tuple(cluster_rules), namespace_rules=tuple(namespace_rules)
    )


def _is_in(item: Object, namespace: str) -> bool:
    return bool(item["metadata"].get("namespace") == namespace)


def _binds(binding: Object, name: str, namespace: str) -> bool:
    """Whether the binding applies to the service account, by its name or by one of its groups."""
    groups = {"system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"}
    for subject in binding.get("subjects") or ():
        if subject.get("kind") == "Group" and subject.get("name") in groups:
            return True
        is_account = subject.get("kind") == "ServiceAccount" and subject.get("namespace") == namespace
        if is_account and subject.get("name") == name:
            return True
        if subject.get("kind") == "User" and subject.get("name") == f"system:serviceaccount:{namespace}:{name}":
            return True
    return False


def _is_granted(rules: Sequence[Object], right: Right, verb: str, name: str = "") -> bool:
    """Whether a rule grants the verb; without a name, for all objects of the resource."""
    return any(
        _has(rule.get("apiGroups"), right.group)
        and _has_resource(rule.get("resources"), right.resource)
        and _has(rule.get("verbs"), verb)
        and (not rule.get("resourceNames") or name in rule["resourceNames"])
        for rule in rules
    )


def _has(values: Sequence[str] | None, wanted: str) -> bool:
    return bool({"*", wanted} & set(values or ()))


def _has_resource(values: Sequence[str] | None, wanted: str) -> bool:
    _, _, part = wanted.partition("/")
    return _has(values, wanted) or (bool(part) and f"*/{part}" in set(values or ()))


CHECKS: Final[tuple[Check, ...]] = (
    object_check(
        "RBAC",
        f"the driver's service accounts have the rights that {name_list(RIGHTS)} use",
        _find_rights,
        *INSTALLED,
        "clusterroles",
        "clusterrolebindings",
        "roles",
        "rolebindings",
    ),
)
