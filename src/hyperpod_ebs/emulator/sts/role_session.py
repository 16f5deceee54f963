"""A new role session, and the answer that describes it."""

from dataclasses import dataclass, field, replace
from typing import Any

from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity.sessions import Sessions, new_session
from hyperpod_ebs.emulator.identity_records import Role
from hyperpod_ebs.emulator.sts.credentials import credentials_answer
from hyperpod_ebs.emulator.sts.session_limits import SessionPolicies, SessionTags


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSession:
    """What a role session is to be like."""

    role: Role
    name: str
    seconds: int
    policies: SessionPolicies = field(default_factory=SessionPolicies)

    tags: SessionTags = field(default_factory=SessionTags)
    source_identity: str = ""
    is_chained: bool = False
    provider: str = ""
    """The ARN of the identity provider; empty without one."""

    minimum_token: int = 0
    """Bytes that the session token has at least."""

    def create(self, sessions: Sessions, identities: Identities) -> dict[str, Any]:  # Any: members of an answer
        """Create the session; return the members that all answers with a role session have."""
        session = sessions.add(
            replace(
                new_session(self.seconds, minimum_token=self.minimum_token),
                role=self.role.id,
                name=self.name,
                policies=self.policies.inline,
                policy_arns=self.policies.managed,
                tags=self.tags.tags,
                transitive=self.tags.transitive,
                source_identity=self.source_identity,
                is_chained=self.is_chained,
                provider=self.provider,
            )
        )
        identity = identities.require(session.id)
        return {
            **credentials_answer(session),
            "AssumedRoleUser": {"AssumedRoleId": identity.user_id, "Arn": identity.principal.arn},
            "SourceIdentity": self.source_identity or None,
        }
