"""The documents of the policies of IAM roles (IAM API reference, GetPolicyVersion, GetRolePolicy)."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

import json
import re
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors

_OF_AWS: Final = re.compile(r"arn:[^:]+:iam::aws:policy/.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyText:
    """A policy in its default version."""

    name: str
    """The ARN of a managed policy, the name of an inline one."""

    document: str
    """JSON."""

    is_aws_managed: bool = False


async def read_managed_policy(aws: Aws, arn: str) -> PolicyText:
    """Read a managed policy.

    Raises:
        Error: There is no such policy, or the caller may not read it.
    """
    iam = await aws.iam()
    with translate_sdk_errors(f"read policy {arn}"):
        version = (await iam.get_policy(PolicyArn=arn))["Policy"]["DefaultVersionId"]
        document = (await iam.get_policy_version(PolicyArn=arn, VersionId=version))["PolicyVersion"]["Document"]
    return PolicyText(name=arn, document=json.dumps(document), is_aws_managed=_OF_AWS.fullmatch(arn) is not None)


async def read_role_policies(aws: Aws, role: str) -> list[PolicyText]:
    """Read the policies of a role: those that are attached, then the inline ones.

    Raises:
        Error: The caller may not read one of them.
    """
    iam, policies = await aws.iam(), list[PolicyText]()
    arns, names = list[str](), list[str]()
    with translate_sdk_errors(f"list the policies that are attached to role {role}"):
        async for page in iam.get_paginator("list_attached_role_policies").paginate(RoleName=role):
            arns += [policy["PolicyArn"] for policy in page["AttachedPolicies"]]
    for arn in arns:
        policies.append(await read_managed_policy(aws, arn))
    with translate_sdk_errors(f"list the inline policies of role {role}"):
        async for inline in iam.get_paginator("list_role_policies").paginate(RoleName=role):
            names += inline["PolicyNames"]
    for name in names:
        with translate_sdk_errors(f"read the inline policy {name} of role {role}"):
            answer = await iam.get_role_policy(RoleName=role, PolicyName=name)
        policies.append(PolicyText(name=name, document=json.dumps(answer["PolicyDocument"])))
    return policies
