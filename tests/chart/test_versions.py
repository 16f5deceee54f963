"""One version of each thing, wherever it is written."""

import re
from typing import Final

import yaml

from charted import CHART, ROOT
from hyperpod_ebs import __version__

VALUES: Final = yaml.safe_load((CHART / "values.yaml").read_text())
MODULES: Final = (ROOT / "scripts" / "kubernetes" / "sidecars" / "go.mod").read_text()


def test_the_chart_is_of_the_packages_version() -> None:
    """Ours: the image's tag is the chart's appVersion."""
    chart = (CHART / "Chart.yaml").read_text()

    assert f"\nversion: {__version__}\n" in chart
    assert f'\nappVersion: "{__version__}"\n' in chart


def test_the_sidecars_that_the_chart_names_are_those_that_the_cluster_tests_run() -> None:
    """Ours: their arguments and rights were looked up for these versions, and are shown with them."""
    tested = dict(re.findall(r"kubernetes-csi/external-(\w+)/v\d+ (v\S+)", MODULES))

    named = {name: VALUES["sidecars"][name]["image"]["tag"] for name in tested}

    assert set(tested) == {"provisioner", "attacher", "resizer", "snapshotter"}
    assert named == tested
    assert VALUES["snapshotController"]["image"]["tag"] == tested["snapshotter"]
