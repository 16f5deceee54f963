"""What the doctor finds at AWS: each fault, and nothing else."""

import re
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final

import aiohttp
import pytest
import pytest_asyncio

from hyperpod_ebs.access.doctor.context import Wanted
from hyperpod_ebs.access.doctor.registry import AWS_CHECKS, CALLER_ACTIONS
from hyperpod_ebs.kit import command
from tests.support import doctor_answers
from tests.support.aws_faults import FAULTS, give_role_by_token
from tests.support.doctor_faults import Fault
from tests.support.doctor_site import ACCOUNT_OF_THE_DRIVER, ROLE_ARN, DoctorSite, add_nodes, healthy_site

CHECKS: Final = [check for check in AWS_CHECKS if check.name != "quotas"]
"""Without the quotas, which the emulator does not have (`tests/unit/test_quotas.py`)."""


OF_THE_ROLE: Final = [
    check
    for check in CHECKS
    if check.name in {"service account", "pod identity agent", "trust", "permissions", "keys", "volume tags"}
]

WITHOUT_CREATE: Final = next(fault for fault in FAULTS if fault.id == "the driver's role lacks ec2:CreateVolume")

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("doctor at AWS")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def account() -> AsyncGenerator[DoctorSite]:
    """An account in which all is in order, for all tests of this file."""
    async with healthy_site() as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def site(account: DoctorSite) -> AsyncGenerator[DoctorSite]:
    """The account, which is restored after the test."""
    async with account.undo_changes():
        yield account


async def test_a_healthy_account_has_no_finding(site: DoctorSite) -> None:
    assert await site.examine(CHECKS) == []


async def test_a_healthy_account_with_a_role_by_token_has_no_finding(site: DoctorSite) -> None:
    cluster = (await site.aws("eks", "describe_cluster", name="eks"))["cluster"]
    give_role_by_token(site, cluster["identity"]["oidc"]["issuer"])

    assert await site.examine(CHECKS) == []


@pytest.mark.parametrize("way", ["Pod Identity", "token"])
async def test_a_user_with_the_documented_actions_can_check_everything(way: str, site: DoctorSite) -> None:
    if way == "token":
        cluster = (await site.aws("eks", "describe_cluster", name="eks"))["cluster"]
        give_role_by_token(site, cluster["identity"]["oidc"]["issuer"])

    async with site.as_user(*CALLER_ACTIONS) as user:
        assert await user.examine(CHECKS) == []


async def test_a_user_without_actions_is_told_what_could_not_be_checked(site: DoctorSite) -> None:
    async with site.as_user("sts:GetCallerIdentity") as user:
        findings = await user.examine(CHECKS)

    assert {finding.status for finding in findings} == {"not checked"}
    objects = [finding.object for finding in findings]
    assert len(objects) == len(set(objects))
    assert all("sagemaker:ListClusters" in each.evidence for each in findings if each.object == "HyperPod clusters")


async def test_in_the_driver_s_pod_dry_runs_take_the_place_of_the_simulator(
    site: DoctorSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's role may neither read itself nor ask the simulator, nor list clusters and associations."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    permissions = [check for check in CHECKS if check.name == "permissions"]

    async with site.as_driver() as own:
        allowed = await own.examine(permissions)
        await WITHOUT_CREATE.plant(site)
        denied = await own.examine(permissions)

    assert {finding.status for finding in allowed} == {"not checked"}
    assert any("sagemaker:AttachClusterNodeVolume" in finding.evidence for finding in allowed)
    assert all("ec2:Describe" not in finding.evidence for finding in allowed)
    (first, *_) = denied
    assert (first.status, first.consequence) == ("fails", "No volume is created for a claim")
    assert "ec2:CreateVolume" in first.evidence


async def test_without_a_known_role_nothing_is_said_to_be_in_order_with_it(site: DoctorSite) -> None:
    """The region has no EKS cluster that can be the driver's, so that the role may come from anywhere."""
    for table in ("pod_identity_associations", "eks_clusters"):
        for key in list(getattr(site.emulator.world.store, table)):
            getattr(site.emulator.world.store, table).drop(key)

    findings = await site.report(OF_THE_ROLE)

    (missing,) = findings
    assert (missing.status, missing.object) == ("not checked", "the driver's role")
    assert all(check.name in missing.consequence for check in OF_THE_ROLE)


async def test_a_role_that_the_user_names_says_nothing_of_how_the_driver_gets_it(site: DoctorSite) -> None:
    wanted = Wanted(namespace="kube-system", service_account=ACCOUNT_OF_THE_DRIVER, role=ROLE_ARN)

    findings = await site.report(OF_THE_ROLE, wanted)

    by_status = {finding.status: finding for finding in findings}
    assert by_status.keys() == {"not checked", "ok"}
    assert "service account, pod identity agent, trust" in by_status["not checked"].consequence
    assert {finding.check for finding in findings if finding.status == "ok"} == {"permissions", "keys", "volume tags"}


@pytest.mark.parametrize("id_", ["the service account has no role", "the role of the association does not exist"])
async def test_without_a_role_nothing_is_said_to_be_in_order_with_it(id_: str, site: DoctorSite) -> None:
    await next(fault for fault in FAULTS if fault.id == id_).plant(site)

    findings = await site.report(OF_THE_ROLE)

    assert [(finding.status, finding.check) for finding in findings if finding.check != "pod identity agent"] == [
        ("fails", "service account")
    ]


@pytest.mark.parametrize(
    "id_",
    ["a detached device is still in use", "a volume is attached to an instance outside of the Kubernetes cluster"],
)
async def test_the_command_that_ends_an_attachment_is_accepted(id_: str, site: DoctorSite) -> None:
    await next(fault for fault in FAULTS if fault.id == id_).plant(site)

    (finding,) = await site.examine([check for check in CHECKS if check.name == "attachments"])

    (words,) = re.findall(r"`hyperpod-ebs (volume detach [^`]*)`", finding.fix)
    argv = [sys.executable, "-m", "hyperpod_ebs.cli", *words.split(), "--dry-run"]
    await command.run(["env", *(f"{name}={value}" for name, value in site.emulator.env.items()), *argv])


async def test_no_forced_detachment_is_recommended_for_a_hyperpod_node(site: DoctorSite) -> None:
    await next(fault for fault in FAULTS if fault.id == "an attachment does not end").plant(site)

    (finding,) = await site.examine([check for check in CHECKS if check.name == "attachments"])

    assert "aws sagemaker batch-reboot-cluster-nodes" in finding.fix
    assert site.node in finding.fix


async def calls(site: DoctorSite) -> Counter[str]:
    """The number of calls of each operation that the emulator has answered, and forget them."""
    async with aiohttp.ClientSession(site.emulator.url) as http:
        async with http.get("/_emulator/calls") as answer:
            counts = Counter[str](await answer.json())
        async with http.delete("/_emulator/calls"):
            return counts


async def test_a_thousand_nodes_take_only_the_calls_of_further_pages(site: DoctorSite) -> None:
    """SageMaker API reference, ListClusterNodes: at most 100 nodes on a page; EC2 API reference, DescribeVolumes."""
    await calls(site)
    assert await site.examine(CHECKS) == []
    before = await calls(site)
    add_nodes(site, 1000)

    assert await site.examine(CHECKS) == []

    after = await calls(site)
    pages = {"sagemaker:ListClusterNodes": 10, "ec2:DescribeVolumes": 4}
    assert {name: count - before[name] for name, count in after.items() if count > before[name]} == pages


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
async def test_the_doctor_names_a_fault_and_nothing_else(fault: Fault[DoctorSite], site: DoctorSite) -> None:
    await fault.plant(site)

    findings = await site.examine(CHECKS)

    assert [(each.check, each.status) for each in findings] == [(fault.check, fault.status)], findings
    (finding,) = findings
    assert fault.object in finding.object
    assert fault.says in finding.evidence
    assert finding.consequence
    assert finding.fix
    doctor_answers.check_answer("AWS", fault.id, finding)
