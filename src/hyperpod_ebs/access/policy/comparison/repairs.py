"""Repairs of statements that nearly allow a step of a job: another resource, or other conditions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hyperpod_ebs.access.policy.comparison import arn_differences
from hyperpod_ebs.access.policy.comparison.condition_keys import is_of_environment
from hyperpod_ebs.access.policy.comparison.excess_requests import Excess, excess_texts
from hyperpod_ebs.access.policy.comparison.findings import FindingKind, Operation
from hyperpod_ebs.access.policy.comparison.given_policies import GivenPolicy, RawStatement, strings
from hyperpod_ebs.access.policy.comparison.jobs import Job, Step, Subject, has_action
from hyperpod_ebs.iam.conditions import Condition
from hyperpod_ebs.iam.request import Request
from hyperpod_ebs.iam.statements import Effect, Element, Statement

if TYPE_CHECKING:
    from hyperpod_ebs.iam.documents import Json

_MAX_REPAIRS: Final = 8
"""Changes of one statement; a statement that needs more is better written again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why one step is denied."""

    kind: FindingKind
    policy: GivenPolicy | None
    """The policy to change; None if a new one is needed."""

    index: int | None = None
    """The statement to change; None if one is to be added."""

    reason: str
    patch: tuple[Operation, ...] = ()
    actions: tuple[str, ...] = ()
    """The actions of the statement to add."""

    reference: int | None = None
    """The statement of the reference that is to be added."""

    is_denial: bool = False
    """Whether the statement denies the steps explicitly."""

    steps: tuple[Step, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is compared."""

    job: Job
    subject: Subject
    excesses: Sequence[Excess]


def nearest_repair(work: Work, step: Step, policies: Sequence[GivenPolicy]) -> Problem | None:
    """The repair of the statement that comes nearest to allowing the step; None if no statement is near."""
    request = work.subject.request(work.job, step)
    reference = work.job.reference.statements[
        work.job.reference_index(step, work.subject.context_of(work.job, step.principal))
    ]
    repairs = [
        repair
        for policy in policies
        for statement in policy.compiled.statements
        if statement.effect is Effect.ALLOW and has_action(statement, step.need.action)
        if (repair := _repair(work, (policy, statement.index), request, reference)) is not None
    ]
    return min(repairs, key=lambda repair: len(repair.patch), default=None)


def _repair(work: Work, place: tuple[GivenPolicy, int], request: Request, reference: RawStatement) -> Problem | None:
    """The changes after which a statement allows the request; None if it is about something else."""
    policy, index = place
    keys = list[str]()
    reasons, patch, kind = list[str](), list[Operation](), FindingKind.MISSING
    changed: GivenPolicy | None = policy
    while changed is not None and len(patch) < _MAX_REPAIRS:
        statement = changed.compiled.statements[index]
        mismatch = statement.mismatch(request, has_boundary=False)
        if mismatch is None:
            if not patch or not _is_better(work, (policy.compiled.statements[index], statement)):
                return None
            if keys and all(map(is_of_environment, keys)) and kind is FindingKind.MISSING:
                kind = FindingKind.OPTIONAL
            return Problem(kind=kind, policy=policy, index=index, reason="; ".join(reasons), patch=tuple(patch))
        if mismatch.element is Element.CONDITION and mismatch.condition is not None:
            keys.append(mismatch.condition.key)
            reasons.append(_condition_reason(mismatch.condition, request))
            operation = _condition_patch(changed, index, mismatch.condition, reference)
        elif mismatch.element is Element.RESOURCE:
            difference = arn_differences.nearest(strings(changed.statements[index].get("Resource")), request.resource)
            if difference is None:
                return None
            kind = FindingKind.MISTYPED
            reasons.append(difference)
            operation = {"op": "replace", "path": policy.path(index, "Resource"), "value": reference["Resource"]}
        else:
            return None
        patch.append(operation)
        changed = changed.with_patch([operation])
    return None


def _is_better(work: Work, pair: tuple[Statement, Statement]) -> bool:
    """Whether a changed statement allows the steps that it allowed before, and opens nothing new."""

    def steps_of(statement: Statement) -> set[int]:
        return {
            number
            for number, step in enumerate(work.job.steps)
            if statement.mismatch(work.subject.request(work.job, step), has_boundary=False) is None
        }

    before, after = pair
    has_boundary = work.subject.boundary is not None
    opened = {*excess_texts(work.excesses, after, has_boundary=has_boundary)}
    opened -= {*excess_texts(work.excesses, before, has_boundary=has_boundary)}
    return steps_of(before) <= steps_of(after) and not opened


def _condition_reason(condition: Condition, request: Request) -> str:
    """What the condition wants, and what the request has."""
    wanted = ", ".join(value.source for value in condition.values)
    actual = ", ".join(request.context.get(condition.key))
    has = f"which is {actual} for this job" if actual else "which this job's requests do not have"
    return f"it is allowed only if {condition.key} {_relation(condition.operator)} {wanted}, {has}"


def _relation(operator: str) -> str:
    return "is" if operator.lower().endswith(("stringequals", "bool")) else f"meets {operator}"


def _condition_patch(policy: GivenPolicy, index: int, condition: Condition, reference: RawStatement) -> Operation:
    """The operation after which a condition has the reference's values, or is gone if the reference has none."""
    given = policy.statements[index].get("Condition")
    conditions = (
        {name: dict(keys) for name, keys in given.items() if isinstance(keys, dict)} if isinstance(given, dict) else {}
    )
    conditions[condition.operator].pop(condition.key)
    wanted = reference.get("Condition")
    for operator, keys in wanted.items() if isinstance(wanted, dict) else ():
        for key, value in keys.items() if isinstance(keys, dict) else ():
            if key.lower() == condition.key.lower():
                conditions.setdefault(operator, {})[key] = value
    remaining: dict[str, Json] = {name: dict(keys) for name, keys in conditions.items() if keys}
    path = policy.path(index, "Condition")
    return {"op": "replace", "path": path, "value": remaining} if remaining else {"op": "remove", "path": path}
