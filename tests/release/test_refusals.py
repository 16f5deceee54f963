"""`make release` builds a release from its own clean tag, and says what is missing for one."""

from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs import __version__
from hyperpod_ebs.kit import command
from tests.support.release_tree import copy_tree, git

STOPPED: Final = 42
"""Exit code of scripts/setup.sh in the copy; it shows that the release was not refused."""

SNAPSHOT_HINT: Final = "make release ARGS=--snapshot"


@pytest.fixture
async def tree(tmp_path: Path) -> Path:
    """A copy of this tree with a publisher's values, committed but not tagged; its setup.sh exits at once."""
    tree = tmp_path / "tree"
    await copy_tree(tree)
    (tree / "scripts/setup.sh").write_text(f"#!/bin/sh\nexit {STOPPED}\n")
    chart, changelog = tree / "charts/hyperpod-ebs/Chart.yaml", tree / "CHANGELOG.md"
    chart.write_text(
        chart.read_text()
        .replace("hyperpod-ebs.example", "publisher.example")
        .replace('image-registry: ""', "image-registry: publisher.example/storage")
    )
    changelog.write_text(changelog.read_text().replace("## Unreleased", f"## Unreleased\n\n## {__version__}"))
    await git(tree, "commit", "--quiet", "--all", "--message=Release")
    return tree


async def release(tree: Path, *options: str) -> command.Finished:
    """Run the release of a copy, without images."""
    return await command.run(
        [str(tree / "scripts/release.sh"), "--no-images", *options], ok=frozenset({1, STOPPED}), deadline=60
    )


@pytest.mark.requirement("release.from-its-tag")
async def test_a_clean_tag_is_built(tree: Path) -> None:
    """docs/guides/release.md, "Build"."""
    await git(tree, "tag", f"v{__version__}")

    assert (await release(tree)).code == STOPPED


async def test_another_tag_is_refused_and_the_message_names_the_right_one(tree: Path) -> None:
    """The tag and `__version__` are the same version."""
    await git(tree, "tag", "v99.0.0")

    refused = await release(tree)

    assert refused.code == 1
    assert f"has no tag v{__version__}: make it with git tag --annotate v{__version__}" in refused.err
    assert SNAPSHOT_HINT in refused.err


async def test_changes_are_refused(tree: Path) -> None:
    """A build from changes that are not committed cannot be repeated."""
    await git(tree, "tag", f"v{__version__}")
    (tree / "src/hyperpod_ebs/new.py").touch()

    refused = await release(tree)

    assert refused.code == 1
    assert "the tree has changes: commit or stash them" in refused.err
    assert "has no tag" not in refused.err


@pytest.mark.requirement("release.from-its-tag")
async def test_everything_that_is_missing_is_named_at_once(tree: Path) -> None:
    """A publisher fixes all of it in one commit."""
    chart, changelog = tree / "charts/hyperpod-ebs/Chart.yaml", tree / "CHANGELOG.md"
    chart.write_text(
        chart.read_text()
        .replace("publisher.example/storage", '""')
        .replace("publisher.example", "hyperpod-ebs.example")
    )
    changelog.write_text(changelog.read_text().replace(f"## {__version__}", "## 99.0.0"))

    refused = await release(tree)

    assert refused.code == 1
    for reason in (
        "the tree has changes",
        f"has no tag v{__version__}",
        f"CHANGELOG.md has no section ## {__version__}",
        "set home, sources, icon and maintainers",
        "set the annotation image-registry",
    ):
        assert reason in refused.err


async def test_a_snapshot_is_built_from_any_tree(tree: Path) -> None:
    """Tests and trials need no tag and no clean tree."""
    (tree / "src/hyperpod_ebs/new.py").touch()

    assert (await release(tree, "--snapshot")).code == STOPPED


async def test_a_directory_with_other_files_is_not_emptied(tree: Path, tmp_path: Path) -> None:
    """A release replaces the files of the previous release, and no others."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/file").touch()

    refused = await release(tree, "--snapshot", f"--into={tmp_path / 'home'}")

    assert refused.code == 1
    assert "has files that do not belong to a release: name an empty directory" in refused.err


async def test_the_notes_are_the_versions_section_of_the_changelog(tree: Path) -> None:
    """VERSIONING.md: the changelog is written for the person who upgrades."""
    script, changelog = str(tree / "scripts/release/notes.sh"), tree / "CHANGELOG.md"
    changelog.write_text(
        "# Changelog\n\n## Unreleased\n\n- later\n\n"
        "## 1.2.0 (2030-01-02)\n\n### Added\n\n- this\n\n## 1.2\n\n- never\n\n## 1.1.0\n\n- before\n"
    )

    assert (await command.run([script, "1.2.0"])).out.strip() == "### Added\n\n- this"
    assert (await command.run([script, "2.0.0"], ok=frozenset({1}))).out == ""
