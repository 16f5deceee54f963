"""What the guides mention is there: flags, values, parameters, messages, other pages; what is not run says why."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from guides import ANYTHING, DIRECTORY, ROOT, Page
from hyperpod_ebs.model import errors, formatting, parameters
from hyperpod_ebs.options import ControllerOptions, NodeOptions, ServingOptions

PAGES: Final = [Page.read(path) for path in sorted(DIRECTORY.glob("*.md"))]
KINDS: Final = {"sh settings", "sh run", "sh fails", "sh shown", "text"}

_OPTIONS: Final = (ServingOptions, ControllerOptions, NodeOptions)
_OF_OTHERS: Final = {"--preserve", "--base", "--fresh"}
"""Flags of the AWS CLI and of `make image`."""

# `code`, outside of blocks.
_CODE: Final = re.compile(r"`([^`\n]+)`")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
_DOTTED: Final = re.compile(r"[a-zA-Z]+(?:\.[a-zA-Z0-9]+)+")
_SAID: Final = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
_SET: Final = re.compile(r"--set ([^\s]+)")


def names(page: Page) -> str:
    """A page's name, for the test's."""
    return page.path.name


every_page = pytest.mark.parametrize("page", PAGES, ids=names)


@every_page
def test_each_block_says_whether_it_is_run_and_if_not_why(page: Page) -> None:
    """The issue: every command in the guides that can run against the emulator is run."""
    for block in page.blocks:
        assert block.info in KINDS, f"{page.path.name}:{block.line}"
        assert (block.info == "sh shown") == (block.why is not None), f"{page.path.name}:{block.line}"


@every_page
def test_each_flag_is_the_drivers(page: Page) -> None:
    """The house: options in the docs equal those in the code. In blocks they are run."""
    flags = {f"--{one.name.replace('_', '-')}" for kind in _OPTIONS for one in fields(kind)} | _OF_OTHERS

    assert {code.partition("=")[0] for code in _CODE.findall(page.prose) if code.startswith("--")} <= flags


@every_page
def test_each_value_is_the_charts(page: Page) -> None:
    """A values file that a page writes, `--set`, and names in the text."""
    values: Any = yaml.safe_load((ROOT / "charts" / "hyperpod-ebs" / "values.yaml").read_text())
    said = {code for code in _CODE.findall(page.prose) if _DOTTED.fullmatch(code) and code.split(".")[0] in values}
    for block in page.blocks:
        said |= {one.partition("=")[0] for text in _SET.findall(block.text) for one in text.split(",")}
        if "cat >values.yaml" in block.text:
            said |= {name for document in block.documents for name in paths(document)}

    assert {name for name in said if not known(name.split("."), values)} == set()


def paths(document: Any, prefix: str = "") -> Iterator[str]:
    """The path of each value."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def known(path: list[str], values: Any) -> bool:
    """Whether the chart has it."""
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


@every_page
def test_each_class_is_taken_by_the_driver(page: Page) -> None:
    """Parameters, with their values."""
    for block in page.blocks:
        for document in block.documents:
            match document:
                case {"kind": "StorageClass"}:
                    parameters.of_class(document.get("parameters", {}), {})
                case {"kind": "VolumeAttributesClass"}:
                    parameters.change(document["parameters"])
                case _:
                    pass


@pytest.mark.parametrize("name", ["storage-classes.md", "modification.md"])
def test_each_parameter_in_a_table_is_one(name: str) -> None:
    """The house: parameters in the docs equal those in the code."""
    rows = re.findall(r"^\| ((?:`[\w./-]+`(?:, )?)+) \|", Page.read(DIRECTORY / name).text, re.MULTILINE)
    listed = {code for row in rows for code in _CODE.findall(row)}

    assert listed
    assert {key for key in listed if refused_as_unknown(key, mutable=name == "modification.md")} == set()
    if name == "storage-classes.md":
        assert {parameter.key for parameter in parameters.TABLE} | set(formatting.KEYS.values()) <= listed
    else:
        assert {parameter.key for parameter in parameters.TABLE if parameter.mutable} <= listed


def refused_as_unknown(key: str, *, mutable: bool) -> bool:
    """Whether the driver does not know a parameter."""
    try:
        if mutable:
            parameters.change({key: "a=b"})
        else:
            parameters.of_class({key: "a=b"}, {})
    except errors.InvalidRequest as error:
        return " is not one of " in str(error) and str(error).startswith("parameter ")
    return False


@every_page
def test_each_link_leads_somewhere(page: Page) -> None:
    """Ours: to a file, and where it names a heading, to that."""
    for link in (one for one in _LINK.findall(page.text) if "://" not in one):
        file, _, anchor = link.partition("#")
        target = page.path.parent / file if file else page.path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(path: Path) -> set[str]:
    """The names by which a page's headings are linked to."""
    return {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in _HEADING.findall(path.read_text())}


def test_each_message_in_troubleshooting_is_one_of_the_drivers() -> None:
    """The issue: troubleshooting by symptom; its texts are those that the driver really says."""
    said = set(_SAID.findall((DIRECTORY / "troubleshooting.md").read_text()))
    real = list(texts())

    assert said
    assert {text for text in said if not any(text in one for one in real)} == set()


def texts() -> Iterator[str]:
    """Each text in the driver's source, with an ellipsis for what is put into it."""
    for file in (ROOT / "src" / "hyperpod_ebs").rglob("*.py"):
        for node in ast.walk(parsed(file)):
            match node:
                case ast.JoinedStr():
                    parts = [str(one.value) if isinstance(one, ast.Constant) else ANYTHING for one in node.values]
                    yield re.sub(f"{ANYTHING}+", ANYTHING, "".join(parts))
                case ast.Constant(value=str(text)):
                    yield text
                case _:
                    pass


def parsed(file: Path) -> ast.Module:
    """A file's source, as Python reads it."""
    return ast.parse(file.read_text())
