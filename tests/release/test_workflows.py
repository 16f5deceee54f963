"""The files in .github: actionlint accepts the workflows, and they run this project's own make targets."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from hyperpod_ebs.kit import command
from tests.support.release_tree import ROOT

WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS: Final = frozenset(re.findall(r"^([a-z-]+): ## ", (ROOT / "Makefile").read_text(), re.MULTILINE))

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def steps(path: Path) -> Iterator[Any]:
    """The steps of a workflow's jobs, as YAML holds them."""
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        yield from job["steps"]


def make_commands(path: Path) -> list[str]:
    """The commands of a workflow's steps that call make."""
    return [step["run"] for step in steps(path) if step.get("run", "").startswith("make ")]


async def test_actionlint_finds_nothing() -> None:
    """GitHub, "Workflow syntax for GitHub Actions": a workflow with a mistake in it does not run, and nothing fails."""
    finished = await command.run([str(ROOT / ".tools/bin/actionlint"), *map(str, WORKFLOWS)], ok=frozenset({0, 1}))

    assert finished.out == ""


@each_workflow
def test_each_make_command_names_a_target(path: Path) -> None:
    """A renamed target must be renamed in the workflows, too."""
    called = {command_line.split()[1] for command_line in make_commands(path)}

    assert called
    assert called <= TARGETS


@each_workflow
def test_actions_are_githubs_own_and_pinned_to_a_major_version(path: Path) -> None:
    """Each further publisher of actions could read this project's tokens."""
    used = [step["uses"] for step in steps(path) if "uses" in step]

    assert [action for action in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", action)] == []


@each_workflow
def test_a_workflow_may_only_read_unless_a_job_says_otherwise(path: Path) -> None:
    """GitHub, "Security hardening for GitHub Actions": the least permissions for the token."""
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}


def test_every_directory_of_tests_is_run_for_each_change() -> None:
    """A new directory of tests must be added to ci.yml."""
    [ci] = [path for path in WORKFLOWS if path.stem == "ci"]
    selected = {word for command_line in make_commands(ci) for word in re.findall(r"tests/\w+", command_line)}

    assert selected == {f"tests/{path.parent.name}" for path in ROOT.glob("tests/*/test_*.py")}


def test_the_bug_form_asks_for_version_event_and_log() -> None:
    """CONTRIBUTING.md, "Report a bug"."""
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    required = {field["id"]: field for field in form["body"] if field.get("validations", {}).get("required")}

    assert required.keys() >= {"version", "event", "log"}
    assert "hyperpod-ebs --version" in required["version"]["attributes"]["description"]
