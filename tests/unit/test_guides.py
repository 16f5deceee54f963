"""What the guides name exists: flags, values, parameters, messages, pages; a command that is not run says why."""

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
from localcluster.programs import FROM_GO
from tests.support.command_tree import ACCESS_TOOLS
from tests.support.guide_commands import GUIDES, ROOT, TUTORIALS, Page, quoted_messages
from tests.support.source_texts import source_texts

PAGES: Final = [Page.read(path) for path in (*sorted(GUIDES.glob("*.md")), *sorted(TUTORIALS.glob("*.md")))]
EVERY_PAGE: Final = [Page.read(path) for path in sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES: Final = [Page.read(path) for path in sorted((ROOT / "examples").glob("**/README.md"))]
KINDS: Final = {"sh settings", "sh run", "sh fails", "sh shown", "text"}

_OPTIONS: Final = (ServingOptions, ControllerOptions, NodeOptions)
_OTHER_PROGRAMS_FLAGS: Final = {
    *("--preserve", "--base", "--fresh", "--set", "--set-string"),
    *("--reuse-values", "--reset-then-reuse-values", "--take-ownership"),
}
"""Flags of the AWS CLI, of `make image` and of Helm."""

# `code` outside of blocks.
_CODE: Final = re.compile(r"`([^`\n]+)`")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
_DOTTED: Final = re.compile(r"[a-zA-Z]+(?:\.[a-zA-Z0-9]+)+")
_USED: Final = re.compile(r"(?<![\\'])\$\{?([A-Za-z_]\w*)")
_ASSIGNED: Final = re.compile(r"(?:^\s*|for )([A-Za-z_]\w*)(?:=| in )")
_MIXED_CASE: Final = re.compile(r"[a-z]+[A-Z][A-Za-z]*")
_KUBERNETES_FIELDS: Final = {
    "volumeClaimTemplates",
    "mountOptions",
    "volumeMode",
    "readOnly",
    "dataSource",
    "volumeAttributesClassName",
}
"""Fields of which no page has an example."""

_UPSTREAM_PARAMETERS: Final = {"volumeInitializationRate", "blockAttachUntilInitialized", "outpostArn"}
"""Parameters of upstream that are reasons not to migrate."""

_SET: Final = re.compile(r"--set ([^\s]+)")


def page_name(page: Page) -> str:
    """The page's part of a test's id."""
    return page.path.name if page in PAGES else f"the README of {page.path.parent.name}"


every_page = pytest.mark.parametrize("page", PAGES, ids=page_name)
examples_too = pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=page_name)


@pytest.mark.requirement("guides.true")
@every_page
def test_each_block_says_whether_it_is_run_and_if_not_why(page: Page) -> None:
    """Every command in the guides that can run against the emulator is run (decision 0026)."""
    for block in page.blocks:
        assert block.info in KINDS, f"{page.path.name}:{block.line}"
        assert (block.info == "sh shown") == (block.reason is not None), f"{page.path.name}:{block.line}"


@pytest.mark.requirement("guides.true")
@every_page
def test_each_flag_is_the_drivers_or_that_of_an_access_tool(page: Page) -> None:
    """A guide that names a flag which does not exist fails its reader; flags in blocks are run."""
    flags = {f"--{field.name.replace('_', '-')}" for kind in _OPTIONS for field in fields(kind)} | _OTHER_PROGRAMS_FLAGS
    flags |= {
        name
        for tool in ACCESS_TOOLS.values()
        for argument in tool.assemble_argument_collection()
        for name in argument.names
    }

    assert {re.split("[= ]", code)[0] for code in _CODE.findall(page.prose) if code.startswith("--")} <= flags


@every_page
def test_no_command_appends_to_a_file_of_values(page: Page) -> None:
    """Helm takes the last of two equal keys in a file, and drops the values under the first."""
    assert [block.line for block in page.blocks if re.search(r">>\s*\S+\.yaml", block.text)] == []


@every_page
def test_each_name_in_a_command_was_given_a_value_before(page: Page) -> None:
    """A reader follows a page from top to bottom, also the commands that the tests do not run."""
    known = {"PATH", "PWD"}
    for block in (block for block in page.blocks if block.info.startswith("sh ")):
        for line in block.text.splitlines():
            used = {*_USED.findall(line)} - known - {*_ASSIGNED.findall(line.partition("$(")[0])}
            assert used == set(), f"{page.path.name}, block at line {block.line}: {line}"
            known |= {*_ASSIGNED.findall(line)}


@examples_too
def test_each_word_in_mixed_case_is_a_key_of_something(page: Page) -> None:
    """No guide advises a key that the driver or the chart refuses."""
    known = {*map(str, keys(page)), *(parameter.key for parameter in parameters.TABLE), *formatting.KEYS.values()}
    known |= {*parameters.IGNORED, parameters.TAG_PREFIX, *_KUBERNETES_FIELDS}
    known |= _UPSTREAM_PARAMETERS if page.path.name == "migrate.md" else set()
    named = {code.partition(":")[0] for code in _CODE.findall(page.prose)}

    unknown = {word for word in named if _MIXED_CASE.fullmatch(word)} - known
    assert {word for word in unknown if word.lower() not in {key.lower() for key in known}} == set()


def keys(page: Page) -> Iterator[Any]:
    """The keys of the chart's values, and of the objects in a page's blocks and in the manifests next to it."""
    yield from nested_keys(yaml.safe_load((ROOT / "charts" / "hyperpod-ebs" / "values.yaml").read_text()))
    for block in page.blocks:
        yield from (key for document in block.documents for key in nested_keys(document))
    for manifest in page.path.parent.glob("*.yaml"):
        yield from (key for document in yaml.safe_load_all(manifest.read_text()) for key in nested_keys(document))


def nested_keys(document: Any) -> Iterator[Any]:
    """Each key, at any depth."""
    match document:
        case dict():
            for key, value in document.items():
                yield key
                yield from nested_keys(value)
        case list():
            for item in document:
                yield from nested_keys(item)
        case _:
            pass


@pytest.mark.requirement("guides.true")
@every_page
def test_each_value_is_the_charts(page: Page) -> None:
    """In a values file that a page writes, in `--set`, and in the text."""
    values: Any = yaml.safe_load((ROOT / "charts" / "hyperpod-ebs" / "values.yaml").read_text())
    named = {code for code in _CODE.findall(page.prose) if _DOTTED.fullmatch(code) and code.split(".")[0] in values}
    for block in page.blocks:
        named |= {value.partition("=")[0] for text in _SET.findall(block.text) for value in text.split(",")}
        for written in (text for name, text in block.files.items() if name.endswith(".yaml")):
            named |= set(paths(yaml.safe_load(written)))

    assert {name for name in named if not is_value(name.split("."), values)} == set()


def paths(document: Any, prefix: str = "") -> Iterator[str]:
    """The path of each value."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def is_value(path: list[str], values: Any) -> bool:
    """Whether the chart has a value at this path."""
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


@every_page
def test_each_class_is_taken_by_the_driver(page: Page) -> None:
    """The driver parses the parameters of each class in a guide."""
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
    """The tables of parameters in the guides equal the table in the code."""
    rows = re.findall(r"^\| ((?:`[\w./-]+`(?:, )?)+) \|", Page.read(GUIDES / name).text, re.MULTILINE)
    listed = {code for row in rows for code in _CODE.findall(row)}

    assert listed
    assert {key for key in listed if is_unknown(key, mutable=name == "modification.md")} == set()
    if name == "storage-classes.md":
        assert {parameter.key for parameter in parameters.TABLE} | set(formatting.KEYS.values()) <= listed
    else:
        assert {parameter.key for parameter in parameters.TABLE if parameter.mutable} <= listed


def written_json(page: str, name: str) -> Any:
    """The JSON file that a page writes."""
    (text,) = (block.files[name] for block in Page.read(GUIDES / page).blocks if name in block.files)
    return json.loads(text)


@every_page
def test_each_policy_is_json(page: Page) -> None:
    """AWS refuses a policy that is not JSON."""
    for block in page.blocks:
        for document in (json.loads(text) for name, text in block.files.items() if name.endswith(".json")):
            assert {statement["Effect"] for statement in document["Statement"]} == {"Allow"}


def test_the_permissions_are_those_of_awss_guide() -> None:
    """AWS's guide to the driver on HyperPod: the role's permissions, the policy of a customer-managed key."""
    attach, describe = written_json("install.md", "hyperpod.json")["Statement"]
    administrators, look, grant = written_json("encryption.md", "key-policy.json")["Statement"]

    assert attach["Action"] == ["sagemaker:AttachClusterNodeVolume", "sagemaker:DetachClusterNodeVolume"]
    assert attach["Resource"] == "arn:aws:sagemaker:$REGION:$ACCOUNT:cluster/*"
    assert describe["Action"] == "eks:DescribeCluster"
    assert describe["Resource"] == "arn:aws:eks:$REGION:$ACCOUNT:cluster/$CLUSTER"
    assert administrators["Principal"] == {"AWS": "arn:aws:iam::$ACCOUNT:root"}
    assert look["Principal"] == grant["Principal"] == {"AWS": "arn:aws:iam::$ACCOUNT:role/$ROLE"}
    assert (look["Action"], look["Resource"], look.get("Condition")) == ("kms:DescribeKey", "*", None)
    assert (grant["Action"], grant["Resource"]) == ("kms:CreateGrant", "*")
    assert grant["Condition"] == {
        "StringEquals": {"kms:CallerAccount": "$ACCOUNT", "kms:ViaService": "ec2.$REGION.amazonaws.com"},
        "ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:ebs:id"},
        "Bool": {"kms:GrantIsForAWSResource": "true"},
        "ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt"]},
    }


@pytest.mark.parametrize("key", sorted(_UPSTREAM_PARAMETERS))
def test_the_driver_refuses_what_is_a_reason_not_to_migrate(key: str) -> None:
    """A parameter that the driver has learned is no longer a reason."""
    assert is_unknown(key, mutable=False)
    assert key in Page.read(GUIDES / "migrate.md").prose


def is_unknown(key: str, *, mutable: bool) -> bool:
    """Whether the driver does not know a parameter."""
    try:
        if mutable:
            parameters.parse_change({key: "a=b"})
        else:
            parameters.parse_classes({key: "a=b"}, {})
    except errors.InvalidRequest as error:
        return " is not one of " in str(error) and str(error).startswith("parameter ")
    return False


@pytest.mark.parametrize("page", [*EVERY_PAGE, *EXAMPLES], ids=lambda page: str(page.path.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Page) -> None:
    """To a file and, where the link names a heading, to that heading."""
    for link in (link for link in _LINK.findall(page.text) if "://" not in link):
        file, _, anchor = link.partition("#")
        target = page.path.parent / file if file else page.path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in _HEADING.findall(path.read_text())}


@pytest.mark.requirement("guides.true")
def test_each_message_in_the_guides_is_one_of_the_drivers() -> None:
    """A user searches the guide for the text of an event or a log line."""
    quoted = {message.text for message in quoted_messages() if not message.program}
    texts = list(source_texts())

    assert quoted
    assert {text for text in quoted if not any(text in source for source in texts)} == set()


@pytest.mark.requirement("guides.true")
def test_each_other_program_whose_message_a_guide_quotes_is_one_of_kubernetes() -> None:
    """tests/cluster/test_guides.py looks for the messages in these programs."""
    named = {message.program for message in quoted_messages()}

    assert {"csi-provisioner", "kubelet"} <= named
    assert named - {None} <= {*FROM_GO}
