"""Faults of a Kubernetes cluster, each planted in the recorded cluster."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from hyperpod_ebs.access.doctor.findings import Status
from tests.support.doctor_faults import Fault
from tests.support.recorded_cluster import (
    DRIVER,
    EC2_NODE,
    HYPERPOD_NODES,
    VOLUME,
    Object,
    RecordedCluster,
    ago,
    zone_affinity,
)

_FIRST, _SECOND = HYPERPOD_NODES
_CLASS: Final = "checkpoints"
_LONG: Final = timedelta(hours=1)
_CONTROLLER: Final = ("deployments", "ebs-csi-controller")
_NODE: Final = ("daemonsets", "ebs-csi-node")


def _fault(  # noqa: PLR0913, PLR0917 - the columns of the table
    phrase: str,
    change: Callable[[RecordedCluster], object],
    check: str,
    named: str,
    says: str,
    status: Status = "fails",
) -> Fault[RecordedCluster]:
    async def plant(cluster: RecordedCluster) -> None:
        change(cluster)

    return Fault(phrase, plant, check, named, says, status)


def _set(item: Object, path: str, value: object) -> None:
    """Set a field, such as `spec.providerID`; None removes it."""
    *parents, last = path.split(".")
    for parent in parents:
        item = item.setdefault(parent, {})
    if value is None:
        item.pop(last, None)
    else:
        item[last] = value


def _class(name: str = "planted", **fields: Any) -> Callable[[RecordedCluster], object]:
    """Adds a StorageClass."""
    item = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": fields.pop("annotations", {})},
        "provisioner": DRIVER,
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    return lambda cluster: cluster.add(item | fields)


def _argument(where: tuple[str, str], container: str, word: str) -> Callable[[RecordedCluster], object]:
    """Adds an argument to a container of the driver's workloads."""
    return lambda cluster: cluster.container(*where, container)["args"].append(word)


def _image(where: tuple[str, str], container: str, image: str) -> Callable[[RecordedCluster], object]:
    return lambda cluster: cluster.container(*where, container).update(image=image)


def _waiting(app: str, why: str, message: str, **last: Any) -> Callable[[RecordedCluster], object]:
    """Lets the first container of the first pod wait."""

    def change(cluster: RecordedCluster) -> None:
        pod = cluster.pods(app)[0]
        pod["status"]["containerStatuses"][0] |= {
            "ready": False,
            "state": {"waiting": {"reason": why, "message": message}},
            "lastState": {"terminated": last} if last else {},
        }
        pod["status"]["conditions"][0]["status"] = "False"

    return change


def _upstream(cluster: RecordedCluster) -> None:
    labels = {"app.kubernetes.io/name": "aws-ebs-csi-driver", "app.kubernetes.io/instance": "aws-ebs-csi-driver"}
    for kind, name in (("Deployment", "ebs-csi-controller"), ("DaemonSet", "ebs-csi-node")):
        containers = [
            {
                "name": "ebs-plugin",
                "image": "602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/aws-ebs-csi-driver:v1.47.0",
            }
        ]
        volumes = [{"name": "plugin-dir", "hostPath": {"path": f"/var/lib/kubelet/plugins/{DRIVER}/"}}]
        cluster.add(
            {
                "apiVersion": "apps/v1",
                "kind": kind,
                "metadata": {"name": name, "namespace": "addons", "labels": labels},
                "spec": {"replicas": 2, "template": {"spec": {"containers": containers, "volumes": volumes}}},
            }
        )


def _second_daemonset(cluster: RecordedCluster) -> None:
    volumes = [{"name": "plugin", "hostPath": {"path": f"/var/lib/kubelet/plugins/{DRIVER}"}}]
    cluster.add_daemonset("my-ebs-node", "registry.example/my-ebs:1", volumes=volumes)


def _leave_node_out(cluster: RecordedCluster) -> None:
    cluster.get(*_NODE)["spec"]["template"]["spec"]["nodeSelector"]["storage"] = "ebs"
    cluster.get("nodes", _FIRST)["metadata"]["labels"]["storage"] = "ebs"
    cluster.get("nodes", EC2_NODE)["metadata"]["labels"]["storage"] = "ebs"
    cluster.remove("pods", "ebs-csi-node-1")
    cluster.get("csinodes", _SECOND)["spec"]["drivers"].pop()


def _do_not_tolerate(cluster: RecordedCluster) -> None:
    cluster.get(*_NODE)["spec"]["template"]["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    cluster.get("nodes", _SECOND)["spec"]["taints"].append({"key": "team", "value": "vision", "effect": "NoExecute"})
    cluster.remove("pods", "ebs-csi-node-1")
    cluster.get("csinodes", _SECOND)["spec"]["drivers"].pop()


def _lose_pod(cluster: RecordedCluster) -> None:
    cluster.remove("pods", "ebs-csi-node-1")
    cluster.get("csinodes", _SECOND)["spec"]["drivers"].pop()


def _attach_limits_differ(cluster: RecordedCluster) -> None:
    arguments = cluster.container(*_NODE, "ebs-plugin")["args"]
    arguments[:] = [word for word in arguments if not word.startswith("--attach-limits")]
    arguments.append("--attach-limits-configmap=other/limits")


def _turn_classes_off(cluster: RecordedCluster) -> None:
    _argument(_CONTROLLER, "csi-resizer", "--feature-gates=VolumeAttributesClass=false")(cluster)


def _drop_rule(role: str, resource: str) -> Callable[[RecordedCluster], object]:
    def change(cluster: RecordedCluster) -> None:
        item = cluster.get("clusterroles", role)
        item["rules"] = [rule for rule in item["rules"] if resource not in rule["resources"]]

    return change


def _bind_other_account(cluster: RecordedCluster) -> None:
    cluster.get("clusterrolebindings", "ebs-csi-attacher-binding")["subjects"][0]["name"] = "default"


def _add_volume_of_deleted_claim(
    phase: str = "Released", policy: str = "Retain", **status: Any
) -> Callable[[RecordedCluster], object]:
    def change(cluster: RecordedCluster) -> None:
        item = cluster.add_volume(
            "kept",
            annotations={"pv.kubernetes.io/provisioned-by": DRIVER},
            persistentVolumeReclaimPolicy=policy,
            claimRef={"namespace": "training", "name": "gone"},
        )
        item["status"] = {"phase": phase, **status}

    return change


def _static(**fields: Any) -> Callable[[RecordedCluster], object]:
    return lambda cluster: cluster.add_volume("by-hand", **fields)


def _volume(cluster: RecordedCluster) -> Object:
    return cluster.get("persistentvolumes", VOLUME)


def _source(**fields: Any) -> dict[str, Any]:
    return {"csi": {"driver": DRIVER, "volumeHandle": "vol-0123456789abcdef8", **fields}}


def _pending(event: tuple[str, str] | None = None, **spec: Any) -> Callable[[RecordedCluster], object]:
    def change(cluster: RecordedCluster) -> None:
        claim = cluster.add_claim("data", **spec)
        if event:
            reason, message = event
            cluster.add(
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "type": "Warning",
                    "metadata": {"name": "data.1", "namespace": "training"},
                    "involvedObject": {
                        "kind": "PersistentVolumeClaim",
                        "namespace": "training",
                        "name": "data",
                        "uid": claim["metadata"]["uid"],
                    },
                    "reason": reason,
                    "message": message,
                    "lastTimestamp": ago(timedelta(seconds=5)),
                }
            )

    return change


def _claim_status(**status: Any) -> Callable[[RecordedCluster], object]:
    return lambda cluster: cluster.get("persistentvolumeclaims", "checkpoints-0")["status"].update(status)


def _forget_defaults(cluster: RecordedCluster) -> None:
    cluster.get("storageclasses", "ebs-csi-default-sc")["metadata"]["annotations"].clear()
    cluster.add_claim("data")


def _attachment(*, deleted: bool = False, node: str = _SECOND, **status: Any) -> Callable[[RecordedCluster], object]:
    def change(cluster: RecordedCluster) -> None:
        item = cluster.add_attachment("csi-2", node=node, volume="pvc-2", **status)
        if deleted:
            item["metadata"]["deletionTimestamp"] = ago(_LONG)

    return change


def _local_driver(name: str, *nodes: str) -> Callable[[RecordedCluster], object]:
    def change(cluster: RecordedCluster) -> None:
        for node in nodes:
            cluster.get("csinodes", node)["spec"]["drivers"].append({"name": name, "nodeID": node})

    return change


def _snapshot_error(cluster: RecordedCluster) -> None:
    cluster.add(
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotContent",
            "metadata": {"name": "content-1"},
            "spec": {"driver": DRIVER, "volumeSnapshotRef": {"namespace": "training", "name": "nightly"}},
            "status": {"error": {"message": "snapshot quota reached (SnapshotLimitExceeded)"}},
        }
    )


def _remove_snapshot_controller(cluster: RecordedCluster) -> None:
    cluster.remove("deployments", "snapshot-controller")


FAULTS: Final[tuple[Fault[RecordedCluster], ...]] = (
    _fault(
        "an API server that is too old",
        lambda cluster: setattr(cluster, "version", "v1.27.16-eks-a737599"),
        "API server", "API server", "v1.27.16-eks-a737599",
    ),
    _fault(
        "no CSIDriver object",
        lambda cluster: cluster.remove("csidrivers", DRIVER),
        "CSIDriver", f"CSIDriver {DRIVER}", "does not have this object",
    ),
    _fault(
        "a CSIDriver without attachment",
        lambda cluster: _set(cluster.get("csidrivers", DRIVER), "spec.attachRequired", value=False),
        "CSIDriver", f"CSIDriver {DRIVER}", "attachRequired is false",
    ),
    _fault(
        "a CSIDriver that promises storage capacity",
        lambda cluster: _set(cluster.get("csidrivers", DRIVER), "spec.storageCapacity", value=True),
        "CSIDriver", f"CSIDriver {DRIVER}", "storageCapacity is true",
    ),
    _fault(
        "a CSIDriver without fsGroup",
        lambda cluster: _set(cluster.get("csidrivers", DRIVER), "spec.fsGroupPolicy", "None"),
        "CSIDriver", f"CSIDriver {DRIVER}", "fsGroupPolicy is None", "may fail",
    ),
    _fault(
        "a CSIDriver for ephemeral volumes only",
        lambda cluster: _set(cluster.get("csidrivers", DRIVER), "spec.volumeLifecycleModes", ["Ephemeral"]),
        "CSIDriver", f"CSIDriver {DRIVER}", "volumeLifecycleModes is Ephemeral",
    ),
    _fault(
        "no CustomResourceDefinitions of snapshots",
        lambda cluster: cluster.absent.update(
            {"/apis/snapshot.storage.k8s.io/v1", "volumesnapshotclasses", "volumesnapshotcontents"}
        ),
        "kinds", "release ebs", "CustomResourceDefinitions of snapshots",
    ),
    _fault(
        "no VolumeAttributesClass in the API server",
        lambda cluster: cluster.absent.add("volumeattributesclasses"),
        "kinds", "release ebs", "watches VolumeAttributesClasses",
    ),
    _fault(
        "no snapshot-controller", _remove_snapshot_controller,
        "kinds", "VolumeSnapshotClass checkpoints", "no Deployment of the cluster runs the snapshot-", "may fail",
    ),
    _fault(
        "a release without the controller",
        lambda cluster: cluster.remove(*_CONTROLLER),
        "driver installation", "release ebs", "no workload with the controller", "may fail",
    ),
    _fault(
        "a release without the node service",
        lambda cluster: cluster.remove(*_NODE),
        "driver installation", "release ebs", "no workload with the node service",
    ),
    _fault(
        "upstream's driver beside this one", _upstream,
        "second driver", "Deployment addons/ebs-csi-controller", "aws-ebs-csi-driver",
    ),
    _fault(
        "a second DaemonSet with the driver's name", _second_daemonset,
        "second driver", "DaemonSet storage/my-ebs-node", "registry.example/my-ebs:1",
    ),
    _fault(
        "an old csi-attacher", _image(_CONTROLLER, "csi-attacher", "registry.example/csi-attacher:v3.5.0"),
        "versions", "container csi-attacher", "v3.5.0 is older than v4.12.0", "may fail",
    ),
    _fault(
        "a csi-provisioner of a later major version",
        _image(_CONTROLLER, "csi-provisioner", "public.ecr.aws/csi/csi-provisioner:v7.0.0-eks-1-40-1@sha256:0"),
        "versions", "container csi-provisioner", "a later major version than v6.4.0", "may fail",
    ),
    _fault(
        "a driver of another version", _image(_NODE, "ebs-plugin", "registry.example/hyperpod-ebs:9.1.0"),
        "versions", "DaemonSet kube-system/ebs-csi-node, container ebs-plugin", "9.1.0", "may fail",
    ),
    _fault(
        "two replicas without leader election", _argument(_CONTROLLER, "csi-attacher", "--leader-election=false"),
        "flags", "container csi-attacher", "2 replicas",
    ),
    _fault(
        "a provisioner without topology",
        _argument(_CONTROLLER, "csi-provisioner", "--feature-gates=Topology=false"),
        "flags", "container csi-provisioner", "Topology=false",
    ),
    _fault(
        "a default filesystem that the driver does not have",
        _argument(_CONTROLLER, "csi-provisioner", "--default-fstype=btrfs"),
        "flags", "container csi-provisioner", "btrfs",
    ),
    _fault(
        "a resizer without VolumeAttributesClasses", _turn_classes_off,
        "flags", "container csi-resizer", "classes fast", "may fail",
    ),
    _fault(
        "two settings of the attach limit",
        lambda cluster: cluster.container(*_NODE, "ebs-plugin")["args"].extend(
            ["--volume-attach-limit=12", "--reserved-volume-attachments=2"]
        ),
        "flags", "DaemonSet kube-system/ebs-csi-node", "exclude each other",
    ),
    _fault(
        "a registration path outside of kubelet's directory",
        _argument(_NODE, "ebs-plugin", f"--kubelet-registration-path=/var/snap/kubelet/plugins/{DRIVER}/csi.sock"),
        "flags", "DaemonSet kube-system/ebs-csi-node", "/var/snap/kubelet",
    ),
    _fault(
        "two ConfigMaps for the attach limits", _attach_limits_differ,
        "flags", "release ebs", "other/limits", "may fail",
    ),
    _fault(
        "a node pod whose image cannot be pulled",
        _waiting("ebs-csi-node", "ImagePullBackOff", 'Back-off pulling image "registry.example/hyperpod-ebs:0.1.0"'),
        "driver pods", "ebs-csi-node-0", "ImagePullBackOff: Back-off pulling image",
    ),
    _fault(
        "a controller pod that crashes",
        _waiting("ebs-csi-controller", "CrashLoopBackOff", "back-off 5m0s", exitCode=1, reason="--region is wrong"),
        "driver pods", "ebs-csi-controller-0", "exit code 1: --region is wrong",
    ),
    _fault(
        "a node pod that does not become ready",
        lambda cluster: cluster.pods("ebs-csi-node")[1]["status"]["conditions"][0].update(
            status="False", lastTransitionTime=ago(_LONG), message="containers with unready status: [ebs-plugin]"
        ),
        "driver pods", "ebs-csi-node-1", "has not been ready for 60 minutes",
    ),
    _fault(
        "a controller without replicas",
        lambda cluster: _set(cluster.get(*_CONTROLLER), "spec.replicas", 0),
        "driver pods", "Deployment kube-system/ebs-csi-controller", "0 replicas",
    ),
    _fault(
        "controller pods that an admission rule refuses",
        lambda cluster: _set(
            cluster.get(*_CONTROLLER), "status.conditions",
            [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods=2"}],
        ),
        "driver pods", "Deployment kube-system/ebs-csi-controller", "exceeded quota",
    ),
    _fault(
        "a provisioner that may not create volumes", _drop_rule("ebs-external-provisioner-role", "persistentvolumes"),
        "RBAC", "kube-system/ebs-csi-controller-sa", "get, create, delete persistentvolumes",
    ),
    _fault(
        "an attacher whose binding names another account", _bind_other_account,
        "RBAC", "kube-system/ebs-csi-controller-sa", "volumeattachments/status",
    ),
    _fault(
        "a node service that may not read its node", _drop_rule("ebs-csi-node-role", "nodes"),
        "RBAC", "kube-system/ebs-csi-node-sa", "get nodes; watch, patch nodes",
    ),
    _fault(
        "no right to hold leases",
        lambda cluster: cluster.remove("rolebindings", "ebs-csi-leases-rolebinding"),
        "RBAC", "kube-system/ebs-csi-controller-sa", "leases",
    ),
    _fault(
        "a node without a provider id",
        lambda cluster: _set(cluster.get("nodes", _SECOND), "spec.providerID", None),
        "node identities", _SECOND, "no providerID",
    ),
    _fault(
        "a HyperPod node whose provider id does not parse",
        lambda cluster: _set(cluster.get("nodes", _SECOND), "spec.providerID", "aws:///usw2-az1/sagemaker/cluster/x-1"),
        "node identities", _SECOND, "aws:///usw2-az1/sagemaker/cluster/x-1",
    ),
    _fault(
        "a node without a zone",
        lambda cluster: _set(cluster.get("nodes", _SECOND), "metadata.labels", {"kubernetes.io/os": "linux"}),
        "node identities", _SECOND, "topology.kubernetes.io/zone",
    ),
    _fault(
        "a taint that the node pods do not tolerate", _do_not_tolerate,
        "driver on nodes", _SECOND, "team=vision:NoExecute",
    ),
    _fault("a node without the driver's pod", _lose_pod, "driver on nodes", _SECOND, "has no pod on it"),
    _fault(
        "a HyperPod node that the selector leaves out", _leave_node_out,
        "driver on nodes", _SECOND, "leaves the HyperPod node out", "may fail",
    ),
    _fault(
        "a node on which kubelet has not registered the driver",
        lambda cluster: cluster.get("csinodes", _FIRST)["spec"]["drivers"].pop(),
        "registrations", _FIRST, f"does not have the driver {DRIVER}",
    ),
    _fault(
        "a HyperPod node registered as a plain instance",
        lambda cluster: cluster.get("csinodes", _FIRST)["spec"]["drivers"][1].update(nodeID="i-0123456789abcdef0"),
        "registrations", _FIRST, "node id i-0123456789abcdef0",
    ),
    _fault(
        "an attach limit above what the instance takes",
        lambda cluster: cluster.get("csinodes", _FIRST)["spec"]["drivers"][1]["allocatable"].update(count=100),
        "attach limits in Kubernetes", _FIRST, "allocatable.count is 100", "may fail",
    ),
    _fault(
        "a node without an attach limit",
        lambda cluster: cluster.get("csinodes", _FIRST)["spec"]["drivers"][1].pop("allocatable"),
        "attach limits in Kubernetes", _FIRST, "no allocatable.count", "may fail",
    ),
    _fault(
        "a start-up taint that stays",
        lambda cluster: cluster.get("nodes", _FIRST)["spec"]["taints"].append(
            {"key": f"{DRIVER}/agent-not-ready", "effect": "NoExecute"}
        ),
        "start-up taints", _FIRST, "agent-not-ready",
    ),
    _fault(
        "TopoLVM on HyperPod nodes", _local_driver("topolvm.io", *HYPERPOD_NODES),
        "local disks", "2 HyperPod nodes", "TopoLVM",
    ),
    _fault(
        "the Local Volume Static Provisioner on HyperPod nodes",
        lambda cluster: cluster.add_daemonset("local-disks", "registry.example/local-volume-provisioner:v2.7.0"),
        "local disks", _FIRST, "DaemonSet storage/local-disks runs there",
    ),
    _fault(
        "the EC2 instance store driver on a HyperPod node", _local_driver("instance-store.csi.aws.com", _SECOND),
        "local disks", _SECOND, "kubelet has registered instance-store.csi.aws.com",
    ),
    _fault(
        "a StorageClass with an unknown parameter", _class(parameters={"typ": "gp3"}),
        "class parameters", "StorageClass planted", "'typ'",
    ),
    _fault(
        "a StorageClass with an unknown volume type", _class(parameters={"type": "gp4"}),
        "class parameters", "StorageClass planted", "gp4",
    ),
    _fault(
        "a StorageClass with io2 and no IOPS", _class(parameters={"type": "io2"}),
        "class parameters", "StorageClass planted", "needs iops",
    ),
    _fault(
        "a StorageClass with another filesystem", _class(parameters={"csi.storage.k8s.io/fstype": "btrfs"}),
        "class parameters", "StorageClass planted", "btrfs",
    ),
    _fault(
        "a StorageClass with a mount option that is refused", _class(mountOptions=["bind"]),
        "class parameters", "StorageClass planted", "bind",
    ),
    _fault(
        "a VolumeAttributesClass that changes the encryption",
        lambda cluster: _set(cluster.get("volumeattributesclasses", "fast"), "parameters", {"encrypted": "true"}),
        "class parameters", "VolumeAttributesClass fast", "encrypted",
    ),
    _fault(
        "a StorageClass of the in-tree plug-in", _class(provisioner="kubernetes.io/aws-ebs"),
        "provisioners", "StorageClass planted", "kubernetes.io/aws-ebs", "may fail",
    ),
    _fault(
        "a StorageClass with a wrong provisioner", _class(provisioner="aws.ebs.csi.com"),
        "provisioners", "StorageClass planted", "aws.ebs.csi.com",
    ),
    _fault(
        "two default StorageClasses", _class(annotations={"storageclass.kubernetes.io/is-default-class": "true"}),
        "default class", "ebs-csi-default-sc, planted", "2 classes", "may fail",
    ),
    _fault(
        "volumes that are created before their pods are scheduled", _class(volumeBindingMode="Immediate"),
        "zones of classes", "StorageClass planted", "us-west-2a, us-west-2b", "may fail",
    ),
    _fault(
        "a StorageClass for a zone without nodes",
        _class(
            allowedTopologies=[
                {"matchLabelExpressions": [{"key": "topology.kubernetes.io/zone", "values": ["us-west-2d"]}]}
            ]
        ),
        "zones of classes", "StorageClass planted", "us-west-2d",
    ),
    _fault(
        "a static volume with a malformed handle", _static(**_source(volumeHandle="aws://us-west-2a/vol-1")),
        "static volumes", "PersistentVolume by-hand", "aws://us-west-2a/vol-1",
    ),
    _fault(
        "a static volume without node affinity", _static(nodeAffinity=None),
        "static volumes", "PersistentVolume by-hand", "nodeAffinity",
    ),
    _fault(
        "a static volume with a wrong filesystem", _static(**_source(fsType="ntfs")),
        "static volumes", "PersistentVolume by-hand", "ntfs",
    ),
    _fault(
        "a static volume for many nodes", _static(accessModes=["ReadWriteMany"]),
        "static volumes", "PersistentVolume by-hand", "ReadWriteMany",
    ),
    _fault(
        "two PersistentVolumes for one volume", _static(**_source(volumeHandle="vol-0123456789abcdef0")),
        "static volumes", f"by-hand, {VOLUME}", "vol-0123456789abcdef0",
    ),
    _fault(
        "a volume kept after its claim", _add_volume_of_deleted_claim(),
        "released volumes", "PersistentVolume kept", "training/gone", "may fail",
    ),
    _fault(
        "a volume that Kubernetes could not delete",
        _add_volume_of_deleted_claim("Failed", "Delete", message="volume is in use (VolumeInUse)"),
        "released volumes", "PersistentVolume kept", "VolumeInUse",
    ),
    _fault(
        "a volume whose deletion takes too long",
        _add_volume_of_deleted_claim("Released", "Delete", lastPhaseTransitionTime=ago(_LONG)),
        "released volumes", "PersistentVolume kept", "longer than 6 minutes",
    ),
    _fault(
        "a bound volume in a zone without nodes",
        lambda cluster: _set(_volume(cluster), "spec.nodeAffinity", zone_affinity("us-west-2d")),
        "zones of volumes", VOLUME, "us-west-2d", "may fail",
    ),
    _fault(
        "an attachment to a node that is gone", _attachment(node="hyperpod-i-00000000000000000", attached=True),
        "VolumeAttachments", "VolumeAttachment csi-2", "no longer has this node",
    ),
    _fault(
        "an attachment that AWS refuses",
        _attachment(attached=False, attachError={"message": "attach limit reached (AttachmentLimitExceeded)"}),
        "VolumeAttachments", "VolumeAttachment csi-2", "AttachmentLimitExceeded",
    ),
    _fault(
        "an attachment that takes too long", _attachment(attached=False),
        "VolumeAttachments", "VolumeAttachment csi-2", "has been attaching for",
    ),
    _fault(
        "a detachment that is stuck", _attachment(deleted=True, attached=True),
        "VolumeAttachments", "VolumeAttachment csi-2", "has been detaching for 60 minutes",
    ),
    _fault(
        "a detachment with an error",
        _attachment(deleted=True, attached=True, detachError={"message": "not authorized (AccessDeniedException)"}),
        "VolumeAttachments", "VolumeAttachment csi-2", "AccessDeniedException",
    ),
    _fault(
        "a claim whose volume is not created",
        _pending(("ProvisioningFailed", "rpc error: key k is disabled (KMSKeyNotAccessible)"), storageClassName=_CLASS),
        "claims", "claim training/data", "KMSKeyNotAccessible",
    ),
    _fault(
        "a claim of a class that does not exist", _pending(storageClassName="fasst"),
        "claims", "claim training/data", "fasst does not exist", "may fail",
    ),
    _fault(
        "a claim without a class and no default class", _forget_defaults,
        "claims", "claim training/data", "no default class", "may fail",
    ),
    _fault(
        "a claim that no provisioner takes up",
        lambda cluster: cluster.add_claim("data", storageClassName=_CLASS)["metadata"]["annotations"].update(
            {"volume.kubernetes.io/selected-node": _FIRST}
        ),
        "claims", "claim training/data", "without a warning",
    ),
    _fault(
        "a claim whose volume is gone", _claim_status(phase="Lost"),
        "claims", "claim training/checkpoints-0", f"{VOLUME} no longer exists",
    ),
    _fault(
        "a claim that cannot grow", _claim_status(allocatedResourceStatuses={"storage": "ControllerResizeInfeasible"}),
        "claims", "claim training/checkpoints-0", "ControllerResizeInfeasible",
    ),
    _fault(
        "a claim that cannot be changed",
        _claim_status(conditions=[{"type": "ModifyVolumeError", "status": "True", "message": "6 hours (rate limit)"}]),
        "claims", "claim training/checkpoints-0", "rate limit",
    ),
    _fault(
        "a snapshot with an error", _snapshot_error,
        "snapshots", "VolumeSnapshotContent content-1", "SnapshotLimitExceeded",
    ),
)  # fmt: skip
