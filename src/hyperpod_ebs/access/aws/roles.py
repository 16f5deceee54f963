"""IAM roles and the OIDC providers that they trust (IAM API reference, GetRole, GetOpenIDConnectProvider)."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors

_UNKNOWN: Final = frozenset({"NoSuchEntity", "NoSuchEntityException"})
"""The codes for an object that IAM does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """An IAM role."""

    arn: str
    name: str
    trust: str
    """The trust policy, as JSON."""

    tags: Mapping[str, str]
    boundary: str
    """The ARN of its permissions boundary; empty without one."""


async def find_role(aws: Aws, name_or_arn: str) -> Role | None:
    """The role with this name or ARN; None if the account has no such role.

    Raises:
        Error: The caller may not read it.
    """
    iam, name = await aws.iam(), name_or_arn.rpartition("/")[2]
    try:
        with translate_sdk_errors(f"read role {name}"):
            role = (await iam.get_role(RoleName=name))["Role"]
    except errors.CloudError as error:
        if error.code in _UNKNOWN:
            return None
        raise
    if name_or_arn.startswith("arn:") and role["Arn"] != name_or_arn:
        return None
    return Role(
        arn=role["Arn"],
        name=role["RoleName"],
        trust=json.dumps(role.get("AssumeRolePolicyDocument", {})),
        tags={tag["Key"]: tag["Value"] for tag in role.get("Tags", ())},
        boundary=role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""),
    )


async def list_managed_policies(aws: Aws, role: str) -> list[str]:
    """The names of the managed policies that are attached to a role.

    Raises:
        Error: The caller may not list them.
    """
    iam, names = await aws.iam(), list[str]()
    with translate_sdk_errors(f"list the policies of role {role}"):
        async for page in iam.get_paginator("list_attached_role_policies").paginate(RoleName=role):
            names += [policy["PolicyName"] for policy in page["AttachedPolicies"]]
    return names


async def provider_audiences(aws: Aws, arn: str) -> tuple[str, ...] | None:
    """The audiences (client ids) of an OIDC provider; None if the account has no such provider.

    Raises:
        Error: The caller may not read it.
    """
    iam = await aws.iam()
    try:
        with translate_sdk_errors(f"read OIDC provider {arn}"):
            answer = await iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    except errors.CloudError as error:
        if error.code in _UNKNOWN:
            return None
        raise
    return tuple(answer.get("ClientIDList", ()))
