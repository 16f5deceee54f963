"""Service-linked roles of the services that AWS's guides to EKS and HyperPod name.

Sources: EKS User Guide, "Using roles for Amazon EKS clusters"; SageMaker AI Developer Guide,
"Using service-linked roles for SageMaker HyperPod".
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.iam_api import faults
from hyperpod_ebs.emulator.iam_api.entities import SERVICE_PATH, Entities
from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity.named_principals import rename_principal
from hyperpod_ebs.emulator.identity_records import DeletionTask, Role
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedRole:
    """The role of a service."""

    name: str
    policy: str
    """The name of the AWS-managed policy."""


LINKED_ROLES: Final[Mapping[str, LinkedRole]] = {
    "eks.amazonaws.com": LinkedRole(name="AWSServiceRoleForAmazonEKS", policy="AmazonEKSServiceRolePolicy"),
    "hyperpod.sagemaker.amazonaws.com": LinkedRole(
        name="AWSServiceRoleForSageMakerHyperPod", policy="AmazonSageMakerHyperPodServiceRolePolicy"
    ),
}
"""The roles by the service's principal."""

MAX_TASKS: Final = 100
"""Deletions whose outcome is kept; the oldest are forgotten first."""


def linked_role_name(service: str) -> str:
    """The name of a service's role; AWS's usual form for services that are not known here."""
    known = LINKED_ROLES.get(service)
    return known.name if known else f"AWSServiceRoleFor{service.partition('.')[0]}"


class ServiceLinkedRoles:
    """The operations on service-linked roles."""

    operations = Operations["ServiceLinkedRoles"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._store = world.store
        self._entities = entities

    @operations("CreateServiceLinkedRole")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Create the role of a service, with the service's AWS-managed policy."""
        service = parameters["AWSServiceName"]
        if (linked := LINKED_ROLES.get(service)) is None:
            raise faults.invalid_input(f"Service {service} has no service-linked role in this emulator.")
        if parameters.get("CustomSuffix"):
            raise faults.invalid_input(f"Custom suffix is not allowed for {service}")
        if linked.name in self._store.roles:
            text = f"Service role name {linked.name} has been taken in this account, please try a different suffix."
            raise faults.invalid_input(text)
        role = Role(
            id=linked.name,
            path=f"{SERVICE_PATH}{service}/",
            unique_id=new_unique_id("AROA"),
            created=now(),
            trust=_trust(service),
            description=parameters.get("Description", ""),
            attached=(f"arn:{self._world.region.partition}:iam::aws:policy{SERVICE_PATH}{linked.policy}",),
        )
        self._store.roles.put(role)
        return await self._world.acknowledge({"Role": self._entities.role_members(role)})

    @operations("DeleteServiceLinkedRole")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete a role, unless its service has resources; the answer names a task, whose status shows which."""
        role = self._entities.role(parameters["RoleName"])
        if not role.path.startswith(SERVICE_PATH):
            raise faults.invalid_input(f"The role {role.id} is not a service-linked role.")
        usage = tuple(self._resources(role.id))
        if not usage:
            for session in self._store.sessions.where("role", role.id):
                self._store.sessions.drop(session.id)
            self._store.roles.drop(role.id)
            rename_principal(self._store, self._entities.arn(role), role.unique_id)
        task = DeletionTask(id=f"task{role.path}{role.id}/{secrets.token_hex(16)}", created=now(), usage=usage)
        tasks = self._store.deletion_tasks
        if len(tasks) >= MAX_TASKS:
            tasks.drop(min(tasks.values(), key=lambda each: each.created).id)
        tasks.put(task)
        return await self._world.acknowledge({"DeletionTaskId": task.id})

    @operations("GetServiceLinkedRoleDeletionStatus")
    async def deletion_status(self, parameters: Parameters, _: Call) -> Answer:
        """The status of a deletion."""
        if (task := self._store.deletion_tasks.get(parameters["DeletionTaskId"])) is None:
            raise faults.no_such_entity(f"The deletion task {parameters['DeletionTaskId']} cannot be found.")
        if not task.usage:
            return await self._world.acknowledge({"Status": "SUCCEEDED"})
        usage = [{"Region": self._world.region.name, "Resources": list(task.usage)}]
        reason = {"Reason": "The service has resources that use the role.", "RoleUsageList": usage}
        return await self._world.acknowledge({"Status": "FAILED", "Reason": reason})

    def _resources(self, role: str) -> list[str]:
        """The ARNs of the resources for which the service needs its role."""
        region = self._world.region
        if role == LINKED_ROLES["eks.amazonaws.com"].name:
            return [region.arn("eks", f"cluster/{name}") for name in self._store.eks_clusters]
        return [region.arn("sagemaker", f"cluster/{id_}") for id_ in self._store.clusters]


def _trust(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
