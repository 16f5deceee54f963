"""What the doctor finds in Kubernetes: each fault, and nothing else."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs.access.aws.session import open_aws
from hyperpod_ebs.access.doctor.checks import run_checks
from hyperpod_ebs.access.doctor.context import Context, Wanted
from hyperpod_ebs.access.doctor.findings import Finding
from hyperpod_ebs.access.doctor.kubernetes_checks.registry import CHECKS
from tests.support import doctor_answers
from tests.support.doctor_faults import Fault
from tests.support.kubernetes_faults import FAULTS
from tests.support.recorded_cluster import RecordedCluster

WANTED: Final = Wanted(namespace="kube-system", service_account="ebs-csi-controller-sa")


async def examine(cluster: RecordedCluster, directory: Path) -> Sequence[Finding]:
    """What the doctor finds with the rights of a pod, without what is in order."""
    return [finding for finding in await report(cluster, directory) if finding.status != "ok"]


async def report(cluster: RecordedCluster, directory: Path) -> Sequence[Finding]:
    """All that the doctor says with the rights of a pod."""
    async with cluster.serve(directory), AsyncExitStack() as stack:
        context = Context(WANTED, open_aws, lambda: cluster.open_reader(directory), stack)
        findings = await run_checks(CHECKS, context)
    assert {request.partition(" ")[0] for request in cluster.requests} == {"GET"}
    first_pages = [request for request in cluster.requests if "continue=" not in request]
    assert len(first_pages) == len(set(first_pages)), "a list was read twice"
    return findings


async def test_a_healthy_cluster_has_no_finding(tmp_path: Path) -> None:
    cluster = RecordedCluster.healthy()

    findings = await examine(cluster, tmp_path)

    assert findings == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
async def test_the_doctor_names_a_fault_and_nothing_else(fault: Fault[RecordedCluster], tmp_path: Path) -> None:
    cluster = RecordedCluster.healthy()
    await fault.plant(cluster)

    findings = await examine(cluster, tmp_path)

    assert [(finding.check, finding.status) for finding in findings] == [(fault.check, fault.status)], findings
    (finding,) = findings
    assert fault.object in finding.object
    assert fault.says in finding.evidence
    assert finding.consequence
    assert finding.fix
    doctor_answers.check_answer("Kubernetes", fault.id, finding)


async def test_nothing_of_a_driver_that_is_not_installed_is_in_order(tmp_path: Path) -> None:
    cluster = RecordedCluster.healthy()
    cluster.remove("deployments", "ebs-csi-controller")
    cluster.remove("daemonsets", "ebs-csi-node")

    findings = await report(cluster, tmp_path)

    assert "driver installation" in {finding.check for finding in findings if finding.status == "fails"}
    in_order = {finding.check for finding in findings if finding.status == "ok"}
    assert in_order.isdisjoint({"versions", "flags", "driver pods", "RBAC", "driver on nodes"})


async def test_a_fault_of_a_thousand_nodes_is_one_finding(tmp_path: Path) -> None:
    cluster = RecordedCluster.healthy()
    cluster.add_hyperpod_nodes(1000)
    for pod in cluster.pods("ebs-csi-node"):
        pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ImagePullBackOff"}}

    (finding,) = await examine(cluster, tmp_path)

    assert finding.check == "driver pods"
    assert "ebs-csi-node-0, ebs-csi-node-1" in finding.object
    assert "and 998 more" in finding.object


async def test_what_may_not_be_read_is_named_once_with_the_right_that_is_missing(tmp_path: Path) -> None:
    cluster = RecordedCluster.healthy()
    cluster.forbidden |= {"persistentvolumes", "clusterroles"}

    findings = await examine(cluster, tmp_path)

    assert {finding.status for finding in findings} == {"not checked"}
    assert sorted(finding.object for finding in findings) == [
        "Kubernetes /api/v1/persistentvolumes",
        "Kubernetes /apis/rbac.authorization.k8s.io/v1/clusterroles",
    ]
    assert all("cannot list resource" in finding.evidence for finding in findings)
