"""Roles, and the trust policies that say who may assume them."""

from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.iam_api import documents, faults, tags
from hyperpod_ebs.emulator.iam_api.attachable import require_boundary
from hyperpod_ebs.emulator.iam_api.entities import Entities, check_quota, require_modifiable
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity.known_principals import unknown_principals
from hyperpod_ebs.emulator.identity.named_principals import rename_principal
from hyperpod_ebs.emulator.identity_records import Role
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters
from hyperpod_ebs.iam.documents import Kind

MAX_ROLES: Final = 1000
"""Roles of an account (IAM User Guide, "IAM and AWS STS quotas")."""

MAX_TRUST_SIZE: Final = 2048
"""Characters of a trust policy, without white space."""


class Roles:
    """The operations on roles."""

    operations = Operations["Roles"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._store = world.store
        self._entities = entities

    @operations("CreateRole")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Create a role."""
        name, path = parameters["RoleName"], parameters.get("Path", "/")
        if path.startswith("/aws-service-role/"):
            raise faults.invalid_input("Path for service-linked roles is reserved: use CreateServiceLinkedRole.")
        self._entities.check_new_name(self._store.roles, name, f"Role with name {name} already exists.")
        check_quota(self._store.roles, "RolesPerAccount", MAX_ROLES)
        boundary = parameters.get("PermissionsBoundary", "")
        require_boundary(self._world, boundary)
        role = Role(
            id=name,
            path=path,
            unique_id=new_unique_id("AROA"),
            created=now(),
            trust=self._trust(parameters["AssumeRolePolicyDocument"]),
            description=parameters.get("Description", ""),
            max_session_seconds=parameters.get("MaxSessionDuration", 3600),
            boundary=boundary,
            tags=tags.merge_tags({}, parameters.get("Tags", [])),
        )
        self._store.roles.put(role)
        return await self._world.acknowledge({"Role": self._entities.role_members(role)})

    @operations("GetRole")
    async def get(self, parameters: Parameters, _: Call) -> Answer:
        """Describe a role."""
        role = self._entities.role(parameters["RoleName"])
        return await self._world.acknowledge({"Role": self._entities.role_members(role)})

    @operations("ListRoles")
    async def list(self, parameters: Parameters, _: Call) -> Answer:
        """List the roles under a path."""
        prefix = parameters.get("PathPrefix", "/")
        roles = [role for role in self._store.roles.values() if role.path.startswith(prefix)]
        return await self._world.acknowledge(
            page(
                parameters,
                "Roles",
                roles,
                key=lambda role: role.id,
                show=lambda role: self._entities.role_members(role, listed=True),
            )
        )

    @operations("UpdateRole")
    async def update(self, parameters: Parameters, _: Call) -> Answer:
        """Change a role's description or the longest duration of its sessions."""
        role = self._modifiable(parameters)
        description = parameters.get("Description", role.description)
        longest = parameters.get("MaxSessionDuration", role.max_session_seconds)
        self._store.roles.put(replace(role, description=description, max_session_seconds=longest))
        return await self._world.acknowledge({})

    @operations("UpdateRoleDescription")
    async def update_description(self, parameters: Parameters, _: Call) -> Answer:
        """Change a role's description."""
        role = replace(self._modifiable(parameters), description=parameters["Description"])
        self._store.roles.put(role)
        return await self._world.acknowledge({"Role": self._entities.role_members(role)})

    @operations("UpdateAssumeRolePolicy")
    async def update_trust(self, parameters: Parameters, _: Call) -> Answer:
        """Replace a role's trust policy."""
        role = self._modifiable(parameters)
        self._store.roles.put(replace(role, trust=self._trust(parameters["PolicyDocument"])))
        return await self._world.acknowledge({})

    @operations("DeleteRole")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete a role that has no policies and is in no instance profile; its sessions end."""
        role = self._modifiable(parameters)
        if any(profile.role == role.id for profile in self._store.instance_profiles.values()):
            raise faults.delete_conflict("remove roles from instance profile")
        if role.attached:
            raise faults.delete_conflict("detach all policies")
        if role.inline:
            raise faults.delete_conflict("delete policies")
        for session in self._store.sessions.where("role", role.id):
            self._store.sessions.drop(session.id)
        self._store.roles.drop(role.id)
        rename_principal(self._store, self._entities.arn(role), role.unique_id)
        return await self._world.acknowledge({})

    def _modifiable(self, parameters: Parameters) -> Role:
        role = self._entities.role(parameters["RoleName"])
        require_modifiable(role)
        return role

    def _trust(self, document: str) -> str:
        """A trust policy, after checks.

        Raises:
            AwsFault: MalformedPolicyDocument, also for a principal that does not exist; LimitExceeded.
        """
        policy = documents.compile_document(document, Kind.TRUST)
        for principal in unknown_principals(policy, self._store, self._world.region):
            if principal.type == "FEDERATED":
                raise faults.malformed_policy("Federated principals must be valid domain names or SAML metadata ARNs")
            text = f'Invalid principal in policy: "{principal.type}":"{principal.name}"'
            raise faults.malformed_policy(text)
        if documents.size(document) > MAX_TRUST_SIZE:
            raise faults.limit_exceeded("ACLSizePerRole", MAX_TRUST_SIZE)
        return document
