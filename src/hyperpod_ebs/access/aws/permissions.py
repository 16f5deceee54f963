"""Whether a principal may do something, asked of IAM's policy simulator without doing it.

The simulator knows identity policies, boundaries and service control policies, but no session policies and no
conditions on the network (IAM User Guide, "IAM policy testing with the IAM policy simulator"). It does not simulate the
policies of resources for roles (IAM API reference, SimulatePrincipalPolicy), so this module evaluates those itself.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.decision import (
    Allowed,
    Decision,
    DeniedExplicitly,
    DeniedImplicitly,
    Policies,
    ResourcePolicy,
    Source,
    decide,
)
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy, Policy
from hyperpod_ebs.iam.request import Context, Principal, PrincipalType, Request

if TYPE_CHECKING:
    from types_aiobotocore_iam.literals import ContextKeyTypeEnumType
    from types_aiobotocore_iam.type_defs import EvaluationResultTypeDef

_ASSUMED_ROLE: Final = re.compile(r"arn:(?P<partition>[^:]+):sts::(?P<account>\d{12}):assumed-role/(?P<role>[^/]+)/.+")
_ENTITY: Final = re.compile(r"arn:[^:]+:iam::(?P<account>\d{12}):(?P<kind>user|role)/.+")
_ROOT: Final = re.compile(r"arn:[^:]+:iam::\d{12}:root")

_SINGLE_SIGN_ON: Final = "AWSReservedSSO_"
"""How the names of the roles of IAM Identity Center begin; their path is not in the ARN of a session."""

_REFUSALS: Final = frozenset({"InvalidInput", "NoSuchEntity", "NoSuchEntityException"})
"""The codes with which the simulator refuses a principal or an action."""

_SEVERAL_VALUES: Final = frozenset({"aws:calledvia", "aws:tagkeys", "kms:encryptioncontextkeys", "kms:grantoperations"})
"""The condition keys that can have several values, in lower case."""

_TAGS: Final = ("aws:requesttag/", "aws:resourcetag/", "aws:principaltag/", "ec2:resourcetag/")
"""How the condition keys of tags begin, whose values are strings even if they are `true`."""

_EVERYTHING: Final = documents.parse(
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}', kind=Kind.IDENTITY
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """An action that a principal needs to be allowed."""

    action: str
    resource: str = "*"
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The values of condition keys, as AWS has them for this call."""

    resource_policy: str | None = None
    """The document of the resource's policy, such as a key policy, which must allow the action as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the simulator says of a need."""

    need: Need
    decision: Literal["allowed", "denied", "unknown"]
    reason: str = ""
    """Why it is denied or not known; empty if it is allowed."""

    missing_keys: frozenset[str] = frozenset()
    """The condition keys that policies use and the need has no values for, if it is denied."""

    is_forbidden: bool = False
    """Whether something forbids it, so that another statement that allows it does not help."""


FORBIDDEN: Final = (
    "change what forbids it, which is a Deny statement, a permissions boundary or a service control policy: "
    "another statement that allows it does not help"
)
"""What to do about a need that is forbidden."""


async def principal_arn(aws: Aws, caller_arn: str) -> str:
    """The ARN of the user or role behind a caller, which for a session is the role's, with its path.

    If the caller may not read the role, the ARN is that of a role without a path.

    Raises:
        Error: The role cannot be read.
    """
    if not (match := _ASSUMED_ROLE.fullmatch(caller_arn)):
        return caller_arn
    iam = await aws.iam()
    try:
        with translate_sdk_errors(f"read role {match['role']}"):
            return (await iam.get_role(RoleName=match["role"]))["Role"]["Arn"]
    except errors.Denied:
        if match["role"].startswith(_SINGLE_SIGN_ON):
            raise
        return f"arn:{match['partition']}:iam::{match['account']}:role/{match['role']}"


async def simulate(aws: Aws, principal: str, needs: Sequence[Need]) -> list[Verdict]:
    """Ask the simulator about the needs of a user or role; one call asks for all actions on a resource in a context.

    A simulator that may not be asked, or knows no such principal, gives `unknown`. A root user needs no policy.

    Raises:
        Error: The simulator does not answer.
    """
    if _ROOT.fullmatch(principal):
        return [Verdict(need=need, decision="allowed") for need in needs]
    if not _ENTITY.fullmatch(principal):
        reason = f"the policy simulator knows only users and roles, and {principal} is neither"
        return [Verdict(need=need, decision="unknown", reason=reason) for need in needs]
    batches: dict[tuple[str, str], list[Need]] = {}
    for need in needs:
        batches.setdefault(_circumstances(need), []).append(need)
    results: dict[tuple[tuple[str, str], str], EvaluationResultTypeDef] = {}
    for circumstances, batch in batches.items():
        try:
            for result in await _evaluate(aws, principal, batch):
                results[circumstances, result["EvalActionName"].lower()] = result
        except errors.Error as error:
            if not _is_final(error):
                raise
            return [Verdict(need=need, decision="unknown", reason=str(error)) for need in needs]
    return [_verdict(need, principal, results.get((_circumstances(need), need.action.lower()))) for need in needs]


def _is_final(error: errors.Error) -> bool:
    """Whether the simulator refuses the question itself."""
    return isinstance(error, errors.Denied) or (isinstance(error, errors.CloudError) and error.code in _REFUSALS)


def _circumstances(need: Need) -> tuple[str, str]:
    """What the needs of one question have in common: resource and context."""
    return need.resource, repr(sorted((key.lower(), tuple(values)) for key, values in need.context.items()))


async def _evaluate(aws: Aws, principal: str, batch: Sequence[Need]) -> "list[EvaluationResultTypeDef]":
    """The results for the actions of needs that have resource and context in common."""
    actions, need = [*dict.fromkeys(each.action for each in batch)], batch[0]
    iam = await aws.iam()
    results: list[EvaluationResultTypeDef] = []
    page: dict[str, Any] = {}  # Any: the SDK's type of an optional argument
    while True:
        with translate_sdk_errors(f"simulate {', '.join(actions)} for {principal}"):
            answer = await iam.simulate_principal_policy(
                PolicySourceArn=principal,
                ActionNames=actions,
                ResourceArns=[need.resource],
                ContextEntries=[
                    {
                        "ContextKeyName": key,
                        "ContextKeyValues": list(values),
                        "ContextKeyType": _key_type(key, values),
                    }
                    for key, values in need.context.items()
                ],
                **page,
            )
        results += answer["EvaluationResults"]
        if not answer.get("IsTruncated"):
            return results
        page = {"Marker": answer["Marker"]}


def _key_type(key: str, values: Sequence[str]) -> "ContextKeyTypeEnumType":
    if len(values) != 1 or key.lower() in _SEVERAL_VALUES:
        return "stringList"
    is_boolean = values[0] in {"true", "false"} and not key.lower().startswith(_TAGS)
    return "boolean" if is_boolean else "string"


def _verdict(need: Need, principal: str, result: "EvaluationResultTypeDef | None") -> Verdict:
    if result is None:
        return Verdict(need=need, decision="unknown", reason=f"the policy simulator gives no result for {need.action}")
    what = f"{principal} may not {need.action} on {need.resource}"
    missing = frozenset(result.get("MissingContextValues", ()))
    if result["EvalDecision"] == "explicitDeny":
        reason = f"{what}: {_deny(result)}"
        return Verdict(need=need, decision="denied", reason=reason, missing_keys=missing, is_forbidden=True)
    if need.resource_policy is not None:
        return _verdict_with_resource(need, need.resource_policy, principal, result)
    if result["EvalDecision"] == "allowed":
        return Verdict(need=need, decision="allowed")
    return Verdict(
        need=need,
        decision="denied",
        reason=f"{what}: {_lack(result)}",
        missing_keys=missing,
        is_forbidden=_is_out_of_bounds(result),
    )


def _deny(result: "EvaluationResultTypeDef") -> str:
    statements = [
        f"{each.get('SourcePolicyId', '')} from line {each.get('StartPosition', {}).get('Line', 1)}"
        for each in result.get("MatchedStatements", [])
    ]
    if statements:
        return f"it is denied by policy {' and '.join(statements)}"
    return "a boundary or a service control policy denies it"


def _lack(result: "EvaluationResultTypeDef") -> str:
    """What does not allow the action."""
    if result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations") is False:
        return "no service control policy of the organization allows it"
    if not _is_within_boundary(result) and result.get("MatchedStatements"):
        return "the permissions boundary does not allow it"
    text = "no policy allows it" if _is_within_boundary(result) else "the permissions boundary or no policy allows it"
    if keys := result.get("MissingContextValues"):
        text += f" without values for {', '.join(sorted(keys))}"
    return text


def _is_out_of_bounds(result: "EvaluationResultTypeDef") -> bool:
    """Whether a boundary or a service control policy does not allow it."""
    allowed_by_organization = result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations", True)
    return not allowed_by_organization or not _is_within_boundary(result)


def _is_within_boundary(result: "EvaluationResultTypeDef") -> bool:
    detail = result.get("PermissionsBoundaryDecisionDetail", {})
    return detail.get("AllowedByPermissionsBoundary", True)


def _verdict_with_resource(need: Need, document: str, principal: str, result: "EvaluationResultTypeDef") -> Verdict:
    """The decision of the principal's policies, which the simulator knows, and of the resource's policy together."""
    try:
        policy = documents.parse(document, kind=Kind.RESOURCE, name=need.resource)
    except MalformedPolicy as error:
        return Verdict(need=need, decision="unknown", reason=f"the policy of {need.resource} cannot be read: {error}")
    decision = decide(_request(need, principal), _policies(policy, result))
    if isinstance(decision, Allowed):
        return Verdict(need=need, decision="allowed")
    what = f"{principal} may not {need.action} on {need.resource}"
    missing = frozenset(result.get("MissingContextValues", ()))
    return Verdict(
        need=need,
        decision="denied",
        reason=f"{what}: {_refusal(decision, result)}",
        missing_keys=missing,
        is_forbidden=isinstance(decision, DeniedExplicitly) or _is_out_of_bounds(result),
    )


def _policies(policy: Policy, result: "EvaluationResultTypeDef") -> Policies:
    """Policies that decide about the action as those of the principal, with the resource's policy."""
    return Policies(
        identity=[_EVERYTHING] if result["EvalDecision"] == "allowed" else [],
        boundary=None if _is_within_boundary(result) else [],
        resource=ResourcePolicy(policy=policy, is_required=True),
    )


def _refusal(decision: Decision, result: "EvaluationResultTypeDef") -> str:
    match decision:
        case DeniedExplicitly():
            return f"{decision.rule.statement.name} of the resource's policy denies it"
        case DeniedImplicitly(source=Source.RESOURCE, nearest=nearest):
            if nearest is None or nearest.mismatch.condition is None:
                return "the resource's policy does not allow it"
            condition = nearest.mismatch.condition
            return f"{nearest.rule.statement.name} of the resource's policy allows it only with {condition.key}"
        case _:
            return _lack(result)


def _request(need: Need, principal: str) -> Request:
    match = _ENTITY.fullmatch(principal)
    account = match["account"] if match else ""
    is_role = match is not None and match["kind"] == "role"
    return Request(
        principal=Principal(
            type=PrincipalType.ROLE_SESSION if is_role else PrincipalType.USER,
            arn=principal,
            account=account,
            role=principal if is_role else "",
        ),
        action=need.action,
        resource=need.resource,
        resource_account=_account(need.resource) or account,
        context=Context({"aws:PrincipalArn": principal, "aws:PrincipalAccount": account}, need.context),
    )


def _account(arn: str) -> str:
    """The account in an ARN; empty if it has none."""
    return next(iter(arn.split(":")[4:5]), "")
