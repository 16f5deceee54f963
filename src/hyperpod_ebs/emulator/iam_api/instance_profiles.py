"""Instance profiles, through which EC2 instances get a role."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.iam_api import faults, tags
from hyperpod_ebs.emulator.iam_api.entities import Entities, check_quota, require_modifiable
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity_records import InstanceProfile
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

MAX_PROFILES: Final = 1000
"""Instance profiles of an account (IAM User Guide, "IAM and AWS STS quotas")."""


class InstanceProfiles:
    """The operations on instance profiles."""

    operations = Operations["InstanceProfiles"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._profiles = world.store.instance_profiles
        self._entities = entities

    @operations("CreateInstanceProfile")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Create an instance profile without a role."""
        name = parameters["InstanceProfileName"]
        self._entities.check_new_name(self._profiles, name, f"Instance Profile {name} already exists.")
        check_quota(self._profiles, "InstanceProfilesPerAccount", MAX_PROFILES)
        profile = InstanceProfile(
            id=name,
            path=parameters.get("Path", "/"),
            unique_id=new_unique_id("AIPA"),
            created=now(),
            tags=tags.merge_tags({}, parameters.get("Tags", [])),
        )
        self._profiles.put(profile)
        return await self._world.acknowledge({"InstanceProfile": self._entities.profile_members(profile)})

    @operations("GetInstanceProfile")
    async def get(self, parameters: Parameters, _: Call) -> Answer:
        """Describe an instance profile and its role."""
        profile = self._entities.profile(parameters["InstanceProfileName"])
        return await self._world.acknowledge({"InstanceProfile": self._entities.profile_members(profile)})

    @operations("ListInstanceProfiles")
    async def list(self, parameters: Parameters, _: Call) -> Answer:
        """List the instance profiles under a path."""
        prefix = parameters.get("PathPrefix", "/")
        profiles = [profile for profile in self._profiles.values() if profile.path.startswith(prefix)]
        return await self._answer_list(parameters, profiles)

    @operations("ListInstanceProfilesForRole")
    async def list_for_role(self, parameters: Parameters, _: Call) -> Answer:
        """List the instance profiles of a role."""
        role = self._entities.role(parameters["RoleName"])
        return await self._answer_list(parameters, [each for each in self._profiles.values() if each.role == role.id])

    @operations("AddRoleToInstanceProfile")
    async def add_role(self, parameters: Parameters, _: Call) -> Answer:
        """Give an instance profile its role."""
        profile = self._entities.profile(parameters["InstanceProfileName"])
        role = self._entities.role(parameters["RoleName"])
        require_modifiable(role)
        if profile.role:
            raise faults.limit_exceeded("InstanceSessionsPerInstanceProfile", 1)
        self._profiles.put(replace(profile, role=role.id))
        return await self._world.acknowledge({})

    @operations("RemoveRoleFromInstanceProfile")
    async def remove_role(self, parameters: Parameters, _: Call) -> Answer:
        """Take its role from an instance profile."""
        profile = self._entities.profile(parameters["InstanceProfileName"])
        role = self._entities.role(parameters["RoleName"])
        if profile.role != role.id:
            raise faults.not_found("role", role.id)
        self._profiles.put(replace(profile, role=""))
        return await self._world.acknowledge({})

    @operations("DeleteInstanceProfile")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete an instance profile without a role."""
        profile = self._entities.profile(parameters["InstanceProfileName"])
        if profile.role:
            raise faults.delete_conflict("remove roles from instance profile")
        self._profiles.drop(profile.id)
        return await self._world.acknowledge({})

    async def _answer_list(self, parameters: Parameters, profiles: Sequence[InstanceProfile]) -> Answer:
        return await self._world.acknowledge(
            page(
                parameters,
                "InstanceProfiles",
                profiles,
                key=lambda profile: profile.id,
                show=lambda profile: self._entities.profile_members(profile, listed=True),
            )
        )
