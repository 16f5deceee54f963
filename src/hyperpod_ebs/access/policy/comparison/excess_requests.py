"""Requests that a job does not make, but that resemble its own; with them, a comparison finds too wide policies.

Each differs from a request of the job in the region, the account, the cluster, or in one condition of the job's policy,
which denies it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.access.policy.comparison.given_policies import conditions_of
from hyperpod_ebs.access.policy.comparison.job_requests import Values
from hyperpod_ebs.access.policy.comparison.jobs import Job, Step, Subject
from hyperpod_ebs.access.policy.comparison.other_values import OTHER, other_values
from hyperpod_ebs.access.policy.statements import EVERY
from hyperpod_ebs.iam.documents import Kind
from hyperpod_ebs.iam.patterns import ARN_FIELDS
from hyperpod_ebs.iam.request import Request
from hyperpod_ebs.iam.statements import Statement

_OTHER_ACCOUNT: Final = "999988887777"
_OTHER_REGION: Final = "xx-other-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A request that the job does not make, and that no policy denies explicitly."""

    text: str
    """What a statement allows by it: resources in any region."""

    own: Request
    """The request of the job that it resembles."""

    request: Request


def find_excesses(job: Job, subject: Subject) -> list[Excess]:
    """All requests that resemble those of a job, and that the job's policy denies."""
    return [
        Excess(text=text, own=subject.request(job, step), request=subject.request(job, other))
        for step in job.steps
        for text, other in _others(job, subject, step)
        if not job.is_allowed_by_reference(other, subject.context_of(job, other.principal))
        if not subject.denies(job, other)
    ]


def excess_texts(excesses: Iterable[Excess], statement: Statement, *, has_boundary: bool) -> Sequence[str]:
    """What an Allow statement allows beyond the requests of the job that it allows."""

    def allows(request: Request) -> bool:
        return statement.mismatch(request, has_boundary=has_boundary) is None

    return [*dict.fromkeys(each.text for each in excesses if allows(each.own) and allows(each.request))]


def _others(job: Job, subject: Subject, step: Step) -> Iterator[tuple[str, Step]]:
    """Steps that differ from a step in one value, each with what it shows."""
    reference = job.reference.statements[job.reference_index(step, subject.context_of(job, step.principal))]
    for text, resource in _other_resources(job, step.need.resource):
        yield text, replace(step, need=replace(step.need, resource=resource))
    for operator, key, values in conditions_of(reference):
        for value in _other_values(operator, values):
            context = _with_value(step.need.context, key, value)
            yield f"requests without the condition on {key}", replace(step, need=replace(step.need, context=context))


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
        yield from ((other,) for value in values for other in other_values(value))


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
