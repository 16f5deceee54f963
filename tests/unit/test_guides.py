"""What the guides mention is there: flags, values, parameters, messages, other pages; what is not run says why."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from hyperpod_ebs.driver.app.options import ControllerOptions, NodeOptions, ServingOptions
from hyperpod_ebs.driver.model import errors, formatting, parameters
from tests.support.guide_commands import ANYTHING, DIRECTORY, ROOT, Page

PAGES: Final = [Page.read(path) for path in sorted(DIRECTORY.glob("*.md"))]
EXAMPLES: Final = [Page.read(path) for path in sorted((ROOT / "examples").glob("**/README.md"))]
KINDS: Final = {"sh settings", "sh run", "sh fails", "sh shown", "text"}

_OPTIONS: Final = (ServingOptions, ControllerOptions, NodeOptions)
_OF_OTHERS: Final = {"--preserve", "--base", "--fresh", "--set", "--set-string"}
"""Flags of the AWS CLI, of `make image` and of Helm."""

# `code`, outside of blocks.
_CODE: Final = re.compile(r"`([^`\n]+)`")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
_DOTTED: Final = re.compile(r"[a-zA-Z]+(?:\.[a-zA-Z0-9]+)+")
_SAID: Final = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
_USED: Final = re.compile(r"(?<![\\'])\$\{?([A-Za-z_]\w*)")
_GIVEN: Final = re.compile(r"(?:^\s*|for )([A-Za-z_]\w*)(?:=| in )")
_MIXED: Final = re.compile(r"[a-z]+[A-Z][A-Za-z]*")
_OF_KUBERNETES: Final = {"volumeClaimTemplates", "mountOptions", "volumeMode"}
"""Fields that no page has an example of."""

_SET: Final = re.compile(r"--set ([^\s]+)")


def names(page: Page) -> str:
    """A page's name, for the test's."""
    return page.path.name if page in PAGES else f"the example's of {page.path.parent.name}"


every_page = pytest.mark.parametrize("page", PAGES, ids=names)
examples_too = pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=names)


@pytest.mark.requirement("guides.true")
@every_page
def test_each_block_says_whether_it_is_run_and_if_not_why(page: Page) -> None:
    """The issue: every command in the guides that can run against the emulator is run."""
    for block in page.blocks:
        assert block.info in KINDS, f"{page.path.name}:{block.line}"
        assert (block.info == "sh shown") == (block.why is not None), f"{page.path.name}:{block.line}"


@pytest.mark.requirement("guides.true")
@every_page
def test_each_flag_is_the_drivers(page: Page) -> None:
    """The house: options in the docs equal those in the code. In blocks they are run."""
    flags = {f"--{one.name.replace('_', '-')}" for kind in _OPTIONS for one in fields(kind)} | _OF_OTHERS

    assert {code.partition("=")[0] for code in _CODE.findall(page.prose) if code.startswith("--")} <= flags


@every_page
def test_no_command_appends_to_a_file_of_values(page: Page) -> None:
    """Ours: of a key that a file has twice Helm takes the latter, and what stood under the former is gone."""
    assert [block.line for block in page.blocks if re.search(r">>\s*\S+\.yaml", block.text)] == []


@every_page
def test_each_name_in_a_command_was_given_a_value_before(page: Page) -> None:
    """Ours: a page is followed from top to bottom, also what of it is not run by the tests."""
    known = {"PATH", "PWD"}
    for block in (one for one in page.blocks if one.info.startswith("sh ")):
        for line in block.text.splitlines():
            used = {*_USED.findall(line)} - known - {*_GIVEN.findall(line.partition("$(")[0])}
            assert used == set(), f"{page.path.name}, block at line {block.line}: {line}"
            known |= {*_GIVEN.findall(line)}


@examples_too
def test_each_word_in_mixed_case_is_a_key_of_something(page: Page) -> None:
    """The house: nothing is advised that the driver or the chart refuses."""
    known = {*map(str, keys(page)), *(parameter.key for parameter in parameters.TABLE), *formatting.KEYS.values()}
    known |= {*parameters.IGNORED, parameters.TAG_PREFIX, *_OF_KUBERNETES}
    said = {code.partition(":")[0] for code in _CODE.findall(page.prose)}

    unknown = {one for one in said if _MIXED.fullmatch(one)} - known
    assert {one for one in unknown if one.lower() not in {key.lower() for key in known}} == set()


def keys(page: Page) -> Iterator[Any]:
    """The keys of the chart's values and of the objects that a page has, be it in blocks or in manifests beside it."""
    yield from within(yaml.safe_load((ROOT / "charts" / "hyperpod-ebs" / "values.yaml").read_text()))
    for block in page.blocks:
        yield from (key for document in block.documents for key in within(document))
    for manifest in page.path.parent.glob("*.yaml"):
        yield from (key for document in yaml.safe_load_all(manifest.read_text()) for key in within(document))


def within(document: Any) -> Iterator[Any]:
    """Each key, at whatever depth."""
    match document:
        case dict():
            for key, value in document.items():
                yield key
                yield from within(value)
        case list():
            for one in document:
                yield from within(one)
        case _:
            pass


@pytest.mark.requirement("guides.true")
@every_page
def test_each_value_is_the_charts(page: Page) -> None:
    """A values file that a page writes, `--set`, and names in the text."""
    values: Any = yaml.safe_load((ROOT / "charts" / "hyperpod-ebs" / "values.yaml").read_text())
    said = {code for code in _CODE.findall(page.prose) if _DOTTED.fullmatch(code) and code.split(".")[0] in values}
    for block in page.blocks:
        said |= {one.partition("=")[0] for text in _SET.findall(block.text) for one in text.split(",")}
        for written in (text for name, text in block.files.items() if name.endswith(".yaml")):
            said |= set(paths(yaml.safe_load(written)))

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
                    parameters.parse_classes(document.get("parameters", {}), {})
                case {"kind": "VolumeAttributesClass"}:
                    parameters.parse_change(document["parameters"])
                case _:
                    pass


@pytest.mark.requirement("guides.true")
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


def file(page: str, name: str) -> Any:
    """The JSON file that a page writes."""
    (text,) = (one.files[name] for one in Page.read(DIRECTORY / page).blocks if name in one.files)
    return json.loads(text)


@every_page
def test_each_policy_is_json(page: Page) -> None:
    """AWS: a policy that is none is refused, and half of them are not given to anybody by the tests."""
    for block in page.blocks:
        for statements in (json.loads(text) for name, text in block.files.items() if name.endswith(".json")):
            listed = statements if isinstance(statements, list) else statements["Statement"]
            assert {one["Effect"] for one in listed} == {"Allow"}


def test_the_permissions_are_those_of_awss_guide() -> None:
    """AWS's page on the driver on HyperPod: what its role needs, and what the policy of a key of one's own says."""
    attach, describe = file("install.md", "hyperpod.json")["Statement"]
    look, grant = file("encryption.md", "key-statements.json")

    assert attach["Action"] == ["sagemaker:AttachClusterNodeVolume", "sagemaker:DetachClusterNodeVolume"]
    assert attach["Resource"] == "arn:aws:sagemaker:$REGION:$ACCOUNT:cluster/*"
    assert describe["Action"] == "eks:DescribeCluster"
    assert describe["Resource"] == "arn:aws:eks:$REGION:$ACCOUNT:cluster/$CLUSTER"
    assert look["Principal"] == grant["Principal"] == {"AWS": "arn:aws:iam::$ACCOUNT:role/$ROLE"}
    assert (look["Action"], look["Resource"], look.get("Condition")) == ("kms:DescribeKey", "*", None)
    assert (grant["Action"], grant["Resource"]) == ("kms:CreateGrant", "*")
    assert grant["Condition"] == {
        "StringEquals": {"kms:CallerAccount": "$ACCOUNT", "kms:ViaService": "ec2.$REGION.amazonaws.com"},
        "ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:ebs:id"},
        "Bool": {"kms:GrantIsForAWSResource": "true"},
        "ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt"]},
    }


def refused_as_unknown(key: str, *, mutable: bool) -> bool:
    """Whether the driver does not know a parameter."""
    try:
        if mutable:
            parameters.parse_change({key: "a=b"})
        else:
            parameters.parse_classes({key: "a=b"}, {})
    except errors.InvalidRequest as error:
        return " is not one of " in str(error) and str(error).startswith("parameter ")
    return False


@examples_too
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


@pytest.mark.requirement("guides.true")
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
