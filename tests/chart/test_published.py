"""A chart whose publisher has set a registry: its images are pulled from there without further values."""

from pathlib import Path
from typing import Any

import pytest

from hyperpod_ebs import __version__
from tests.support.helm_chart import CHART, EVERY_SIDECAR, Rendered, copy_chart, render


@pytest.fixture
def published_chart(tmp_path: Path) -> Path:
    """The chart, with a publisher's registry."""
    return copy_chart(tmp_path, registry="publisher.example/storage")


def containers(rendered: Rendered) -> list[Any]:
    """The containers of all workloads and of the test pod."""
    [helm_test] = rendered.all("Pod")
    return [
        *(container for pod in rendered.pods for container in pod.containers.values()),
        *helm_test["spec"]["containers"],
    ]


async def test_all_images_are_pulled_from_the_publishers_registry(published_chart: Path) -> None:
    """charts/hyperpod-ebs/Chart.yaml: the publisher sets the annotation image-registry before the first release."""
    used = containers(await render(EVERY_SIDECAR, chart=published_chart))

    assert {container["imagePullPolicy"] for container in used} == {"IfNotPresent"}
    images = {container["image"] for container in used}
    assert f"publisher.example/storage/hyperpod-ebs:{__version__}" in images
    assert "publisher.example/storage/csi-components/csi-attacher:v4.12.0" in images
    assert {image.rpartition("/csi-components/")[0] or image.rpartition("/")[0] for image in images} == {
        "publisher.example/storage"
    }


async def test_a_users_registry_replaces_the_publishers_registry(published_chart: Path) -> None:
    """VERSIONING.md: image.containerRegistry means the same in every published chart."""
    values = {**EVERY_SIDECAR, "image": {"containerRegistry": "mine.example"}}

    assert (await render(values, chart=published_chart)).objects == (await render(values, chart=CHART)).objects


async def test_an_image_name_with_a_registry_stays_as_it_is(published_chart: Path) -> None:
    """Upstream's values files name a registry for each sidecar."""
    image = {"repository": "other.example/csi-components/csi-attacher", "tag": "v4.12.0"}
    values = {"image": {"repository": "other.example/ebs", "tag": "1"}, "sidecars": {"attacher": {"image": image}}}

    rendered = await render(values, chart=published_chart)

    assert rendered.node.containers["ebs-plugin"]["image"] == "other.example/ebs:1"
    assert (
        rendered.controller.containers["csi-attacher"]["image"] == "other.example/csi-components/csi-attacher:v4.12.0"
    )
