"""The shell that runs the guides: which pages pass, and which fail."""

from pathlib import Path

import pytest

from tests.support.guide_commands import Page, PageMismatch, run_page

NO_VARIABLES: dict[str, str] = {}


def page(text: str) -> Page:
    """A page with this text, in which each ~ stands for a fence's backtick."""
    return Page(Path("made-up.md"), text.replace("~", "`"))


async def test_a_page_passes_when_its_commands_print_what_it_shows_in_that_order(tmp_path: Path) -> None:
    """A name that a block sets is known to the next block; an ellipsis stands for any text."""
    right = page(
        "~~~sh settings\nWHO=me\n~~~\n"
        "~~~sh run\nKEPT=yes\n~~~\n"
        "~~~sh run\necho first; echo unsaid; echo pod-4f2 $WHO $KEPT\n~~~\n~~~text\nfirst\npod-… you yes\n~~~\n"
        "~~~sh fails\nfalse\n~~~\n"
    )

    await run_page(right, tmp_path, {"WHO": "you", "ELSE": "x"}, NO_VARIABLES)


async def test_a_comment_brings_an_alternative_to_where_it_begins(tmp_path: Path) -> None:
    """The reader of the page does not see the comment, and its output is not the block's."""
    right = page(
        "~~~sh run\nmkdir here\n~~~\nOr:\n\n<!-- before: rmdir here\necho unsaid -->\n"
        "~~~sh run\nmkdir here; ls\n~~~\n~~~text\nhere\n~~~\n"
    )

    await run_page(right, tmp_path, {}, NO_VARIABLES)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("~~~sh run\ntrue\n~~~\n\n~~~sh run\nfalse\n~~~\n", "made-up.md:5: exit code 1"),
        ("~~~sh run\nfalse\ntrue\n~~~\n", "made-up.md:1: exit code 1"),
        ("~~~sh fails\ntrue\n~~~\n", "made-up.md:1: exit code 99"),
        ("~~~sh run\necho b; echo a\n~~~\n~~~text\na\nb\n~~~\n", "made-up.md:1: the page shows 'b'"),
        ("~~~sh settings\nWHO=me\n~~~\n", "made-up.md asks for WHO"),
    ],
    ids=[
        "the last command fails",
        "an earlier command fails",
        "a command succeeds that should fail",
        "the lines have another order",
        "a setting has no value",
    ],
)
async def test_a_page_fails_with_the_line_of_its_block(text: str, why: str, tmp_path: Path) -> None:
    """A page that always passes would make the tests of the guides worthless."""
    with pytest.raises(PageMismatch, match=f"^{why}"):
        await run_page(page(text), tmp_path, NO_VARIABLES, NO_VARIABLES)
