"""Whether a caller may do what a call needs.

A call needs one or several actions, each on a resource. The services list them; this module
asks the policies, and raises the denial of the call's service.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from hyperpod_ebs.emulator.identity import user_sessions
from hyperpod_ebs.emulator.identity.access_denied import access_denied
from hyperpod_ebs.emulator.identity.decision_records import DecisionRecord, Verdict
from hyperpod_ebs.emulator.identity.identities import ContextValues, Identities, Identity, SigningKey
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.wire.operations import AwsFault, Call, Parameters
from hyperpod_ebs.iam.decision import (
    Allowed,
    Decision,
    DeniedImplicitly,
    Nearest,
    ResourcePolicy,
    Source,
    decide,
    refusal_of_grant,
)
from hyperpod_ebs.iam.principals import Grant
from hyperpod_ebs.iam.request import Context, Principal, Request
from hyperpod_ebs.iam.statements import Element, Mismatch

GLOBAL: Final = frozenset({"iam", "sts"})
"""Services with a global endpoint, whose requests are signed for one region of the partition."""

MAX_AGENT: Final = 1024
"""Characters of a user agent that policies see; CloudTrail shows as many (CloudTrail User Guide, "Record contents")."""

ANY: Final = "*"
"""The resource of an action that takes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """An action that a call needs on a resource."""

    action: str
    """ec2:AttachVolume."""

    resource: str = ANY
    """The resource's ARN."""

    account: str = ""
    """The account of the resource; empty for the emulator's own."""

    context: ContextValues = field(default_factory=dict)
    """The condition keys that describe the resource and the request's parameters."""

    policy: ResourcePolicy | None = None
    """The policy of the resource, if resources of its type have one."""

    exists: bool = True
    """Whether the resource exists, or is to be created by the call.

    The service answers that a resource does not exist to callers who lack only a condition, because the missing
    resource may be all that keeps the condition from being met. Other callers get the denial.
    """

    grant_to: Callable[[Principal], Grant] | None = None
    """How closely a grant that allows the action names a principal; only KMS keys have grants."""


class Needs(Protocol):
    """Lists what the calls of one service need."""

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs; nothing if everyone may make it."""
        ...


class Authorizer:
    """Decides about calls, for the account of one emulator."""

    def __init__(self, identities: Identities, region: Region, *, enforces: bool) -> None:
        """Create the authorizer; one that does not enforce allows every call of a known caller."""
        self._identities = identities
        self._region = region
        self._enforces = enforces

    def require(self, call: Call, needs: Sequence[Need], *, service: str = "") -> None:
        """Refuse the call unless the caller may do everything that the call needs.

        Args:
            call: The call.
            needs: What the call needs.
            service: The service that answers a denial; empty for the call's own.

        Raises:
            AwsFault: A policy denies one of the needs, or none allows it.
        """
        if not self._enforces:
            return
        identity = self._identities.require(call.key_id)
        for need in needs:
            request, decision, verdict = self._decide(call, identity, need)
            if verdict is Verdict.DENIED:
                raise access_denied(service or call.service, request, decision)

    def allows(self, call: Call, identity: Identity, needs: Sequence[Need]) -> bool:
        """Whether a principal without an access key, a service or a federated one, may do everything needed."""
        if not self._enforces:
            return True
        verdicts = (self._decide(call, identity, need)[2] for need in needs)
        return all(verdict in {Verdict.ALLOWED, Verdict.GRANTED} for verdict in verdicts)

    def allows_role(self, call: Call, arn: str, session: str, needs: Sequence[Need]) -> bool:
        """Whether a service that acts as a role may do everything needed; a role that does not exist may do nothing."""
        if not self._enforces:
            return True
        identity = self._identities.role_session(arn, session)
        return identity is not None and self.allows(call, identity, needs)

    def denial(self, call: Call, need: Need) -> AwsFault:
        """The error of a call that no identity policy allows."""
        request = self.request(call, self._identities.require(call.key_id), need)
        decision = DeniedImplicitly(source=Source.IDENTITY, nearest=None)
        call.decisions.append(DecisionRecord.create(request, decision, Verdict.DENIED))
        return access_denied(call.service, request, decision)

    def _decide(self, call: Call, identity: Identity, need: Need) -> tuple[Request, Decision, Verdict]:
        """Decide about one need, and record the decision."""
        request = self.request(call, identity, need)
        decision, verdict = _decision(request, identity, need)
        call.decisions.append(DecisionRecord.create(request, decision, verdict))
        return request, decision, verdict

    def request(self, call: Call, identity: Identity, need: Need) -> Request:
        """The request that policies decide about."""
        return Request(
            principal=identity.principal,
            action=need.action,
            resource=need.resource,
            resource_account=need.account or self._region.account,
            context=Context(_call_context(call), identity.context, need.context),
        )


class AccessControl:
    """Who the owners of access keys are, and what they may do; the gate of the emulator's services."""

    def __init__(
        self, identities: Identities, authorizer: Authorizer, region: Region, needs: Mapping[str, Needs]
    ) -> None:
        """Create the gate; `needs` are the services by signing name."""
        self._identities = identities
        self._authorizer = authorizer
        self._region = region
        self._needs = needs

    def signing_key(self, key_id: str) -> SigningKey | None:
        """The key with this id; None if there is none or it is inactive."""
        return self._identities.signing_key(key_id)

    def accepts_region(self, service: str, region: str) -> bool:
        """Whether requests may be signed for the region: the emulator's own, or that of a global service."""
        return region == self._region.name or (service in GLOBAL and region == self._region.global_signing_region)

    def caller(self, key_id: str) -> Identity:
        """The owner of an access key, or the role session with it.

        Raises:
            UnknownKey: The key does not exist.
        """
        return self._identities.require(key_id)

    def check(self, call: Call, parameters: Parameters) -> None:
        """Check that the caller may make the call.

        Raises:
            AwsFault: No policy allows the call, one denies it, or the caller's kind of credentials cannot make it.
        """
        user_sessions.require_service(call, self.caller(call.key_id))
        self._authorizer.require(call, self._needs[call.service].needs(call.operation, parameters))

    def planned_denial(self, call: Call, parameters: Parameters) -> AwsFault:
        """The error of the call if no policy allowed it."""
        needs = self._needs[call.service].needs(call.operation, parameters)
        need = needs[0] if needs else Need(action=f"{call.service}:{call.operation}")
        return self._authorizer.denial(call, need)


def _decision(request: Request, identity: Identity, need: Need) -> tuple[Decision, Verdict]:
    """The decision about a need, and what becomes of it.

    A grant helps a principal whom no policy denies the action. Boundaries and session policies limit the grant as they
    limit a resource's policy that names the principal so.
    """
    decision = decide(request, replace(identity.policies, resource=need.policy))
    if isinstance(decision, Allowed):
        return decision, Verdict.ALLOWED
    grant = need.grant_to(identity.principal) if need.grant_to else Grant.NONE
    if isinstance(decision, DeniedImplicitly) and grant is not Grant.NONE:
        refusal = refusal_of_grant(request, identity.policies, grant)
        return (refusal, Verdict.DENIED) if refusal else (decision, Verdict.GRANTED)
    return decision, Verdict.DENIED if need.exists or not _lacks_only_a_condition(decision) else Verdict.MISSING


def _lacks_only_a_condition(decision: Decision) -> bool:
    """Whether a statement would allow the request if a condition was met."""
    match decision:
        case DeniedImplicitly(nearest=Nearest(mismatch=Mismatch(element=Element.CONDITION))):
            return True
        case _:
            return False


def _call_context(call: Call) -> Mapping[str, str]:
    """The condition keys that every request has (IAM User Guide, "AWS global condition context keys")."""
    now = datetime.now(UTC)
    return {
        "aws:CurrentTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "aws:EpochTime": str(int(now.timestamp())),
        "aws:RequestedRegion": call.region,
        "aws:SourceIp": call.source_ip,
        "aws:UserAgent": call.agent[:MAX_AGENT],
        "aws:SecureTransport": "true",  # AWS's endpoints have TLS; the emulator's stand for them
        "aws:ViaAWSService": "false",
    }
