"""CONTRIBUTING.md, README.md and the workflows name make targets and files that exist."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "src" / "hyperpod_ebs"
TARGETS: Final = frozenset(re.findall(r"^([a-z-]+): ## ", (ROOT / "Makefile").read_text(), re.MULTILINE))

# In code: after a backtick, at the start of a line of a block, or after what comes before a command.
_MAKE: Final = re.compile(r"(?:^|`|\$ |&& )make ([a-z-]+)", re.MULTILINE)
_PATH: Final = re.compile(r"`((?:[\w.-]+/)+[\w.-]*)`")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md", "docs/guides/release.md", "docs/guides/image.md"])
def test_each_make_target_exists(page: str) -> None:
    named = set(_MAKE.findall((ROOT / page).read_text()))

    assert named
    assert named <= TARGETS


def test_each_path_in_the_contributors_guide_exists() -> None:
    """A path is relative to the repository or, as the page says, to the package."""
    named = set(_PATH.findall((ROOT / "CONTRIBUTING.md").read_text()))
    missing = {path for path in named if not (ROOT / path).exists() and not (PACKAGE / path).exists()}

    assert named
    assert missing == {"_emulator/faults"}, "a control route of the emulator"


def test_the_makefile_lists_all_its_targets_as_phony() -> None:
    """A file called `docs` or `image` must not make a target look finished."""
    [phony] = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(phony.split()) == TARGETS
