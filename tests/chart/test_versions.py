"""A version that several files contain is the same in all of them."""

import re
from typing import Any, Final

import yaml

from hyperpod_ebs import __version__
from tests.support.helm_chart import CHART, EVERY_SIDECAR, ROOT, render

VALUES: Final = yaml.safe_load((CHART / "values.yaml").read_text())
MODULES: Final = (ROOT / "scripts" / "kubernetes" / "sidecars" / "go.mod").read_text()


def test_the_chart_has_the_packages_version() -> None:
    """The chart pulls the driver's image with its appVersion as the tag."""
    chart = (CHART / "Chart.yaml").read_text()

    assert f"\nversion: {__version__}\n" in chart
    assert f'\nappVersion: "{__version__}"\n' in chart


def test_the_cluster_tests_run_the_versions_of_the_sidecars_in_the_chart() -> None:
    """Decision 0018: the rights of the sidecars were checked for these versions."""
    tested = dict(re.findall(r"kubernetes-csi/external-(\w+)/v\d+ (v\S+)", MODULES))

    named = {name: VALUES["sidecars"][name]["image"]["tag"] for name in tested}

    assert set(tested) == {"provisioner", "attacher", "resizer", "snapshotter"}
    assert named == tested
    assert VALUES["snapshotController"]["image"]["tag"] == tested["snapshotter"]


async def test_replaced_images_have_the_versions_of_the_values() -> None:
    """A template cannot read a default that the user has overridden, so the versions are written twice."""
    values: dict[str, Any] = {**EVERY_SIDECAR, "image": {"containerRegistry": "mine.example"}}
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

    assert [pod.images for pod in replaced.pods] == [pod.images for pod in plain.pods]
