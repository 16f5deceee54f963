"""What the policies allow beyond a job: actions, resources, and requests that a condition of the job's policy excludes.

AWS's own policies are accepted as they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.access.policy.comparison.action_names import matching_actions, similar_action
from hyperpod_ebs.access.policy.comparison.findings import Finding, FindingKind, Operation
from hyperpod_ebs.access.policy.comparison.given_policies import (
    GivenPolicy,
    RawStatement,
    conditions_of,
    short,
    strings,
)
from hyperpod_ebs.access.policy.comparison.job_requests import Values
from hyperpod_ebs.access.policy.comparison.jobs import Job, Step, Subject, has_action
from hyperpod_ebs.access.policy.statements import EVERY
from hyperpod_ebs.iam.documents import Json, Kind
from hyperpod_ebs.iam.patterns import ARN_FIELDS
from hyperpod_ebs.iam.principals import EVERY_PRINCIPAL, Grant
from hyperpod_ebs.iam.statements import Effect, Statement

OTHER: Final = "another"
_OTHER_ACCOUNT: Final = "999988887777"
_OTHER_REGION: Final = "xx-other-1"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Excess:
    """A request that the job does not make."""

    text: str
    """What the statement allows by it: any region."""

    step: Step


def too_wide(job: Job, subject: Subject) -> Iterator[Finding]:
    """A finding for each Allow statement that allows more than the job needs."""
    for policy in subject.policies:
        if policy.is_aws_managed:
            continue
        for statement in policy.compiled.statements:
            if statement.effect is Effect.ALLOW and _is_about_the_users(job, statement):
                yield from _statement_findings(job, subject, policy, statement)


def _is_about_the_users(job: Job, statement: Statement) -> bool:
    """Whether a statement of a key policy names one of the key's users, or everyone."""
    if job.kind is not Kind.RESOURCE:
        return True
    if statement.principals is None:
        return False
    principals = {step.principal.arn: step.principal for step in job.steps}.values()
    return any(statement.principals.grant(principal) > Grant.ACCOUNT for principal in principals)


def excess_requests(job: Job, subject: Subject, statement: Statement) -> Sequence[str]:
    """What an Allow statement allows beyond the job's own requests, with the actions of the job."""
    used = [step for step in job.steps if _matches(job, subject, statement, step)]
    excesses = [each for step in used for each in _excesses(job, subject, step)]
    return [*dict.fromkeys(each.text for each in excesses if _grants(job, subject, statement, each))]


def _statement_findings(job: Job, subject: Subject, policy: GivenPolicy, statement: Statement) -> Iterator[Finding]:
    actions = _excess_actions(job, subject, policy, statement)
    texts = excess_requests(job, subject, statement)
    is_everyone = statement.principals is not None and EVERY_PRINCIPAL in statement.principals.aws
    if not (actions or texts or is_everyone):
        return
    parts = list[str]()
    if actions:
        more = f" and {len(actions) - _SHOWN} more" if len(actions) > _SHOWN else ""
        parts.append(f"actions that the job does not use: {', '.join(actions[:_SHOWN])}{more}")
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


def _excess_actions(job: Job, subject: Subject, policy: GivenPolicy, statement: Statement) -> Sequence[str]:
    """The actions that a statement allows beyond those of the job."""
    raw = policy.statements[statement.index]
    needed = {action.lower() for action in (*job.actions, *_KEY_ACTIONS)}
    found = dict[str, None]()
    patterns = strings(raw.get("Action")) if "Action" in raw else ["*"]
    for pattern in patterns:
        known = [action for action in matching_actions(pattern) if action.lower() not in needed]
        excess = [action for action in known if has_action(statement, action) and not subject.denies_always(action)]
        found.update(dict.fromkeys(excess))
        if pattern == EVERY:
            found[EVERY] = None
        elif not matching_actions(pattern) and not similar_action(pattern):  # of another service, or of a newer one
            found[pattern] = None
    return sorted(found, key=lambda action: _DANGEROUS.get(action, len(_DANGEROUS)))


def _excesses(job: Job, subject: Subject, step: Step) -> Iterator[_Excess]:
    """Requests like the step's that the job's policy denies."""
    reference = job.reference.statements[job.reference_index(step, subject.context_of(job, step.principal))]
    for text, resource in _other_resources(job, step.need.resource):
        yield _excess(step, text, resource=resource)
    for operator, key, values in conditions_of(reference):
        text = f"requests without the condition on {key}"
        for value in _other_values(operator, values):
            yield _excess(step, text, context=_with_value(step.need.context, key, value))


def _other_resources(job: Job, arn: str) -> Iterator[tuple[str, str]]:
    fields = arn.split(":", ARN_FIELDS - 1)
    if len(fields) < ARN_FIELDS or job.kind is Kind.RESOURCE:
        return
    yield "resources in any region", ":".join([*fields[:3], _OTHER_REGION, *fields[4:]])
    if fields[4]:
        yield "resources in any account", ":".join([*fields[:4], _OTHER_ACCOUNT, *fields[5:]])
    # The guide itself allows every HyperPod cluster.
    if fields[2] == "eks" and job.setting.eks_cluster != EVERY:
        yield "every EKS cluster", ":".join([*fields[:5], f"cluster/{OTHER}"])


def _other_values(operator: str, values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Values for which a condition of the reference may not be met."""
    yield ()
    if "not" in operator.lower():
        yield from ((value,) for value in values)
    elif operator.lower() == "bool":
        yield ("false",)
    else:
        yield (OTHER,)


def _with_value(context: Values, key: str, value: Sequence[str]) -> Values:
    """The context with another value for a key; another tag of a resource takes the place of all of its tags."""
    head, slash, _ = key.partition("/")
    prefixes = (
        {"aws:resourcetag/", "ec2:resourcetag/"} if head.lower().endswith(":resourcetag") else {f"{head.lower()}/"}
    )
    kept = {
        name: given
        for name, given in context.items()
        if name.lower() != key.lower() and not (slash and name.lower().startswith(tuple(prefixes)))
    }
    if key.lower().startswith("kms:encryptioncontextkeys"):
        kept = {name: given for name, given in kept.items() if not name.lower().startswith("kms:encryptioncontext")}
    return {**kept, key: value} if value else kept


def _excess(step: Step, text: str, *, resource: str | None = None, context: Values | None = None) -> _Excess:
    need = replace(
        step.need,
        resource=step.need.resource if resource is None else resource,
        context=step.need.context if context is None else context,
    )
    return _Excess(text=text, step=replace(step, need=need))


def _grants(job: Job, subject: Subject, statement: Statement, excess: _Excess) -> bool:
    """Whether a statement allows a request that the job's policy denies."""
    step = excess.step
    if not _matches(job, subject, statement, step):
        return False
    if job.is_allowed_by_reference(step, subject.context_of(job, step.principal)):
        return False
    return not subject.denies(job, step)


def _matches(job: Job, subject: Subject, statement: Statement, step: Step) -> bool:
    request = step.need.request(step.principal, job.setting.account, subject.context_of(job, step.principal))
    return statement.mismatch(request, has_boundary=subject.boundary is not None) is None


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
