"""The tags of users, roles, customer-managed policies, instance profiles and OpenID Connect providers."""

from collections.abc import Callable
from dataclasses import replace

from hyperpod_ebs.emulator.iam_api import tags
from hyperpod_ebs.emulator.iam_api.entities import Entities, require_modifiable
from hyperpod_ebs.emulator.iam_api.managed_policies import require_own_policy
from hyperpod_ebs.emulator.iam_api.oidc_providers import require_provider
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.identity_records import InstanceProfile, ManagedPolicy, OidcProvider, Role, Tags, User
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

Tagged = User | Role | ManagedPolicy | InstanceProfile | OidcProvider


class Tagging:
    """The operations on tags; each request names one object."""

    operations = Operations["Tagging"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._store = world.store
        self._entities = entities

    @operations("TagUser")
    @operations("TagRole")
    @operations("TagPolicy")
    @operations("TagInstanceProfile")
    @operations("TagOpenIDConnectProvider")
    async def tag(self, parameters: Parameters, _: Call) -> Answer:
        """Add or replace tags."""
        self._change(parameters, lambda current: tags.merge_tags(current, parameters["Tags"]))
        return await self._world.acknowledge({})

    @operations("UntagUser")
    @operations("UntagRole")
    @operations("UntagPolicy")
    @operations("UntagInstanceProfile")
    @operations("UntagOpenIDConnectProvider")
    async def untag(self, parameters: Parameters, _: Call) -> Answer:
        """Remove the tags with these keys."""
        self._change(parameters, lambda current: tags.remaining_tags(current, parameters["TagKeys"]))
        return await self._world.acknowledge({})

    @operations("ListUserTags")
    @operations("ListRoleTags")
    @operations("ListPolicyTags")
    @operations("ListInstanceProfileTags")
    @operations("ListOpenIDConnectProviderTags")
    async def list(self, parameters: Parameters, _: Call) -> Answer:
        """List the tags in the order of their keys."""
        pairs = self._find(parameters).tags.items()
        return await self._world.acknowledge(
            page(
                parameters,
                "Tags",
                pairs,
                key=lambda pair: pair[0],
                show=lambda pair: {"Key": pair[0], "Value": pair[1]},
            )
        )

    def _find(self, parameters: Parameters) -> Tagged:
        if "UserName" in parameters:
            return self._entities.user(parameters["UserName"])
        if "RoleName" in parameters:
            return self._entities.role(parameters["RoleName"])
        if "InstanceProfileName" in parameters:
            return self._entities.profile(parameters["InstanceProfileName"])
        if "PolicyArn" in parameters:
            return require_own_policy(self._world, parameters["PolicyArn"])
        return require_provider(self._store.oidc_providers, parameters["OpenIDConnectProviderArn"])

    def _change(self, parameters: Parameters, new_tags: Callable[[Tags], Tags]) -> None:
        tagged = self._find(parameters)
        if isinstance(tagged, Role):
            require_modifiable(tagged)
        changed = replace(tagged, tags=new_tags(tagged.tags))
        match changed:
            case User():
                self._store.users.put(changed)
            case Role():
                self._store.roles.put(changed)
            case ManagedPolicy():
                self._store.managed_policies.put(changed)
            case InstanceProfile():
                self._store.instance_profiles.put(changed)
            case OidcProvider():
                self._store.oidc_providers.put(changed)
