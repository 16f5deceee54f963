"""One version of each thing, wherever it is written."""

import re
from typing import Any, Final

import yaml

from hyperpod_ebs import __version__
from tests.support.helm_chart import CHART, ROOT, Pod, render

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


async def test_the_versions_that_stand_in_for_others_are_those_of_the_values() -> None:
    """Ours: a template cannot read a default that somebody has written over."""
    values: dict[str, Any] = {
        "image": {"containerRegistry": "mine.example"},
        "snapshotController": {"enabled": True},
        "sidecars": {name: {"enabled": True} for name in ("livenessProbe", "nodeDriverRegistrar")},
    }
    written_over = {
        name: {
            **values["sidecars"].get(name, {}),
            "image": {"repository": f"other.example/{image['repository']}", "tag": "v0"},
        }
        for name, image in ((name, one["image"]) for name, one in VALUES["sidecars"].items() if "image" in one)
    }
    image = VALUES["snapshotController"]["image"]
    controller = {"enabled": True, "image": {"repository": f"other.example/{image['repository']}", "tag": "v0"}}

    plain = await render(values)
    replaced = await render({**values, "sidecars": written_over, "snapshotController": controller})

    assert [images(pod) for pod in replaced.pods] == [images(pod) for pod in plain.pods]


def images(pod: Pod) -> dict[str, str]:
    """Which image each container runs."""
    return {name: container["image"] for name, container in pod.containers.items()}
