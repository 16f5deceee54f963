"""Wheel, source distribution and chart of a release: what is in them, and that two builds are the same bytes."""

import hashlib
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from hyperpod_ebs import __version__
from hyperpod_ebs.access.aws.operations import OPERATIONS as ACCESS_OPERATIONS
from hyperpod_ebs.driver.aws.operations import OPERATIONS
from hyperpod_ebs.kit import command
from tests.support.release_tree import ROOT, copy_tree

HELM: Final = ROOT / ".tools" / "bin" / "helm"
WHEEL: Final = f"hyperpod_ebs-{__version__}-py3-none-any.whl"
SDIST: Final = f"hyperpod_ebs-{__version__}.tar.gz"
CHART: Final = f"hyperpod-ebs-{__version__}.tgz"

pytestmark = [pytest.mark.xdist_group("release"), pytest.mark.timeout(300)]


def digests(directory: Path) -> Mapping[str, str]:
    """The SHA-256 digest of each file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


@pytest.mark.requirement("release.reproducible")
async def test_two_builds_are_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    """docs/guides/release.md: other directories, file modes, umask, time, time zone and language change nothing."""
    await copy_tree(tmp_path / "elsewhere")
    epoch = (await command.run(["git", "-C", str(ROOT), "log", "-1", "--format=%ct"])).out.strip()
    (tmp_path / "scratch").mkdir()
    surroundings = [
        f"SOURCE_DATE_EPOCH={epoch}",
        f"TMPDIR={tmp_path / 'scratch'}",
        "TZ=Asia/Tokyo",
        "LC_ALL=C.UTF-8",
        "PYTHONHASHSEED=7",
    ]
    script = str(ROOT / "scripts/release/packages.sh")

    again = tmp_path / "again"
    words = ["sh", "-c", 'umask 077; exec env "$@"', "sh", *surroundings]
    await command.run([*words, script, str(tmp_path / "elsewhere"), str(again)], deadline=120)

    assert digests(again) == digests(packages)
    assert digests(again).keys() >= {WHEEL, SDIST, CHART, "index.yaml"}


async def test_the_source_distribution_gives_the_same_wheel(packages: Path, tmp_path: Path) -> None:
    """PEP 517: an installer that prefers sources builds the wheel from the source distribution."""
    with tarfile.open(packages / SDIST) as sources:
        sources.extractall(tmp_path, filter="data")
        epoch = str(int(sources.getmembers()[0].mtime))
    tree = tmp_path / SDIST.removesuffix(".tar.gz")

    build = f'cd "$1"; SOURCE_DATE_EPOCH={epoch} exec "$2" -m hatchling build --target wheel --directory "$3"'
    python = ROOT / ".venv" / "bin" / "python"
    await command.run(["sh", "-c", build, "sh", str(tree), str(python), str(tmp_path / "built")], deadline=120)

    assert digests(tmp_path / "built") == {WHEEL: digests(packages)[WHEEL]}


def test_the_wheel_has_the_cut_models_and_only_the_package(packages: Path) -> None:
    """hatch_build.py cuts the models; without the cut models each AWS client would read the whole model."""
    names = zipfile.ZipFile(packages / WHEEL).namelist()

    for part, operations in (("driver", OPERATIONS), ("access", ACCESS_OPERATIONS)):
        paths = [name.partition(f"/{part}/aws/models/")[2] for name in names if f"/{part}/aws/models/" in name]
        assert {path.split("/")[0] for path in paths} == {*operations, "endpoints.json"}
    assert {name.split("/")[0] for name in names} == {"hyperpod_ebs", f"hyperpod_ebs-{__version__}.dist-info"}


def chart_metadata(packages: Path) -> Any:  # YAML
    """Chart.yaml in the chart's package."""
    with tarfile.open(packages / CHART) as chart:
        member = chart.extractfile("hyperpod-ebs/Chart.yaml")
        assert member is not None
        return yaml.safe_load(member)


def test_the_chart_has_its_addresses_and_a_team_as_maintainer(packages: Path) -> None:
    """Helm, "The Chart.yaml File"; no member of the team is named, because members change."""
    metadata = chart_metadata(packages)

    for address in (metadata["home"], metadata["icon"], *metadata["sources"]):
        assert address.startswith("https://")
    assert metadata["maintainers"]
    assert all("email" not in maintainer for maintainer in metadata["maintainers"])


async def test_helm_finds_nothing_to_improve(packages: Path) -> None:
    """`helm lint` marks recommendations, such as an icon, with [INFO]."""
    output = (await command.run([str(HELM), "lint", "--strict", str(packages / CHART)])).out

    assert "[INFO]" not in output
    assert "0 chart(s) failed" in output


def test_the_index_has_the_charts_digest_and_a_relative_address(packages: Path) -> None:
    """Helm, "The Chart Repository Guide": the index and the packages may move together."""
    index = yaml.safe_load((packages / "index.yaml").read_text())

    [entry] = index["entries"]["hyperpod-ebs"]
    assert entry["digest"] == digests(packages)[CHART]
    assert entry["urls"] == [CHART]
    assert {key: entry[key] for key in chart_metadata(packages)} == chart_metadata(packages)


def test_the_requirements_beside_the_wheel_are_the_tested_ones(packages: Path) -> None:
    """The wheel's own dependencies are ranges; these have versions and hashes."""
    beside = packages / f"hyperpod-ebs-{__version__}-requirements.txt"

    assert beside.read_bytes() == (ROOT / "requirements" / "run.txt").read_bytes()
