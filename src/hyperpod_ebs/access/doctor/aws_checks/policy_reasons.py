"""Why a trust policy or a key policy does not let a principal in; decided here, without asking AWS."""

import json
from collections.abc import Mapping, Sequence

from hyperpod_ebs.access.aws.roles import Role
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.conditions import Condition
from hyperpod_ebs.iam.decision import Allowed, DeniedExplicitly, Nearest, Policies, ResourcePolicy, decide
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy
from hyperpod_ebs.iam.request import Context, Principal, Request
from hyperpod_ebs.iam.statements import Effect, Statement


def trust_problem(
    role: Role, principal: Principal, actions: Sequence[str], context: Mapping[str, str | Sequence[str]]
) -> str | None:
    """What keeps the principal from assuming the role; None if nothing does.

    Args:
        role: The role.
        principal: A service, or an identity provider.
        actions: What the principal must be allowed: `sts:AssumeRole`.
        context: The condition keys of the request.
    """
    try:
        policy = documents.parse(role.trust, kind=Kind.TRUST, name="the trust policy")
    except MalformedPolicy as error:
        return f"its trust policy cannot be read: {error}"
    for action in actions:
        request = Request(
            principal=principal,
            action=action,
            resource=role.arn,
            resource_account=role.arn.split(":")[4],
            context=Context(context),
        )
        match decide(request, Policies(resource=ResourcePolicy(policy=policy, is_required=True))):
            case Allowed():
                continue
            case DeniedExplicitly(rule=rule):
                return f"{rule.statement.name} of its trust policy denies {principal.arn} {action}"
            case denied:
                return _reason(role, principal, action, context, denied.nearest)
    return None


def unmet_condition(
    document: str, principal: Principal, action: str, resource: str, context: Mapping[str, str | Sequence[str]]
) -> str | None:
    """The condition that keeps a statement of a resource's policy from allowing a principal an action.

    None if no statement fails by its conditions alone.
    """
    policy = documents.parse(document, kind=Kind.RESOURCE, name="the policy")
    request = Request(
        principal=principal,
        action=action,
        resource=resource,
        resource_account=resource.split(":")[4],
        context=Context(context),
    )
    for statement in policy.statements:
        mismatch = statement.mismatch(request, has_boundary=False)
        if statement.effect is Effect.ALLOW and mismatch is not None and mismatch.condition is not None:
            return _difference(document, statement, mismatch.condition, context)
    return None


def _reason(
    role: Role,
    principal: Principal,
    action: str,
    context: Mapping[str, str | Sequence[str]],
    nearest: Nearest | None,
) -> str:
    if nearest is None or nearest.mismatch.condition is None:
        return f"its trust policy does not let {principal.arn} {action}"
    difference = _difference(role.trust, nearest.rule.statement, nearest.mismatch.condition, context)
    return f"its trust policy does not let the driver in: {difference}"


def _difference(
    document: str, statement: Statement, condition: Condition, context: Mapping[str, str | Sequence[str]]
) -> str:
    """The value that a condition wants, and the one that the driver has."""
    written = json.loads(document)["Statement"]
    written = written[statement.index] if isinstance(written, list) else written
    keys: Mapping[str, object] = written["Condition"].get(condition.operator, {})
    expected = next((value for key, value in keys.items() if key.lower() == condition.key.lower()), "another value")
    actual = next((value for key, value in context.items() if key.lower() == condition.key.lower()), "no value")
    return (
        f"{statement.name} wants {condition.key} to be {_text(expected)} ({condition.operator}), "
        f"and the driver has {_text(actual)}"
    )


def _text(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
