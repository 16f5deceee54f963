"""What the policies allow beyond a job: actions, resources, and requests that a condition of the job's policy excludes.

AWS's own policies for drivers of EBS volumes are accepted as they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from hyperpod_ebs.access.policy.comparison.action_names import all_actions, matching_actions, similar_action
from hyperpod_ebs.access.policy.comparison.excess_requests import Excess, excess_texts
from hyperpod_ebs.access.policy.comparison.findings import Finding, FindingKind, Operation
from hyperpod_ebs.access.policy.comparison.given_policies import (
    GivenPolicy,
    RawStatement,
    short,
    strings,
)
from hyperpod_ebs.access.policy.comparison.jobs import Job, Step, Subject, has_action
from hyperpod_ebs.access.policy.statements import EVERY
from hyperpod_ebs.iam.documents import Json, Kind
from hyperpod_ebs.iam.principals import EVERY_PRINCIPAL, Grant
from hyperpod_ebs.iam.statements import Effect, Statement

_SHOWN: Final = 3

_KEY_ACTIONS: Final = (
    "kms:DescribeKey",
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
"""What volumes with customer-managed keys need, which the policies of a role may allow in place of the key's."""


_DRIVER_POLICIES: Final = "AmazonEBSCSIDriver"
"""How the names of AWS's policies for drivers of EBS volumes begin."""

_DANGEROUS: Final = {
    action: rank
    for rank, action in enumerate(
        (
            EVERY,
            "iam:PassRole",
            "ec2:RunInstances",
            "ec2:TerminateInstances",
            "ec2:DeleteVolume",
            "eks:DeleteCluster",
            "kms:ScheduleKeyDeletion",
            "sagemaker:DeleteCluster",
        )
    )
}
"""The actions that a message names first."""


def too_wide(job: Job, subject: Subject, excesses: Sequence[Excess]) -> Iterator[Finding]:
    """A finding for each Allow statement that allows more than the job needs.

    Args:
        job: The job.
        subject: The policies.
        excesses: Requests that the policies should not allow.
    """
    denied = subject.actions_always_denied(all_actions())
    for policy in subject.policies:
        if policy.is_aws_managed:
            yield from _aws_policy_findings(job, policy, denied)
            continue
        for statement in policy.compiled.statements:
            if statement.effect is Effect.ALLOW and _is_about_the_users(job, statement):
                actions = [each for each in _excess_actions(job, policy, statement) if each not in denied]
                texts = excess_texts(excesses, statement, has_boundary=subject.boundary is not None)
                yield from _statement_findings(job, subject, policy, statement, (actions, texts))


def _aws_policy_findings(job: Job, policy: GivenPolicy, denied: frozenset[str]) -> Iterator[Finding]:
    """The finding about a policy of AWS, unless it is one for drivers of EBS volumes."""
    if policy.name.rpartition("/")[2].startswith(_DRIVER_POLICIES):
        return
    allowed = [statement for statement in policy.compiled.statements if statement.effect is Effect.ALLOW]
    found = dict.fromkeys(each for statement in allowed for each in _excess_actions(job, policy, statement))
    if actions := sorted((action for action in found if action not in denied), key=_rank):
        message = f"this policy of AWS allows {_action_list(actions)}; detach it, and use the job's own policy"
        yield Finding(kind=FindingKind.TOO_WIDE, policy=policy.name, message=message)


def _is_about_the_users(job: Job, statement: Statement) -> bool:
    """Whether a statement of a key policy names one of the key's users, or everyone."""
    if job.kind is not Kind.RESOURCE:
        return True
    if statement.principals is None:
        return False
    principals = {step.principal.arn: step.principal for step in job.steps}.values()
    return any(statement.principals.grant(principal) > Grant.ACCOUNT for principal in principals)


def _statement_findings(
    job: Job, subject: Subject, policy: GivenPolicy, statement: Statement, beyond: tuple[Sequence[str], Sequence[str]]
) -> Iterator[Finding]:
    """The finding about a statement, if it allows actions or requests beyond those of the job."""
    actions, texts = beyond
    is_everyone = statement.principals is not None and EVERY_PRINCIPAL in statement.principals.aws
    if not (actions or texts or is_everyone):
        return
    parts = list[str]()
    if actions:
        parts.append(_action_list(actions))
    if is_everyone:
        parts.append("every principal")
    parts += texts
    yield Finding(
        kind=FindingKind.TOO_WIDE,
        policy=policy.name,
        statement=statement.name,
        message=f"{statement.name} allows {'; '.join(parts)}",
        patch=_patch(job, subject, policy, statement, has_only_actions=not texts and not is_everyone),
    )


def _excess_actions(job: Job, policy: GivenPolicy, statement: Statement) -> Sequence[str]:
    """The actions that a statement allows beyond those of the job."""
    raw = policy.statements[statement.index]
    needed = {action.lower() for action in (*job.actions, *_KEY_ACTIONS)}
    found = dict[str, None]()
    patterns = strings(raw.get("Action")) if "Action" in raw else ["*"]
    for pattern in patterns:
        known = [action for action in matching_actions(pattern) if action.lower() not in needed]
        found.update(dict.fromkeys(action for action in known if has_action(statement, action)))
        if pattern == EVERY:
            found[EVERY] = None
        elif not matching_actions(pattern) and not similar_action(pattern):  # of another service, or of a newer one
            found[pattern] = None
    return sorted(found, key=_rank)


def _rank(action: str) -> int:
    return _DANGEROUS.get(action, len(_DANGEROUS))


def _action_list(actions: Sequence[str]) -> str:
    more = f" and {len(actions) - _SHOWN} more" if len(actions) > _SHOWN else ""
    return f"actions that the job does not use: {', '.join(actions[:_SHOWN])}{more}"


def _matches(job: Job, subject: Subject, statement: Statement, step: Step) -> bool:
    return statement.mismatch(subject.request(job, step), has_boundary=subject.boundary is not None) is None


def _patch(
    job: Job, subject: Subject, policy: GivenPolicy, statement: Statement, *, has_only_actions: bool
) -> Sequence[Operation]:
    """The change after which the statement allows the steps for which the job uses it, and nothing else."""
    used = [step for step in job.steps if _matches(job, subject, statement, step)]
    if not used:
        return _removal(policy, statement)
    if has_only_actions:
        actions = [*dict.fromkeys(step.need.action for step in used)]
        kept = [each for each in _KEY_ACTIONS if has_action(statement, each) and each not in actions]
        named = [each for each in kept if each.lower() in statement.actions]
        member = "Action" if "Action" in policy.statements[statement.index] else "NotAction"
        if member == "Action":
            return (
                {"op": "replace", "path": policy.path(statement.index, "Action"), "value": short([*actions, *named])},
            )
    first, *others = _narrow_statements(job, subject, used)
    path = policy.path(statement.index)
    if isinstance(policy.raw.get("Statement"), list):
        return (
            {"op": "replace", "path": path, "value": dict(first)},
            *_additions(others),
        )
    return ({"op": "replace", "path": path, "value": [dict(first), *map(dict, others)] if others else dict(first)},)


def _additions(statements: Iterable[RawStatement]) -> Iterator[Operation]:
    for statement in statements:
        yield {"op": "add", "path": "/Statement/-", "value": dict(statement)}


def _narrow_statements(job: Job, subject: Subject, used: Sequence[Step]) -> Sequence[RawStatement]:
    """The reference's statements, with the actions of these steps; without ids, which the policy may have already."""
    by_statement: dict[int, list[Step]] = {}
    for step in used:
        index = job.reference_index(step, subject.context_of(job, step.principal))
        by_statement.setdefault(index, []).append(step)
    return [_narrow_statement(job.reference.statements[index], steps) for index, steps in by_statement.items()]


def _narrow_statement(statement: RawStatement, steps: Sequence[Step]) -> RawStatement:
    changed: dict[str, Json] = {name: value for name, value in statement.items() if name != "Sid"}
    changed["Action"] = short([*dict.fromkeys(step.need.action for step in steps)])
    if "Principal" in statement:
        changed["Principal"] = {"AWS": short([*dict.fromkeys(step.principal.arn for step in steps)])}
    return changed


def _removal(policy: GivenPolicy, statement: Statement) -> Sequence[Operation]:
    if not isinstance(policy.raw.get("Statement"), list) or len(policy.statements) == 1:
        return ()  # a policy without statements is none; the policy itself is to be removed
    return ({"op": "remove", "path": policy.path(statement.index)},)
