"""Access keys of users."""

import secrets
from dataclasses import replace
from typing import Any, Final

from hyperpod_ebs.emulator.iam_api import faults
from hyperpod_ebs.emulator.iam_api.callers import Callers
from hyperpod_ebs.emulator.iam_api.entities import Entities, check_quota
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity_records import AccessKey
from hyperpod_ebs.emulator.state.world import World, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

MAX_KEYS: Final = 2
"""Access keys of a user."""

SECRET_BYTES: Final = 30
"""Random bytes of a secret access key, which are 40 characters."""


class AccessKeys:
    """The operations on access keys; each is for the caller if it names no user."""

    operations = Operations["AccessKeys"]()

    def __init__(self, world: World, entities: Entities, callers: Callers) -> None:
        self._world = world
        self._keys = world.store.access_keys
        self._entities = entities
        self._callers = callers

    @operations("CreateAccessKey")
    async def create(self, parameters: Parameters, call: Call) -> Answer:
        """Create a key; only this answer has its secret."""
        user = self._user(parameters, call)
        check_quota(self._keys.where("user", user), "AccessKeysPerUser", MAX_KEYS)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        key = self._keys.put(AccessKey(id=new_unique_id("AKIA"), user=user, secret=secret, created=now()))
        return await self._world.acknowledge({"AccessKey": {**_members(key), "SecretAccessKey": secret}})

    @operations("ListAccessKeys")
    async def list(self, parameters: Parameters, call: Call) -> Answer:
        """List the keys of a user."""
        keys = self._keys.where("user", self._user(parameters, call))
        return await self._world.acknowledge(
            page(parameters, "AccessKeyMetadata", keys, key=lambda key: key.id, show=_members)
        )

    @operations("UpdateAccessKey")
    async def update(self, parameters: Parameters, call: Call) -> Answer:
        """Activate or deactivate a key."""
        key = self._find(parameters, call)
        self._keys.put(replace(key, is_active=parameters["Status"] == "Active"))
        return await self._world.acknowledge({})

    @operations("DeleteAccessKey")
    async def delete(self, parameters: Parameters, call: Call) -> Answer:
        """Delete a key; requests that it signed are refused at once."""
        self._keys.drop(self._find(parameters, call).id)
        return await self._world.acknowledge({})

    def _user(self, parameters: Parameters, call: Call) -> str:
        return self._entities.user(self._callers.user_name(parameters, call)).id

    def _find(self, parameters: Parameters, call: Call) -> AccessKey:
        user, id_ = self._user(parameters, call), parameters["AccessKeyId"]
        if (key := self._keys.get(id_)) is None or key.user != user:
            raise faults.not_found("Access Key", id_)
        return key


def _members(key: AccessKey) -> dict[str, Any]:  # Any: the members of an AccessKey
    return {
        "UserName": key.user,
        "AccessKeyId": key.id,
        "Status": "Active" if key.is_active else "Inactive",
        "CreateDate": to_datetime(key.created),
    }
