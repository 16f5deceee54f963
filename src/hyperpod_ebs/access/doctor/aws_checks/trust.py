"""Why a role's trust policy does not let a principal assume the role; decides without asking AWS."""

import json
from collections.abc import Mapping, Sequence

from hyperpod_ebs.access.aws.roles import Role
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.decision import Allowed, DeniedExplicitly, Nearest, Policies, ResourcePolicy, decide
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy
from hyperpod_ebs.iam.request import Context, Principal, Request


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


def _reason(
    role: Role,
    principal: Principal,
    action: str,
    context: Mapping[str, str | Sequence[str]],
    nearest: Nearest | None,
) -> str:
    if nearest is None or nearest.mismatch.condition is None:
        return f"its trust policy does not let {principal.arn} {action}"
    condition, statement = nearest.mismatch.condition, nearest.rule.statement
    written = json.loads(role.trust)["Statement"]
    written = written[statement.index] if isinstance(written, list) else written
    keys: Mapping[str, object] = written["Condition"].get(condition.operator, {})
    expected = next((value for key, value in keys.items() if key.lower() == condition.key.lower()), "another value")
    actual = next((value for key, value in context.items() if key.lower() == condition.key.lower()), "no value")
    return (
        f"{statement.name} of its trust policy wants {condition.key} to be {_text(expected)} "
        f"({condition.operator}), and the driver has {_text(actual)}"
    )


def _text(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
