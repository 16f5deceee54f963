"""Versions that are written in several files are the same."""

import re
from typing import Any, Final

import yaml

from hyperpod_ebs import __version__
from tests.support.helm_chart import CHART, ROOT, Pod, render

VALUES: Final = yaml.safe_load((CHART / "values.yaml").read_text())
MODULES: Final = (ROOT / "scripts" / "kubernetes" / "sidecars" / "go.mod").read_text()


def test_the_chart_has_the_packages_version() -> None:
    """The tag of the driver's image is the chart's appVersion."""
    chart = (CHART / "Chart.yaml").read_text()

    assert f"\nversion: {__version__}\n" in chart
    assert f'\nappVersion: "{__version__}"\n' in chart


def test_the_cluster_tests_run_the_sidecars_of_the_charts_versions() -> None:
    """Their arguments and rights were checked for these versions (decision 0018)."""
    tested = dict(re.findall(r"kubernetes-csi/external-(\w+)/v\d+ (v\S+)", MODULES))

    named = {name: VALUES["sidecars"][name]["image"]["tag"] for name in tested}

    assert set(tested) == {"provisioner", "attacher", "resizer", "snapshotter"}
    assert named == tested
    assert VALUES["snapshotController"]["image"]["tag"] == tested["snapshotter"]


async def test_replaced_images_have_the_versions_of_the_values() -> None:
    """A template cannot read a default that the user has overridden, so the versions are written twice."""
    values: dict[str, Any] = {
        "image": {"containerRegistry": "mine.example"},
        "snapshotController": {"enabled": True},
        "sidecars": {name: {"enabled": True} for name in ("livenessProbe", "nodeDriverRegistrar")},
    }
    overridden = {
        name: {
            **values["sidecars"].get(name, {}),
            "image": {"repository": f"other.example/{image['repository']}", "tag": "v0"},
        }
        for name, image in (
            (name, sidecar["image"]) for name, sidecar in VALUES["sidecars"].items() if "image" in sidecar
        )
    }
    image = VALUES["snapshotController"]["image"]
    controller = {"enabled": True, "image": {"repository": f"other.example/{image['repository']}", "tag": "v0"}}

    plain = await render(values)
    replaced = await render({**values, "sidecars": overridden, "snapshotController": controller})

    assert [images(pod) for pod in replaced.pods] == [images(pod) for pod in plain.pods]


def images(pod: Pod) -> dict[str, str]:
    """The image of each container."""
    return {name: container["image"] for name, container in pod.containers.items()}
