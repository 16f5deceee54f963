"""`make test ARGS=…` sets up what the selected tests need, and nothing else."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hyperpod_ebs.kit import command

SCRIPT: Final = Path(__file__).parents[2] / "scripts" / "test.sh"

RECORDER: Final = '#!/bin/sh\necho "$(basename "$0") $*" >>calls\n'
"""Stands in for the scripts that set up, and for Python: it notes that it was called."""


class Selection(NamedTuple):
    """Options of pytest, and what running them takes."""

    id: str
    options: tuple[str, ...]
    parts: set[str]
    images: bool = False
    runs: int = 1


EVERYTHING: Final = {"machine", "python", "aws-cli", "iam-oracle", "go-tools", "sdk-clients", "cluster"}

SELECTIONS: Final = [
    Selection("unit tests", ("tests/unit",), {"python"}),
    Selection("one file, one test", ("tests/unit/test_a.py::test_b", "-x"), {"python"}),
    Selection("a path after options with values", ("-k", "tests", "-n", "2", "./tests/unit/"), {"python"}),
    Selection("the chart", ("tests/chart",), {"python", "go-tools"}),
    Selection(
        "contract tests with the AWS CLI's, the SDKs' and the oracle's",
        ("tests/contract",),
        {"python", "aws-cli", "iam-oracle", "go-tools", "sdk-clients"},
    ),
    Selection("two directories", ("tests/unit", "tests/system", "-q"), {"machine", "python"}),
    Selection("nothing but a word", ("-k", "attach"), EVERYTHING, images=True, runs=2),
    Selection("no option", (), EVERYTHING, images=True, runs=2),
    Selection("a path that is ignored", ("--ignore", "tests/unit"), EVERYTHING, images=True, runs=2),
    Selection("the cluster", ("tests/cluster",), EVERYTHING, images=True),
]


@pytest.mark.parametrize("case", SELECTIONS, ids=lambda case: case.id)
async def test_a_selection_sets_up_what_its_tests_need(case: Selection, tmp_path: Path) -> None:
    """CONTRIBUTING.md, "Run one test": a unit test does not wait for a Kubernetes to be built."""
    for name in ("unit/test_a.py", "system/x", "chart/x", "contract/x", "cluster/x"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).touch()
    for name in ("scripts/setup.sh", "scripts/image.sh", ".venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(RECORDER)
        (tmp_path / name).chmod(0o755)
    shutil.copy(SCRIPT, tmp_path / "scripts")

    await command.run([str(tmp_path / "scripts/test.sh"), *case.options])

    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    set_up = {part for program, *parts in calls for part in parts if program == "setup.sh"}
    has_root = os.geteuid() == 0
    assert set_up == (case.parts if has_root else case.parts - {"machine", "cluster"})
    assert any(program == "image.sh" for program, *_ in calls) == (case.images and has_root)
    assert sum(program == "python" for program, *_ in calls) == case.runs


@pytest.mark.parametrize("option", ["-k", "-m"])
async def test_a_wrong_selection_is_refused_with_the_reason(option: str) -> None:
    """pytest-xdist: a worker that ends before its tests have run stops the whole run with an INTERNALERROR."""
    argv = [sys.executable, "-m", "pytest", "--numprocesses", "2", "--dist", "loadgroup", option, "two words", __file__]

    with pytest.raises(command.CommandFailed, match=f"Wrong expression passed to '{option}': two words"):
        await command.run(argv)
