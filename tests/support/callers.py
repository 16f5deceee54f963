"""Users with few permissions, who call an emulator with keys of their own."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity_records import AccessKey, User
from hyperpod_ebs.emulator.state.store import Table
from hyperpod_ebs.emulator.state.world import now
from tests.support.emulator_clients import Aws, clients

Statement = Mapping[str, Any]  # JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """An Allow statement."""

    actions: Sequence[str]
    resource: str = "*"
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Values of condition keys, all of which a request must have."""

    @property
    def statement(self) -> Statement:
        """The statement as JSON."""
        conditions: dict[str, dict[str, str]] = {}
        for key, value in self.conditions.items():
            operator = "ForAnyValue:StringEquals" if key in {"aws:TagKeys", "ec2:Attribute"} else "StringEquals"
            conditions.setdefault(operator, {})[key] = value
        statement = {"Effect": "Allow", "Action": list(self.actions), "Resource": self.resource}
        return {**statement, "Condition": conditions} if conditions else statement

    def other_value_of(self, key: str) -> "Grant":
        """The grant with another value for this condition key, which no request has."""
        return replace(self, conditions={**self.conditions, key: "another value"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A user with one inline policy."""

    emulator: Emulator
    name: str
    env: Mapping[str, str]
    """The environment variables with which an SDK calls the emulator as this user."""

    aws: Aws

    @classmethod
    async def create(cls, emulator: Emulator, name: str = "caller", tags: Mapping[str, str] | None = None) -> Self:
        """Create the user, who may do nothing yet."""
        store, key = emulator.world.store, f"AKIA{name.upper():X<16}"
        store.users.put(User(id=name, unique_id=f"AIDA{name.upper():X<16}", created=now(), tags=tags or {}))
        store.access_keys.put(AccessKey(id=key, user=name, secret="not guessed", created=now()))
        await store.commit()
        env = {**emulator.env, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "not guessed"}
        return cls(emulator=emulator, name=name, env=env, aws=await asyncio.to_thread(clients, env))

    def allow(self, statements: Sequence[Statement], *, managed: Sequence[str] = ()) -> None:
        """Allow what these statements and these managed policies of AWS's allow, in place of what was allowed."""
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        users = self.emulator.world.store.users
        attached = tuple(f"arn:aws:iam::aws:policy/{name}" for name in managed)
        inline = {"own": document} if statements else {}
        users.put(replace(users[self.name], inline=inline, attached=attached))


def resources(emulator: Emulator) -> Mapping[str, Mapping[str, object]]:
    """Everything that the emulator stores except its users: equal values before and after mean nothing changed."""
    store = emulator.world.store
    tables = [table for table in vars(store).values() if isinstance(table, Table) and table is not store.users]
    return {table.kind: dict(table) for table in tables}
