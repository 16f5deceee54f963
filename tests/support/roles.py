"""Roles, users and providers in an emulator's store, and clients with the credentials of a session."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

import boto3  # type: ignore[import-untyped] # it has no types of its own
from botocore.config import Config

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity_records import AccessKey, OidcProvider, Role, User
from hyperpod_ebs.emulator.state.world import now
from tests.support.emulator_clients import Aws

ACCOUNT: Final = "123456789012"
ALLOW_ALL: Final = {"Effect": "Allow", "Action": "*", "Resource": "*"}
TRUST_ACCOUNT: Final = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": ["sts:AssumeRole"]}

Statement = Mapping[str, Any]  # JSON


def policy(*statements: Statement) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def put_role(emulator: Emulator, name: str, *trust: Statement, allow: Statement | None = None, **fields: Any) -> str:
    """Store a role with this trust policy and permission; return the role's ARN."""
    inline = {"permissions": policy(allow)} if allow else {}
    role = Role(
        id=name,
        unique_id=new_unique_id("AROA"),
        created=now(),
        **{"trust": policy(*trust or [TRUST_ACCOUNT]), "inline": inline} | fields,
    )
    emulator.world.store.roles.put(role)
    return f"arn:aws:iam::{ACCOUNT}:role{role.path}{name}"


def put_user(emulator: Emulator, name: str, *statements: Statement) -> dict[str, str]:
    """Store a user with these permissions; return the user's credentials as STS would answer them."""
    inline = {"permissions": policy(*statements)} if statements else {}
    emulator.world.store.users.put(User(id=name, unique_id=new_unique_id("AIDA"), created=now(), inline=inline))
    key = AccessKey(id=new_unique_id("AKIA"), user=name, secret="made/up+secret", created=now())
    emulator.world.store.access_keys.put(key)
    return {"AccessKeyId": key.id, "SecretAccessKey": key.secret}


def put_provider(emulator: Emulator, issuer: str, *audiences: str) -> str:
    """Store an identity provider; return its ARN."""
    url = issuer.partition("://")[2]
    arn = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{url}"
    emulator.world.store.oidc_providers.put(OidcProvider(id=arn, url=url, created=now(), audiences=audiences))
    return arn


async def connect(emulator: Emulator, credentials: Mapping[str, str], *services: str) -> Aws:
    """Clients with the credentials in an answer of STS; of STS alone, unless `services` names others."""
    access = {
        "endpoint_url": emulator.url,
        "region_name": emulator.env["AWS_REGION"],
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials.get("SessionToken"),
        "config": Config(retries={"total_max_attempts": 1}),
    }

    def create() -> Aws:
        return Aws({service: boto3.client(service, **access) for service in services or ("sts",)})

    return await asyncio.to_thread(create)


async def assume(aws: Aws, role: str, name: str = "me", **members: Any) -> dict[str, str]:
    """Assume the role; return the credentials."""
    answer = await aws("sts", "assume_role", RoleArn=role, RoleSessionName=name, **members)
    credentials: dict[str, str] = answer["Credentials"]
    return credentials
