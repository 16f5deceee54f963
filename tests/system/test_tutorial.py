"""The commands of the tutorials, run as a reader runs them."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.guide_commands import ROOT, TUTORIALS, Page, run_page

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@pytest.mark.requirement("guides.true")
@pytest.mark.parametrize("path", sorted(TUTORIALS.glob("*.md")), ids=lambda path: path.name)
async def test_the_commands_of_a_tutorial_print_what_it_shows(path: Path, short_path: Path) -> None:
    """A tutorial that fails at a step loses the reader who is new to everything."""
    programs = [Path(sys.executable).parent, ROOT / ".tools" / "aws-cli" / "bin"]
    environment = {"PATH": ":".join([*map(str, programs), os.environ["PATH"]]), "HOME": str(short_path)}

    await run_page(
        Page.read(path), short_path, {"STATE": str(short_path / "cloud"), "PORT": "0"}, environment, deadline=240.0
    )
