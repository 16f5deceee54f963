"""What the doctor finds on a node: each fault, and nothing else. Loop devices and mounts are real."""

import hashlib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from hyperpod_ebs.access.aws.session import open_aws
from hyperpod_ebs.access.doctor.checks import run_checks
from hyperpod_ebs.access.doctor.context import Context, Wanted
from hyperpod_ebs.access.doctor.findings import Finding
from hyperpod_ebs.access.doctor.node_checks.machine import Machine
from hyperpod_ebs.access.doctor.node_checks.registry import checks_of
from hyperpod_ebs.access.kubernetes.reader import Reader
from tests.support import doctor_answers
from tests.support.doctor_faults import Fault
from tests.support.node_faults import FAULTS, NodeSite

WANTED: Final = Wanted(namespace="kube-system", service_account="ebs-csi-controller-sa")


class Attachments:
    """The VolumeAttachments of one node, as the API server lists them."""

    def __init__(self, machine: Machine, volumes: Sequence[str]) -> None:
        self._machine, self._volumes = machine, volumes

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """The list."""
        assert path == "/version" or path.endswith("/volumeattachments")
        assert "continue" not in query
        node = self._machine.name
        # Kubernetes, csi_attacher.go, getAttachmentName
        hashes = [hashlib.sha256(f"{volume}ebs.csi.aws.com{node}".encode()).hexdigest() for volume in self._volumes]
        items = [{"metadata": {"name": f"csi-{hash_}"}, "spec": {"nodeName": node}} for hash_ in hashes]
        return {"metadata": {}, "items": items}

    async def get_text(self, path: str, **query: str) -> str:
        """The list as text."""
        return json.dumps(await self.get(path, **query))


async def examine(machine: Machine, attached: Sequence[str]) -> Sequence[Finding]:
    """What the doctor finds, without what is in order."""

    @asynccontextmanager
    async def open_reader() -> AsyncGenerator[Reader]:
        yield Attachments(machine, attached)

    async with AsyncExitStack() as stack:
        findings = await run_checks(checks_of(machine), Context(WANTED, open_aws, open_reader, stack))
    return [finding for finding in findings if finding.status != "ok"]


@pytest.fixture
async def site(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[NodeSite]:
    async with NodeSite.create(short_path) as created:
        monkeypatch.setenv("AWS_ENDPOINT_URL", created.address)
        yield created


@pytest.mark.root
async def test_a_healthy_node_has_no_finding(site: NodeSite) -> None:
    before = sorted(site.staging.iterdir())

    findings = await examine(site.machine, site.attached)

    assert findings == []
    assert sorted(site.staging.iterdir()) == before


@pytest.mark.root
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
async def test_the_doctor_names_a_fault_of_a_node_and_nothing_else(fault: Fault[NodeSite], site: NodeSite) -> None:
    await fault.plant(site)

    findings = await examine(site.machine, site.attached)

    assert [(finding.check, finding.status) for finding in findings] == [(fault.check, fault.status)], findings
    (finding,) = findings
    assert fault.object in finding.object
    assert fault.says in finding.evidence
    assert finding.consequence
    assert finding.fix
    doctor_answers.check_answer("A node", fault.id, finding)


async def test_another_place_than_a_node_is_named_once_and_is_no_reason_to_worry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    findings = await examine(Machine(kubelet=tmp_path / "none"), [])

    assert {(finding.status, finding.is_elsewhere) for finding in findings} == {("not checked", True)}
    assert sorted(finding.object for finding in findings) == ["AWS's clock", "the machine"]
