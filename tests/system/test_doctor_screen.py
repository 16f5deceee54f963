"""The screen of the doctor in the guide to troubleshooting is what the doctor prints."""

import re
from dataclasses import replace
from typing import Final

import pytest

from hyperpod_ebs.access.doctor.findings import Finding
from hyperpod_ebs.access.doctor.registry import AWS_CHECKS
from hyperpod_ebs.access.doctor.report import print_report
from tests.support.aws_faults import FAULTS
from tests.support.doctor_site import healthy_site
from tests.support.guide_commands import GUIDES, Page

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("doctor at AWS")]

PLANTED: Final = (
    "the driver's role lacks sagemaker:AttachClusterNodeVolume",
    "a static volume lacks the tag that AWS's policy wants",
    "the HyperPod cluster is being updated",
)
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;]*m")
_IDS: Final = {r"vol-[0-9a-f]{17}": "vol-0123456789abcdef0", r":cluster/[a-z0-9]{12}\b": ":cluster/abcdefghijkl"}
"""What stands for the ids, which differ each time."""


def with_fixed_ids(finding: Finding) -> Finding:
    """The finding with ids that are always the same."""
    texts = {name: getattr(finding, name) for name in ("object", "evidence", "consequence", "fix")}
    for pattern, fixed in _IDS.items():
        texts = {name: re.sub(pattern, fixed, text) for name, text in texts.items()}
    return replace(finding, **texts)


@pytest.mark.requirement("guides.true")
async def test_the_screen_of_the_doctor_is_what_it_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a terminal of 150 columns, without what is in order."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    async with healthy_site() as site:
        for fault in FAULTS:
            if fault.id in PLANTED:
                await fault.plant(site)
        findings = await site.examine(AWS_CHECKS)
        print_report([with_fixed_ids(each) for each in findings if each.status != "not checked"], "table")

    lines = _ESCAPE.sub("", capsys.readouterr().out).splitlines()
    (screen,) = (block.text for block in Page.read(GUIDES / "troubleshooting.md").blocks if "STATUS" in block.text)
    assert [line.rstrip() for line in lines] == screen.splitlines()
