"""The objects that the chart renders for three sets of values, as files for the review of a change."""

import difflib
from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs.kit import command
from tests.support.helm_chart import CHART, HELM, ROOT

SETS: Final = sorted((Path(__file__).parent / "values").glob("*.yaml"))
SNAPSHOTS: Final = Path(__file__).parent / "snapshots"


@pytest.mark.requirement("chart.changes-show")
async def test_the_snapshots_are_what_the_chart_renders(tmp_path: Path) -> None:
    """`make snapshots` writes them; a change is reviewed as a diff."""
    await command.run([str(ROOT / "scripts" / "chart" / "snapshots.sh"), str(tmp_path)])

    differences = [
        line
        for values in SETS
        for line in difflib.unified_diff(
            (SNAPSHOTS / values.name).read_text().splitlines(),
            (tmp_path / values.name).read_text().splitlines(),
            f"snapshots/{values.name}",
            "as rendered now",
            lineterm="",
        )
    ]

    assert not differences, "\n".join(["run make snapshots and review the difference:", *differences])


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.stem)
async def test_helm_lint_passes(values: Path) -> None:
    """Lint has no cluster, so values that need the cluster's APIs are switched off."""
    off = ["--set=snapshotController.enabled=false", "--set=volumeSnapshotClasses=null"]

    await command.run([str(HELM), "lint", "--strict", "--kube-version=1.36.3", f"--values={values}", *off, str(CHART)])
