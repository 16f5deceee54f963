"""What the policies do not allow of a job, why, and the smallest change that allows it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hyperpod_ebs.access.policy.comparison import arn_differences
from hyperpod_ebs.access.policy.comparison.condition_keys import is_of_environment
from hyperpod_ebs.access.policy.comparison.excess_requests import Excess, excess_texts
from hyperpod_ebs.access.policy.comparison.findings import Finding, FindingKind, Operation
from hyperpod_ebs.access.policy.comparison.given_policies import GivenPolicy, RawStatement, short, strings
from hyperpod_ebs.access.policy.comparison.jobs import Job, Step, Subject, has_action
from hyperpod_ebs.iam.conditions import Condition
from hyperpod_ebs.iam.decision import Allowed, DeniedExplicitly, DeniedImplicitly, Source
from hyperpod_ebs.iam.documents import Json, Kind
from hyperpod_ebs.iam.request import Request
from hyperpod_ebs.iam.statements import Effect, Element, Statement

NEW_POLICY: Final = "a new policy"

_MAX_REPAIRS: Final = 8
"""Changes of one statement; a statement that needs more is better written again."""

_SHOWN_STEPS: Final = 3

_UNIQUE_ID: Final = re.compile(r"A(?:ROA|IDA)[A-Z0-9]{12,124}")
"""What IAM and KMS show for a principal that was deleted (IAM User Guide, "IAM identifiers")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
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

    steps: tuple[Step, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is compared."""

    job: Job
    subject: Subject
    excesses: Sequence[Excess]


def missing(job: Job, subject: Subject, corrected: Subject, excesses: Sequence[Excess]) -> Iterator[Finding]:
    """What the policies do not allow.

    Args:
        job: The job.
        subject: The policies.
        corrected: The policies after the changes of other findings, which need not be found again.
        excesses: Requests that no change may allow.
    """
    work = _Work(job=job, subject=subject, excesses=excesses)
    problems: dict[object, _Problem] = {}
    for step in job.steps:
        problem = _problem(work, step)
        if problem is None or isinstance(corrected.decide(job, step), Allowed):
            continue
        key = (problem.policy and problem.policy.name, problem.index, problem.reference, repr(problem.patch))
        known = problems.get(key)
        problems[key] = _both(known, problem) if known else problem
    for problem in problems.values():
        yield _finding(job, problem)


def _both(known: _Problem, other: _Problem) -> _Problem:
    reasons = [each for each in known.reason.split("; ") if each]
    reasons += [each for each in other.reason.split("; ") if each not in reasons]
    return replace(
        known,
        kind=known.kind if known.kind is not FindingKind.OPTIONAL else other.kind,
        reason="; ".join(reasons),
        actions=tuple(dict.fromkeys((*known.actions, *other.actions))),
        steps=(*known.steps, *other.steps),
    )


def _problem(work: _Work, step: Step) -> _Problem | None:
    """Why the policies deny a step; None if they allow it."""
    match work.subject.decide(work.job, step):
        case Allowed():
            return None
        case DeniedExplicitly(rule=rule):
            own = work.subject.identities.get(step.principal.arn)
            candidates = [*work.subject.policies, *(work.subject.boundary or ())]
            candidates += [*own.policies, *(own.boundary or ())] if own else []
            policy = next(each for each in candidates if each.name == rule.policy)
            return _denial(policy, rule.statement, step)
        case DeniedImplicitly(source=source):
            problem = _implicit_denial(work, step, source)
            kind = FindingKind.OPTIONAL if step.need.is_optional else problem.kind
            return replace(problem, kind=kind, steps=(step,))


def _denial(policy: GivenPolicy, statement: Statement, step: Step) -> _Problem:
    """An explicit denial; the patch takes the action out of the statement, if the statement names it."""
    raw = policy.statements[statement.index]
    named = strings(raw.get("Action"))
    others = [action for action in named if action.lower() != step.need.action.lower()]
    patch: tuple[Operation, ...] = ()
    if policy.is_aws_managed:
        pass
    elif named and not others and isinstance(policy.raw.get("Statement"), list):
        patch = ({"op": "remove", "path": policy.path(statement.index)},)
    elif 0 < len(others) < len(named):
        patch = ({"op": "replace", "path": policy.path(statement.index, "Action"), "value": short(others)},)
    reason = f"{statement.name} denies it on {step.need.resource} explicitly"
    depends = [condition.key for condition in statement.conditions if is_of_environment(condition.key)]
    if depends:
        reason += f", depending on {' and '.join(depends)}"
    kind = FindingKind.OPTIONAL if depends or step.need.is_optional else FindingKind.MISSING
    return _Problem(kind=kind, policy=policy, index=statement.index, reason=reason, patch=patch, steps=(step,))


def _implicit_denial(work: _Work, step: Step, source: Source) -> _Problem:
    if source is Source.BOUNDARY:
        policies = [policy for policy in work.subject.boundary or () if not policy.is_aws_managed]
        return _nearest_repair(work, step, policies) or _addition(
            work, step, policies, "the permissions boundary does not allow it"
        )
    policies = [policy for policy in work.subject.policies if not policy.is_aws_managed]
    reason = "the key's policy does not allow it" if work.job.kind is Kind.RESOURCE else "no policy allows it"
    if work.job.kind is Kind.RESOURCE and source is not Source.RESOURCE:
        reason = "the key's policy leaves it to the policies of the account, which are not known or do not allow it"
    if repair := _nearest_repair(work, step, policies):
        return repair
    if wrong := _wrong_principal(work, step):
        return replace(_addition(work, step, policies, wrong), kind=FindingKind.MISTYPED)
    return _addition(work, step, policies, reason)


def _wrong_principal(work: _Work, step: Step) -> str | None:
    """How a statement of a key's policy about the action names its principal wrongly; None if no statement does."""
    own = step.principal.arn
    for policy in work.subject.policies:
        for statement in policy.compiled.statements:
            if statement.principals is None or not has_action(statement, step.need.action):
                continue
            for name in sorted(statement.principals.aws):
                if _UNIQUE_ID.fullmatch(name):
                    return f"{statement.name} names {name}, the id of a role or user that was deleted"
                if f":assumed-role/{own.rpartition('/')[2]}/" in name:
                    return f"{statement.name} names {name}, a single session of the role"
                if name != own and name.rpartition("/")[2] == own.rpartition("/")[2]:
                    return f"{statement.name} names {name}, not {own}"
    return None


def _addition(work: _Work, step: Step, policies: Sequence[GivenPolicy], reason: str) -> _Problem:
    """A statement to add."""
    return _Problem(
        kind=FindingKind.MISSING,
        policy=policies[0] if policies else None,
        reason=reason,
        actions=(step.need.action,),
        reference=work.job.reference_index(step, work.subject.context_of(work.job, step.principal)),
    )


def _nearest_repair(work: _Work, step: Step, policies: Sequence[GivenPolicy]) -> _Problem | None:
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


def _repair(work: _Work, place: tuple[GivenPolicy, int], request: Request, reference: RawStatement) -> _Problem | None:
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
            return _Problem(kind=kind, policy=policy, index=index, reason="; ".join(reasons), patch=tuple(patch))
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


def _is_better(work: _Work, pair: tuple[Statement, Statement]) -> bool:
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


def _finding(job: Job, problem: _Problem) -> Finding:
    steps = [*dict.fromkeys(step.need.step for step in problem.steps)]
    shown = ", ".join(steps[:_SHOWN_STEPS]) + (f" and {len(steps) - _SHOWN_STEPS} more" if steps[_SHOWN_STEPS:] else "")
    actions = ", ".join(dict.fromkeys(step.need.action for step in problem.steps))
    who = f"{problem.steps[0].principal.arn} may not" if job.kind is Kind.RESOURCE else "no"
    verb = "are" if ", " in actions else "is"
    head = f"{who} {actions}" if job.kind is Kind.RESOURCE else f"{actions} {verb} not allowed"
    message = f"{head}, needed to {shown}: {problem.reason}"
    policy = problem.policy.name if problem.policy else NEW_POLICY
    if problem.reference is None:
        name = "" if problem.index is None or problem.policy is None else problem.policy.statement_name(problem.index)
        return Finding(kind=problem.kind, policy=policy, statement=name, message=message, patch=problem.patch)
    statement = _narrow_statement(job.reference.statements[problem.reference], problem)
    if problem.policy is None:
        return Finding(kind=problem.kind, policy=policy, message=message, new_statement=dict(statement))
    return Finding(kind=problem.kind, policy=policy, message=message, patch=[_safe_addition(problem.policy, statement)])


def _narrow_statement(statement: RawStatement, problem: _Problem) -> RawStatement:
    """A statement of the reference with the missing actions, and for those principals that lack them."""
    actions = [each for each in strings(statement["Action"]) if each in problem.actions]
    arns = [*dict.fromkeys(step.principal.arn for step in problem.steps)]
    changed: dict[str, Json] = {**statement, "Action": short(actions)}
    if "Principal" in statement:
        changed["Principal"] = {"AWS": short(arns)}
    return changed


def _safe_addition(policy: GivenPolicy, statement: RawStatement) -> Operation:
    """The operation that adds a statement, without an id that the policy has already."""
    sids = {each.get("Sid") for each in policy.statements}
    if statement.get("Sid") in sids:
        statement = {name: value for name, value in statement.items() if name != "Sid"}
    return policy.addition(statement)
