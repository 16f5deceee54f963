"""The policies that `hyperpod-ebs policy` generates, for each partition, and the forms in which it prints them."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from string import Template
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.access.policy.documents import HYPERPOD, VOLUMES, attach_document, detach_document, driver_documents
from hyperpod_ebs.access.policy.formats import CallerPolicy, KeyPolicy, NewRole, Policies, text_of
from hyperpod_ebs.access.policy.key_documents import KeyUsers, key_policy
from hyperpod_ebs.access.policy.statements import Document, Setting, Statement
from hyperpod_ebs.access.policy.trust_documents import trust_policy_irsa, trust_policy_pod_identity
from hyperpod_ebs.kit import command
from tests.support.guide_commands import GUIDES, Page

SETTING: Final = Setting(
    partition="aws",
    region="us-west-2",
    account="111122223333",
    eks_cluster="training",
    hyperpod_cluster="abcdefghijkl",
)
PARTITIONS: Final = {
    "aws": SETTING,
    "aws-cn": replace(SETTING, partition="aws-cn", region="cn-north-1"),
    "aws-us-gov": replace(SETTING, partition="aws-us-gov", region="us-gov-west-1"),
}
USERS: Final = KeyUsers(
    driver="arn:aws:iam::111122223333:role/driver",
    callers=("arn:aws:iam::111122223333:role/researcher", "arn:aws:iam::111122223333:user/operator"),
    execution_roles=("arn:aws:iam::111122223333:role/node",),
)
ODD: Final = st.dictionaries(st.text(max_size=20), st.text(), max_size=4)
"""Documents with text that means something to Terraform, a shell or JSON."""


def documents(setting: Setting) -> Iterator[Document]:
    """Every document for a setting."""
    for inline in (False, True):
        yield from driver_documents(setting, inline=inline).values()
    users = KeyUsers(driver=setting.iam_arn("role/driver"), execution_roles=(setting.iam_arn("role/node"),))
    yield from (attach_document(setting), detach_document(setting), key_policy(setting, users))
    yield trust_policy_irsa(setting, "https://oidc.eks.example/id/ABC")
    yield trust_policy_pod_identity(setting)


def texts(value: object) -> Iterator[str]:
    """Every text in JSON, keys included."""
    match value:
        case str():
            yield value
        case Mapping():
            for key, each in value.items():
                yield from (key, *texts(each))
        case list():
            for each in value:
                yield from texts(each)


def as_list(value: Any) -> list[Any]:
    """A value of IAM's JSON that may stand for a list of one."""
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("setting", PARTITIONS.values(), ids=PARTITIONS)
def test_arns_are_of_the_partition(setting: Setting) -> None:
    """AWS General Reference, "Amazon Resource Names": arn:partition:..."""
    arns = [text for each in documents(setting) for text in texts(each.json) if text.startswith("arn:")]

    assert {arn.split(":")[1] for arn in arns} == {setting.partition}
    assert {arn.split(":")[3] for arn in arns} == {setting.region, ""}
    assert setting.managed_policy_arn == f"arn:{setting.partition}:iam::aws:policy/AmazonEBSCSIDriverPolicyV2"


def test_the_services_that_use_a_key_have_the_names_of_the_partition() -> None:
    """KMS Developer Guide, kms:ViaService; China's domain is amazonaws.com.cn."""
    assert SETTING.via("ec2") == "ec2.us-west-2.amazonaws.com"
    assert PARTITIONS["aws-us-gov"].via("sagemaker") == "sagemaker.us-gov-west-1.amazonaws.com"
    assert PARTITIONS["aws-cn"].via("ec2") == ("ec2.cn-north-1.amazonaws.com", "ec2.cn-north-1.amazonaws.com.cn")


def test_the_policies_of_a_cluster_name_it_and_those_of_the_account_name_none() -> None:
    """SageMaker Developer Guide, the permissions for the two APIs: cluster/* or one cluster."""
    one = list(texts(attach_document(SETTING).json))
    every = list(texts(attach_document(SETTING.for_account).json))

    assert "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdefghijkl" in one
    assert "arn:aws:eks:us-west-2:111122223333:cluster/training" in one
    assert "arn:aws:sagemaker:us-west-2:111122223333:cluster/*" in every
    assert "arn:aws:eks:us-west-2:111122223333:cluster/*" in every


@pytest.mark.parametrize("document", [attach_document(SETTING), detach_document(SETTING)], ids=["attach", "detach"])
def test_a_describe_action_is_allowed_on_everything(document: Document) -> None:
    """Service Authorization Reference, Amazon EC2: DescribeVolumes has no resource type."""
    describe = [statement for statement in document.statements if "ec2:DescribeVolumes" in statement.actions]

    assert [statement.resources for statement in describe] == [("*",)]
    assert not any("ec2:DescribeVolume" in statement.actions for statement in document.statements)


def test_the_inline_policy_allows_nothing_that_the_managed_policy_does_not() -> None:
    """AWS managed policy reference, AmazonEBSCSIDriverPolicyV2."""
    text = (files("hyperpod_ebs.emulator.identity") / "aws_managed.json").read_text()
    (managed,) = (each["document"] for each in json.loads(text) if each["name"] == "AmazonEBSCSIDriverPolicyV2")

    def allowances(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
        for statement in document["Statement"]:
            condition = {key: dict(value) for key, value in statement.get("Condition", {}).items()}
            created = condition.get("StringEquals", {}).pop("ec2:CreateAction", ("any",))
            for action in as_list(statement["Action"]):
                for resource in as_list(statement["Resource"]):
                    for verb in as_list(created):
                        kind = resource.rpartition(":")[2].partition("/")[0]
                        yield action, kind, verb, json.dumps(condition, sort_keys=True)

    inline = set(allowances(driver_documents(SETTING, inline=True)[VOLUMES].json))

    assert inline < set(allowances(managed))


def test_statement_ids_are_unique_and_valid() -> None:
    """IAM User Guide, "Sid": A-Z, a-z and 0-9, unique in a document."""
    for document in documents(SETTING):
        sids = [statement.sid for statement in document.statements]
        assert len(set(sids)) == len(sids)
        assert all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids)


def test_inline_policies_fit_into_a_role() -> None:
    """IAM quotas: the inline policies of a role have 10,240 characters without white space."""
    written = [json.dumps(each.json) for each in driver_documents(SETTING, inline=True).values()]

    assert len(re.sub(r"\s", "", "".join(written))) <= 10_240


def test_a_key_without_users_of_a_kind_has_no_statements_for_them() -> None:
    """The statements through SageMaker are only for the cluster's own volumes."""
    driver = key_policy(SETTING, KeyUsers(driver=USERS.driver))
    caller = key_policy(SETTING, KeyUsers(callers=USERS.callers))
    cluster = key_policy(SETTING, KeyUsers(execution_roles=USERS.execution_roles))

    assert "sagemaker" not in json.dumps([driver.json, caller.json])
    assert "kms:GenerateDataKeyWithoutPlaintext" not in json.dumps(caller.json)
    assert "ec2." not in json.dumps(cluster.json)


def guide_statements(guide: str, file: str) -> list[dict[str, Any]]:
    """The statements of the documents that a guide writes to a file, without ids, and with lists of one as values."""
    values = {
        "ACCOUNT": SETTING.account,
        "REGION": SETTING.region,
        "CLUSTER": SETTING.eks_cluster,
        "ROLE": "driver",
        "ISSUER": "oidc.eks.example/id/ABC",
    }
    blocks = Page.read(GUIDES / guide).blocks
    written = [Template(block.files[file]).substitute(values) for block in blocks if file in block.files]
    return [without_sid(statement) for text in written for statement in json.loads(text)["Statement"]]


def without_sid(statement: Mapping[str, Any]) -> dict[str, Any]:
    """A statement without its id, and with lists of one as values."""
    text = re.sub(r'\[("[^"]*")\]', r"\1", json.dumps(statement))
    return {name: value for name, value in json.loads(text).items() if name != "Sid"}


def test_the_guides_write_the_same_statements() -> None:
    """docs/guides: install.md for the role, encryption.md for the key."""
    every = replace(SETTING, hyperpod_cluster="*")
    role = driver_documents(every, inline=False)[HYPERPOD]
    key = key_policy(SETTING, KeyUsers(driver=USERS.driver))
    irsa = trust_policy_irsa(SETTING, "https://oidc.eks.example/id/ABC")
    pods = [{**statement.json, "Condition": None} for statement in trust_policy_pod_identity(SETTING).statements]

    trusts = guide_statements("install.md", "trust.json")
    assert guide_statements("install.md", "hyperpod.json") == [without_sid(each.json) for each in role.statements]
    assert trusts[0] == without_sid(irsa.statements[0].json)
    assert {**trusts[1], "Condition": None} == without_sid(pods[0])
    assert guide_statements("encryption.md", "key-policy.json") == [
        without_sid(each.json) for each in key.statements[:3]
    ]


def new_role(document: Document) -> NewRole:
    """A role with one policy."""
    arn = SETTING.managed_policy_arn
    return NewRole(name="driver", trust=document, managed=(arn,), documents={"one": document}, issuer="https://x.y/z")


def policies(document: Mapping[str, str]) -> list[Policies]:
    """Policies of each kind, with texts of a document in every place."""
    odd = Document(
        statements=(Statement(sid="S", actions=tuple(document) or ("a:b",), conditions={"StringEquals": document}),)
    )
    return [
        new_role(odd),
        CallerPolicy(name="caller", document=odd),
        CallerPolicy(name="caller", document=odd, role="me"),
        KeyPolicy(key="key", region="us-west-2", document=odd.json),
    ]


@given(ODD)
def test_a_shell_reads_each_document_as_it_is(document: Mapping[str, str]) -> None:
    """POSIX shell: nothing is special between single quotes."""
    for each in policies(document):
        words = shlex.split(text_of(each, "cli"))
        read = [json.loads(word) for word in words if word.startswith("{")]
        expected = policies_json(each)
        assert read == expected


@given(ODD)
def test_terraform_reads_each_document_as_it_is(document: Mapping[str, str]) -> None:
    """Terraform, "Strings and templates": $${ and %%{ stand for ${ and %{."""
    for each in policies(document):
        text = text_of(each, "terraform")
        assert not re.search(r"(?<!\$)\$\{|(?<!%)%\{", re.sub(r"\$\$\{|%%\{", "", text))
        literals = re.findall(r"= jsonencode\((.*?\n  \})\)", text, re.DOTALL)
        read = [json.loads(literal.replace("$${", "${").replace("%%{", "%{")) for literal in literals]
        assert read == policies_json(each)


@given(ODD)
def test_cloudformation_has_each_document_as_it_is(document: Mapping[str, str]) -> None:
    """CloudFormation User Guide: a template in JSON."""
    for each in policies(document):
        template = json.loads(text_of(each, "cloudformation"))
        written = json.dumps(template)
        assert set(template) == {"AWSTemplateFormatVersion", "Resources"}
        assert all(json.dumps(expected) in written for expected in policies_json(each))


def policies_json(each: Policies) -> list[Any]:
    """The documents of policies as JSON, in order."""
    match each:
        case NewRole():
            return [each.trust.json, *(document.json for document in each.documents.values())]
        case CallerPolicy():
            return [each.document.json]
        case KeyPolicy():
            return [each.document]


@pytest.mark.skipif(shutil.which("terraform") is None, reason="Terraform is not installed")
async def test_terraform_accepts_the_output_and_would_not_format_it_otherwise() -> None:
    """`terraform fmt -check` parses its input."""
    users = KeyPolicy(key="key", region="us-west-2", document=key_policy(SETTING, USERS).json)
    trust = trust_policy_pod_identity(SETTING)
    role = replace(new_role(trust), documents=driver_documents(SETTING, inline=True))
    for each in (role, users, CallerPolicy(name="a", document=attach_document(SETTING)), *policies({'"${x}"': "%{y}"})):
        await command.run(["terraform", "fmt", "-check", "-"], stdin=text_of(each, "terraform").encode())
