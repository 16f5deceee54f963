"""Permissions boundaries of users and roles."""

from dataclasses import replace

from hyperpod_ebs.emulator.iam_api.attachable import require_boundary
from hyperpod_ebs.emulator.iam_api.entities import Entities
from hyperpod_ebs.emulator.identity_records import Group
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters


class Boundaries:
    """The operations on permissions boundaries; the request names a user or a role."""

    operations = Operations["Boundaries"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._entities = entities

    @operations("PutUserPermissionsBoundary")
    @operations("PutRolePermissionsBoundary")
    async def put(self, parameters: Parameters, _: Call) -> Answer:
        """Set the boundary."""
        self._set_boundary(parameters, parameters["PermissionsBoundary"])
        return await self._world.acknowledge({})

    @operations("DeleteUserPermissionsBoundary")
    @operations("DeleteRolePermissionsBoundary")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Remove the boundary."""
        self._set_boundary(parameters, "")
        return await self._world.acknowledge({})

    def _set_boundary(self, parameters: Parameters, arn: str) -> None:
        owner = self._entities.modifiable_owner(parameters)
        require_boundary(self._world, arn)
        if not isinstance(owner, Group):
            self._entities.put_owner(replace(owner, boundary=arn))
