"""The decision about a request: allowed or denied, and why.

Source: IAM User Guide, "Policy evaluation logic".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from hyperpod_ebs.iam.documents import Policy
from hyperpod_ebs.iam.principals import Grant
from hyperpod_ebs.iam.request import PrincipalType, Request
from hyperpod_ebs.iam.statements import Effect, Element, Mismatch, Statement


class Source(Enum):
    """The kinds of policies that decide, as AWS's error messages name them."""

    IDENTITY = "identity-based policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"
    RESOURCE = "resource-based policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A statement, and the policy that contains it."""

    source: Source
    policy: str
    statement: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The Allow statement that came nearest to a match, and what kept it from matching."""

    rule: Rule
    mismatch: Mismatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The request is allowed."""

    rule: Rule | None
    """The statement that decided; None for a root user, who needs no policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeniedExplicitly:
    """A Deny statement matches the request."""

    rule: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class DeniedImplicitly:
    """No statement of one kind of policy allows the request."""

    source: Source
    """The kind of policy that lacks an Allow statement."""

    nearest: Nearest | None
    """None if no Allow statement is about the action."""


Decision = Allowed | DeniedExplicitly | DeniedImplicitly


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePolicy:
    """The policy of the resource of a request."""

    policy: Policy
    is_required: bool
    """Whether identity policies count only as far as this policy lets them, as for KMS keys and roles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """All policies that apply to a request."""

    identity: Sequence[Policy] = ()
    """The policies of the user and its groups, or of the role."""

    boundary: Sequence[Policy] | None = None
    """The permissions boundary of the user or the role; None without one."""

    session: Sequence[Policy] | None = None
    """The session policies that limit the session; None without one."""

    resource: ResourcePolicy | None = None


@dataclass(slots=True)
class _Evaluation:
    """What the policies of one kind say about a request."""

    source: Source
    deny: Rule | None = None
    allow: Rule | None = None
    grant: Grant = Grant.NONE
    nearest: Nearest | None = field(default=None)

    def add(self, policies: Iterable[Policy], request: Request, *, has_boundary: bool = False) -> "_Evaluation":
        """Evaluate the policies."""
        for policy in policies:
            for statement in policy.statements:
                mismatch = statement.mismatch(request, has_boundary=has_boundary)
                if mismatch is None or mismatch.element > Element.ACTION:
                    self._add_statement(
                        Rule(source=self.source, policy=policy.name, statement=statement), mismatch, request
                    )
        return self

    def _add_statement(self, rule: Rule, mismatch: Mismatch | None, request: Request) -> None:
        statement = rule.statement
        if mismatch is None:
            if statement.effect is Effect.DENY:
                self.deny = self.deny or rule
            elif self.allow is None or statement.grant(request) > self.grant:
                self.allow, self.grant = rule, statement.grant(request)
        elif statement.effect is Effect.ALLOW and mismatch.element > self._nearest_element:
            self.nearest = Nearest(rule=rule, mismatch=mismatch)

    @property
    def _nearest_element(self) -> Element:
        return self.nearest.mismatch.element if self.nearest else Element.ACTION


def decide(request: Request, policies: Policies) -> Decision:
    """Decide about a request.

    An explicit deny comes first. Then, in the account of the principal, the policies of the principal or that of the
    resource must allow the request; for a resource of another account, both must.
    """
    identity = _Evaluation(Source.IDENTITY).add(policies.identity, request)
    resource = _Evaluation(Source.RESOURCE).add(
        [policies.resource.policy] if policies.resource else [], request, has_boundary=policies.boundary is not None
    )
    limits = _limits(request, policies)
    for evaluation in (identity, resource, *limits):
        if evaluation.deny:
            return DeniedExplicitly(rule=evaluation.deny)
    match request.principal.type:
        case PrincipalType.SERVICE | PrincipalType.FEDERATED:
            return _first_refusal([resource]) or Allowed(rule=resource.allow)
        case PrincipalType.ACCOUNT:
            own: list[_Evaluation] = []
        case PrincipalType.USER | PrincipalType.ROLE_SESSION:
            own = [identity, *limits]
    is_same_account = request.principal.account == request.resource_account
    if is_same_account and resource.grant >= Grant.ROLE:
        return _refusal_of_limits(limits, resource.grant) or Allowed(rule=resource.allow)
    needs_resource = not is_same_account or (policies.resource is not None and policies.resource.is_required)
    return _first_refusal([*([resource] if needs_resource else []), *own]) or Allowed(
        rule=identity.allow or resource.allow
    )


def refusal_of_grant(request: Request, policies: Policies, grant: Grant) -> DeniedImplicitly | None:
    """The denial by a policy of the principal of something that a grant allows; None if nothing denies it.

    Args:
        request: The request, which no policy denies explicitly.
        policies: The policies of the principal.
        grant: How closely the grant names the principal. If it names the account, an identity policy must allow the
            request as well.
    """
    limits = _limits(request, policies)
    is_delegated = grant is Grant.ACCOUNT and request.principal.type is not PrincipalType.ACCOUNT
    identity = [_Evaluation(Source.IDENTITY).add(policies.identity, request)] if is_delegated else []
    return _first_refusal(identity) or _refusal_of_limits(limits, grant)


def _limits(request: Request, policies: Policies) -> Sequence[_Evaluation]:
    """What the boundary and the session policies of the principal say, if it has any."""
    given = ((Source.BOUNDARY, policies.boundary), (Source.SESSION, policies.session))
    return [_Evaluation(source).add(limit, request) for source, limit in given if limit is not None]


def _refusal_of_limits(limits: Sequence[_Evaluation], grant: Grant) -> DeniedImplicitly | None:
    """The denial of the first limit that counts for a grant of this closeness, and does not allow the request.

    Source: IAM User Guide, "Permissions boundaries for IAM entities", for a session's own ARN.
    """
    match grant:
        case Grant.PRINCIPAL:
            return None
        case Grant.EVERY_PRINCIPAL:
            return _first_refusal([each for each in limits if each.source is Source.SESSION])
        case _:
            return _first_refusal(limits)


def _first_refusal(evaluations: Sequence[_Evaluation]) -> DeniedImplicitly | None:
    """The denial of the first kind of policy that does not allow the request."""
    for evaluation in evaluations:
        if not evaluation.allow:
            return DeniedImplicitly(source=evaluation.source, nearest=evaluation.nearest)
    return None
