"""The check for a second driver that manages the local disks of HyperPod nodes.

The HyperPod AMI makes all local NVMe disks of a node one LVM volume group, `vg.01`, and mounts it at `/opt/sagemaker`.
A driver that formats or partitions these disks as well corrupts it, and the damage survives reboots and replacements.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.findings import Finding, fails
from hyperpod_ebs.access.doctor.kubernetes_checks.nodes import is_hyperpod
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import ClusterObjects, name_list, name_of, object_check
from hyperpod_ebs.access.doctor.kubernetes_checks.scheduling import selects_node, taints_not_tolerated
from hyperpod_ebs.access.doctor.kubernetes_checks.workloads import Workload, image_name, list_workloads
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER

DRIVERS: Final[Mapping[str, str]] = {
    "topolvm.io": "TopoLVM",
    "topolvm.cybozu.com": "TopoLVM",
    "local.csi.openebs.io": "OpenEBS Local PV LVM",
    "zfs.csi.openebs.io": "OpenEBS Local PV ZFS",
    "device.csi.openebs.io": "OpenEBS Device Local PV",
    "io.openebs.csi-mayastor": "OpenEBS Mayastor",
    "lvm.csi.metal-stack.io": "csi-driver-lvm",
    "direct-csi-min-io": "DirectPV",
    "directpv-min-io": "DirectPV",
    "carina.storage.io": "Carina",
    "lvm.hwameistor.io": "HwameiStor",
    "disk.hwameistor.io": "HwameiStor",
    "linstor.csi.linbit.com": "LINSTOR",
    "local.csi.k8s.io": "a local disk driver",
}
"""CSI drivers that take a node's disks, by the names with which they register with kubelet."""

IMAGES: Final[Mapping[str, str]] = {
    "local-volume-provisioner": "local-volume-provisioner (Local Volume Static Provisioner)",
    "eks-nvme-ssd-provisioner": "eks-nvme-ssd-provisioner",
    "local-instance-store": "the Amazon EC2 Instance Store CSI driver",
    "instance-store-csi": "the Amazon EC2 Instance Store CSI driver",
    "topolvm": "TopoLVM",
    "lvm-driver": "OpenEBS Local PV LVM",
    "csi-driver-lvm": "csi-driver-lvm",
    "node-disk-manager": "the OpenEBS node disk manager",
    "nvme-provisioner": "an NVMe provisioner",
    "directpv": "DirectPV",
}
"""Programs that take a node's disks, by a part of their image's name."""

_WORDS: Final = ("instance-store", "local-nvme", "localdisk", "local-disk")
"""Parts of the names of other drivers for local disks."""

_REPAIR: Final = (
    "1. uninstall {name} first; 2. only then replace the nodes, about three at a time (`aws sagemaker "
    "batch-replace-cluster-nodes`); 3. look at each new node again with `hyperpod-ebs doctor`. New nodes are corrupted "
    "as well as long as that driver runs"
)


def _find_local_disk_drivers(objects: ClusterObjects) -> Iterator[Finding]:
    hyperpod = {name_of(node): node for node in objects["nodes"] if is_hyperpod(node)}
    users: dict[str, tuple[set[str], set[str]]] = {}
    for csi_node in objects["csinodes"]:
        for entry in csi_node.get("spec", {}).get("drivers") or () if name_of(csi_node) in hyperpod else ():
            if program := _driver_program(str(entry.get("name", ""))):
                where, evidence = users.setdefault(program, (set(), set()))
                where.add(name_of(csi_node))
                evidence.add(f"kubelet has registered {entry['name']}")
    for workload in list_workloads(objects):
        if workload.kind == "DaemonSet" and (program := _workload_program(workload)):
            spec = workload.pod_spec
            nodes = {
                name
                for name, node in hyperpod.items()
                if selects_node(spec, node) and not taints_not_tolerated(spec, node)
            }
            if nodes:
                where, evidence = users.setdefault(program, (set(), set()))
                where |= nodes
                evidence.add(f"{workload} runs there")
    for program, (where, evidence) in users.items():
        yield fails(
            f"{len(where)} HyperPod nodes: {name_list(where)}",
            f"{program} manages local disks on HyperPod nodes, whose image already manages them as the LVM volume "
            f"group vg.01 at /opt/sagemaker: {'; '.join(sorted(evidence))}",
            "The volume group is corrupted: NVMe I/O errors, failed mounts, damage that survives reboots",
            _REPAIR.format(name=program),
        )


def _driver_program(name: str) -> str:
    """The program that registers a CSI driver for local disks; empty for any other driver."""
    if name == DRIVER:
        return ""
    return DRIVERS.get(name) or (name if any(word in name for word in _WORDS) else "")


def _workload_program(workload: Workload) -> str:
    """The program for local disks in a DaemonSet; empty for any other DaemonSet."""
    images = [image_name(image) for image in workload.images]
    found = (program for part, program in IMAGES.items() if any(part in image for image in images))
    return next(found, "") or ("" if workload.serves_driver else _driver_program(name_of(workload.item)))


CHECKS: Final[tuple[Check, ...]] = (
    object_check(
        "local disks",
        "no second driver manages the local disks of HyperPod nodes",
        _find_local_disk_drivers,
        "nodes",
        "csinodes",
        "daemonsets",
        "deployments",
    ),
)
