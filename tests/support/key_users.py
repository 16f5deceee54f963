"""IAM users with policies of their own, as callers of an emulator in this process."""

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
    return f"arn:aws:iam::123456789012:user/{name}"
