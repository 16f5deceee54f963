"""The wheel in an empty environment: the demo runs from it, far from the sources."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

from hyperpod_ebs import __version__
from hyperpod_ebs.demo import prerequisites
from hyperpod_ebs.kit import command
from tests.support.release_tree import ROOT

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("release"), pytest.mark.timeout(300)]

UV: Final = ROOT / ".venv" / "bin" / "uv"

ISOLATED: Final = ("env", "--ignore-environment", "LANG=C.UTF-8")
"""Runs what follows without PYTHONPATH, an activated environment or settings of the tests."""

DEMO: Final = ("demo", "--profile", "instant", "--output", "json")


@pytest.fixture(scope="module")
def installed_command(packages: Path, worker_directory: Path) -> Path:
    """The command of a new environment that has the wheel and the release's pinned requirements."""
    environment = worker_directory / "environment"
    uv = f'"{UV}" pip install --quiet --python "{environment}/bin/python"'
    script = [
        f'"{UV}" venv --quiet --python "{sys.executable}" "{environment}"',
        f"{uv} --require-hashes --requirement *-requirements.txt",
        f"{uv} --no-deps *.whl",
    ]
    with psutil.Popen(["sh", "-euc", "\n".join(script)], cwd=packages) as process:
        assert process.wait(timeout=240) == 0
    return environment / "bin" / "hyperpod-ebs"


async def test_the_package_is_imported_from_the_environment(installed_command: Path, tmp_path: Path) -> None:
    """Otherwise the other tests here would test the sources."""
    script = "import hyperpod_ebs; print(hyperpod_ebs.__file__)"

    where = await command.run(
        ["env", f"--chdir={tmp_path}", str(installed_command.with_name("python")), "-I", "-c", script]
    )

    assert Path(where.out.strip()).is_relative_to(installed_command.parents[1])


async def test_the_command_prints_its_version(installed_command: Path) -> None:
    """The bug form asks for it."""
    assert __version__ in (await command.run([*ISOLATED, str(installed_command), "--version"])).out


@pytest.mark.requirement("release.wheel-runs")
async def test_the_demo_runs_from_any_directory(installed_command: Path, tmp_path: Path) -> None:
    """README.md: pip, root and a few Debian packages are all that the demo takes."""
    path = f"PATH={os.environ['PATH']}:/usr/sbin:/sbin"

    demo = await command.run(
        [*ISOLATED, f"--chdir={tmp_path}", path, f"TMPDIR={tmp_path}", str(installed_command), *DEMO],
        deadline=240,
    )

    document = json.loads(demo.out)
    assert document["steps"]
    assert document["error"] is None
    assert not any(document["leftovers"].values())


@pytest.mark.requirement("release.wheel-runs")
async def test_the_demo_names_the_debian_package_that_is_missing(installed_command: Path, tmp_path: Path) -> None:
    """A fresh Debian has no xfsprogs."""
    for program in prerequisites.PACKAGES.keys() - {"mkfs.xfs"}:
        found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert found is not None
        (tmp_path / program).symlink_to(found)

    refused = await command.run(
        ["/usr/bin/env", "--ignore-environment", f"PATH={tmp_path}", str(installed_command), "demo"],
        ok=frozenset(range(1, 128)),
    )

    assert "mkfs.xfs" in refused.err
    assert "xfsprogs" in refused.err
    assert "e2fsprogs" not in refused.err
