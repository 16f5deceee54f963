"""Mistakes in a document that can be seen without a request: names that do not exist, values that never match."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Final

from hyperpod_ebs.access.policy.comparison.action_names import is_known_service, matching_actions, similar_action
from hyperpod_ebs.access.policy.comparison.condition_keys import SEVERAL_VALUES, similar_key
from hyperpod_ebs.access.policy.comparison.findings import Finding, FindingKind, Operation
from hyperpod_ebs.access.policy.comparison.given_policies import (
    GivenPolicy,
    RawStatement,
    conditions_of,
    short,
    strings,
)
from hyperpod_ebs.iam.documents import VERSIONS
from hyperpod_ebs.iam.statements import Effect

DESCRIBE_VOLUMES: Final = "ec2:DescribeVolumes"

_GUIDE: Final = "ec2:describevolume"
_OPERATORS: Final = {
    name.lower(): name
    for name in (
        *("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"),
        *("StringLike", "StringNotLike", "NumericEquals", "NumericNotEquals", "NumericLessThan"),
        *("NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals", "DateEquals", "DateNotEquals"),
        *("DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals", "Bool", "BinaryEquals"),
        *("IpAddress", "NotIpAddress", "ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike", "Null"),
    )
}
"""IAM's condition operators by their names in lower case."""

_BOOLEANS: Final = frozenset({"true", "false"})


def mistakes(policy: GivenPolicy, needed: Sequence[str]) -> Iterator[Finding]:
    """The mistakes in a policy.

    Args:
        policy: The policy.
        needed: The actions that the job needs, whose describe actions take no resource but an asterisk.
    """
    yield from _version_mistake(policy)
    for index, statement in enumerate(policy.statements):
        yield from _action_mistakes(policy, index, statement)
        if policy.compiled.statements[index].effect is Effect.ALLOW:
            yield from _resource_mistakes(policy, index, statement, needed)
        yield from _condition_mistakes(policy, index, statement)


def refusal(name: str, error: str) -> Finding:
    """The finding for a document that IAM refuses."""
    head, _, operator = error.rstrip(".").partition(" : ")
    is_operator = "Condition type" in head
    close = get_close_matches(_without_affixes(operator), _OPERATORS, n=1, cutoff=0.6) if is_operator else []
    hint = f"; a similar operator is {_OPERATORS[close[0]]}" if close else ""
    message = f"IAM refuses the document: {error.rstrip('.')}{hint}"
    return Finding(kind=FindingKind.MISTYPED, policy=name, message=message)


def _version_mistake(policy: GivenPolicy) -> Iterator[Finding]:
    if policy.is_variable or "${" not in str(policy.statements):
        return
    message = (
        "policy variables such as ${aws:username} are plain text in version "
        f"{policy.raw.get('Version', VERSIONS[1])}; use version {VERSIONS[0]}"
    )
    patch: Operation = {"op": "add", "path": "/Version", "value": VERSIONS[0]}
    yield _mistake(policy, None, message, [patch])


def _action_mistakes(policy: GivenPolicy, index: int, statement: RawStatement) -> Iterator[Finding]:
    member = "Action" if "Action" in statement else "NotAction"
    for action in strings(statement.get(member)):
        if action == "*" or (is_known_service(action) and matching_actions(action)):
            continue
        if action.lower() == _GUIDE:
            yield _describe_volumes(
                policy,
                index,
                action,
                f"{action} does not exist, so it grants nothing, although the guide prints it: the action is "
                f"{DESCRIBE_VOLUMES}, on resource *",
            )
        elif right := similar_action(action):
            others = [right if each == action else each for each in strings(statement.get(member))]
            patch: Operation = {"op": "replace", "path": policy.path(index, member), "value": short(others)}
            message = f"{action} does not exist, so it {_effect(statement)} nothing: the action is {right}"
            yield _mistake(policy, index, message, [patch])


def _resource_mistakes(
    policy: GivenPolicy, index: int, statement: RawStatement, needed: Sequence[str]
) -> Iterator[Finding]:
    """Describe actions on a resource."""
    resources = strings(statement.get("Resource"))
    if not resources or any(not set(each) - set("*:arn?") for each in resources):
        return
    for action in strings(statement.get("Action")):
        without_resource = [each for each in needed if each.startswith("ec2:Describe")]
        if found := next((each for each in without_resource if each.lower() == action.lower()), None):
            yield _describe_volumes(
                policy,
                index,
                action,
                f"{found} takes no resource but *, so on {resources[0]} it grants nothing, although one form of the "
                "guide prints it"
                if found == DESCRIBE_VOLUMES
                else f"{found} takes no resource but *, so on {resources[0]} it grants nothing",
                found,
            )


def _describe_volumes(
    policy: GivenPolicy, index: int, action: str, message: str, right: str = DESCRIBE_VOLUMES
) -> Finding:
    """A describe action that grants nothing; the patch moves it to a statement of its own."""
    statement = policy.statements[index]
    others = [each for each in strings(statement.get("Action")) if each != action]
    own: RawStatement = {"Effect": "Allow", "Action": right, "Resource": "*"}
    patch: list[Operation] = []
    if others:
        patch.append({"op": "replace", "path": policy.path(index, "Action"), "value": short(others)})
        patch.append(policy.addition(own))
    else:
        patch.append({"op": "replace", "path": policy.path(index, "Action"), "value": right})
        patch.append({"op": "replace", "path": policy.path(index, "Resource"), "value": "*"})
    if others and not isinstance(policy.raw.get("Statement"), list):
        first = {**statement, "Action": short(others)}
        patch = [{"op": "replace", "path": "/Statement", "value": [first, dict(own)]}]
    return _mistake(policy, index, message, patch)


def _condition_mistakes(policy: GivenPolicy, index: int, statement: RawStatement) -> Iterator[Finding]:
    for operator, key, values in conditions_of(statement):
        name = _without_affixes(operator)
        has_quantifier = ":" in operator
        if right := similar_key(key):
            message = f"condition key {key} does not exist, so the condition is about nothing: the key is {right}"
            yield _renaming(policy, index, operator, key, operator, right, message)
        elif name == "bool" and not any(value.lower() in _BOOLEANS or "${" in value for value in values):
            message = f"{operator} compares with true or false, and {key} has {', '.join(values)}, which never matches"
            yield _mistake(policy, index, message)
        elif name in {"stringequals", "stringnotequals"} and any(_has_wildcard(value) for value in values):
            like = "StringLike" if name == "stringequals" else "StringNotLike"
            prefix, colon, _ = operator.rpartition(":")
            right = f"{prefix}{colon}{like}{'IfExists' if operator.lower().endswith('ifexists') else ''}"
            wild = next(value for value in values if _has_wildcard(value))
            message = f"{operator} takes {wild} for {key} literally; {right} has wildcards"
            yield _renaming(policy, index, operator, key, right, key, message)
        elif name.startswith("numeric") and not any(value.replace(".", "", 1).isdigit() for value in values):
            yield _mistake(policy, index, f"{operator} compares numbers, and {key} has {', '.join(values)}")
        elif name.startswith("arn") and not any(value.count(":") > 4 or "${" in value for value in values):  # noqa: PLR2004 - of an ARN
            yield _mistake(policy, index, f"{operator} compares ARNs, and {key} has {', '.join(values)}")
        elif key.lower() in SEVERAL_VALUES and not has_quantifier and name != "null":
            right = f"ForAnyValue:{operator}"
            message = (
                f"{key} can have several values, which {operator} never matches; use {right} or ForAllValues:{operator}"
            )
            yield _renaming(policy, index, operator, key, right, key, message)


def _renaming(  # noqa: PLR0913, PLR0917 - a condition before and after
    policy: GivenPolicy, index: int, operator: str, key: str, right_operator: str, right_key: str, message: str
) -> Finding:
    """A condition whose operator or key is wrong; the patch moves its values."""
    condition = policy.statements[index].get("Condition")
    given = condition.items() if isinstance(condition, dict) else ()
    changed = {name: dict(keys) for name, keys in given if isinstance(keys, dict)}
    value = changed[operator].pop(key)
    changed.setdefault(right_operator, {})[right_key] = value
    patch: Operation = {
        "op": "replace",
        "path": policy.path(index, "Condition"),
        "value": {name: dict(keys) for name, keys in changed.items() if keys},
    }
    return _mistake(policy, index, message, [patch])


def _mistake(
    policy: GivenPolicy,
    index: int | None,
    message: str,
    patch: Sequence[Operation] = (),
) -> Finding:
    statement = "" if index is None else policy.statement_name(index)
    return Finding(
        kind=FindingKind.MISTYPED, policy=policy.name, statement=statement, message=message, patch=tuple(patch)
    )


def _effect(statement: RawStatement) -> str:
    return "denies" if statement.get("Effect") == "Deny" else "grants"


def _has_wildcard(value: str) -> bool:
    return ("*" in value or "?" in value) and "${" not in value


def _without_affixes(operator: str) -> str:
    """The operator's name in lower case, without set prefix and IfExists."""
    return operator.lower().rpartition(":")[2].removesuffix("ifexists")
