"""A job: its requests, and the documents that allow exactly these."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.access.policy.comparison import job_requests
from hyperpod_ebs.access.policy.comparison.given_policies import GivenPolicy, compile_policy
from hyperpod_ebs.access.policy.comparison.job_requests import JobRequest, Values, role_principal
from hyperpod_ebs.access.policy.documents import attach_document, detach_document, driver_documents
from hyperpod_ebs.access.policy.key_documents import KeyUsers, key_statements
from hyperpod_ebs.access.policy.statements import Document, Setting
from hyperpod_ebs.iam.decision import Decision, DeniedExplicitly, Policies, ResourcePolicy, decide
from hyperpod_ebs.iam.documents import Kind, Policy
from hyperpod_ebs.iam.request import Principal, Request
from hyperpod_ebs.iam.statements import Effect, Statement

REFERENCE: Final = "the job's policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A request of a job, and who makes it."""

    principal: Principal
    need: JobRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one or more principals do."""

    setting: Setting
    kind: Kind
    """Which kind of policy grants the job: that of the principal or that of the resource."""

    steps: Sequence[Step]
    reference: GivenPolicy
    """Allows the steps, and nothing else."""

    @property
    def actions(self) -> Sequence[str]:
        """The actions of all steps, each once."""
        return [*dict.fromkeys(step.need.action for step in self.steps)]

    def reference_index(self, step: Step, context: Values) -> int:
        """The position of the reference's statement that allows a step."""
        request = step.need.request(step.principal, self.setting.account, context)
        for index, statement in enumerate(self.reference.compiled.statements):
            if statement.mismatch(request, has_boundary=False) is None:
                return index
        raise AssertionError(f"the reference does not allow {step.need.action}")

    def is_allowed_by_reference(self, step: Step, context: Values) -> bool:
        """Whether the reference allows a request."""
        request = step.need.request(step.principal, self.setting.account, context)
        return any(
            statement.mismatch(request, has_boundary=False) is None for statement in self.reference.compiled.statements
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The policies that decide about a job."""

    policies: Sequence[GivenPolicy]
    """Those that are compared: of the principal, or of the resource."""

    boundary: Sequence[GivenPolicy] | None = None
    identities: Mapping[str, "Subject"] = field(default_factory=dict)
    """The policies of the principals that use a key, by their ARNs, as far as they are known."""

    context: Values = field(default_factory=dict)
    """Condition keys that describe the principal."""

    def decide(self, job: Job, step: Step) -> Decision:
        """The decision about a step."""
        return decide(self.request(job, step), self._policies(job.kind, step.principal))

    def request(self, job: Job, step: Step) -> Request:
        """The request of a step."""
        return step.need.request(step.principal, job.setting.account, self.context_of(job, step.principal))

    def denies(self, job: Job, step: Step) -> bool:
        """Whether a policy denies a step explicitly."""
        return self._has_denials and isinstance(self.decide(job, step), DeniedExplicitly)

    def context_of(self, job: Job, principal: Principal) -> Values:
        """The condition keys that all requests of a principal have."""
        own = self.identities.get(principal.arn)
        return {
            "aws:RequestedRegion": job.setting.region,
            "aws:ResourceAccount": job.setting.account,
            "aws:PrincipalArn": principal.arn,
            "aws:PrincipalAccount": principal.account,
            "aws:SecureTransport": "true",
            **(own.context if own else self.context),
        }

    def _policies(self, kind: Kind, principal: Principal) -> Policies:
        if kind is Kind.RESOURCE:
            own = self.identities.get(principal.arn)
            merged = Policy(
                name=self.policies[0].name,
                statements=[statement for policy in self.policies for statement in policy.compiled.statements],
            )
            return Policies(
                identity=own.compiled_policies if own else (),
                boundary=own.compiled_boundary if own else None,
                resource=ResourcePolicy(policy=merged, is_required=True),
            )
        return Policies(identity=self.compiled_policies, boundary=self.compiled_boundary)

    @property
    def compiled_policies(self) -> Sequence[Policy]:
        """The compiled policies."""
        return [policy.compiled for policy in self.policies]

    @property
    def compiled_boundary(self) -> Sequence[Policy] | None:
        """The compiled boundary; None without one."""
        return None if self.boundary is None else [policy.compiled for policy in self.boundary]

    def actions_always_denied(self, actions: Iterable[str]) -> frozenset[str]:
        """The actions that can never be allowed, because of a Deny statement without conditions or of the boundary."""
        denials = [each for policy in self.compiled_policies for each in policy.statements if _is_plain_denial(each)]
        limits = self.compiled_boundary
        within = None if limits is None else [statement for policy in limits for statement in policy.statements]
        if not denials and within is None:
            return frozenset()
        return frozenset(
            action
            for action in actions
            if any(has_action(statement, action) for statement in denials)
            or (within is not None and not any(has_action(statement, action) for statement in within))
        )

    @property
    def _has_denials(self) -> bool:
        own = [
            *self.policies,
            *(self.boundary or ()),
            *(each for other in self.identities.values() for each in other.policies),
        ]
        return any(statement.effect is Effect.DENY for policy in own for statement in policy.compiled.statements)


def has_action(statement: Statement, action: str) -> bool:
    """Whether a statement is about an action."""
    name = action.lower()
    found = name in statement.actions or any(pattern.is_match(name) for pattern in statement.action_patterns)
    return found != statement.is_not_action


def driver_job(setting: Setting, role: str) -> Job:
    """The job of the driver's controller, which has a role."""
    documents = driver_documents(setting, inline=True).values()
    return _identity_job(setting, role, job_requests.driver_requests(setting), documents)


def caller_job(setting: Setting, verb: str, role: str) -> Job:
    """The job of a caller of AttachClusterNodeVolume or DetachClusterNodeVolume; `verb` is Attach or Detach."""
    document = attach_document(setting) if verb == "Attach" else detach_document(setting)
    return _identity_job(setting, role, job_requests.caller_requests(setting, verb), [document])


def key_job(setting: Setting, key: str, users: KeyUsers) -> Job:
    """What the users of a KMS key do with it."""
    reference = _compile([Document(statements=key_statements(setting, users))], Kind.RESOURCE)
    return Job(setting=setting, kind=Kind.RESOURCE, steps=list(_key_steps(setting, key, users)), reference=reference)


def _key_steps(setting: Setting, key: str, users: KeyUsers) -> Iterator[Step]:
    for arn in dict.fromkeys((*filter(None, [users.driver]), *users.callers)):
        for need in job_requests.attachment_key_requests(setting, key):
            yield Step(principal=role_principal(arn), need=need)
    if users.driver:
        for need in job_requests.data_key_requests(setting, key):
            yield Step(principal=role_principal(users.driver), need=need)
    for arn in users.execution_roles:
        for need in job_requests.cluster_key_requests(setting, key):
            yield Step(principal=role_principal(arn), need=need)


def _identity_job(setting: Setting, role: str, needs: Iterator[JobRequest], documents: Iterable[Document]) -> Job:
    principal = role_principal(role)
    return Job(
        setting=setting,
        kind=Kind.IDENTITY,
        steps=[Step(principal=principal, need=need) for need in needs],
        reference=_compile(documents, Kind.IDENTITY),
    )


def _compile(documents: Iterable[Document], kind: Kind) -> GivenPolicy:
    statements = [statement.json for document in documents for statement in document.statements]
    raw = json.loads(json.dumps({"Version": "2012-10-17", "Statement": statements}))
    return compile_policy(REFERENCE, raw, kind)


def _is_plain_denial(statement: Statement) -> bool:
    """Whether a statement denies its actions on everything and always."""
    is_everywhere = statement.resources is not None and statement.resources.is_everything
    return (
        statement.effect is Effect.DENY
        and not statement.conditions
        and is_everywhere
        and not statement.is_not_resource
        and statement.principals is None
    )
