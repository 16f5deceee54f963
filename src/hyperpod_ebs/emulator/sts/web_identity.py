"""AssumeRoleWithWebIdentity: a role session for the bearer of a token of an identity provider.

The request has no signature: the token is the only proof. Sources: STS API Reference,
AssumeRoleWithWebIdentity; IAM User Guide, "OIDC federation".
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.identity import issuer_urls, web_tokens
from hyperpod_ebs.emulator.identity.authorizer import Authorizer
from hyperpod_ebs.emulator.identity.identities import Identities, Identity
from hyperpod_ebs.emulator.identity.issuer_keys import IssuerKeys, PublicKeys
from hyperpod_ebs.emulator.identity.sessions import Sessions
from hyperpod_ebs.emulator.identity.trust import Assumption
from hyperpod_ebs.emulator.identity.web_tokens import Flaw, TokenRefused, WebToken
from hyperpod_ebs.emulator.identity_records import OidcProvider
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.sts.credentials import role_seconds
from hyperpod_ebs.emulator.sts.needs import role_arn_of
from hyperpod_ebs.emulator.sts.provider_keys import Failure, ProviderKeys
from hyperpod_ebs.emulator.sts.role_session import RoleSession
from hyperpod_ebs.emulator.sts.session_limits import packed_percent, policies_of
from hyperpod_ebs.emulator.sts.token_claims import TokenClaims, claims_of
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters
from hyperpod_ebs.iam.decision import Policies
from hyperpod_ebs.iam.request import Principal, PrincipalType

ACTION: Final = "sts:AssumeRoleWithWebIdentity"

_NO_KEY: Final = (
    "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity "
    "documentation for requirements"
)
_FAILURES: Final[Mapping[Failure, tuple[str, str]]] = {
    Failure.UNREACHABLE: (
        "IDPCommunicationError",
        "The identity provider that was asked to verify the incoming identity token could not be reached",
    ),
    Failure.UNUSABLE: ("InvalidIdentityToken", _NO_KEY),
}
"""The code and the text of the error for each reason for which an issuer has no keys."""

_FLAWS: Final[Mapping[Flaw, tuple[str, str]]] = {
    Flaw.MALFORMED: (
        "InvalidIdentityToken",
        "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
    ),
    Flaw.MISSING_CLAIM: ("InvalidIdentityToken", "Missing a required claim: {claim}"),
    Flaw.UNKNOWN_ISSUER: ("InvalidIdentityToken", "No OpenIDConnect provider found in your account for {issuer}"),
    Flaw.WRONG_SIGNATURE: ("InvalidIdentityToken", "The ID Token provided has an invalid signature"),
    Flaw.EXPIRED: (
        "ExpiredTokenException",
        "Token expired: current date/time {now} must be before the expiration date/time {expires}",
    ),
    Flaw.NOT_YET_VALID: ("InvalidIdentityToken", "The ID Token provided is not valid yet"),
}
"""The code and the text of the error for each flaw of a token."""

_SHOWN: Final = 200
"""Characters of an issuer's URL in an error."""


@dataclass(frozen=True, slots=True)
class _KnownIssuer:
    """The keys of one issuer."""

    issuer: str
    keys: PublicKeys

    def find(self, issuer: str) -> PublicKeys | None:
        """The keys, if the issuer is this one."""
        return self.keys if issuer == self.issuer else None


class WebIdentity:
    """Creates role sessions for callers with a token."""

    operations = Operations["WebIdentity"]()

    def __init__(
        self, world: World, identities: Identities, authorizer: Authorizer, sessions: Sessions, own: IssuerKeys
    ) -> None:
        """Create the operation; `own` are the issuers that the emulator serves."""
        self._world = world
        self._identities = identities
        self._authorizer = authorizer
        self._sessions = sessions
        self._keys = ProviderKeys(own)

    @operations("AssumeRoleWithWebIdentity", signed=False)
    async def assume(self, parameters: Parameters, call: Call) -> Answer:
        """Create a session of the role, if the token is valid and the role's trust policy allows its bearer."""
        arn = role_arn_of(parameters)
        if "ProviderId" in parameters:
            raise AwsFault("InvalidIdentityToken", "OAuth 2.0 access tokens are not supported by this emulator")
        token, provider = await self._verify(parameters["WebIdentityToken"])
        claims = claims_of(token, url=provider.url, audiences=provider.audiences)
        policies = policies_of(parameters, self._identities)
        percent = packed_percent(parameters, claims.tags)
        self._require_trust(call, provider, self._assumption(parameters, claims, provider))
        if (role := self._identities.role(arn)) is None:
            raise _not_authorized()
        session = RoleSession(
            role=role,
            name=parameters["RoleSessionName"],
            seconds=role_seconds(parameters, role, is_chained=False),
            policies=policies,
            tags=claims.tags,
            source_identity=claims.source_identity,
            provider=provider.id,
            minimum_token=parameters.get("MinimumSessionTokenSize", 0),
        )
        answer = session.create(self._sessions, self._identities)
        return await self._world.acknowledge(
            {
                **answer,
                "PackedPolicySize": percent,
                "SubjectFromWebIdentityToken": token.subject,
                "Audience": claims.audience,
                "Provider": provider.id,
            }
        )

    async def _verify(self, token: str) -> tuple[WebToken, OidcProvider]:
        """Verify the token, and return it with the provider that issued it.

        Raises:
            AwsFault: The token is invalid, the account has no provider with its issuer, or the issuer does not answer.
        """
        try:
            issuer, key_id = web_tokens.issuer_of(token), web_tokens.key_id_of(token)
            provider = self._require_provider(issuer)
            return web_tokens.verify(token, _KnownIssuer(issuer, await self._require_keys(issuer, key_id))), provider
        except TokenRefused as refused:
            code, text = _FLAWS[refused.flaw]
            issuer, now = refused.issuer[:_SHOWN], int(time.time())
            text = text.format(issuer=issuer, now=now, expires=refused.expires, claim=refused.claim)
            raise AwsFault(code, text) from None  # the cause may quote the token

    async def _require_keys(self, issuer: str, key_id: str) -> PublicKeys:
        keys = await self._keys.find(issuer, key_id)
        if isinstance(keys, Failure):
            raise AwsFault(*_FAILURES[keys])
        if key_id not in keys:
            raise AwsFault("InvalidIdentityToken", _NO_KEY)
        return keys

    def _require_provider(self, issuer: str) -> OidcProvider:
        """The provider with the issuer's URL.

        Raises:
            TokenRefused: There is none.
        """
        url, region = issuer_urls.without_scheme(issuer, self._world.store.oidc_issuers), self._world.region
        arn = f"arn:{region.partition}:iam::{region.account}:oidc-provider/{url}"
        if url is None or (provider := self._world.store.oidc_providers.get(arn)) is None:
            raise TokenRefused(Flaw.UNKNOWN_ISSUER, issuer=issuer)
        return provider

    def _assumption(self, parameters: Parameters, claims: TokenClaims, provider: OidcProvider) -> Assumption:
        region = {"aws:RequestedRegion": self._world.region.name}  # an unsigned request names none
        return Assumption(
            role=parameters["RoleArn"],
            action=ACTION,
            session_name=parameters["RoleSessionName"],
            tags=claims.tags.tags,
            transitive=claims.tags.transitive,
            source_identity=claims.source_identity,
            context={**claims.context, **region, "aws:FederatedProvider": provider.id},
        )

    def _require_trust(self, call: Call, provider: OidcProvider, assumption: Assumption) -> None:
        """Refuse the call unless the role trusts the bearer of the token.

        Raises:
            AwsFault: It does not.
        """
        principal = Principal(type=PrincipalType.FEDERATED, arn=provider.id)
        bearer = Identity(principal=principal, user_id="", policies=Policies(), context={})
        if not self._authorizer.allows(call, bearer, assumption.needs(self._identities)):
            raise _not_authorized()


def _not_authorized() -> AwsFault:
    return AwsFault("AccessDenied", f"Not authorized to perform {ACTION}", 403)
