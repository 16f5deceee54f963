"""The shell that types the guides: what makes a page right, and what refutes it."""

from pathlib import Path

import pytest

from tests.support.guide_commands import Page, Refuted, typed

NOBODY: dict[str, str] = {}


def page(text: str) -> Page:
    """One with this text, of which each ~ is a fence's backtick."""
    return Page(Path("made-up.md"), text.replace("~", "`"))


async def test_a_page_is_right_when_all_it_shows_is_printed_in_its_order(tmp_path: Path) -> None:
    """Names that one block gives values to are known to the next; an ellipsis stands for anything."""
    right = page(
        "~~~sh settings\nWHO=me\n~~~\n"
        "~~~sh run\nTOLD=yes\n~~~\n"
        "~~~sh run\necho first; echo unsaid; echo pod-4f2 $WHO $TOLD\n~~~\n~~~text\nfirst\npod-… you yes\n~~~\n"
        "~~~sh fails\nfalse\n~~~\n"
    )

    await typed(right, tmp_path, {"WHO": "you", "ELSE": "x"}, NOBODY)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("~~~sh run\ntrue\n~~~\n\n~~~sh run\nfalse\n~~~\n", "made-up.md:5: exit code 1"),
        ("~~~sh run\nfalse\ntrue\n~~~\n", "made-up.md:1: exit code 1"),
        ("~~~sh fails\ntrue\n~~~\n", "made-up.md:1: exit code 99"),
        ("~~~sh run\necho b; echo a\n~~~\n~~~text\na\nb\n~~~\n", "made-up.md:1: the page shows 'b'"),
        ("~~~sh settings\nWHO=me\n~~~\n", "made-up.md asks for WHO"),
    ],
    ids=["the last command fails", "an earlier one fails", "none fails", "the other order", "a name without a value"],
)
async def test_a_page_is_refuted_with_its_line(text: str, why: str, tmp_path: Path) -> None:
    """Else the tests of the guides would show nothing."""
    with pytest.raises(Refuted, match=f"^{why}"):
        await typed(page(text), tmp_path, NOBODY, NOBODY)
