"""A chart whose publisher has set a registry: its images are pulled from there without further values."""

from pathlib import Path
from typing import Any

import pytest

from hyperpod_ebs import __version__
from tests.support.helm_chart import CHART, Rendered, Values, copy_chart, render

EVERY_SIDECAR: Values = {
    "sidecars": {name: {"enabled": True} for name in ("livenessProbe", "nodeDriverRegistrar")},
    "snapshotController": {"enabled": True},
}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The chart, with a publisher's registry."""
    return copy_chart(tmp_path, registry="publisher.example/storage")


def containers(rendered: Rendered) -> list[Any]:
    """The containers of all workloads and of the test pod."""
    [trial] = rendered.all("Pod")
    return [*(one for pod in rendered.pods for one in pod.containers.values()), *trial["spec"]["containers"]]


async def test_all_images_are_pulled_from_the_publishers_registry(published: Path) -> None:
    """docs/guides/release.md: one value, set once."""
    found = containers(await render(EVERY_SIDECAR, chart=published))

    assert {one["imagePullPolicy"] for one in found} == {"IfNotPresent"}
    images = {one["image"] for one in found}
    assert f"publisher.example/storage/hyperpod-ebs:{__version__}" in images
    assert "publisher.example/storage/csi-components/csi-attacher:v4.12.0" in images
    assert {one.rpartition("/csi-components/")[0] or one.rpartition("/")[0] for one in images} == {
        "publisher.example/storage"
    }


async def test_a_registry_of_the_users_replaces_the_publishers(published: Path) -> None:
    """VERSIONING.md: image.containerRegistry means the same in every chart."""
    values = {**EVERY_SIDECAR, "image": {"containerRegistry": "mine.example"}}

    assert (await render(values, chart=published)).objects == (await render(values, chart=CHART)).objects


async def test_an_image_name_with_a_registry_stays_as_it_is(published: Path) -> None:
    """Upstream's values files name a registry for each sidecar."""
    image = {"repository": "other.example/csi-components/csi-attacher", "tag": "v4.12.0"}
    values = {"image": {"repository": "other.example/ebs", "tag": "1"}, "sidecars": {"attacher": {"image": image}}}

    rendered = await render(values, chart=published)

    assert rendered.node.containers["ebs-plugin"]["image"] == "other.example/ebs:1"
    assert (
        rendered.controller.containers["csi-attacher"]["image"] == "other.example/csi-components/csi-attacher:v4.12.0"
    )
