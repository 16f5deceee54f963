"""The account as a whole: who uses a policy, all objects with their policies, and the quotas."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hyperpod_ebs.emulator.iam_api import documents, faults
from hyperpod_ebs.emulator.iam_api.attachable import attachment_count, boundary_count, policy_name
from hyperpod_ebs.emulator.iam_api.entities import Entities, Owner, boundary_members
from hyperpod_ebs.emulator.iam_api.groups import MAX_GROUPS, MAX_MEMBERSHIPS
from hyperpod_ebs.emulator.iam_api.instance_profiles import MAX_PROFILES
from hyperpod_ebs.emulator.iam_api.managed_policies import MAX_POLICIES
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.iam_api.policy_versions import MAX_VERSIONS
from hyperpod_ebs.emulator.iam_api.roles import MAX_ROLES
from hyperpod_ebs.emulator.iam_api.users import MAX_USERS
from hyperpod_ebs.emulator.identity import aws_managed
from hyperpod_ebs.emulator.identity_records import Group, Role, User
from hyperpod_ebs.emulator.state.world import World, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

Members = Mapping[str, Any]  # Any: the members of a structure of IAM

_DETAILS: Final = {
    "User": "UserDetailList",
    "Group": "GroupDetailList",
    "Role": "RoleDetailList",
    "Policy": "Policies",
}
"""The lists of GetAccountAuthorizationDetails by kind."""

_ENTITIES: Final = {"User": "PolicyUsers", "Group": "PolicyGroups", "Role": "PolicyRoles"}
"""The lists of ListEntitiesForPolicy by kind."""


class Account:
    """The operations on the account."""

    name = "iam"
    operations = Operations["Account"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._store = world.store
        self._entities = entities

    @operations("ListEntitiesForPolicy")
    async def entities_of_policy(self, parameters: Parameters, _: Call) -> Answer:
        """List the users, groups and roles that have a policy attached or as their boundary."""
        arn, wanted = parameters["PolicyArn"], parameters.get("EntityFilter")
        if arn not in self._store.managed_policies and aws_managed.find(arn) is None:
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
        return await self._world.acknowledge(_split(answer, _ENTITIES))

    @operations("GetAccountAuthorizationDetails")
    async def authorization_details(self, parameters: Parameters, _: Call) -> Answer:
        """Return all users, groups, roles and policies with what they permit."""
        wanted = {*parameters.get("Filter", [])} or {"User", "Group", "Role", "LocalManagedPolicy", "AWSManagedPolicy"}
        found = [*self._owner_details(wanted), *self._policy_details(wanted)]
        answer = page(parameters, "Found", found, key=lambda found: found[0], show=lambda found: found[1:])
        return await self._world.acknowledge(_split(answer, _DETAILS))

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

    def _owner_details(self, wanted: set[str]) -> Iterator[tuple[str, str, Members]]:
        for owner in self._owners():
            kind = type(owner).__name__
            if kind in wanted:
                yield f"{kind}/{owner.id}", kind, self._details(owner)

    def _details(self, owner: Owner) -> Members:
        policies = {
            "AttachedManagedPolicies": [{"PolicyName": policy_name(arn), "PolicyArn": arn} for arn in owner.attached]
        }
        inline = [
            {"PolicyName": name, "PolicyDocument": documents.url_encode(document)}
            for name, document in owner.inline.items()
        ]
        match owner:
            case Group():
                return {**self._entities.group_members(owner), "GroupPolicyList": inline, **policies}
            case User():
                return {
                    **self._entities.user_members(owner),
                    "UserPolicyList": inline,
                    "GroupList": list(owner.groups),
                    **policies,
                }
            case Role():
                return {**self._role_details(owner), "RolePolicyList": inline, **policies}

    def _role_details(self, role: Role) -> Members:
        profiles = [each for each in self._store.instance_profiles.values() if each.role == role.id]
        members = self._entities.role_members(role, listed=True)
        return {
            **{name: value for name, value in members.items() if name not in {"Description", "MaxSessionDuration"}},
            "InstanceProfileList": [self._entities.profile_members(each, listed=True) for each in profiles],
            "PermissionsBoundary": boundary_members(role.boundary),
            "Tags": tag_list(role.tags),
            "RoleLastUsed": {},
        }

    def _policy_details(self, wanted: set[str]) -> Iterator[tuple[str, str, Members]]:
        if "LocalManagedPolicy" in wanted:
            for policy in self._store.managed_policies.values():
                versions = [
                    {
                        "Document": documents.url_encode(version.document),
                        "VersionId": f"v{version.number}",
                        "IsDefaultVersion": version.number == policy.default,
                        "CreateDate": to_datetime(version.created),
                    }
                    for version in self._store.policy_versions.where("policy", policy.id)
                ]
                members = {
                    "PolicyName": policy.name,
                    "PolicyId": policy.unique_id,
                    "Arn": policy.id,
                    "Path": policy.path,
                    "DefaultVersionId": f"v{policy.default}",
                    "IsAttachable": True,
                    "Description": policy.description or None,
                    "CreateDate": to_datetime(policy.created),
                    "UpdateDate": to_datetime(policy.updated),
                    "PolicyVersionList": versions,
                }
                yield f"Policy/{policy.id}", "Policy", {**members, **self._use(policy.id)}
        if "AWSManagedPolicy" in wanted:
            for resource, managed in aws_managed.all_policies().items():
                arn = f"arn:{self._world.region.partition}:iam::aws:{resource}"
                if attachment_count(self._store, arn) or boundary_count(self._store, arn):
                    yield f"Policy/{arn}", "Policy", {**_aws_details(arn, managed), **self._use(arn)}

    def _use(self, arn: str) -> Members:
        return {
            "AttachmentCount": attachment_count(self._store, arn),
            "PermissionsBoundaryUsageCount": boundary_count(self._store, arn),
        }


def _aws_details(arn: str, policy: aws_managed.AwsManagedPolicy) -> Members:
    version = {
        "Document": documents.url_encode(policy.document),
        "VersionId": f"v{policy.version}",
        "IsDefaultVersion": True,
        "CreateDate": policy.updated,
    }
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.unique_id,
        "Arn": arn,
        "Path": policy.path,
        "DefaultVersionId": f"v{policy.version}",
        "IsAttachable": policy.is_attachable,
        "CreateDate": policy.created,
        "UpdateDate": policy.updated,
        "PolicyVersionList": [version],
    }


def _uses(owner: Owner, arn: str, use: str | None) -> bool:
    """Whether the object has the policy attached, or as its boundary; None for the use stands for both."""
    is_boundary = not isinstance(owner, Group) and owner.boundary == arn
    return (use != "PermissionsBoundary" and arn in owner.attached) or (use != "PermissionsPolicy" and is_boundary)


def _split(answer: Answer, lists: Mapping[str, str]) -> Answer:
    """A page of objects of several kinds as one list for each kind."""
    shown: list[tuple[str, Members]] = answer["Found"]
    split = {name: [members for of, members in shown if of == kind] for kind, name in lists.items()}
    return {**split, "IsTruncated": answer["IsTruncated"], "Marker": answer["Marker"]}
