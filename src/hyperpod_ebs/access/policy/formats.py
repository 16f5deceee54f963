"""Policies in the forms that people apply: JSON, Terraform, CloudFormation, and commands of the AWS CLI.

All values are literal: nothing in the output is left to be filled in, and no text in it is interpreted by Terraform,
CloudFormation or the shell.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never

from hyperpod_ebs.access.policy.statements import Document

Format = Literal["json", "terraform", "cloudformation", "cli"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRole:
    """A role to create, with its policies."""

    name: str
    trust: Document
    managed: tuple[str, ...]
    """The ARNs of the managed policies to attach."""

    documents: Mapping[str, Document]
    """The inline policies by name."""

    issuer: str = ""
    """The OIDC issuer that IAM must have a provider for; empty without IRSA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerPolicy:
    """A policy for a role that exists, or for the users, groups and roles that it is attached to."""

    name: str
    document: Document
    role: str = ""
    """The role that gets it as an inline policy; without a role, it is a managed policy of the account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """The whole policy of a key."""

    key: str
    region: str
    document: Mapping[str, object] = field(default_factory=dict)
    """IAM's JSON."""


Policies = NewRole | CallerPolicy | KeyPolicy

_NEVER_ALIKE: Final = re.compile(r"[^0-9A-Za-z_]")
_TEMPLATE_VERSION: Final = "2010-09-09"


def text_of(policies: Policies, output: Format) -> str:
    """The policies in a form, ending with a newline."""
    match output:
        case "json":
            return f"{json.dumps(_json(policies), indent=2)}\n"
        case "terraform":
            return "\n".join(_terraform(policies))
        case "cloudformation":
            template = {"AWSTemplateFormatVersion": _TEMPLATE_VERSION, "Resources": _resources(policies)}
            return f"{json.dumps(template, indent=2)}\n"
        case "cli":
            return "".join(f"{_command(*words)}\n" if isinstance(words, tuple) else words for words in _cli(policies))
        case _:
            assert_never(output)


def _json(policies: Policies) -> Mapping[str, object]:
    match policies:
        case NewRole():
            return {
                "RoleName": policies.name,
                "AssumeRolePolicyDocument": policies.trust.json,
                "ManagedPolicyArns": list(policies.managed),
                "Policies": {name: document.json for name, document in policies.documents.items()},
            }
        case CallerPolicy():
            return policies.document.json
        case KeyPolicy():
            return policies.document
        case _:
            assert_never(policies)


def _terraform(policies: Policies) -> Iterator[str]:
    match policies:
        case NewRole():
            label = _label(policies.name)
            yield _block("aws_iam_role", label, name=policies.name, assume_role_policy=policies.trust.json)
            for arn in policies.managed:
                attached = _label(arn.rpartition("/")[2])
                role = _Reference(f"aws_iam_role.{label}.name")
                yield _block("aws_iam_role_policy_attachment", attached, role=role, policy_arn=arn)
            for name, document in policies.documents.items():
                role = _Reference(f"aws_iam_role.{label}.name")
                yield _block("aws_iam_role_policy", _label(name), name=name, role=role, policy=document.json)
        case CallerPolicy(role=""):
            yield _block("aws_iam_policy", _label(policies.name), name=policies.name, policy=policies.document.json)
        case CallerPolicy():
            label, policy = _label(policies.name), policies.document.json
            yield _block("aws_iam_role_policy", label, name=policies.name, role=policies.role, policy=policy)
        case KeyPolicy():
            yield _block("aws_kms_key_policy", "hyperpod_ebs", key_id=policies.key, policy=policies.document)
        case _:
            assert_never(policies)


class _Reference(str):
    """An expression of Terraform's."""

    __slots__ = ()


def _block(kind: str, label: str, **arguments: str | Mapping[str, object]) -> str:
    """A resource of Terraform's, formatted as `terraform fmt` does: only values of one line are aligned."""
    width = max(len(name) for name, value in arguments.items() if isinstance(value, str))
    lines = [
        f"  {name:<{width if isinstance(value, str) else 0}} = {_expression(value)}"
        for name, value in arguments.items()
    ]
    return "\n".join([f'resource "{kind}" "{label}" {{', *lines, "}", ""])


def _expression(value: str | Mapping[str, object]) -> str:
    """A value as an expression. JSON is one, except for what begins a template in a text."""
    if isinstance(value, _Reference):
        return str(value)
    if isinstance(value, str):
        return _without_templates(json.dumps(value))
    text = json.dumps(value, indent=2, separators=(",", " : ")).replace("\n", "\n  ")
    return f"jsonencode({_without_templates(text)})"


def _without_templates(text: str) -> str:
    return text.replace("${", "$${").replace("%{", "%%{")


def _label(name: str) -> str:
    return _NEVER_ALIKE.sub("_", name) if name[0].isalpha() else f"role_{_NEVER_ALIKE.sub('_', name)}"


def _resources(policies: Policies) -> Mapping[str, object]:
    """The resources of a CloudFormation template."""
    match policies:
        case NewRole():
            role = {
                "RoleName": policies.name,
                "AssumeRolePolicyDocument": policies.trust.json,
                **({"ManagedPolicyArns": list(policies.managed)} if policies.managed else {}),
                "Policies": [
                    {"PolicyName": name, "PolicyDocument": document.json}
                    for name, document in policies.documents.items()
                ],
            }
            return {"DriverRole": {"Type": "AWS::IAM::Role", "Properties": role}}
        case CallerPolicy(role=""):
            policy = {"ManagedPolicyName": policies.name, "PolicyDocument": policies.document.json}
            return {"CallerPolicy": {"Type": "AWS::IAM::ManagedPolicy", "Properties": policy}}
        case CallerPolicy():
            names = {"RoleName": policies.role, "PolicyName": policies.name}
            properties = {**names, "PolicyDocument": policies.document.json}
            return {"CallerPolicy": {"Type": "AWS::IAM::RolePolicy", "Properties": properties}}
        case KeyPolicy():
            kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
            return {"Key": {"Type": "AWS::KMS::Key", **kept, "Properties": {"KeyPolicy": policies.document}}}
        case _:
            assert_never(policies)


def _cli(policies: Policies) -> Iterator[str | tuple[str, ...]]:
    """The lines: commands as their words, and other lines as text."""
    yield "set -eu\n"
    match policies:
        case NewRole():
            if policies.issuer:
                yield _provider_command(policies.issuer)
            role = ("--role-name", policies.name)
            yield ("iam", "create-role", *role, "--assume-role-policy-document", _text(policies.trust.json))
            for arn in policies.managed:
                yield ("iam", "attach-role-policy", *role, "--policy-arn", arn)
            for name, document in policies.documents.items():
                yield ("iam", "put-role-policy", *role, "--policy-name", name, *_document(document))
        case CallerPolicy(role=""):
            yield ("iam", "create-policy", "--policy-name", policies.name, *_document(policies.document))
        case CallerPolicy():
            names = ("--role-name", policies.role, "--policy-name", policies.name)
            yield ("iam", "put-role-policy", *names, *_document(policies.document))
        case KeyPolicy():
            key = ("--region", policies.region, "--key-id", policies.key, "--policy-name", "default")
            yield ("kms", "put-key-policy", *key, "--policy", _text(policies.document))
        case _:
            assert_never(policies)


def _provider_command(issuer: str) -> str:
    """Creates IAM's provider of an OIDC issuer, unless there is one."""
    find = "aws iam list-open-id-connect-providers --output text"
    create = _command(
        "iam", "create-open-id-connect-provider", "--url", issuer, "--client-id-list", "sts.amazonaws.com"
    )
    host = issuer.partition("://")[2]
    return f"{find} | grep -qF {shlex.quote(f'oidc-provider/{host}')} ||\n  {create}\n"


def _command(*words: str) -> str:
    """A command of the AWS CLI, with each flag on a line of its own."""
    written = [shlex.quote(word) for word in words]
    flags = [f"{flag} {value}" for flag, value in zip(written[2::2], written[3::2], strict=True)]
    return " \\\n    ".join([f"aws {written[0]} {written[1]}", *flags])


def _document(document: Document) -> tuple[str, str]:
    return "--policy-document", _text(document.json)


def _text(document: Mapping[str, object]) -> str:
    return json.dumps(document, indent=2)
