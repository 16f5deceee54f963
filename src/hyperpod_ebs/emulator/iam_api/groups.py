"""Groups of users."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.iam_api import faults
from hyperpod_ebs.emulator.iam_api.entities import Entities, check_quota
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity_records import Group, User
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

MAX_GROUPS: Final = 300
"""Groups of an account (IAM User Guide, "IAM and AWS STS quotas")."""

MAX_MEMBERSHIPS: Final = 10
"""Groups of a user."""


class Groups:
    """The operations on groups and their members."""

    operations = Operations["Groups"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._store = world.store
        self._entities = entities

    @operations("CreateGroup")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Create a group."""
        name, path = parameters["GroupName"], parameters.get("Path", "/")
        self._entities.check_new_name(self._store.groups, name, f"Group with name {name} already exists.")
        check_quota(self._store.groups, "GroupsPerAccount", MAX_GROUPS)
        group = Group(id=name, path=path, unique_id=new_unique_id("AGPA"), created=now())
        self._store.groups.put(group)
        return await self._world.acknowledge({"Group": self._entities.group_members(group)})

    @operations("GetGroup")
    async def get(self, parameters: Parameters, _: Call) -> Answer:
        """Describe a group and its members."""
        group = self._entities.group(parameters["GroupName"])
        users = page(
            parameters,
            "Users",
            self._members(group),
            key=lambda user: user.id,
            show=lambda user: self._entities.user_members(user, listed=True),
        )
        return await self._world.acknowledge({"Group": self._entities.group_members(group), **users})

    @operations("ListGroups")
    async def list(self, parameters: Parameters, _: Call) -> Answer:
        """List the groups under a path."""
        prefix = parameters.get("PathPrefix", "/")
        groups = [group for group in self._store.groups.values() if group.path.startswith(prefix)]
        return await self._world.acknowledge(
            page(parameters, "Groups", groups, key=lambda group: group.id, show=self._entities.group_members)
        )

    @operations("ListGroupsForUser")
    async def list_for_user(self, parameters: Parameters, _: Call) -> Answer:
        """List the groups of a user."""
        groups = [self._store.groups[name] for name in self._entities.user(parameters["UserName"]).groups]
        return await self._world.acknowledge(
            page(parameters, "Groups", groups, key=lambda group: group.id, show=self._entities.group_members)
        )

    @operations("UpdateGroup")
    async def update(self, parameters: Parameters, _: Call) -> Answer:
        """Give a group another name or path; its members stay."""
        group = self._entities.group(parameters["GroupName"])
        name, path = parameters.get("NewGroupName", group.id), parameters.get("NewPath", group.path)
        if name.lower() != group.id.lower():
            self._entities.check_new_name(self._store.groups, name, f"Group with name {name} already exists.")
        members = self._members(group)
        self._store.groups.drop(group.id)
        self._store.groups.put(replace(group, id=name, path=path))
        for user in members:
            groups = tuple(name if each == group.id else each for each in user.groups)
            self._store.users.put(replace(user, groups=groups))
        return await self._world.acknowledge({})

    @operations("DeleteGroup")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete a group that has neither members nor policies."""
        group = self._entities.group(parameters["GroupName"])
        if self._members(group):
            raise faults.delete_conflict("remove users from group")
        if group.attached:
            raise faults.delete_conflict("detach all policies")
        if group.inline:
            raise faults.delete_conflict("delete policies")
        self._store.groups.drop(group.id)
        return await self._world.acknowledge({})

    @operations("AddUserToGroup")
    async def add_user(self, parameters: Parameters, _: Call) -> Answer:
        """Add a user; a member stays one."""
        group, user = self._entities.group(parameters["GroupName"]), self._entities.user(parameters["UserName"])
        if group.id not in user.groups:
            check_quota(user.groups, "GroupsPerUser", MAX_MEMBERSHIPS)
            self._store.users.put(replace(user, groups=(*user.groups, group.id)))
        return await self._world.acknowledge({})

    @operations("RemoveUserFromGroup")
    async def remove_user(self, parameters: Parameters, _: Call) -> Answer:
        """Remove a user, member or not."""
        group, user = self._entities.group(parameters["GroupName"]), self._entities.user(parameters["UserName"])
        groups = tuple(name for name in user.groups if name != group.id)
        self._store.users.put(replace(user, groups=groups))
        return await self._world.acknowledge({})

    def _members(self, group: Group) -> Sequence[User]:
        return [user for user in self._store.users.values() if group.id in user.groups]
