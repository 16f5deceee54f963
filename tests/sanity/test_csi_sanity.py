"""The CSI community's conformance tests, csi-sanity, against the real processes and the emulator.

`skips.txt` lists every spec that csi-sanity skips, with the reason. A spec that is skipped
and not listed, or listed and not skipped, fails the run.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pytest

from hyperpod_ebs.kit import command
from tests.support.driver_fleet import Fleet, Kind

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

SANITY: Final = Path(__file__).parents[2] / ".tools" / "bin" / "csi-sanity"
SKIPS: Final = Path(__file__).with_name("skips.txt")
_SUITE_NODES: Final = {"[ReportBeforeSuite]", "[ReportAfterSuite]", "[BeforeSuite]", "[AfterSuite]"}


class Run(NamedTuple):
    """What to run all specs with: a kind of node, an access type, and whether EC2 shows changes at once."""

    kind: Kind
    access: Literal["mount", "block"]
    consistency: Literal["immediate", "eventual"] = "immediate"

    @property
    def id(self) -> str:
        """The run as a phrase."""
        return f"{self.access} on a {self.kind} node, {self.consistency} consistency"


class Verdict(NamedTuple):
    """The names of the specs by outcome."""

    passed: set[str]
    failed: set[str]
    skipped: set[str]


def expected_skips() -> set[str]:
    """The specs that `skips.txt` lists: one per line, followed by an indented line with the reason."""
    return {line for line in SKIPS.read_text().splitlines() if line and not line.startswith((" ", "#"))}


def read_verdict(report: Path) -> Verdict:
    """Read the outcomes of a JUnit report."""
    verdict = Verdict(set(), set(), set())
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - csi-sanity wrote it a moment ago
        name = case.attrib["name"].removeprefix("[It] ")
        if name in _SUITE_NODES:
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            verdict.failed.add(name)
        elif case.find("skipped") is not None:
            verdict.skipped.add(name)
        else:
            verdict.passed.add(name)
    return verdict


RUNS: Final = [
    Run("hyperpod", "mount"),
    Run("hyperpod", "block"),
    Run("ec2", "mount"),
    Run("ec2", "block"),
    Run("hyperpod", "mount", "eventual"),
    Run("ec2", "block", "eventual"),
]


@pytest.mark.requirement(
    "calls.same-answer",
    "csi.missing-field",
    "csi.identity.offered",
    "csi.get-plugin-info.name",
    "csi.probe",
    "csi.create-volume.idempotent",
    "csi.create-volume.source-missing",
    "csi.delete-volume.idempotent",
    "csi.publish-volume.missing",
    "csi.publish-volume.full",
    "csi.validate-capabilities.missing",
    "csi.get-capabilities.controller",
    "csi.modify-volume.unsupported",
    "csi.modify-volume.missing",
    "csi.create-snapshot.idempotent",
    "csi.create-snapshot.conflict",
    "csi.create-snapshot.restorable",
    "csi.list-snapshots.pages",
    "csi.stage-volume.idempotent",
    "csi.unstage-volume.idempotent",
    "csi.node-publish.idempotent",
    "csi.node-unpublish.undone",
    "csi.volume-stats.missing",
    "csi.node-health.answer",
    "csi.get-capabilities.node",
    "csi.node-info.unique",
    "csi.node-expand.missing",
)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.id)
async def test_csi_sanity_finds_no_fault(run: Run, record_property: Callable[[str, object], None]) -> None:
    """The CSI spec, as kubernetes-csi/csi-test tests it."""
    assert SANITY.exists(), f"{SANITY} is missing: make setup builds it"
    # csi-sanity requests no zone, so with several zones a volume could be created in another zone than the node's.
    async with Fleet.start(kind=run.kind, count=1, zones=1, consistency=run.consistency) as fleet:
        node = fleet.sockets["node-1"]
        report = fleet.sandbox.path / "junit.xml"

        finished = await command.run(
            [
                str(SANITY),
                f"--csi.endpoint={node}",
                f"--csi.controllerendpoint={fleet.sockets['controller']}",
                f"--csi.mountdir={node.parent / 'mount'}",
                f"--csi.stagingdir={node.parent / 'staging'}",
                f"--csi.testvolumeaccesstype={run.access}",
                f"--csi.junitfile={report}",
                "--csi.testnodevolumeattachlimit",
            ],
            ok=frozenset({0, 1}),
            deadline=800,
        )
        verdict = read_verdict(report)

    record_property(
        "summary",
        f"csi-sanity, {run.id}: {len(verdict.passed)} passed, {len(verdict.failed)} failed, "
        f"{len(verdict.skipped)} skipped, each with its reason in {SKIPS.name}",
    )
    assert not verdict.failed, finished.out[-6000:]
    assert verdict.passed
    assert verdict.skipped == expected_skips()
