"""The account as a whole: who uses a policy, and the numbers of objects with their quotas."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hyperpod_ebs.emulator.iam_api import faults
from hyperpod_ebs.emulator.iam_api.entities import Entities, Owner
from hyperpod_ebs.emulator.iam_api.groups import MAX_GROUPS, MAX_MEMBERSHIPS
from hyperpod_ebs.emulator.iam_api.instance_profiles import MAX_PROFILES
from hyperpod_ebs.emulator.iam_api.managed_policies import MAX_POLICIES
from hyperpod_ebs.emulator.iam_api.pages import page, split_page
from hyperpod_ebs.emulator.iam_api.policy_versions import MAX_VERSIONS
from hyperpod_ebs.emulator.iam_api.roles import MAX_ROLES
from hyperpod_ebs.emulator.iam_api.users import MAX_USERS
from hyperpod_ebs.emulator.identity import aws_managed
from hyperpod_ebs.emulator.identity_records import Group
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

Members = Mapping[str, Any]  # Any: the members of a structure of IAM

_ENTITIES: Final = {"User": "PolicyUsers", "Group": "PolicyGroups", "Role": "PolicyRoles"}
"""The lists of ListEntitiesForPolicy by kind."""


class Account:
    """The operations on the account."""

    operations = Operations["Account"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._store = world.store
        self._entities = entities

    @operations("ListEntitiesForPolicy")
    async def entities_of_policy(self, parameters: Parameters, _: Call) -> Answer:
        """List the users, groups and roles that have a policy attached or as their boundary."""
        arn, wanted = parameters["PolicyArn"], parameters.get("EntityFilter")
        if arn not in self._store.managed_policies and aws_managed.find(arn, self._world.region.partition) is None:
            raise faults.no_such_entity(f"Policy {arn} was not found.")
        prefix, use = parameters.get("PathPrefix", "/"), parameters.get("PolicyUsageFilter")
        found = [
            (type(owner).__name__, owner)
            for owner in self._owners()
            if wanted in {None, type(owner).__name__} and owner.path.startswith(prefix) and _uses(owner, arn, use)
        ]
        answer = page(
            parameters,
            "Found",
            found,
            key=lambda pair: f"{pair[0]}/{pair[1].id}",
            show=lambda pair: (pair[0], {f"{pair[0]}Name": pair[1].id, f"{pair[0]}Id": pair[1].unique_id}),
        )
        return await self._world.acknowledge(split_page(answer, _ENTITIES))

    @operations("GetAccountSummary")
    async def summary(self, _: Parameters, __: Call) -> Answer:
        """Return the numbers of objects, and their quotas."""
        store = self._store
        numbers = {
            "Users": len(store.users),
            "UsersQuota": MAX_USERS,
            "Groups": len(store.groups),
            "GroupsQuota": MAX_GROUPS,
            "GroupsPerUserQuota": MAX_MEMBERSHIPS,
            "Roles": len(store.roles),
            "RolesQuota": MAX_ROLES,
            "InstanceProfiles": len(store.instance_profiles),
            "InstanceProfilesQuota": MAX_PROFILES,
            "Policies": len(store.managed_policies),
            "PoliciesQuota": MAX_POLICIES,
            "VersionsPerPolicyQuota": MAX_VERSIONS,
            "Providers": len(store.oidc_providers),
        }
        return await self._world.acknowledge({"SummaryMap": numbers})

    def _owners(self) -> Iterator[Owner]:
        yield from self._store.users.values()
        yield from self._store.groups.values()
        yield from self._store.roles.values()


def _uses(owner: Owner, arn: str, use: str | None) -> bool:
    """Whether the object has the policy attached, or as its boundary; None for the use stands for both."""
    is_boundary = not isinstance(owner, Group) and owner.boundary == arn
    return (use != "PermissionsBoundary" and arn in owner.attached) or (use != "PermissionsPolicy" and is_boundary)
