"""Checks of the API server: its version, the CSIDriver object, and the kinds that the sidecars need."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context, Object
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.access.doctor.kubernetes_checks import tested_versions
from hyperpod_ebs.access.doctor.kubernetes_checks.installation import INSTALLED
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import ClusterObjects, name_of, object_check, read_objects
from hyperpod_ebs.access.doctor.kubernetes_checks.workloads import Installation, flags, list_workloads, own_installation
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER

_REPLACE: Final = (
    "upgrade the release; most fields of a CSIDriver cannot be changed, so delete the object first: "
    f"`kubectl delete csidriver {DRIVER}`"
)


async def _check_version(context: Context) -> AsyncIterator[Finding]:
    text = await context.kubernetes_version()
    found = tested_versions.parse_version(text)
    if found and found < tested_versions.OLDEST_KUBERNETES:
        oldest = ".".join(map(str, tested_versions.OLDEST_KUBERNETES))
        yield fails(
            "API server",
            f"its version is {text}, and this release supports Kubernetes {oldest} and later",
            "The chart does not install, and the sidecars may not start",
            f"upgrade the cluster to Kubernetes {oldest} or later",
        )


def _find_driver_object(objects: ClusterObjects) -> Iterator[Finding]:
    item = next((item for item in objects["csidrivers"] if name_of(item) == DRIVER), None)
    if item is None:
        yield fails(
            f"CSIDriver {DRIVER}",
            "the cluster does not have this object",
            "Kubernetes treats the driver with defaults: it neither sets fsGroup on volumes nor updates attach limits",
            "upgrade the release: the chart creates the object",
        )
        return
    yield from _find_wrong_fields(item.get("spec") or {})


def _find_wrong_fields(spec: Object) -> Iterator[Finding]:
    where = f"CSIDriver {DRIVER}"
    if spec.get("attachRequired") is False:
        yield fails(where, "attachRequired is false; the chart writes true", "No volume is attached", _REPLACE)
    if spec.get("storageCapacity") is True:
        yield fails(
            where,
            "storageCapacity is true; the chart does not set it, because EBS has no capacity to publish",
            "Pods whose volumes are created when they are scheduled stay Pending",
            f"`kubectl patch csidriver {DRIVER} --type merge --patch "
            '\'{"spec": {"storageCapacity": false}}\'`, and upgrade the release',
        )
    if spec.get("fsGroupPolicy") == "None":
        yield may_fail(
            where,
            "fsGroupPolicy is None; the chart writes File",
            "Pods that do not run as root cannot write to their volumes",
            _REPLACE,
        )
    modes = spec.get("volumeLifecycleModes") or ["Persistent"]
    if "Persistent" not in modes:
        yield fails(
            where,
            f"volumeLifecycleModes is {', '.join(modes)}; the chart does not set it, which means Persistent",
            "Kubernetes mounts no PersistentVolume of the driver",
            _REPLACE,
        )


async def _check_kinds(context: Context) -> AsyncIterator[Finding]:
    """What the sidecars need of the API server. They retry for ever, or do nothing, if a kind is missing."""
    objects = await read_objects(context, *INSTALLED)
    own = own_installation(objects)
    if own is None:
        return
    if _container_flags(own, "csi-snapshotter") is not None and not await _has_kind(context, _SNAPSHOTS):
        yield fails(
            f"release {own.release}",
            "the csi-snapshotter runs, and the cluster does not have the CustomResourceDefinitions of snapshots",
            "The csi-snapshotter ends and is restarted again and again, and no snapshot is made",
            "install the CustomResourceDefinitions of github.com/kubernetes-csi/external-snapshotter, "
            "client/config/crd, or set sidecars.snapshotter.forceEnable: false",
        )
    resizer = _container_flags(own, "csi-resizer")
    needs_classes = resizer is not None and "VolumeAttributesClass=false" not in resizer.get("feature-gates", "")
    if needs_classes and not await _has_kind(context, _ATTRIBUTES_CLASSES):
        yield fails(
            f"release {own.release}",
            "the csi-resizer watches VolumeAttributesClasses, and the API server does not have them",
            "No claim grows: the csi-resizer waits for the kind before it starts",
            "upgrade the release on this cluster: the chart then turns the feature gate off; or upgrade Kubernetes "
            "to 1.34 or later",
        )
    classes = await context.objects("/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses")
    own_classes = [name_of(item) for item in classes if item.get("driver") == DRIVER]
    images = [image for workload in list_workloads(objects) for image in workload.images]
    if own_classes and not any("snapshot-controller" in image for image in images):
        yield may_fail(
            f"VolumeSnapshotClass {own_classes[0]}",
            "no Deployment of the cluster runs the snapshot-controller",
            "VolumeSnapshots stay without a snapshot, and report nothing",
            "set snapshotController.enabled: true in the release's values, or install the EKS add-on "
            "snapshot-controller",
        )


_SNAPSHOTS: Final = ("/apis/snapshot.storage.k8s.io/v1", "volumesnapshotcontents")
_ATTRIBUTES_CLASSES: Final = ("/apis/storage.k8s.io/v1", "volumeattributesclasses")


def _container_flags(own: Installation, name: str) -> dict[str, str] | None:
    """The flags of the controller's sidecar with this name; None if it does not run."""
    containers = [container for workload in own.controllers if (container := workload.container(name))]
    return dict(flags(containers[0])) if containers else None


async def _has_kind(context: Context, kind: tuple[str, str]) -> bool:
    group, plural = kind
    try:
        answer = await (await context.reader()).get(group)
    except errors.NotFound:
        return False
    return any(resource.get("name") == plural for resource in answer.get("resources") or ())


CHECKS: Final[tuple[Check, ...]] = (
    Check(name="API server", promise="Kubernetes has a supported version", run=_check_version),
    object_check("CSIDriver", "the CSIDriver is as the chart writes it", _find_driver_object, "csidrivers"),
    Check(name="kinds", promise="the API server has the kinds that the sidecars need", run=_check_kinds),
)
