"""What it takes to assume a role: the actions that the role's trust policy, and the caller's policies, must allow.

Sources: IAM User Guide, "IAM JSON policy elements: Principal", "Pass session tags in AWS STS"
and "Monitor and control actions taken with assumed roles"; Service Authorization Reference,
"Actions, resources, and condition keys for AWS Security Token Service".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.compiled_policies import compiled_policy
from hyperpod_ebs.emulator.identity.identities import ContextValues, Identities
from hyperpod_ebs.emulator.identity.tag_values import request_tags, resource_tags
from hyperpod_ebs.emulator.identity_records import Role
from hyperpod_ebs.iam.decision import ResourcePolicy
from hyperpod_ebs.iam.documents import Kind, Policy

TRUST_POLICY: Final = "trust policy"
"""The name of a trust policy in the reasons of decisions; it has none of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """A request to assume a role."""

    role: str
    """The role's ARN."""

    action: str = "sts:AssumeRole"
    session_name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    """The session tags in the request."""

    transitive: Sequence[str] = ()
    source_identity: str = ""
    inherits_tags: bool = False
    """Whether the session of the caller has transitive tags, which the new session gets."""

    context: ContextValues = field(default_factory=dict)
    """Further condition keys."""

    def needs(self, identities: Identities) -> Sequence[Need]:
        """The actions on the role; no policy allows them on a role that does not exist."""
        role = identities.role(self.role)
        trusted = (
            compiled_policy(role.trust, Kind.TRUST, TRUST_POLICY) if role else Policy(name=TRUST_POLICY, statements=[])
        )
        policy, context = ResourcePolicy(policy=trusted, is_required=True), self._context(role)
        actions = [self.action]
        if self.tags or self.transitive or self.inherits_tags:
            actions.append("sts:TagSession")
        if self.source_identity:
            actions.append("sts:SetSourceIdentity")
        return [Need(action=action, resource=self.role, context=context, policy=policy) for action in actions]

    def _context(self, role: Role | None) -> ContextValues:
        context: dict[str, str | Sequence[str]] = {"sts:RoleSessionName": self.session_name}
        if role:
            context |= resource_tags(role.tags, "iam")
        context |= request_tags(self.tags)
        if self.transitive:
            context["sts:TransitiveTagKeys"] = list(self.transitive)
        if self.source_identity:
            context["sts:SourceIdentity"] = self.source_identity
        return {**context, **self.context}
