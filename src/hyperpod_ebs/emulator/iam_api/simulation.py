"""What a simulation finds for one action: the decision for each resource, and the statements that decide.

Source: IAM API reference, SimulatePrincipalPolicy and EvaluationResult.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.iam_api.context_keys import distinct, keys_of
from hyperpod_ebs.emulator.iam_api.simulated_policies import SimulatedPolicy
from hyperpod_ebs.emulator.iam_api.statement_positions import position, statement_spans
from hyperpod_ebs.iam.decision import Allowed, Decision, DeniedExplicitly, Policies, ResourcePolicy, decide
from hyperpod_ebs.iam.request import Context, Principal, Request
from hyperpod_ebs.iam.statements import Effect, Element

Members = Mapping[str, Any]  # Any: the members of a structure of IAM

ANY: Final = "*"
_RESTRICTIVE: Final = ("explicitDeny", "implicitDeny", "allowed")
"""The decisions, the most restrictive one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The principal and the policies of a simulation."""

    principal: Principal
    identity: Sequence[SimulatedPolicy]
    boundary: Sequence[SimulatedPolicy] | None
    """None without a permissions boundary."""

    resource: SimulatedPolicy | None
    resource_owner: str
    """The account of resources whose ARNs name none."""

    context: Context

    @property
    def statements(self) -> int:
        """The number of all statements."""
        policies = [*self.identity, *(self.boundary or ()), *([self.resource] if self.resource else [])]
        return sum(len(policy.compiled.statements) for policy in policies)

    def result(self, action: str, resources: Sequence[str]) -> Members:
        """The EvaluationResult of an action; without resources, of the action on all of them."""
        results = [self._result_on(action, resource) for resource in resources or (ANY,)]
        decisions = {result["EvalResourceDecision"] for result in results}
        members: dict[str, Any] = {  # Any: as `Members`
            "EvalActionName": action,
            "EvalResourceName": ANY,
            "EvalDecision": next(each for each in _RESTRICTIVE if each in decisions),
            "MissingContextValues": distinct(key for result in results for key in result["MissingContextValues"]),
        }
        deciding = [each for each in results if each["EvalResourceDecision"] == members["EvalDecision"]]
        members["MatchedStatements"] = _without_repetitions(
            statement for result in deciding for statement in result["MatchedStatements"]
        )
        if self.boundary is not None:
            allowed = [result["PermissionsBoundaryDecisionDetail"] for result in results]
            is_allowed = all(detail["AllowedByPermissionsBoundary"] for detail in allowed)
            members["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": is_allowed}
        if list(resources) not in ([], [ANY]):
            members["ResourceSpecificResults"] = results
            members["EvalDecisionDetails"] = {}
        return members

    def _result_on(self, action: str, resource: str) -> Members:
        request = Request(
            principal=self.principal,
            action=action,
            resource=resource,
            resource_account=_account(resource) or self.resource_owner,
            context=self.context,
        )
        decision = decide(request, self._policies(action))
        members: dict[str, Any] = {  # Any: as `Members`
            "EvalResourceName": resource,
            "EvalResourceDecision": _name(decision),
            "MatchedStatements": self._matched_statements(request, decision),
            "MissingContextValues": self._missing_keys(request),
        }
        if self.boundary is not None:
            members["PermissionsBoundaryDecisionDetail"] = {
                "AllowedByPermissionsBoundary": _allows(self.boundary, request)
            }
        return members

    def _policies(self, action: str) -> Policies:
        is_key = action.lower().startswith("kms:")
        return Policies(
            identity=[policy.compiled for policy in self.identity],
            boundary=None if self.boundary is None else [policy.compiled for policy in self.boundary],
            resource=ResourcePolicy(policy=self.resource.compiled, is_required=is_key) if self.resource else None,
        )

    def _matched_statements(self, request: Request, decision: Decision) -> Sequence[Members]:
        """The statements that lead to the decision; an implicit denial has none."""
        if not isinstance(decision, Allowed | DeniedExplicitly):
            return []
        effect = Effect.ALLOW if isinstance(decision, Allowed) else Effect.DENY
        return [
            _location(policy, statement.index)
            for policy in [*self.identity, *([self.resource] if self.resource else [])]
            for statement in policy.compiled.statements
            if statement.effect is effect
            and statement.mismatch(request, has_boundary=self.boundary is not None) is None
        ]

    def _missing_keys(self, request: Request) -> Sequence[str]:
        """The keys that the statements about the action and the resource use, but the request lacks."""
        policies = [*self.identity, *(self.boundary or ()), *([self.resource] if self.resource else [])]
        keys: list[str] = []
        for policy in policies:
            for statement in policy.compiled.statements:
                mismatch = statement.mismatch(request, has_boundary=self.boundary is not None)
                if mismatch is None or mismatch.element is not Element.ACTION:
                    keys += [key for key in keys_of(statement) if not self.context.get(key)]
        return distinct(keys)


def _name(decision: Decision) -> str:
    match decision:
        case Allowed():
            return "allowed"
        case DeniedExplicitly():
            return "explicitDeny"
        case _:
            return "implicitDeny"


def _allows(policies: Sequence[SimulatedPolicy], request: Request) -> bool:
    """Whether a statement allows the request and none denies it."""
    effects = [
        statement.effect
        for policy in policies
        for statement in policy.compiled.statements
        if statement.mismatch(request, has_boundary=False) is None
    ]
    return Effect.ALLOW in effects and Effect.DENY not in effects


def _location(policy: SimulatedPolicy, index: int) -> Members:
    span = statement_spans(policy.document)[index]
    return {
        "SourcePolicyId": policy.id,
        "SourcePolicyType": "IAM Policy",
        "StartPosition": position(policy.document, span.start),
        "EndPosition": position(policy.document, span.end),
    }


def _without_repetitions(statements: Iterable[Members]) -> Sequence[Members]:
    return list({repr(statement): statement for statement in statements}.values())


def _account(arn: str) -> str:
    """The account in an ARN; empty if it has none."""
    fields = arn.split(":", 5)
    return fields[4] if len(fields) > 5 and fields[4].isdigit() else ""  # noqa: PLR2004 - the fields of an ARN
