"""Inline policies of users, groups and roles."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.iam_api import documents, faults
from hyperpod_ebs.emulator.iam_api.entities import Entities, kind_of
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters
from hyperpod_ebs.iam.documents import Kind

MAX_SIZES: Final[Mapping[str, int]] = {"user": 2048, "group": 5120, "role": 10_240}
"""Characters of all inline policies of an object, without white space (IAM User Guide, "IAM and AWS STS quotas")."""


class InlinePolicies:
    """The operations on inline policies; the request names a user, a group or a role."""

    operations = Operations["InlinePolicies"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._entities = entities

    @operations("PutUserPolicy")
    @operations("PutGroupPolicy")
    @operations("PutRolePolicy")
    async def put(self, parameters: Parameters, _: Call) -> Answer:
        """Add a policy, or replace the one with the same name."""
        owner, name, document = (
            self._entities.modifiable_owner(parameters),
            parameters["PolicyName"],
            parameters["PolicyDocument"],
        )
        documents.compile_document(document, Kind.IDENTITY)
        policies = {**owner.inline, name: document}
        kind = kind_of(owner)
        if sum(map(documents.size, policies.values())) > MAX_SIZES[kind]:
            text = f"Maximum policy size of {MAX_SIZES[kind]} bytes exceeded for {kind} {owner.id}"
            raise AwsFault("LimitExceeded", text, 409)
        self._entities.put_owner(replace(owner, inline=policies))
        return await self._world.acknowledge({})

    @operations("GetUserPolicy")
    @operations("GetGroupPolicy")
    @operations("GetRolePolicy")
    async def get(self, parameters: Parameters, _: Call) -> Answer:
        """Return the document of a policy."""
        owner, name = self._entities.owner(parameters), parameters["PolicyName"]
        if name not in owner.inline:
            raise faults.not_found(f"{kind_of(owner)} policy", name)
        return await self._world.acknowledge(
            {
                f"{type(owner).__name__}Name": owner.id,
                "PolicyName": name,
                "PolicyDocument": documents.url_encode(owner.inline[name]),
            }
        )

    @operations("ListUserPolicies")
    @operations("ListGroupPolicies")
    @operations("ListRolePolicies")
    async def list(self, parameters: Parameters, _: Call) -> Answer:
        """List the names of the policies."""
        names = self._entities.owner(parameters).inline
        return await self._world.acknowledge(page(parameters, "PolicyNames", names, key=str, show=str))

    @operations("DeleteUserPolicy")
    @operations("DeleteGroupPolicy")
    @operations("DeleteRolePolicy")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete a policy."""
        owner, name = self._entities.modifiable_owner(parameters), parameters["PolicyName"]
        if name not in owner.inline:
            raise faults.not_found(f"{kind_of(owner)} policy", name)
        left = {other: document for other, document in owner.inline.items() if other != name}
        self._entities.put_owner(replace(owner, inline=left))
        return await self._world.acknowledge({})
