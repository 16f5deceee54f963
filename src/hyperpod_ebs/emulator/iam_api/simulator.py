"""SimulatePrincipalPolicy, SimulateCustomPolicy, and the condition keys that policies need."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hyperpod_ebs.emulator.iam_api import faults
from hyperpod_ebs.emulator.iam_api.context_keys import keys_of_policies
from hyperpod_ebs.emulator.iam_api.entities import Entities, Owner
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.iam_api.simulated_policies import (
    SimulatedPolicy,
    boundary_of,
    input_policies,
    policies_of,
    resource_policy,
)
from hyperpod_ebs.emulator.iam_api.simulation import Members, Simulation
from hyperpod_ebs.emulator.identity.identities import ContextValues, Identities
from hyperpod_ebs.emulator.identity_records import Group, Role, User
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters
from hyperpod_ebs.iam.request import Context, Principal, PrincipalType

_ENTITY: Final = re.compile(
    r"arn:[a-z-]+:iam::(?P<account>[0-9]{12}):(?P<kind>user|group|role)/(?:[^/]+/)*(?P<name>[\w+=,.@-]+)", re.ASCII
)
_ACTION: Final = re.compile(r"[A-Za-z0-9-]+:[A-Za-z0-9]+", re.ASCII)


MAX_COMPARISONS: Final = 200_000
"""Statements times actions times resources of a simulation, which take some seconds."""


class Simulator:
    """The operations that answer what policies permit; nothing is changed."""

    operations = Operations["Simulator"]()

    def __init__(self, world: World, entities: Entities, identities: Identities) -> None:
        self._world = world
        self._store = world.store
        self._entities = entities
        self._identities = identities

    @operations("SimulateCustomPolicy")
    async def simulate_custom(self, parameters: Parameters, call: Call) -> Answer:
        """Decide by the policies in the request alone."""
        caller = parameters.get("CallerArn")
        if "ResourcePolicy" in parameters and caller is None:
            raise faults.invalid_input("CallerArn is required if ResourcePolicy is specified.")
        policies = input_policies("PolicyInputList", parameters["PolicyInputList"])
        principal = _principal(caller) if caller else Principal(type=PrincipalType.USER, arn="", account=call.account)
        return await self._answer(parameters, principal, policies, None, {})

    @operations("SimulatePrincipalPolicy")
    async def simulate_principal(self, parameters: Parameters, _: Call) -> Answer:
        """Decide by the policies of a user, group or role, and by those in the request."""
        owner = self._owner(parameters["PolicySourceArn"])
        exclusions = parameters.get("PolicyExclusionList", ())
        policies = [
            *policies_of(owner, self._store, self._identities, exclusions),
            *input_policies("PolicyInputList", parameters.get("PolicyInputList", ())),
        ]
        boundary = boundary_of(owner, self._identities, exclusions)
        principal = _principal(parameters.get("CallerArn", parameters["PolicySourceArn"]), owner)
        return await self._answer(parameters, principal, policies, boundary, _context_of(owner, principal))

    @operations("GetContextKeysForCustomPolicy")
    async def keys_for_custom(self, parameters: Parameters, _: Call) -> Answer:
        """List the condition keys in the policies of the request."""
        policies = input_policies("PolicyInputList", parameters["PolicyInputList"])
        return await self._answer_keys(policies)

    @operations("GetContextKeysForPrincipalPolicy")
    async def keys_for_principal(self, parameters: Parameters, _: Call) -> Answer:
        """List the condition keys in the policies of a user, group or role, and in those of the request."""
        owner = self._owner(parameters["PolicySourceArn"])
        given = input_policies("PolicyInputList", parameters.get("PolicyInputList", ()))
        return await self._answer_keys([*policies_of(owner, self._store, self._identities), *given])

    async def _answer(
        self,
        parameters: Parameters,
        principal: Principal,
        policies: Sequence[SimulatedPolicy],
        boundary: Sequence[SimulatedPolicy] | None,
        context: ContextValues,
    ) -> Answer:
        given_boundary = parameters.get("PermissionsBoundaryPolicyInputList", ())
        if len(given_boundary) > 1:
            raise faults.invalid_input("PermissionsBoundaryPolicyInputList can have one policy only.")
        if parameters.get("OrderedOrganizationPolicyInputList"):
            raise faults.invalid_input("The policies of organizations are not simulated.")
        for action in parameters["ActionNames"]:
            if not _ACTION.fullmatch(action):
                raise faults.invalid_input(f"Invalid Action Name: {action}")
        resource = parameters.get("ResourcePolicy")
        simulation = Simulation(
            principal=principal,
            identity=policies,
            boundary=input_policies("PermissionsBoundaryPolicyInputList", given_boundary) or boundary,
            resource=resource_policy(resource) if resource else None,
            resource_owner=_owner_account(parameters) or principal.account,
            context=Context(context, _given_context(parameters)),
        )
        resources = parameters.get("ResourceArns", ())
        _check_work(len(parameters["ActionNames"]), len(resources) or 1, simulation.statements)
        results: list[tuple[str, Members]] = []
        for number, action in enumerate(parameters["ActionNames"]):
            results.append((f"{number:05}", simulation.result(action, resources)))
            await asyncio.sleep(0)  # other calls need not wait for the rest
        return await self._world.acknowledge(
            page(parameters, "EvaluationResults", results, key=lambda pair: pair[0], show=lambda pair: pair[1])
        )

    async def _answer_keys(self, policies: Sequence[SimulatedPolicy]) -> Answer:
        keys = keys_of_policies(policy.compiled for policy in policies)
        return await self._world.acknowledge({"ContextKeyNames": keys})

    def _owner(self, arn: str) -> Owner:
        """The user, group or role with this ARN, path and account included: the caller may simulate no other.

        Raises:
            AwsFault: InvalidInput or NoSuchEntity.
        """
        match = _require_entity(arn)
        kind, name = match["kind"], match["name"]
        owner = self._entities.owner({f"{kind.title()}Name": name})
        if self._entities.arn(owner) != arn:
            raise faults.not_found(kind, name)
        return owner


def _check_work(actions: int, resources: int, statements: int) -> None:
    """Refuse a simulation that would take long.

    Raises:
        AwsFault: InvalidInput.
    """
    if actions * resources * statements > MAX_COMPARISONS:
        text = f"{actions} actions, {resources} resources and {statements} statements are too many: simulate fewer"
        raise faults.invalid_input(f"{text} in one request.")


def _require_entity(arn: str) -> re.Match[str]:
    if (match := _ENTITY.fullmatch(arn)) is None:
        raise faults.invalid_input(f"Invalid Entity Arn: {arn} does not clearly define entity type and name.")
    return match


def _principal(arn: str, owner: Owner | None = None) -> Principal:
    """The simulated caller; a role stands for its sessions."""
    match = _require_entity(arn)
    if match["kind"] == "role":
        return Principal(type=PrincipalType.ROLE_SESSION, arn=arn, account=match["account"], role=arn)
    unique_id = owner.unique_id if isinstance(owner, User) else ""
    return Principal(type=PrincipalType.USER, arn=arn, account=match["account"], unique_id=unique_id)


def _context_of(owner: Owner, principal: Principal) -> ContextValues:
    """The condition keys that describe a user or role."""
    context: dict[str, str | Sequence[str]] = {
        "aws:PrincipalArn": principal.arn,
        "aws:PrincipalAccount": principal.account,
    }
    match owner:
        case User():
            context |= {"aws:username": owner.id, "aws:userid": owner.unique_id, "aws:PrincipalType": "User"}
        case Role():
            context["aws:PrincipalType"] = "AssumedRole"
        case Group():
            return context
    return {**context, **{f"aws:PrincipalTag/{key}": value for key, value in owner.tags.items()}}


def _given_context(parameters: Parameters) -> ContextValues:
    entries: Sequence[Mapping[str, Any]] = parameters.get("ContextEntries", ())  # Any: the members of a ContextEntry
    return {
        entry["ContextKeyName"]: entry.get("ContextKeyValues", []) for entry in entries if "ContextKeyName" in entry
    }


def _owner_account(parameters: Parameters) -> str:
    """The account of ResourceOwner, which is an id or a root user's ARN."""
    owner = str(parameters.get("ResourceOwner", ""))
    return owner.split(":")[4] if owner.count(":") > 4 else owner  # noqa: PLR2004 - the fields of an ARN
