"""Checks of the driver's installation: one driver with the name, versions, flags, pods."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

from hyperpod_ebs import __version__
from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Object
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.access.doctor.kubernetes_checks import tested_versions
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import (
    ClusterObjects,
    age_of,
    age_since,
    condition,
    is_terminating,
    name_list,
    name_of,
    object_check,
    pod_spec,
)
from hyperpod_ebs.access.doctor.kubernetes_checks.workloads import (
    OWN,
    PLUGIN,
    UPSTREAM,
    Workload,
    flags,
    image_name,
    image_tag,
    list_installations,
    own_installation,
    pods_of,
    present_installation,
)
from hyperpod_ebs.driver.model.capability import FILESYSTEMS
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER

_START_TIME: Final = timedelta(minutes=2)
"""How long a pod may take until it is ready."""

_DAMAGED: Final = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Reasons for which a container waits that do not pass without help (Kubernetes, Pod Lifecycle)."""

_REMOVAL: Final = {
    UPSTREAM: "remove it: `helm uninstall RELEASE`, or for the EKS add-on "
    "`aws eks delete-addon --addon-name aws-ebs-csi-driver --cluster-name CLUSTER`, and then upgrade this driver's "
    "release, whose objects have the same names",
}


def _find_installation(objects: ClusterObjects) -> Iterator[Finding]:
    own = own_installation(objects)
    if own is None:
        others = ", ".join(str(found) for found in list_installations(objects)) or "no driver"
        yield fails(
            f"driver {DRIVER}",
            f"{OWN} is not installed; the cluster has {others}",
            "What the doctor knows about the driver does not apply to this cluster",
            f"install the chart: `helm install {OWN} CHART --namespace kube-system`",
        )
        return
    if not own.controllers:  # right with nodeComponentOnly, if the controller runs elsewhere
        yield may_fail(
            f"release {own.release}",
            "the release has no workload with the controller",
            "No volume is created or attached, unless the controller runs outside of this cluster",
            "set nodeComponentOnly: false in the release's values, and upgrade the release",
        )
    if not own.daemonsets:
        yield fails(
            f"release {own.release}",
            "the release has no workload with the node service",
            "No volume is mounted on any node",
            "upgrade the release: the chart creates the DaemonSet ebs-csi-node",
        )


def _find_second_driver(objects: ClusterObjects) -> Iterator[Finding]:
    installations = list_installations(objects)
    for other in installations[1:]:
        yield fails(
            ", ".join(map(str, other.workloads)),
            f"{other} also serves the driver name {DRIVER}, next to {installations[0]}",
            "Both register the same socket with kubelet, and both create, attach and delete the same volumes",
            _REMOVAL.get(other.product, f"remove it: `kubectl delete {_delete_words(other.workloads[0])}`"),
        )


def _delete_words(workload: Workload) -> str:
    return f"{workload.kind.lower()} {name_of(workload.item)} --namespace {workload.namespace}"


def _find_versions(objects: ClusterObjects) -> Iterator[Finding]:
    for workload in present_installation(objects).workloads:
        for container in workload.containers:
            image = str(container.get("image", ""))
            name, tag = image_name(image), image_tag(image)
            if container.get("name") == PLUGIN:
                if (found := tested_versions.parse_version(tag)) and found != tested_versions.parse_version(
                    __version__
                ):
                    yield may_fail(
                        f"{workload}, container {PLUGIN}",
                        f"the driver's image has the tag {tag}, and this doctor is of version {__version__}",
                        "The doctor may expect what the driver of that version does not do",
                        f"run the doctor of version {tag}, or upgrade the release",
                    )
            elif word := tested_versions.difference(name, tag):
                yield may_fail(
                    f"{workload}, container {container.get('name')}",
                    f"{name} {tag} is {word} {tested_versions.TESTED[name]}, with which this release was tested",
                    "The sidecar may lack a flag, or need a right that the chart does not grant",
                    f"remove sidecars.*.image from the release's values, or set the tag {tested_versions.TESTED[name]}",
                )


def _find_flags(objects: ClusterObjects) -> Iterator[Finding]:
    own = present_installation(objects)
    for workload in own.controllers:
        yield from _find_controller_flags(workload, objects)
    for workload in own.daemonsets:
        yield from _find_node_flags(workload)
    published = {
        flags(container).get("attach-limits-configmap", "")
        for workload in own.workloads
        if (container := workload.container(PLUGIN))
    }
    if len(published) > 1:
        yield may_fail(
            f"release {own.release}",
            f"controller and nodes have different flags --attach-limits-configmap: {name_list(published)}",
            "Nodes of new instance types do not learn their attach limit",
            "upgrade the release, and remove the flag from additionalArgs",
        )


def _find_controller_flags(workload: Workload, objects: ClusterObjects) -> Iterator[Finding]:
    classes = [name_of(item) for item in objects["volumeattributesclasses"] if item.get("driverName") == DRIVER]
    replicas = workload.item.get("spec", {}).get("replicas", 1)
    for container in workload.containers:
        given, where = flags(container), f"{workload}, container {container.get('name')}"
        if given.get("leader-election") == "false" and replicas > 1:
            yield fails(
                where,
                f"--leader-election=false, and the Deployment has {replicas} replicas",
                "Each replica acts on every volume at the same time",
                "set leaderElection.enabled: true for this sidecar, or controller.replicaCount: 1",
            )
        if container.get("name") == "csi-provisioner":
            yield from _find_provisioner_flags(where, given)
        without_classes = "VolumeAttributesClass=false" in given.get("feature-gates", "")
        if container.get("name") == "csi-resizer" and without_classes and classes:
            yield may_fail(
                where,
                f"VolumeAttributesClass=false, and the cluster has the classes {name_list(classes)}",
                "A claim that names one of these classes is not changed, and reports no error",
                "remove the feature gate from sidecars.resizer.additionalArgs",
            )


def _find_provisioner_flags(where: str, given: Mapping[str, str]) -> Iterator[Finding]:
    if "Topology=false" in given.get("feature-gates", ""):
        yield fails(
            where,
            "--feature-gates=Topology=false",
            "Volumes are created in any zone, also where the pod cannot run",
            "remove the feature gate from sidecars.provisioner.additionalArgs",
        )
    if (filesystem := given.get("default-fstype")) and filesystem not in FILESYSTEMS:
        yield fails(
            where,
            f"--default-fstype={filesystem}, and the driver supports {' and '.join(sorted(FILESYSTEMS))}",
            "Volumes of classes without a filesystem type are not created",
            "set controller.defaultFsType: ext4",
        )


def _find_node_flags(workload: Workload) -> Iterator[Finding]:
    container = workload.container(PLUGIN)
    given = flags(container) if container else {}
    if given.get("volume-attach-limit", "-1") != "-1" and given.get("reserved-volume-attachments", "-1") != "-1":
        yield fails(
            f"{workload}, container {PLUGIN}",
            f"--volume-attach-limit={given['volume-attach-limit']} and "
            f"--reserved-volume-attachments={given['reserved-volume-attachments']} exclude each other",
            "The node service does not start",
            "remove node.volumeAttachLimit or node.reservedVolumeAttachments",
        )
    root = given.get("kubelet-root", "").rstrip("/")
    if root and not given.get("kubelet-registration-path", root).startswith(root):
        yield fails(
            f"{workload}, container {PLUGIN}",
            f"--kubelet-registration-path={given['kubelet-registration-path']} is not below --kubelet-root={root}",
            "kubelet does not find the driver's socket, and mounts no volume",
            "set node.kubeletPath to kubelet's root directory, and remove the flag from additionalArgs",
        )


def _find_pods(objects: ClusterObjects) -> Iterator[Finding]:
    for workload, pods in pods_of(present_installation(objects).workloads, objects["driver pods"]):
        troubles: dict[tuple[str, str], list[Object]] = {}
        for pod in pods:
            if not is_terminating(pod) and (trouble := _pod_trouble(pod, objects)):
                troubles.setdefault(trouble, []).append(pod)
        for (reason, what), damaged in troubles.items():
            yield fails(
                f"pods of {workload}: {name_list(map(name_of, damaged))}",
                f"{reason}: {what}" if what else reason,
                _pod_consequence(workload, damaged, pods),
                f"see `kubectl describe pod {name_of(damaged[0])} --namespace {workload.namespace}` and "
                f"`kubectl logs --previous --all-containers {name_of(damaged[0])} --namespace {workload.namespace}`",
            )
        if failure := condition(workload.item, "ReplicaFailure").get("message", ""):
            yield fails(
                str(workload),
                f"its pods cannot be created: {failure}",
                "The controller has fewer replicas than it should have",
                "fix what the message names: a quota, an admission rule or a service account",
            )
        elif workload.kind == "Deployment" and workload.item.get("spec", {}).get("replicas") == 0:
            yield fails(
                str(workload),
                "it is scaled to 0 replicas",
                "No volume is created, attached, detached or deleted",
                f"`kubectl scale deployment {name_of(workload.item)} --namespace {workload.namespace} --replicas=2`",
            )


def _pod_trouble(pod: Object, objects: ClusterObjects) -> tuple[str, str] | None:
    """Why a pod does not run, as a reason and a message; None if it runs, or may still start."""
    current = pod.get("status") or {}
    for status in (*(current.get("initContainerStatuses") or ()), *(current.get("containerStatuses") or ())):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _DAMAGED:
            ended = (status.get("lastState") or {}).get("terminated") or {}
            last = f"exit code {ended['exitCode']}: {ended.get('message') or ended.get('reason', '')}" if ended else ""
            what = last if waiting["reason"] == "CrashLoopBackOff" and last else waiting.get("message", "")
            return f"container {status['name']}, {waiting['reason']}", " ".join(what.split())
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and age_of(pod, objects.now) > _START_TIME:
        return "it is not scheduled", scheduled.get("message", "")
    ready = condition(pod, "Ready")
    since = age_since(ready.get("lastTransitionTime"), objects.now) or age_of(pod, objects.now)
    if ready.get("status") != "True" and since > _START_TIME:
        minutes = int(since.total_seconds() // 60)
        return f"it has not been ready for {minutes} minutes", ready.get("message", "")
    return None


def _pod_consequence(workload: Workload, damaged: list[Object], pods: list[Object]) -> str:
    if workload.kind == "DaemonSet":
        nodes = {str(pod_spec(pod).get("nodeName") or "an unknown node") for pod in damaged}
        return f"Volumes are not mounted on {name_list(nodes)}"
    if len(damaged) == len(pods):
        return "No volume is created, attached, detached or deleted"
    return "The controller runs without a replica that could take over"


INSTALLED: Final = ("daemonsets", "deployments")

CHECKS: Final[tuple[Check, ...]] = (
    object_check(
        "driver installation", f"{OWN} is installed with controller and nodes", _find_installation, *INSTALLED
    ),
    object_check("second driver", f"only one driver is called {DRIVER}", _find_second_driver, *INSTALLED),
    object_check("versions", "driver and sidecars have the tested versions", _find_versions, *INSTALLED),
    object_check("flags", "no flags contradict each other", _find_flags, *INSTALLED, "volumeattributesclasses"),
    object_check("driver pods", "the driver's pods are ready", _find_pods, *INSTALLED, "driver pods"),
)
