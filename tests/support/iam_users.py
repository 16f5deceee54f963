"""Users of the emulator with policies of their own, and clients that sign with the users' keys."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws, clients

Statement = Mapping[str, Any]  # JSON


def document(*statements: Statement) -> str:
    """A policy document with these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def allow(*actions: str, resource: str | Sequence[str] = "*", **members: Any) -> Statement:
    """A statement that allows the actions on the resource."""
    return {"Effect": "Allow", "Action": actions, "Resource": resource, **members}


async def create_user(emulator: Emulator, aws: Aws, name: str, *statements: Statement) -> Aws:
    """Create a user who may do what the statements allow; return the user's clients."""
    await aws("iam", "create_user", UserName=name)
    if statements:
        await aws("iam", "put_user_policy", UserName=name, PolicyName="own", PolicyDocument=document(*statements))
    return await create_clients(emulator, aws, name)


async def create_clients(emulator: Emulator, aws: Aws, user: str) -> Aws:
    """Create an access key for a user; return clients that sign with the key."""
    key = (await aws("iam", "create_access_key", UserName=user))["AccessKey"]
    env = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    return await asyncio.to_thread(clients, emulator.env | env)
