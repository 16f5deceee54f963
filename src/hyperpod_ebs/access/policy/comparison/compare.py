"""The comparison of policies with what a job needs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from hyperpod_ebs.access.policy.comparison.excess_requests import find_excesses
from hyperpod_ebs.access.policy.comparison.findings import Finding, FindingKind, sorted_findings
from hyperpod_ebs.access.policy.comparison.given_policies import GivenPolicy
from hyperpod_ebs.access.policy.comparison.jobs import Job, Subject, has_action
from hyperpod_ebs.access.policy.comparison.missing import missing
from hyperpod_ebs.access.policy.comparison.mistakes import mistakes
from hyperpod_ebs.access.policy.comparison.too_wide import too_wide
from hyperpod_ebs.iam.documents import Kind
from hyperpod_ebs.iam.statements import Effect

_MANAGE: Final = "kms:PutKeyPolicy"


def findings(job: Job, subject: Subject) -> list[Finding]:
    """Everything in which the policies differ from what a job needs, what stops the job first."""
    mistyped = [finding for policy in _own_policies(subject) for finding in mistakes(policy, job.actions)]
    excesses = find_excesses(job, subject)
    denied = missing(job, subject, _corrected_subject(subject, mistyped), excesses)
    return sorted_findings([*mistyped, *denied, *too_wide(job, subject, excesses), *_unmanageable(job, subject)])


def _own_policies(subject: Subject) -> list[GivenPolicy]:
    """The policies that the account can change."""
    return [policy for policy in (*subject.policies, *(subject.boundary or ())) if not policy.is_aws_managed]


def _corrected_subject(subject: Subject, mistyped: Sequence[Finding]) -> Subject:
    """The policies after the changes of findings."""

    def corrected_policy(policy: GivenPolicy) -> GivenPolicy:
        for finding in mistyped:
            if finding.policy == policy.name:
                policy = policy.with_patch(finding.patch) or policy
        return policy

    boundary = subject.boundary
    return replace(
        subject,
        policies=[corrected_policy(policy) for policy in subject.policies],
        boundary=None if boundary is None else [corrected_policy(policy) for policy in boundary],
    )


def _unmanageable(job: Job, subject: Subject) -> Iterator[Finding]:
    """A key policy under which no principal may change the policy."""
    if job.kind is not Kind.RESOURCE:
        return
    for policy in subject.policies:
        statements = policy.compiled.statements
        if not any(each.effect is Effect.ALLOW and has_action(each, _MANAGE) for each in statements):
            root = f"arn:{job.setting.partition}:iam::{job.setting.account}:root"
            yield Finding(
                kind=FindingKind.OPTIONAL,
                policy=policy.name,
                message=f"no statement allows {_MANAGE}, so no user of the account can change the key's policy again",
                patch=[
                    policy.addition({"Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"})
                ],
            )
