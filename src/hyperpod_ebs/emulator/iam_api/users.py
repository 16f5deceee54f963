"""Users: their names, paths and lives."""

from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.iam_api import faults, tags
from hyperpod_ebs.emulator.iam_api.attachable import require_boundary
from hyperpod_ebs.emulator.iam_api.callers import Callers
from hyperpod_ebs.emulator.iam_api.entities import Entities, check_quota
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity.named_principals import rename_principal
from hyperpod_ebs.emulator.identity_records import User
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

MAX_USERS: Final = 5000
"""Users of an account (IAM User Guide, "IAM and AWS STS quotas")."""


class Users:
    """The operations on users."""

    operations = Operations["Users"]()

    def __init__(self, world: World, entities: Entities, callers: Callers) -> None:
        self._world = world
        self._store = world.store
        self._entities = entities
        self._callers = callers

    @operations("CreateUser")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Create a user."""
        name = parameters["UserName"]
        self._entities.check_new_name(self._store.users, name, f"User with name {name} already exists.")
        check_quota(self._store.users, "UsersPerAccount", MAX_USERS)
        boundary = parameters.get("PermissionsBoundary", "")
        require_boundary(self._world, boundary)
        user = User(
            id=name,
            path=parameters.get("Path", "/"),
            unique_id=new_unique_id("AIDA"),
            created=now(),
            boundary=boundary,
            tags=tags.merge_tags({}, parameters.get("Tags", [])),
        )
        self._store.users.put(user)
        return await self._world.acknowledge({"User": self._entities.user_members(user)})

    @operations("GetUser")
    async def get(self, parameters: Parameters, call: Call) -> Answer:
        """Describe a user; without a name, the caller."""
        user = self._entities.user(self._callers.user_name(parameters, call))
        return await self._world.acknowledge({"User": self._entities.user_members(user)})

    @operations("ListUsers")
    async def list(self, parameters: Parameters, _: Call) -> Answer:
        """List the users under a path."""
        prefix = parameters.get("PathPrefix", "/")
        users = [user for user in self._store.users.values() if user.path.startswith(prefix)]
        return await self._world.acknowledge(
            page(
                parameters,
                "Users",
                users,
                key=lambda user: user.id,
                show=lambda user: self._entities.user_members(user, listed=True),
            )
        )

    @operations("UpdateUser")
    async def update(self, parameters: Parameters, _: Call) -> Answer:
        """Give a user another name or path; keys and groups go with the user."""
        user = self._entities.user(parameters["UserName"])
        name, path = parameters.get("NewUserName", user.id), parameters.get("NewPath", user.path)
        if name.lower() != user.id.lower():
            self._entities.check_new_name(self._store.users, name, f"User with name {name} already exists.")
        keys, sessions = self._store.access_keys.where("user", user.id), self._store.sessions.where("user", user.id)
        self._store.users.drop(user.id)
        renamed = self._store.users.put(replace(user, id=name, path=path))
        rename_principal(self._store, self._entities.arn(user), self._entities.arn(renamed))
        for key in keys:
            self._store.access_keys.put(replace(key, user=name))
        for session in sessions:
            self._store.sessions.put(replace(session, user=name))
        return await self._world.acknowledge({})

    @operations("DeleteUser")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete a user that has neither keys nor policies and is in no group; the user's sessions end."""
        user = self._entities.user(parameters["UserName"])
        if self._store.access_keys.where("user", user.id):
            raise faults.delete_conflict("delete access keys")
        if user.inline:
            raise faults.delete_conflict("delete policies")
        if user.attached:
            raise faults.delete_conflict("detach all policies")
        if user.groups:
            raise faults.delete_conflict("remove users from group")
        for session in self._store.sessions.where("user", user.id):
            self._store.sessions.drop(session.id)
        self._store.users.drop(user.id)
        rename_principal(self._store, self._entities.arn(user), user.unique_id)
        return await self._world.acknowledge({})
