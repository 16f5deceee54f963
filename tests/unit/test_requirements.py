"""Each requirement is claimed by a test, and each claim names a requirement."""

import re

import pytest

from tests.support.requirements import REQUIREMENTS, ROOT, SECTIONS, claims

CLAIMED = {claim.id for claim in claims()}


@pytest.mark.parametrize("id_", REQUIREMENTS)
def test_each_requirement_is_claimed_by_a_test_unless_it_says_what_else_enforces_it(id_: str) -> None:
    """A requirement that nothing enforces would be a promise that nothing keeps."""
    requirement = REQUIREMENTS[id_]

    if requirement.gap:
        assert id_ not in CLAIMED, "a test claims it, so remove the gap"
    else:
        assert id_ in CLAIMED or requirement.also


def test_each_claim_names_a_requirement() -> None:
    """A misspelt id would prove nothing."""
    unknown = [f"{claim.path.relative_to(ROOT)}: {claim.test}: {claim.id}" for claim in claims()]

    assert [line for line in unknown if line.rpartition(": ")[2] not in REQUIREMENTS] == []


def test_each_id_stands_once_and_is_lower_case() -> None:
    """Of an id that two sections have, one would be lost."""
    ids = [id_ for section in SECTIONS for id_ in section.requirements]

    assert len(ids) == len(REQUIREMENTS)
    assert [id_ for id_ in ids if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", id_)] == []


@pytest.mark.parametrize("id_", REQUIREMENTS)
def test_each_source_can_be_opened(id_: str) -> None:
    """An address, a decision record, or a file of this repository."""
    source = REQUIREMENTS[id_].source

    if number := re.fullmatch(r"decision (\d{4})", source):
        assert list((ROOT / "docs" / "decisions").glob(f"{number[1]}-*.md"))
    elif not source.startswith("https://"):
        assert (ROOT / source).is_file()
