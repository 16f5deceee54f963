"""What `--check` compares: roles and policies of IAM, the users of keys, and files."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.access.aws.role_policies import PolicyText, read_managed_policy, read_role_policies
from hyperpod_ebs.access.aws.roles import Role, find_role
from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.console import note
from hyperpod_ebs.access.policy.comparison.findings import Finding
from hyperpod_ebs.access.policy.comparison.given_policies import GivenPolicy, compile_policy, kind_of
from hyperpod_ebs.access.policy.comparison.jobs import Subject
from hyperpod_ebs.access.policy.comparison.mistakes import refusal
from hyperpod_ebs.access.policy.key_documents import KeyUsers
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.iam.documents import Json, Kind, MalformedPolicy

_STDIN: Final = "-"
_SESSION: Final = re.compile(r"arn:[^:]+:sts::\d{12}:assumed-role/(?P<role>[^/]+)/.+")
"""The ARN of a role's session, as `aws sts get-caller-identity` prints it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is compared, as it was read."""

    name: str
    policies: Sequence[PolicyText]
    trust: str = ""
    boundary: PolicyText | None = None
    role: Role | None = None


def is_file(source: str) -> bool:
    """Whether a source is a file; a role or key can have no name with a slash, unless it is an ARN or an alias.

    Raises:
        InvalidRequest: The source is another flag.
    """
    if source.startswith("-") and source != _STDIN:
        raise errors.InvalidRequest(f"--check needs a value, and {source} is a flag")
    if source.startswith(("arn:", "alias/")):
        return False
    return source == _STDIN or "/" in source or source.endswith(".json") or Path(source).is_file()


async def read_source(aws: Aws, source: str) -> Source:
    """Read a role or a policy.

    Raises:
        Error: There is none, or the caller may not read it.
    """
    if ":policy/" in source:
        return Source(name=source, policies=[await read_managed_policy(aws, source)])
    if match := _SESSION.fullmatch(source):
        source = match["role"]
    if source.startswith("arn:") and ":role/" not in source:
        raise errors.InvalidRequest(f"--check {source} is neither a role nor a policy nor a file")
    if (role := await find_role(aws, source)) is None:
        raise errors.NotFound(
            f"cannot check role {source}: account {(await aws.caller()).account} has no such role or file"
        )
    note(f"reading the policies of role {role.name}")
    boundary = await read_managed_policy(aws, role.boundary) if role.boundary else None
    policies = await read_role_policies(aws, role.name)
    return Source(name=role.name, policies=policies, trust=role.trust, boundary=boundary, role=role)


def source_of_documents(source: str, documents: Sequence[tuple[str, Mapping[str, Json]]]) -> Source:
    """The policies and the trust policy in a file.

    Raises:
        InvalidRequest: One of them is the policy of a resource.
    """
    kinds = [(name, raw, kind_of(raw)) for name, raw in documents]
    trust = [raw for _, raw, kind in kinds if kind is Kind.TRUST]
    if any(kind is Kind.RESOURCE for _, _, kind in kinds):
        raise errors.InvalidRequest(
            f"{source} has a policy with principals; for the policy of a key use: policy key --check"
        )
    return Source(
        name=source,
        policies=[
            PolicyText(name=name, document=json.dumps(raw)) for name, raw, kind in kinds if kind is Kind.IDENTITY
        ],
        trust=json.dumps(trust[0]) if trust else "",
    )


def compile_texts(texts: Sequence[PolicyText], kind: Kind) -> tuple[list[GivenPolicy], list[Finding]]:
    """The compiled policies, and findings for those that IAM would refuse."""
    compiled, refused = list[GivenPolicy](), list[Finding]()
    for text in texts:
        raw: dict[str, Json] = json.loads(text.document)
        try:
            compiled.append(compile_policy(text.name, raw, kind, is_aws_managed=text.is_aws_managed))
        except MalformedPolicy as error:
            refused.append(refusal(text.name, str(error)))
    return compiled, refused


async def read_identities(aws: Aws, users: KeyUsers) -> tuple[KeyUsers, Mapping[str, Subject]]:
    """The users of a key with the ARNs of their roles, and the policies of those that can be read."""
    arns, subjects = dict[str, str](), dict[str, Subject]()
    for arn in dict.fromkeys((*filter(None, [users.driver]), *users.callers, *users.execution_roles)):
        arns[arn] = arn
        if ":role/" not in arn:
            continue
        try:
            role = await find_role(aws, arn.rpartition("/")[2])
            if role is None:
                note(f"{arn} does not exist")
                continue
            policies, _ = compile_texts(await read_role_policies(aws, role.name), Kind.IDENTITY)
            limit = await read_managed_policy(aws, role.boundary) if role.boundary else None
        except errors.Denied as error:
            note(f"the policies of {arn} are not taken into account: {error}")
            continue
        arns[arn] = role.arn
        boundary = compile_texts([limit], Kind.IDENTITY)[0] if limit else None
        tags = {f"aws:PrincipalTag/{key}": value for key, value in role.tags.items()}
        subjects[role.arn] = Subject(policies=policies, boundary=boundary, context=tags)
    known = KeyUsers(
        driver=arns.get(users.driver, ""),
        callers=tuple(arns[arn] for arn in users.callers),
        execution_roles=tuple(arns[arn] for arn in users.execution_roles),
    )
    return known, subjects


def shown_name(source: str) -> str:
    """The name of a source in messages."""
    return "stdin" if source == _STDIN else source


def read_file(source: str) -> str:
    """Read a file or stdin.

    Raises:
        InvalidRequest: The file cannot be read, or is not text.
    """
    try:
        return sys.stdin.read() if source == _STDIN else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise errors.InvalidRequest(f"cannot read {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise errors.InvalidRequest(f"cannot read {source}: it is not UTF-8 text") from error
