"""Managed policies that are attached to users, groups and roles."""

from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.iam_api import faults
from hyperpod_ebs.emulator.iam_api.attachable import policy_name, policy_path, require_policy
from hyperpod_ebs.emulator.iam_api.entities import Entities
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

MAX_ATTACHED: Final = 10
"""Managed policies of a user, group or role (IAM User Guide, "IAM and AWS STS quotas")."""


class Attachments:
    """The operations on attached policies; the request names a user, a group or a role."""

    operations = Operations["Attachments"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._entities = entities

    @operations("AttachUserPolicy")
    @operations("AttachGroupPolicy")
    @operations("AttachRolePolicy")
    async def attach(self, parameters: Parameters, _: Call) -> Answer:
        """Attach a policy; one that is attached stays so."""
        owner, arn = self._entities.modifiable_owner(parameters), parameters["PolicyArn"]
        require_policy(self._world, arn)
        if arn not in owner.attached:
            if len(owner.attached) >= MAX_ATTACHED:
                raise faults.limit_exceeded(f"PoliciesPer{type(owner).__name__}", MAX_ATTACHED)
            self._entities.put_owner(replace(owner, attached=(*owner.attached, arn)))
        return await self._world.acknowledge({})

    @operations("DetachUserPolicy")
    @operations("DetachGroupPolicy")
    @operations("DetachRolePolicy")
    async def detach(self, parameters: Parameters, _: Call) -> Answer:
        """Detach a policy."""
        owner, arn = self._entities.modifiable_owner(parameters), parameters["PolicyArn"]
        if arn not in owner.attached:
            raise faults.no_such_entity(f"Policy {arn} was not found.")
        left = tuple(other for other in owner.attached if other != arn)
        self._entities.put_owner(replace(owner, attached=left))
        return await self._world.acknowledge({})

    @operations("ListAttachedUserPolicies")
    @operations("ListAttachedGroupPolicies")
    @operations("ListAttachedRolePolicies")
    async def list(self, parameters: Parameters, _: Call) -> Answer:
        """List the attached policies under a path."""
        prefix = parameters.get("PathPrefix", "/")
        arns = [arn for arn in self._entities.owner(parameters).attached if policy_path(arn).startswith(prefix)]
        return await self._world.acknowledge(
            page(
                parameters,
                "AttachedPolicies",
                arns,
                key=str,
                show=lambda arn: {"PolicyName": policy_name(arn), "PolicyArn": arn},
            )
        )
