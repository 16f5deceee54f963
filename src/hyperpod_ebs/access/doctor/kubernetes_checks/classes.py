"""Checks of StorageClasses and VolumeAttributesClasses."""

from collections.abc import Iterator
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Object
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.access.doctor.kubernetes_checks.nodes import list_ebs_nodes
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import (
    ClusterObjects,
    annotations_of,
    labels_of,
    name_list,
    name_of,
    object_check,
)
from hyperpod_ebs.driver.model import errors, parameters
from hyperpod_ebs.driver.model.capability import FILESYSTEMS
from hyperpod_ebs.driver.model.formatting import Formatting
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.model.topology import OLD_ZONE, ZONE

IN_TREE: Final = "kubernetes.io/aws-ebs"
AUTO_MODE: Final = "ebs.csi.eks.amazonaws.com"
"""The driver of EKS Auto Mode, whose volumes attach only to Auto Mode's own nodes (EKS User Guide)."""

_DEFAULTS: Final = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def is_default(storage_class: Object) -> bool:
    """Whether claims that name no class get this one."""
    return any(annotations_of(storage_class).get(key) == "true" for key in _DEFAULTS)


def _find_parameters(objects: ClusterObjects) -> Iterator[Finding]:
    for item in objects["storageclasses"]:
        if item.get("provisioner") == DRIVER and (reason := _refusal(item)):
            yield fails(
                f"StorageClass {name_of(item)}",
                reason,
                "No volume of this class is created",
                "replace the class, because its parameters cannot be changed: "
                f"`kubectl get storageclass {name_of(item)} --output yaml`, correct it, then `kubectl replace --force`",
            )
    for item in objects["volumeattributesclasses"]:
        if item.get("driverName") == DRIVER and (reason := _change_refusal(item)):
            yield fails(
                f"VolumeAttributesClass {name_of(item)}",
                reason,
                "No claim can be changed to this class",
                "create another class with correct parameters, and name it in the claims",
            )


def _refusal(item: Object) -> str:
    """Why the driver creates no volume of this class; empty if it does."""
    given = {key: str(value) for key, value in (item.get("parameters") or {}).items()}
    try:
        parsed = parameters.parse_classes(given, {})
        Formatting.parse(given).check(parsed.filesystem or "ext4")
    except errors.InvalidRequest as error:
        return str(error)
    if parsed.filesystem and parsed.filesystem not in FILESYSTEMS:
        return f"filesystem {parsed.filesystem!r} is not supported; use {' or '.join(sorted(FILESYSTEMS))}"
    type_ = parsed.type or parameters.DEFAULT_TYPE
    if type_ in {"io1", "io2"} and not (parsed.iops or parsed.iops_per_gib):
        return f"type {type_} needs iops or iopsPerGB, and neither is set"
    if parsed.throughput and type_ != "gp3":
        return f"throughput is {parsed.throughput}, and type {type_} has none; only gp3 has"
    if (parsed.iops or parsed.iops_per_gib) and type_ not in {"gp3", "io1", "io2"}:
        return f"iops is set, and volumes of type {type_} have no configurable IOPS"
    return MountOptions.parse(item.get("mountOptions") or ()).refusal


def _change_refusal(item: Object) -> str:
    """Why the driver changes no volume to this class; empty if it does."""
    try:
        parameters.parse_change({key: str(value) for key, value in (item.get("parameters") or {}).items()})
    except errors.InvalidRequest as error:
        return str(error)
    return ""


def _find_provisioners(objects: ClusterObjects) -> Iterator[Finding]:
    drivers = {name_of(item) for item in objects["csidrivers"]} | {DRIVER}
    for item in objects["storageclasses"]:
        name, provisioner = name_of(item), str(item.get("provisioner", ""))
        if provisioner == IN_TREE:
            yield may_fail(
                f"StorageClass {name}",
                f"its provisioner is {IN_TREE}, the plug-in that Kubernetes no longer contains",
                f"Kubernetes translates the class for {DRIVER}, and translates none of the driver's newer parameters",
                f"create a class with the provisioner {DRIVER}, and make it the default if this one is",
            )
        elif provisioner == AUTO_MODE and is_default(item):
            yield may_fail(
                f"StorageClass {name}",
                f"it is the default class, and its provisioner {AUTO_MODE} is that of EKS Auto Mode",
                "Its volumes cannot be attached to HyperPod nodes and other nodes outside of Auto Mode",
                f"make a class with the provisioner {DRIVER} the default",
            )
        elif "ebs" in provisioner.lower() and provisioner not in {*drivers, AUTO_MODE}:
            yield fails(
                f"StorageClass {name}",
                f"its provisioner is {provisioner}, and no driver of the cluster is called so",
                "Claims of this class stay Pending",
                f"replace the class with one whose provisioner is {DRIVER}",
            )


def _find_defaults(objects: ClusterObjects) -> Iterator[Finding]:
    defaults = [name_of(item) for item in objects["storageclasses"] if is_default(item)]
    if len(defaults) > 1:
        yield may_fail(
            f"StorageClasses {name_list(defaults)}",
            f"{len(defaults)} classes are marked as the default",
            "Claims that name no class get the class that was created last",
            f"keep one: `kubectl annotate storageclass {min(defaults)} {_DEFAULTS[0]}=false --overwrite`",
        )


def _find_zones(objects: ClusterObjects) -> Iterator[Finding]:
    zones = {labels_of(node)[ZONE] for node in list_ebs_nodes(objects) if labels_of(node).get(ZONE)}
    for item in objects["storageclasses"]:
        if item.get("provisioner") not in {DRIVER, IN_TREE}:
            continue
        wanted = _allowed_zones(item)
        usable = wanted & zones if wanted else zones
        if wanted and zones and not usable:
            yield fails(
                f"StorageClass {name_of(item)}",
                f"allowedTopologies allows {name_list(wanted)}, and the cluster's nodes are in {name_list(zones)}",
                "No pod can use a volume of this class",
                "replace the class with one that allows a zone of the nodes",
            )
        elif item.get("volumeBindingMode", "Immediate") == "Immediate" and len(usable) > 1:
            yield may_fail(
                f"StorageClass {name_of(item)}",
                f"volumeBindingMode is Immediate, and the nodes are in {len(usable)} zones: {name_list(usable)}",
                "A volume may be created in a zone where its pod cannot run",
                "replace the class with one that has volumeBindingMode: WaitForFirstConsumer",
            )


def _allowed_zones(item: Object) -> set[str]:
    expressions = [
        expression
        for term in item.get("allowedTopologies") or ()
        for expression in term.get("matchLabelExpressions") or ()
    ]
    return {
        value
        for expression in expressions
        if expression.get("key") in {ZONE, OLD_ZONE}
        for value in expression.get("values") or ()
    }


CHECKS: Final[tuple[Check, ...]] = (
    object_check(
        "class parameters",
        "the driver accepts the parameters of all classes",
        _find_parameters,
        "storageclasses",
        "volumeattributesclasses",
    ),
    object_check(
        "provisioners",
        "each StorageClass for EBS names a driver of the cluster",
        _find_provisioners,
        "storageclasses",
        "csidrivers",
    ),
    object_check("default class", "at most one StorageClass is the default", _find_defaults, "storageclasses"),
    object_check("zones of classes", "volumes are created where pods can run", _find_zones, "storageclasses", "nodes"),
)
