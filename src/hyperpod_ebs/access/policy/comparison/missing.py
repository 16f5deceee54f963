"""What the policies do not allow of a job, why, and the smallest change that allows it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from hyperpod_ebs.access.policy.comparison.condition_keys import is_of_environment
from hyperpod_ebs.access.policy.comparison.excess_requests import Excess
from hyperpod_ebs.access.policy.comparison.findings import Finding, FindingKind, Operation
from hyperpod_ebs.access.policy.comparison.given_policies import GivenPolicy, RawStatement, short, strings
from hyperpod_ebs.access.policy.comparison.jobs import Job, Step, Subject, has_action
from hyperpod_ebs.access.policy.comparison.repairs import Problem, Work, nearest_repair
from hyperpod_ebs.iam.decision import Allowed, DeniedExplicitly, DeniedImplicitly, Source
from hyperpod_ebs.iam.documents import Json, Kind
from hyperpod_ebs.iam.statements import Statement

NEW_POLICY: Final = "a new policy"

_SHOWN_STEPS: Final = 3

_UNIQUE_ID: Final = re.compile(r"A(?:ROA|IDA)[A-Z0-9]{12,124}")
"""What IAM and KMS show for a principal that was deleted (IAM User Guide, "IAM identifiers")."""


def missing(job: Job, subject: Subject, corrected: Subject, excesses: Sequence[Excess]) -> Iterator[Finding]:
    """What the policies do not allow.

    Args:
        job: The job.
        subject: The policies.
        corrected: The policies after the changes of other findings, which need not be found again.
        excesses: Requests that no change may allow.
    """
    work = Work(job=job, subject=subject, excesses=excesses)
    problems: dict[object, Problem] = {}
    for step in job.steps:
        problem = _problem(work, step)
        if problem is None or isinstance(corrected.decide(job, step), Allowed):
            continue
        key = (problem.policy and problem.policy.name, problem.index, problem.reference, repr(problem.patch))
        known = problems.get(key)
        problems[key] = _both(known, problem) if known else problem
    for problem in problems.values():
        yield _finding(job, problem)


def _both(known: Problem, other: Problem) -> Problem:
    reasons = [each for each in known.reason.split("; ") if each]
    reasons += [each for each in other.reason.split("; ") if each not in reasons]
    return replace(
        known,
        kind=known.kind if known.kind is not FindingKind.OPTIONAL else other.kind,
        reason="; ".join(reasons),
        actions=tuple(dict.fromkeys((*known.actions, *other.actions))),
        steps=(*known.steps, *other.steps),
    )


def _problem(work: Work, step: Step) -> Problem | None:
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


def _denial(policy: GivenPolicy, statement: Statement, step: Step) -> Problem:
    """An explicit denial."""
    reason = f"{statement.name} denies it on {step.need.resource} explicitly"
    depends = [condition.key for condition in statement.conditions if is_of_environment(condition.key)]
    if depends:
        reason += f", depending on {' and '.join(depends)}"
    kind = FindingKind.OPTIONAL if depends or step.need.is_optional else FindingKind.MISSING
    return Problem(kind=kind, policy=policy, index=statement.index, reason=reason, steps=(step,), is_denial=True)


def _without_denied_actions(policy: GivenPolicy, index: int, steps: Sequence[Step]) -> tuple[Operation, ...]:
    """The change that takes actions out of a Deny statement, if the statement names each of them."""
    denied = {step.need.action.lower() for step in steps}
    named = strings(policy.statements[index].get("Action"))
    others = [action for action in named if action.lower() not in denied]
    if policy.is_aws_managed or len(named) - len(others) < len(denied):
        return ()
    if others:
        return ({"op": "replace", "path": policy.path(index, "Action"), "value": short(others)},)
    is_list = isinstance(policy.raw.get("Statement"), list)
    return ({"op": "remove", "path": policy.path(index)},) if is_list and len(policy.statements) > 1 else ()


def _implicit_denial(work: Work, step: Step, source: Source) -> Problem:
    if source is Source.BOUNDARY:
        policies = [policy for policy in work.subject.boundary or () if not policy.is_aws_managed]
        return nearest_repair(work, step, policies) or _addition(
            work, step, policies, "the permissions boundary does not allow it"
        )
    policies = [policy for policy in work.subject.policies if not policy.is_aws_managed]
    reason = "the key's policy does not allow it" if work.job.kind is Kind.RESOURCE else "no policy allows it"
    if work.job.kind is Kind.RESOURCE and source is not Source.RESOURCE:
        reason = "the key's policy leaves it to the policies of the account, which are not known or do not allow it"
    if repair := nearest_repair(work, step, policies):
        return repair
    if wrong := _wrong_principal(work, step):
        return replace(_addition(work, step, policies, wrong), kind=FindingKind.MISTYPED)
    return _addition(work, step, policies, reason)


def _wrong_principal(work: Work, step: Step) -> str | None:
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


def _addition(work: Work, step: Step, policies: Sequence[GivenPolicy], reason: str) -> Problem:
    """A statement to add."""
    return Problem(
        kind=FindingKind.MISSING,
        policy=policies[0] if policies else None,
        reason=reason,
        actions=(step.need.action,),
        reference=work.job.reference_index(step, work.subject.context_of(work.job, step.principal)),
    )


def _finding(job: Job, problem: Problem) -> Finding:
    steps = [*dict.fromkeys(step.need.step for step in problem.steps)]
    shown = ", ".join(steps[:_SHOWN_STEPS]) + (f" and {len(steps) - _SHOWN_STEPS} more" if steps[_SHOWN_STEPS:] else "")
    actions = ", ".join(dict.fromkeys(step.need.action for step in problem.steps))
    who = f"{problem.steps[0].principal.arn} may not" if job.kind is Kind.RESOURCE else "no"
    verb = "are" if ", " in actions else "is"
    head = f"{who} {actions}" if job.kind is Kind.RESOURCE else f"{actions} {verb} not allowed"
    message = f"{head}, needed to {shown}: {problem.reason}"
    policy = problem.policy.name if problem.policy else NEW_POLICY
    if problem.is_denial and problem.policy and problem.index is not None:
        patch = _without_denied_actions(problem.policy, problem.index, problem.steps)
        name = problem.policy.statement_name(problem.index)
        message += "" if patch else "; change or remove that statement"
        return Finding(kind=problem.kind, policy=policy, statement=name, message=message, patch=patch)
    if problem.reference is None:
        name = "" if problem.index is None or problem.policy is None else problem.policy.statement_name(problem.index)
        return Finding(kind=problem.kind, policy=policy, statement=name, message=message, patch=problem.patch)
    statement = _narrow_statement(job.reference.statements[problem.reference], problem)
    if problem.policy is None:
        return Finding(kind=problem.kind, policy=policy, message=message, new_statement=dict(statement))
    return Finding(kind=problem.kind, policy=policy, message=message, patch=[_safe_addition(problem.policy, statement)])


def _narrow_statement(statement: RawStatement, problem: Problem) -> RawStatement:
    """A statement of the reference with the missing actions, and for those principals that lack them."""
    actions = [each for each in strings(statement["Action"]) if each in problem.actions]
    arns = [*dict.fromkeys(step.principal.arn for step in problem.steps)]
    changed: dict[str, Json] = {**statement, "Action": short(actions)}
    if "Principal" in statement:
        changed["Principal"] = {"AWS": short(arns)}
    return changed


def _safe_addition(policy: GivenPolicy, statement: RawStatement) -> Operation:
    """The operation that adds a statement, without an id that the policy has already."""
    sids = [each.get("Sid") for each in policy.statements]
    if statement.get("Sid") in sids:
        statement = {name: value for name, value in statement.items() if name != "Sid"}
    return policy.addition(statement)
