"""AssumeRole: a role session for a user or another session.

Sources: STS API Reference, AssumeRole; IAM User Guide, "Pass session tags in AWS STS" and
"Monitor and control actions taken with assumed roles".
"""

from dataclasses import replace

from hyperpod_ebs.emulator.identity.authorizer import Authorizer
from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity.sessions import Sessions
from hyperpod_ebs.emulator.identity_records import Role
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.sts.credentials import require_no_mfa, role_seconds
from hyperpod_ebs.emulator.sts.needs import assumption_of
from hyperpod_ebs.emulator.sts.role_session import RoleSession
from hyperpod_ebs.emulator.sts.session_limits import packed_percent, policies_of, source_identity_of, tags_of
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters


class AssumeRole:
    """Creates role sessions for callers with credentials."""

    operations = Operations["AssumeRole"]()

    def __init__(self, world: World, identities: Identities, authorizer: Authorizer, sessions: Sessions) -> None:
        self._world = world
        self._identities = identities
        self._authorizer = authorizer
        self._sessions = sessions

    @operations("AssumeRole")
    async def assume(self, parameters: Parameters, call: Call) -> Answer:
        """Create a session of the role; the caller's policies and the role's trust policy allow it already."""
        if parameters.get("ProvidedContexts"):
            raise AwsFault("ValidationError", "ProvidedContexts is not supported by this emulator")
        require_no_mfa(parameters)
        caller = self._identities.require(call.key_id).session
        requested, identity = tags_of(parameters), source_identity_of(parameters.get("SourceIdentity", ""), caller)
        tags, policies = requested.inherit(caller), policies_of(parameters, self._identities)
        percent = packed_percent(parameters, requested)
        assumption = replace(
            assumption_of(parameters),
            source_identity=identity,
            inherits_tags=bool(caller and caller.transitive),
        )
        if caller:  # what the session inherits needs permissions too, which nothing in the request shows
            self._authorizer.require(call, assumption.needs(self._identities))
        role = self._require_role(call, assumption.role)
        is_chained = bool(caller and caller.role)
        session = RoleSession(
            role=role,
            name=assumption.session_name,
            seconds=role_seconds(parameters, role, is_chained=is_chained),
            policies=policies,
            tags=tags,
            source_identity=identity,
            is_chained=is_chained,
            minimum_token=parameters.get("MinimumSessionTokenSize", 0),
        )
        answer = session.create(self._sessions, self._identities)
        return await self._world.acknowledge({**answer, "PackedPolicySize": percent})

    def _require_role(self, call: Call, arn: str) -> Role:
        """The role; without enforcement of policies, this is the first check that it exists."""
        if (role := self._identities.role(arn)) is None:
            text = f"User: {call.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}"
            raise AwsFault("AccessDenied", text, 403)
        return role
