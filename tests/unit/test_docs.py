"""The documentation is complete: decision records in one form, an index of them, and only paths that exist."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
RECORDS: Final = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
HEADINGS: Final = ["Status", "Context", "Decision", "Alternatives rejected", "Consequences"]

SOURCES: Final = (ROOT, ROOT / "src" / "hyperpod_ebs", ROOT / "src" / "hyperpod_ebs" / "driver")
"""The directories to which a path in the documentation can be relative."""

PAGES: Final = sorted((ROOT / "docs").rglob("*.md"))
FRONT_PAGES: Final = sorted(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md")
"""The pages at the top, except the changelog, which names files as they were."""

_ENDING: Final = r"\.(?:py|sh|txt|md|mod|sum|toml|tpl|yaml)"
_PATH: Final = re.compile(rf"`((?:[\w.-]+/)+[\w.-]+{_ENDING})`")
_PATH_OR_FOLDER: Final = re.compile(rf"`((?:[\w.*-]+/)*(?:[\w.*-]+{_ENDING}|[\w-]+/))`")
"""The path or the name of a file, or a folder with a slash at its end; it can have wildcards."""

_ROW: Final = re.compile(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+) \| (.+) \|$", re.MULTILINE)


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_each_decision_record_has_the_same_headings(record: Path) -> None:
    """A reader finds the status and the rejected alternatives where they are in every record."""
    assert re.findall(r"^## (.+)$", record.read_text(), re.MULTILINE) == HEADINGS


def test_the_index_of_decisions_has_each_record_with_its_title_and_status() -> None:
    """An index that is not complete hides a record."""
    listed = _ROW.findall((ROOT / "docs" / "decisions" / "README.md").read_text())
    records = []
    for record in RECORDS:
        text = record.read_text()
        title, status = re.search(r"^# (\d{4}): (.+)$", text, re.MULTILINE), re.search(r"## Status\n\n(\w+)", text)
        assert title is not None, record
        assert status is not None, record
        records.append((title[1], record.name, title[2], status[1]))

    assert listed == records


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_path_in_the_documentation_exists(page: Path) -> None:
    """A renamed module leaves no wrong path behind."""
    named = set(_PATH.findall(page.read_text()))

    assert {name for name in named if not any((root / name).exists() for root in SOURCES)} == set()


@pytest.fixture(scope="module")
def files_and_folders() -> set[Path]:
    """The files and folders of the repository, relative to it, without those that tools make: `.venv`, `dist`."""
    at_the_top = [path for path in ROOT.iterdir() if path.name != "dist" and not path.name.startswith(".")]
    return {path.relative_to(ROOT) for top in at_the_top for path in (top, *top.rglob("*"))}


@pytest.mark.parametrize("page", FRONT_PAGES, ids=lambda page: page.name)
def test_each_path_on_a_front_page_exists(page: Path, files_and_folders: set[Path]) -> None:
    """These pages name many files by the end of their path, such as `csi/render.py`."""
    named = set(_PATH_OR_FOLDER.findall(page.read_text()))

    assert {path for path in named if not any(existing.match(path) for existing in files_and_folders)} == set()
