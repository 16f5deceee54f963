"""IAM users with policies of their own, as callers of an emulator in this process, and KMS keys for them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity_records import AccessKey, User
from hyperpod_ebs.emulator.state.world import now
from tests.support.emulator_clients import Aws, clients

Statement = Mapping[str, Any]  # JSON

ACCOUNT: Final = "123456789012"

SCOPE: Final = f"arn:aws:kms:us-west-2:{ACCOUNT}"
"""What the ARNs of the account's keys and aliases start with."""

MANAGED: Final = f"{SCOPE}:key/00000000-0000-4000-8000-000000000eb5"
"""The ARN of the key aws/ebs."""

VIA_EC2: Final = {"StringEquals": {"kms:ViaService": "ec2.us-west-2.amazonaws.com"}}

GUIDE: Final[Mapping[str, Mapping[str, Any]]] = {
    "StringEquals": {"kms:CallerAccount": ACCOUNT, "kms:ViaService": "ec2.us-west-2.amazonaws.com"},
    "ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:ebs:id"},
    "Bool": {"kms:GrantIsForAWSResource": True},
    "ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt"]},
}
"""The condition of the guide's statement for kms:CreateGrant; the guide prints `true` without quotes."""


def guide_with(operator: str, key: str, value: Any) -> dict[str, Any]:
    """The condition `GUIDE` with another value."""
    return {**GUIDE, operator: {**GUIDE[operator], key: value}}


OTHER_THAN_GUIDE: Final = {
    "account": guide_with("StringEquals", "kms:CallerAccount", "999988887777"),
    "region of the service": guide_with("StringEquals", "kms:ViaService", "ec2.eu-west-1.amazonaws.com"),
    "service": guide_with("StringEquals", "kms:ViaService", "sagemaker.us-west-2.amazonaws.com"),
    "context key": guide_with("ForAnyValue:StringEquals", "kms:EncryptionContextKeys", "aws:s3:arn"),
    "no AWS resource": guide_with("Bool", "kms:GrantIsForAWSResource", value=False),
    "operations": guide_with("ForAllValues:StringEquals", "kms:GrantOperations", ["Encrypt"]),
}
"""Conditions that differ from the guide's in one value."""

EVERYTHING_BUT_KMS: Final[Statement] = {"Effect": "Allow", "NotAction": "kms:*", "Resource": "*"}
"""A statement that allows all actions of all services but KMS."""


def document(*statements: Statement) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(actions: str | Sequence[str], resource: str = "*", **members: Any) -> Statement:
    """A statement that allows actions; `members` are its other elements, such as Condition."""
    return {"Effect": "Allow", "Action": actions, "Resource": resource, **members}


async def create_caller(
    emulator: Emulator, name: str, *statements: Statement, services: Sequence[str] = ("kms",)
) -> Aws:
    """Create a user with an inline policy of these statements; return the user's clients of the services."""
    store = emulator.world.store
    inline = {"permissions": document(*statements)} if statements else {}
    store.users.put(User(id=name, unique_id=new_unique_id("AIDA"), created=now(), inline=inline))
    key = AccessKey(id=new_unique_id("AKIA"), user=name, secret="a secret", created=now())
    store.access_keys.put(key)
    env = {**emulator.env, "AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret}
    return await asyncio.to_thread(clients, env, services)


def user_arn(name: str) -> str:
    """The ARN of a user of the emulated account."""
    return f"arn:aws:iam::{ACCOUNT}:user/{name}"


MANAGE: Final = allow("kms:*", Principal={"AWS": user_arn("emulator")})
"""The statement of a key policy that allows the administrator everything."""


async def create_key(aws: Aws, *statements: Statement) -> str:
    """Create a key whose policy has these statements, and one for the administrator; its ARN."""
    created = await aws("kms", "create_key", Policy=document(MANAGE, *statements))
    return str(created["KeyMetadata"]["Arn"])


def grant_to(name: str, actions: Sequence[str], **members: Any) -> Statement:
    """A statement of a key policy that allows a user actions."""
    return allow([f"kms:{action}" for action in actions], Principal={"AWS": user_arn(name)}, **members)
