"""The check of claims: those that wait for a volume, and those that do not get what they request."""

from collections.abc import Iterator, Mapping
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Object
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.access.doctor.kubernetes_checks.classes import IN_TREE, is_default
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import (
    ClusterObjects,
    age_of,
    annotations_of,
    condition,
    full_name,
    is_terminating,
    name_of,
    object_check,
)
from hyperpod_ebs.access.doctor.kubernetes_checks.volumes import LONGEST, PATIENCE, duration_text
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER


def _find_claims(objects: ClusterObjects) -> Iterator[Finding]:
    classes = {name_of(item): item for item in objects["storageclasses"]}
    warnings: dict[tuple[str, str], Object] = {}
    for warning in sorted(objects["claim events"], key=_event_time):
        involved = warning.get("involvedObject") or {}
        warnings[involved.get("namespace", ""), involved.get("uid") or involved.get("name", "")] = warning
    for claim in objects["claims"]:
        namespace, uid = claim["metadata"].get("namespace", ""), claim["metadata"].get("uid", "")
        event = warnings.get((namespace, uid)) or warnings.get((namespace, name_of(claim)))
        if not is_terminating(claim) and (finding := _claim_finding(claim, classes, event, objects)):
            yield finding


def _event_time(event: Object) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def _claim_finding(
    claim: Object, classes: Mapping[str, Object], event: Object | None, objects: ClusterObjects
) -> Finding | None:
    name, spec, phase = f"claim {full_name(claim)}", claim.get("spec", {}), claim.get("status", {}).get("phase")
    own = classes.get(spec.get("storageClassName") or "", {}).get("provisioner") in {DRIVER, IN_TREE}
    if phase == "Lost":
        return fails(
            name,
            f"its PersistentVolume {spec.get('volumeName')} no longer exists",
            "Its pod does not start",
            "create the PersistentVolume again with the same name and volume handle, if the volume still exists",
        )
    if phase == "Pending":
        missing = None if spec.get("volumeName") else _class_finding(name, spec.get("storageClassName"), classes)
        return missing or (_pending_finding(claim, classes, event, objects) if own else None)
    return _growth_finding(claim) if own else None


def _class_finding(name: str, wanted: str | None, classes: Mapping[str, Object]) -> Finding | None:
    """What is wrong with the class of a claim without a volume; an empty name means that it wants no class."""
    if wanted is None and not any(map(is_default, classes.values())):
        return may_fail(
            name,
            "it names no StorageClass, and the cluster has no default class",
            "It stays Pending until a fitting PersistentVolume exists",
            "make a class the default: `kubectl annotate storageclass CLASS "
            "storageclass.kubernetes.io/is-default-class=true`, or create the claim again with a class",
        )
    if wanted and wanted not in classes:
        return may_fail(
            name,
            f"its StorageClass {wanted} does not exist",
            "It stays Pending until a PersistentVolume of this class exists",
            f"create the class {wanted}, or create the claim again with an existing class",
        )
    return None


def _pending_finding(
    claim: Object, classes: Mapping[str, Object], event: Object | None, objects: ClusterObjects
) -> Finding | None:
    """Why a claim of the driver's classes is Pending; None if it waits for its pod, or for a moment only."""
    age, storage_class = age_of(claim, objects.now), classes[claim["spec"]["storageClassName"]]
    if event:
        return fails(
            f"claim {full_name(claim)}",
            f"it is Pending. {event.get('reason')}: {' '.join(str(event.get('message', '')).split())[:LONGEST]}",
            "Its pod does not start",
            _description(claim),
        )
    if age > PATIENCE and _waits_for_provisioner(claim, storage_class):
        return fails(
            f"claim {full_name(claim)}",
            f"it has been Pending for {duration_text(age)}, without a warning in its events",
            "Its pod does not start",
            f"check that the csi-provisioner runs; {_description(claim)}",
        )
    return None


def _description(claim: Object) -> str:
    return f"see `kubectl describe pvc {name_of(claim)} --namespace {claim['metadata'].get('namespace')}`"


def _waits_for_provisioner(claim: Object, storage_class: Object) -> bool:
    """Whether the provisioner should have created the volume: at once, or because the pod has a node."""
    selected = "volume.kubernetes.io/selected-node" in annotations_of(claim)
    return selected or storage_class.get("volumeBindingMode", "Immediate") == "Immediate"


def _growth_finding(claim: Object) -> Finding | None:
    """What keeps a bound claim from its new size or class."""
    name, status = f"claim {full_name(claim)}", claim.get("status", {})
    states = status.get("allocatedResourceStatuses") or {}
    if str(states.get("storage", "")).endswith("Infeasible"):
        asked = claim["spec"].get("resources", {}).get("requests", {}).get("storage")
        return fails(
            name,
            f"it asks for {asked} and has {status.get('capacity', {}).get('storage')}: {states['storage']}",
            "The volume does not grow",
            f"request a size that EBS allows; {_description(claim)}",
        )
    for kind in ("ControllerResizeError", "NodeResizeError", "ModifyVolumeError"):
        found = condition(claim, kind)
        if found.get("status") == "True":
            return fails(
                name,
                f"{kind}: {' '.join(str(found.get('message', '')).split())[:LONGEST]}",
                "The volume keeps its old size or settings",
                _description(claim),
            )
    return None


CHECKS: Final[tuple[Check, ...]] = (
    object_check(
        "claims", "no claim waits because of an error", _find_claims, "claims", "claim events", "storageclasses"
    ),
)
