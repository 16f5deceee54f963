"""GetAccountAuthorizationDetails: all users, groups, roles and policies, with what they permit."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hyperpod_ebs.emulator.iam_api import documents
from hyperpod_ebs.emulator.iam_api.attachable import PolicyUse, policy_name
from hyperpod_ebs.emulator.iam_api.entities import Entities, Owner, boundary_members
from hyperpod_ebs.emulator.iam_api.managed_policies import aws_policy_members, policy_members
from hyperpod_ebs.emulator.iam_api.pages import page, split_page
from hyperpod_ebs.emulator.iam_api.policy_versions import aws_version_members, version_members
from hyperpod_ebs.emulator.identity import aws_managed
from hyperpod_ebs.emulator.identity_records import Group, ManagedPolicy, Role, User
from hyperpod_ebs.emulator.state.world import World, tag_list
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

Members = Mapping[str, Any]  # Any: the members of a structure of IAM

Detailed = Owner | ManagedPolicy | aws_managed.AwsManagedPolicy

_LISTS: Final = {"User": "UserDetailList", "Group": "GroupDetailList", "Role": "RoleDetailList", "Policy": "Policies"}
"""The lists of the answer by kind."""

_FILTERS: Final = frozenset({"User", "Group", "Role", "LocalManagedPolicy", "AWSManagedPolicy"})


class AuthorizationDetails:
    """The operation that reports the whole account."""

    operations = Operations["AuthorizationDetails"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._store = world.store
        self._entities = entities

    @operations("GetAccountAuthorizationDetails")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """Report all objects of the kinds that the request asks for; of AWS's policies those in use."""
        use = PolicyUse.count(self._store)
        found = self._objects({*parameters.get("Filter", ())} or _FILTERS, use)
        answer = page(
            parameters,
            "Found",
            found,
            key=lambda pair: pair[0],
            show=lambda pair: (pair[0].partition("/")[0], self._details(pair[1], use)),
        )
        return await self._world.acknowledge(split_page(answer, _LISTS))

    def _objects(self, wanted: set[str] | frozenset[str], use: PolicyUse) -> Iterator[tuple[str, Detailed]]:
        store = self._store
        owners: list[Owner] = [*store.users.values(), *store.groups.values(), *store.roles.values()]
        for owner in owners:
            if (kind := type(owner).__name__) in wanted:
                yield f"{kind}/{owner.id}", owner
        if "LocalManagedPolicy" in wanted:
            for policy in store.managed_policies.values():
                yield f"Policy/{policy.id}", policy
        if "AWSManagedPolicy" in wanted:
            for managed in aws_managed.all_policies().values():
                if use.has(self._aws_arn(managed)):
                    yield f"Policy/{self._aws_arn(managed)}", managed

    def _details(self, detailed: Detailed, use: PolicyUse) -> Members:
        match detailed:
            case ManagedPolicy():
                return {**self._policy_details(detailed), **use.members(detailed.id)}
            case aws_managed.AwsManagedPolicy():
                return {**self._aws_details(detailed), **use.members(self._aws_arn(detailed))}
            case _:
                return self._owner_details(detailed)

    def _owner_details(self, owner: Owner) -> Members:
        attached = [{"PolicyName": policy_name(arn), "PolicyArn": arn} for arn in owner.attached]
        inline = [
            {"PolicyName": name, "PolicyDocument": documents.url_encode(document)}
            for name, document in owner.inline.items()
        ]
        policies = {f"{type(owner).__name__}PolicyList": inline, "AttachedManagedPolicies": attached}
        match owner:
            case Group():
                return {**self._entities.group_members(owner), **policies}
            case User():
                return {**self._entities.user_members(owner), "GroupList": owner.groups, **policies}
            case Role():
                return {**self._role_details(owner), **policies}

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

    def _policy_details(self, policy: ManagedPolicy) -> Members:
        versions = [
            {**version_members(version, policy.default), "Document": documents.url_encode(version.document)}
            for version in self._store.policy_versions.where("policy", policy.id)
        ]
        return {**_without_tags(policy_members(policy)), "PolicyVersionList": versions}

    def _aws_details(self, policy: aws_managed.AwsManagedPolicy) -> Members:
        version = {**aws_version_members(policy), "Document": documents.url_encode(policy.document)}
        members = _without_tags(aws_policy_members(self._aws_arn(policy), policy))
        return {**members, "PolicyVersionList": [version]}

    def _aws_arn(self, policy: aws_managed.AwsManagedPolicy) -> str:
        return f"arn:{self._world.region.partition}:iam::aws:{policy.resource}"


def _without_tags(members: Members) -> Members:
    return {name: value for name, value in members.items() if name != "Tags"}
