"""The doctor on a real Kubernetes: faults planted one at a time, and undone."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from hyperpod_ebs.access.doctor.kubernetes_checks.registry import CHECKS
from hyperpod_ebs.access.doctor.node_checks.registry import checks_of
from hyperpod_ebs.kit import command
from tests.support import driver_pods
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.doctor_faults import Fault
from tests.support.live_cluster import DRIVER, SYSTEM, LiveCluster
from tests.support.waiting import wait_for_cluster

NODE: Final = frozenset(check.name for check in checks_of())
KUBERNETES: Final = frozenset(check.name for check in CHECKS)
DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The cluster, a namespace of the test, and what undoes the fault."""

    live: LiveCluster
    namespace: ClusterNamespace
    undo: AsyncExitStack

    async def create(self, *documents: Mapping[str, Any]) -> None:
        """Create objects that are deleted when the fault is undone."""
        for document in documents:
            metadata, where = document["metadata"], list[str]()
            if "namespace" in metadata:
                where.append(f"--namespace={metadata['namespace']}")
            await self.live.kubectl.apply(document)
            words = (*where, document["kind"], metadata["name"], "--ignore-not-found")
            self.undo.push_async_callback(self.live.kubectl, "delete", *words)

    async def patch(self, kind: str, name: str, change: Mapping[str, Any], back: Mapping[str, Any]) -> None:
        """Change fields of an object, and change them back when the fault is undone."""
        words = ("patch", kind, name, "--type=merge", "--patch")
        self.undo.push_async_callback(self.live.kubectl, *words, json.dumps(back))
        await self.live.kubectl(*words, json.dumps(change))


async def examine(live: LiveCluster) -> Sequence[Mapping[str, Any]]:
    """What `doctor` reports of Kubernetes, without what is in order; it gets no AWS credentials, which saves time."""
    path = f"{Path(live.record.kubectl).parent}:{os.environ['PATH']}"
    settings = {"AWS_EC2_METADATA_DISABLED": "true", "KUBECONFIG": live.record.kubeconfig, "PATH": path}
    argv = ["env", *(f"{name}={value}" for name, value in settings.items())]
    argv += [sys.executable, "-m", "hyperpod_ebs.cli", "doctor", "--output=json"]
    finished = await command.run(argv, ok=frozenset({0, 3, 4}))
    findings = json.loads(finished.out)["findings"]
    assert {finding["check"] for finding in findings} >= KUBERNETES
    return [finding for finding in findings if finding["check"] in KUBERNETES and finding["status"] != "ok"]


def storage_class(name: str, **fields: Any) -> Mapping[str, Any]:
    """A StorageClass of the driver."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": fields.pop("annotations", {})},
        "provisioner": DRIVER,
        "volumeBindingMode": "WaitForFirstConsumer",
        **fields,
    }


def daemonset(name: str, namespace: str, image: str, **pod_spec: Any) -> Mapping[str, Any]:
    """A DaemonSet whose image no node has."""
    containers = [{"name": "main", "image": image, "imagePullPolicy": "Never"}]
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers, **pod_spec}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


async def plant_second_driver(site: Site) -> None:
    """A DaemonSet with a socket of the driver's name; its selector matches no node."""
    volumes = [{"name": "plugin", "hostPath": {"path": f"/var/lib/kubelet/plugins/{DRIVER}/"}}]
    selector = {"kubernetes.io/hostname": "none"}
    await site.create(daemonset("second", site.namespace.name, "my-ebs:1", volumes=volumes, nodeSelector=selector))


async def plant_local_disk_driver(site: Site) -> None:
    """The Local Volume Static Provisioner, on every node."""
    await site.create(daemonset("local-disks", site.namespace.name, "local-volume-provisioner:v2.7.0"))


async def plant_wrong_parameter(site: Site) -> None:
    """A StorageClass with a volume type that EBS does not have."""
    await site.create(storage_class("doctor-wrong", parameters={"type": "gp4"}))


async def plant_two_defaults(site: Site) -> None:
    """Two default classes."""
    await site.create(*(storage_class(f"doctor-{one}", annotations={DEFAULT: "true"}) for one in ("one", "two")))


async def plant_missing_right(site: Site) -> None:
    """A role without one of its rules."""
    rules = (await site.live.kubectl.get("clusterrole", "ebs-external-snapshotter-role"))["rules"]
    kept = [rule for rule in rules if "volumesnapshotcontents/status" not in rule["resources"]]
    await site.patch("clusterrole", "ebs-external-snapshotter-role", {"rules": kept}, {"rules": rules})


async def plant_storage_capacity(site: Site) -> None:
    """A CSIDriver that promises to publish the capacity of its storage."""
    change, back = {"spec": {"storageCapacity": True}}, {"spec": {"storageCapacity": False}}
    await site.patch("csidriver", DRIVER, change, back)


async def plant_failed_attachment(site: Site) -> None:
    """A VolumeAttachment of a volume that does not exist."""
    attachment = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": "doctor-stuck"},
        "spec": {
            "attacher": DRIVER,
            "nodeName": site.live.record.nodes[0].name,
            "source": {"persistentVolumeName": "doctor-nothing"},
        },
    }
    await site.create(attachment)

    async def has_failed() -> bool:
        return "attachError" in (await site.live.kubectl.get("volumeattachment", "doctor-stuck")).get("status", {})

    await wait_for_cluster(has_failed)


async def plant_released_volume(site: Site) -> None:
    """A PersistentVolume whose claim is gone, and whose volume is kept."""
    labels = (await site.live.kubectl.get("node", site.live.record.nodes[0].name))["metadata"]["labels"]
    zone = "topology.kubernetes.io/zone"
    expression = {"key": zone, "operator": "In", "values": [labels[zone]]}
    claim = {"namespace": site.namespace.name, "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "doctor-kept"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "claimRef": claim,
            "csi": {"driver": DRIVER, "volumeHandle": "vol-0123456789abcdef0"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }
    await site.create(volume)
    await site.live.kubectl("wait", "--for=jsonpath={.status.phase}=Released", "pv/doctor-kept", "--timeout=60s")


async def plant_claim_without_class(site: Site) -> None:
    """A claim that names a class with a typing mistake."""
    await site.namespace.create_claim("data", of="doctor-fasst")
    site.undo.push_async_callback(site.namespace.delete, "pvc", "data")


FAULTS: Final[tuple[Fault[Site], ...]] = (
    Fault("a second DaemonSet", plant_second_driver, "second driver", "/second", "my-ebs:1"),
    Fault("a driver for local disks", plant_local_disk_driver, "local disks", "HyperPod nodes", "/local-disks runs"),
    Fault("a wrong parameter", plant_wrong_parameter, "class parameters", "StorageClass doctor-wrong", "gp4"),
    Fault("two defaults", plant_two_defaults, "default class", "doctor-one, doctor-two", "2 classes", "may fail"),
    Fault("a missing right", plant_missing_right, "RBAC", "ebs-csi-controller-sa", "volumesnapshotcontents/status"),
    Fault("storage capacity", plant_storage_capacity, "CSIDriver", f"CSIDriver {DRIVER}", "storageCapacity is true"),
    Fault("a failed attachment", plant_failed_attachment, "VolumeAttachments", "doctor-stuck", "doctor-nothing"),
    Fault("a kept volume", plant_released_volume, "released volumes", "doctor-kept", "/gone", "may fail"),
    Fault("a class that is missing", plant_claim_without_class, "claims", "/data", "doctor-fasst", "may fail"),
)


@pytest.mark.exclusive
async def test_the_doctor_names_each_fault_of_a_real_cluster_and_nothing_else(
    live: LiveCluster, namespace: ClusterNamespace
) -> None:
    assert await examine(live) == []

    for fault in FAULTS:
        async with AsyncExitStack() as undo:
            await fault.plant(Site(live=live, namespace=namespace, undo=undo))
            findings = await examine(live)
        assert [(each["check"], each["status"]) for each in findings] == [(fault.check, fault.status)], findings
        assert fault.object in findings[0]["object"]
        assert fault.says in findings[0]["evidence"]

    assert await examine(live) == []


async def examine_in_pod(live: LiveCluster, pod: str) -> Sequence[Mapping[str, Any]]:
    """What `doctor` reports in a pod of the driver."""
    words = ("exec", f"--namespace={SYSTEM}", pod, f"--container={driver_pods.PLUGIN}", "--")
    finished = await live.kubectl(*words, "/bin/aws-ebs-csi-driver", "doctor", "--output=json", ok=(0, 3, 4))
    findings: list[Mapping[str, Any]] = json.loads(finished.out)["findings"]
    return findings


@pytest.mark.exclusive
async def test_the_doctor_in_the_driver_pods_finds_nothing_and_names_the_rights_that_it_lacks(
    live: LiveCluster, namespace: ClusterNamespace
) -> None:
    await namespace.create_claim("data", of=await namespace.create_storage_class())
    await namespace.create_pod("user", "data", on=live.record.nodes[0].name)
    await namespace.wait_for_pod("user")
    pods = await driver_pods.list_pods(live, driver_pods.NODE)
    node_pod = next(pod for pod in pods if pod["spec"]["nodeName"] == live.record.nodes[0].name)

    on_node = await examine_in_pod(live, node_pod["metadata"]["name"])
    on_controller = await examine_in_pod(live, driver_pods.CONTROLLER)

    statuses = {each["check"]: each["status"] for each in on_node if each["check"] in NODE}
    assert statuses == {**dict.fromkeys(NODE, "ok"), "clock": "not checked"}  # the nodes do not reach AWS
    for findings in (on_node, on_controller):
        assert {each["status"] for each in findings if each["check"] in KUBERNETES} == {"ok", "not checked"}
        denied = [each["evidence"] for each in findings if each["object"].startswith("Kubernetes /")]
        assert denied
        assert all("cannot list resource" in evidence for evidence in denied)
