"""The documentation as Zensical reads it: the repository's Markdown, the files it links to, and a configuration.

The pages keep their paths, so that a link works on the site and in the repository. Zensical checks the links between
pages; links to other files are checked here, and those files are copied.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

SECTIONS: Final = {
    "Tutorial": "docs/tutorial/*.md",
    "Guides": "docs/guides/*.md",
    "Examples": "examples/**/README.md",
    "Reference": "docs/reference/*.md",
    "Explanation": "docs/explanation/*.md",
    "Decisions": "docs/decisions/*.md",
    "Project": "*.md",
}
"""The sections of the site and their pages."""

ELSEWHERE: Final = {"INVARIANTS.md": "Reference", "docs/glossary.md": "Reference", "ARCHITECTURE.md": "Explanation"}
"""Pages outside the directory of their section."""

FIRST: Final = ("README.md", "install.md")
LAST: Final = ("troubleshooting.md",)
"""The first and the last pages of a section; the others are in the order of their paths."""

CONFIGURATION: Final = """\
[project]
site_name = "hyperpod-ebs"
site_description = "Amazon EBS volumes for SageMaker HyperPod clusters"
docs_dir = "pages"
site_dir = "site"
nav = {nav}

[project.theme]
font = false
features = ["navigation.indexes", "navigation.sections", "content.code.copy", "search.highlight"]

[project.markdown_extensions.toc]
permalink = true

[project.markdown_extensions.tables]

[project.markdown_extensions.attr_list]

[project.markdown_extensions.pymdownx.highlight]

[project.markdown_extensions.pymdownx.superfences]
"""

_FENCE: Final = re.compile(r"^```(\w+) \w+$", re.MULTILINE)
_BLOCK: Final = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK: Final = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_TITLE: Final = re.compile(r"^# (.+)$", re.MULTILINE)
_ITEM: Final = re.compile(r"(?:[-*]|\d+\.) ")


class BadPage(Exception):  # noqa: N818 - reads as what happened
    """A page that the site cannot show as intended."""


def pages() -> dict[str, list[Path]]:
    """The pages of each section, in their order."""
    found = {title: sorted(ROOT.glob(pattern), key=_sort_key) for title, pattern in SECTIONS.items()}
    found["Project"] = [path for path in found["Project"] if path.name != "README.md"]
    for name, title in ELSEWHERE.items():
        if ROOT / name in found["Project"]:
            found["Project"].remove(ROOT / name)
        found[title].append(ROOT / name)
    return found


def _sort_key(path: Path) -> tuple[int, str]:
    """The key that sorts the pages of a section."""
    rank = FIRST.index(path.name) if path.name in FIRST else len(FIRST) + (path.name in LAST)
    return rank, str(path)


def write_site(into: Path) -> None:
    """Write the configuration, the pages and what they link to.

    Raises:
        BadPage: A link leads nowhere, or a list would not be shown as one.
    """
    sections = pages()
    home = ROOT / "README.md"
    overview = ROOT / "docs" / "README.md"
    nav = [
        {"Home": _name(home)},
        {"Overview": _name(overview)},
        *({title: _entries(paths)} for title, paths in sections.items() if paths),
    ]
    into.mkdir(parents=True, exist_ok=True)
    # JSON objects become TOML tables when their colons become equals signs.
    (into / "zensical.toml").write_text(CONFIGURATION.format(nav=json.dumps(nav).replace('": ', '" = ')))
    written = [home, overview, *(path for paths in sections.values() for path in paths)]
    for page in written:
        _write_page(page, into / "pages" / _name(page))
        for target in _linked_files(page):
            if target not in written:
                copy = into / "pages" / _name(target)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(target, copy)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _entries(paths: list[Path]) -> list[dict[str, str]]:
    return [{_title(path): _name(path)} for path in paths]


def _title(path: Path) -> str:
    """The first heading of a page, without its code marks."""
    heading = _TITLE.search(path.read_text())
    if heading is None:
        raise BadPage(f"{_name(path)} has no heading")
    return heading[1].replace("`", "")


def _write_page(page: Path, copy: Path) -> None:
    text = page.read_text()
    for paragraph in _BLOCK.sub("", text).split("\n\n"):
        first, *others = paragraph.strip().splitlines() or [""]
        # Python-Markdown does not recognise a list right below a line of text.
        if not _ITEM.match(first) and not paragraph.startswith(" ") and (item := next(filter(_ITEM.match, others), "")):
            raise BadPage(f"{_name(page)}: an empty line is missing before the list item {item!r}")
    copy.parent.mkdir(parents=True, exist_ok=True)
    # The second word of a fence, as in `sh run`, is for the tests; Markdown knows only the language.
    text = _FENCE.sub(r"```\1", text)
    copy.write_text(_LINK.sub(lambda match: _link(page, match), text))


def _link(page: Path, match: re.Match[str]) -> str:
    """The link as the site needs it: to a directory's README, or only the text if the directory has no README."""
    target = page.parent / match["target"]
    if "://" in match["target"] or not target.is_dir():
        return match[0]
    if (target / "README.md").is_file():
        return f"[{match['text']}]({match['target'].rstrip('/')}/README.md)"
    return match["text"]


def _linked_files(page: Path) -> Iterator[Path]:
    """The files of the repository to which a page links."""
    for _, link in _LINK.findall(_BLOCK.sub("", page.read_text())):
        file = link.partition("#")[0]
        if not file or "://" in link or link.startswith("mailto:"):
            continue
        target = (page.parent / file).resolve()
        if not target.exists():
            raise BadPage(f"{_name(page)} links to {file}, which does not exist")
        if target.is_file():
            yield target


def main() -> None:
    """Write everything that Zensical reads into a directory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("into", type=Path, help="the directory, made if it is missing")
    try:
        write_site(parser.parse_args().into)
    except BadPage as bad:
        parser.exit(1, f"docs: {bad}\n")


if __name__ == "__main__":
    main()
