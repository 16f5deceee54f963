"""The documentation is complete: decision records in one form, an index of them, and only pages that the site shows."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
RECORDS: Final = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
HEADINGS: Final = ["Status", "Context", "Decision", "Alternatives rejected", "Consequences"]

SOURCES: Final = (ROOT, ROOT / "src" / "hyperpod_ebs", ROOT / "src" / "hyperpod_ebs" / "driver")
"""The directories to which a path in the documentation can be relative."""

_PATH: Final = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|sh|txt|md|mod|toml|tpl|yaml))`")
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


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT)))
def test_each_path_in_the_documentation_exists(page: Path) -> None:
    """A renamed module leaves no wrong path behind."""
    named = set(_PATH.findall(page.read_text()))

    assert {name for name in named if not any((root / name).exists() for root in SOURCES)} == set()
