"""Checks of persistent volumes, VolumeAttachments and snapshots."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Object
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import (
    ClusterObjects,
    age_of,
    age_since,
    annotations_of,
    is_terminating,
    labels_of,
    name_list,
    name_of,
    object_check,
)
from hyperpod_ebs.driver.model.capability import FILESYSTEMS
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.driver.model.topology import OLD_ZONE, ZONE

_HOURS: Final = 2
_DAYS: Final = 2
"""Hours and days from which a time is given in these units."""

PATIENCE: Final = timedelta(minutes=6)
"""How long a volume may take: the attacher's timeout for one call (`--timeout=6m`)."""

_HANDLE: Final = re.compile(r"vol-[0-9a-f]{8}(?:[0-9a-f]{9})?")
_PROVISIONED: Final = "pv.kubernetes.io/provisioned-by"
LONGEST: Final = 400
"""Characters of a message of Kubernetes that evidence quotes."""

_SINGLE_NODE: Final = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})


def list_ebs_volumes(objects: ClusterObjects) -> list[Object]:
    """The persistent volumes of this driver."""
    return [
        item
        for item in objects["persistentvolumes"]
        if (item.get("spec", {}).get("csi") or {}).get("driver") == DRIVER and not is_terminating(item)
    ]


def _handle(volume: Object) -> str:
    return str(volume["spec"]["csi"].get("volumeHandle", ""))


def _zones(volume: Object) -> set[str]:
    """The zones in a persistent volume's node affinity."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required") or {}
    expressions = [
        expression
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
    ]
    return {
        value
        for expression in expressions
        if expression.get("key") in {ZONE, OLD_ZONE}
        for value in expression.get("values") or ()
    }


def _find_static_volumes(objects: ClusterObjects) -> Iterator[Finding]:
    users: dict[str, list[str]] = {}
    for volume in list_ebs_volumes(objects):
        users.setdefault(_handle(volume), []).append(name_of(volume))
        if _PROVISIONED not in annotations_of(volume):
            yield from _find_static_mistake(volume)
    for handle, names in users.items():
        if len(names) > 1:
            yield fails(
                f"PersistentVolumes {name_list(names)}",
                f"they all have the volume handle {handle}",
                "Two claims use one volume, and deleting one of them may delete the other's data",
                "delete all of them but one, after setting persistentVolumeReclaimPolicy: Retain on each",
            )


def _find_static_mistake(volume: Object) -> Iterator[Finding]:
    name, handle, spec = f"PersistentVolume {name_of(volume)}", _handle(volume), volume["spec"]
    again = f"create it again with the right value: `kubectl get pv {name_of(volume)} --output yaml`"
    filesystem = spec["csi"].get("fsType") or ""
    modes = set(spec.get("accessModes") or ())
    if not _HANDLE.fullmatch(handle):
        yield fails(
            name,
            f"its volumeHandle is {handle!r}, and EBS volume ids are vol- and 8 or 17 hexadecimal digits",
            "The volume is never attached",
            again,
        )
    if not _zones(volume):
        yield fails(
            name,
            f"its nodeAffinity does not name a zone with the key {ZONE}",
            "Its pod may be scheduled in a zone where the volume cannot be attached",
            f"create it again with a nodeAffinity for {ZONE} and the volume's zone",
        )
    if spec.get("volumeMode", "Filesystem") == "Filesystem" and filesystem and filesystem not in FILESYSTEMS:
        yield fails(
            name,
            f"its fsType is {filesystem!r}, and the driver supports {' and '.join(sorted(FILESYSTEMS))}",
            "The volume is attached and never mounted",
            again,
        )
    if modes and not modes & _SINGLE_NODE:
        yield fails(
            name,
            f"its accessModes are {name_list(modes)}, and an EBS volume is attached to one node at a time",
            "The volume is never mounted",
            "create it again with accessModes: [ReadWriteOnce]",
        )


def _find_unused_volumes(objects: ClusterObjects) -> Iterator[Finding]:
    retained = list[Object]()
    for volume in list_ebs_volumes(objects):
        status, policy = volume.get("status", {}), volume["spec"].get("persistentVolumeReclaimPolicy")
        name = f"PersistentVolume {name_of(volume)}"
        if status.get("phase") == "Failed":
            yield fails(
                name,
                f"Kubernetes could not delete {_what_is_left(volume)}: {status.get('message', '')[:LONGEST]}",
                "The volume is charged for, and no claim can use it",
                f"fix what the message names; see `kubectl describe pv {name_of(volume)}`",
            )
        elif status.get("phase") == "Released" and policy == "Retain":
            retained.append(volume)
        elif (
            status.get("phase") == "Released"
            and age_since(status.get("lastPhaseTransitionTime"), objects.now) > PATIENCE
        ):
            yield fails(
                name,
                f"it has been Released for longer than {duration_text(PATIENCE)} with reclaim policy {policy}: "
                f"{_what_is_left(volume)} is not deleted",
                "The volume is charged for",
                f"see `kubectl describe pv {name_of(volume)}`: a VolumeAttachment or a denied permission keeps it",
            )
    if retained:
        first = retained[0]
        names = name_list(map(name_of, retained))
        yield may_fail(
            f"PersistentVolume {names}" if len(retained) == 1 else f"{len(retained)} PersistentVolumes: {names}",
            f"Released with reclaim policy Retain; {name_of(first)} keeps {_what_is_left(first)}",
            "The volume is charged for, and no claim binds to it",
            f"to use it again, `kubectl patch pv {name_of(first)} --type json --patch "
            '\'[{"op": "remove", "path": "/spec/claimRef/uid"}]\'` and create the claim; otherwise delete the '
            f"PersistentVolume and then the volume: `aws ec2 delete-volume --volume-id {_handle(first)}`",
        )


def _what_is_left(volume: Object) -> str:
    claim = volume["spec"].get("claimRef") or {}
    return f"volume {_handle(volume)} of the deleted claim {claim.get('namespace')}/{claim.get('name')}"


def _find_zones_without_nodes(objects: ClusterObjects) -> Iterator[Finding]:
    node_zones = {labels_of(node).get(ZONE) or labels_of(node).get(OLD_ZONE) for node in objects["nodes"]}
    lonely: dict[str, list[str]] = {}
    for volume in list_ebs_volumes(objects):
        zones = _zones(volume)
        if volume.get("status", {}).get("phase") == "Bound" and zones and not zones & node_zones:
            lonely.setdefault(name_list(zones), []).append(name_of(volume))
    for zone, names in lonely.items():
        yield may_fail(
            f"PersistentVolumes {name_list(names)}",
            f"the volumes are in zone {zone}, where the cluster has no node",
            "Pods that use them stay Pending",
            f"add a node in {zone}, or move the data with a snapshot to a zone that has nodes",
        )


def duration_text(time: timedelta) -> str:
    """A time in whole minutes, hours or days."""
    minutes = int(time.total_seconds() // 60)
    if minutes < _HOURS * 60:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < _DAYS * 24 * 60 else f"{minutes // (24 * 60)} days"


def _find_attachments(objects: ClusterObjects) -> Iterator[Finding]:
    nodes = {name_of(node) for node in objects["nodes"]}
    for item in objects["volumeattachments"]:
        if item.get("spec", {}).get("attacher") == DRIVER and (finding := _attachment_finding(item, nodes, objects)):
            yield finding


def _attachment_finding(item: Object, nodes: set[str], objects: ClusterObjects) -> Finding | None:
    spec, status = item["spec"], item.get("status") or {}
    volume, node = (spec.get("source") or {}).get("persistentVolumeName", "of a pod"), spec.get("nodeName", "")
    name = f"VolumeAttachment {name_of(item)}"
    what = f"volume {volume} on node {node}"
    leaving = age_since(item["metadata"].get("deletionTimestamp"), objects.now) if is_terminating(item) else None
    see = f"see `kubectl describe volumeattachment {name_of(item)}` and the controller's log"
    if node not in nodes:
        return fails(
            name,
            f"{what}: the cluster no longer has this node",
            "The volume cannot be attached to another node until it is detached from this one",
            "check that the instance is terminated; Kubernetes then detaches within 6 minutes. If it does not, "
            f"`kubectl delete volumeattachment {name_of(item)}`",
        )
    error = status.get("attachError" if leaving is None else "detachError")
    if error and leaving is not None:
        return fails(
            name,
            f"{what} cannot be detached: {str(error.get('message', ''))[:LONGEST]}",
            "No other node can use the volume",
            see,
        )
    if leaving is not None and leaving > PATIENCE:
        return fails(
            name,
            f"{what} has been detaching for {duration_text(leaving)}",
            "No other node can use the volume",
            f"{see}; never remove its finalizer: Kubernetes would then attach the volume elsewhere while it is mounted",
        )
    if leaving is None and not status.get("attached"):
        if error:
            return fails(
                name,
                f"{what} cannot be attached: {str(error.get('message', ''))[:LONGEST]}",
                "The pod that uses the volume does not start",
                see,
            )
        if age_of(item, objects.now) > PATIENCE:
            return fails(
                name,
                f"{what} has been attaching for {duration_text(age_of(item, objects.now))}",
                "The pod that uses the volume does not start",
                see,
            )
    return None


def _find_snapshots(objects: ClusterObjects) -> Iterator[Finding]:
    for content in objects["volumesnapshotcontents"]:
        error = (content.get("status") or {}).get("error") or {}
        if content.get("spec", {}).get("driver") == DRIVER and error.get("message"):
            reference = content["spec"].get("volumeSnapshotRef") or {}
            yield fails(
                f"VolumeSnapshotContent {name_of(content)}",
                f"snapshot {reference.get('namespace')}/{reference.get('name')}: {str(error['message'])[:LONGEST]}",
                "The snapshot cannot be restored",
                f"see `kubectl describe volumesnapshotcontent {name_of(content)}`",
            )


CHECKS: Final[tuple[Check, ...]] = (
    object_check(
        "static volumes",
        "all PersistentVolumes made by hand can be attached",
        _find_static_volumes,
        "persistentvolumes",
    ),
    object_check("released volumes", "no volume is kept without a claim", _find_unused_volumes, "persistentvolumes"),
    object_check(
        "zones of volumes",
        "each bound volume has nodes in its zone",
        _find_zones_without_nodes,
        "persistentvolumes",
        "nodes",
    ),
    object_check("VolumeAttachments", "no attachment is stuck", _find_attachments, "volumeattachments", "nodes"),
    object_check("snapshots", "no snapshot has an error", _find_snapshots, "volumesnapshotcontents"),
)
