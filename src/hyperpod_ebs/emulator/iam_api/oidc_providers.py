"""OpenID Connect providers, whose tokens AssumeRoleWithWebIdentity accepts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.iam_api import faults, tags
from hyperpod_ebs.emulator.iam_api.entities import Entities, check_quota
from hyperpod_ebs.emulator.identity import issuer_urls
from hyperpod_ebs.emulator.identity_records import OidcProvider
from hyperpod_ebs.emulator.state.world import World, now, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

MAX_PROVIDERS: Final = 100
"""Providers of an account (IAM User Guide, "IAM and AWS STS quotas")."""

MAX_AUDIENCES: Final = 100
"""Client ids of a provider."""

MAX_THUMBPRINTS: Final = 5
"""Thumbprints of a provider (IAM API reference, CreateOpenIDConnectProvider)."""


class OidcProviders:
    """The operations on providers."""

    operations = Operations["OidcProviders"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._providers = world.store.oidc_providers
        self._entities = entities

    @operations("CreateOpenIDConnectProvider")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Create a provider; the emulator does not fetch the thumbprint of the issuer's certificate."""
        url = parameters["Url"]
        if (issuer := issuer_urls.without_scheme(url, self._world.store.oidc_issuers)) is None or "?" in url:
            raise faults.validation_error("Invalid Open ID Connect Provider URL")
        arn = self._entities.arn_of("oidc-provider", "/", issuer)
        if arn in self._providers:
            raise faults.already_exists(f"Provider with url {url} already exists.")
        check_quota(self._providers, "OpenIdConnectProvidersPerAccount", MAX_PROVIDERS)
        provider = OidcProvider(
            id=arn,
            url=issuer,
            created=now(),
            audiences=_audiences(parameters.get("ClientIDList", ())),
            thumbprints=_thumbprints(parameters.get("ThumbprintList", ())),
            tags=tags.merge_tags({}, parameters.get("Tags", [])),
        )
        self._providers.put(provider)
        members = {"OpenIDConnectProviderArn": arn, "Tags": tag_list(provider.tags)}
        return await self._world.acknowledge(members)

    @operations("GetOpenIDConnectProvider")
    async def get(self, parameters: Parameters, _: Call) -> Answer:
        """Describe a provider."""
        provider = self._find(parameters)
        return await self._world.acknowledge(
            {
                "Url": provider.url,
                "ClientIDList": provider.audiences,
                "ThumbprintList": provider.thumbprints,
                "CreateDate": to_datetime(provider.created),
                "Tags": tag_list(provider.tags),
            }
        )

    @operations("ListOpenIDConnectProviders")
    async def list(self, _: Parameters, __: Call) -> Answer:
        """List the ARNs of all providers."""
        return await self._world.acknowledge({"OpenIDConnectProviderList": [{"Arn": arn} for arn in self._providers]})

    @operations("AddClientIDToOpenIDConnectProvider")
    async def add_audience(self, parameters: Parameters, _: Call) -> Answer:
        """Accept tokens for one more audience; one that is accepted stays so."""
        provider = self._find(parameters)
        audiences = _audiences(dict.fromkeys((*provider.audiences, parameters["ClientID"])))
        self._providers.put(replace(provider, audiences=audiences))
        return await self._world.acknowledge({})

    @operations("RemoveClientIDFromOpenIDConnectProvider")
    async def remove_audience(self, parameters: Parameters, _: Call) -> Answer:
        """Accept no more tokens for an audience, accepted or not."""
        provider = self._find(parameters)
        audiences = tuple(each for each in provider.audiences if each != parameters["ClientID"])
        self._providers.put(replace(provider, audiences=audiences))
        return await self._world.acknowledge({})

    @operations("UpdateOpenIDConnectProviderThumbprint")
    async def update_thumbprints(self, parameters: Parameters, _: Call) -> Answer:
        """Replace all thumbprints."""
        thumbprints = _thumbprints(parameters["ThumbprintList"])
        self._providers.put(replace(self._find(parameters), thumbprints=thumbprints))
        return await self._world.acknowledge({})

    @operations("DeleteOpenIDConnectProvider")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete a provider, whether it exists or not; roles that trust it stay."""
        arn = parameters["OpenIDConnectProviderArn"]
        if ":oidc-provider/" not in arn:
            raise faults.invalid_input(f"ARN {arn} is not the ARN of an OpenID Connect provider")
        self._providers.drop(arn)
        return await self._world.acknowledge({})

    def _find(self, parameters: Parameters) -> OidcProvider:
        return require_provider(self._providers, parameters["OpenIDConnectProviderArn"])


def require_provider(providers: Mapping[str, OidcProvider], arn: str) -> OidcProvider:
    """The provider with this ARN.

    Raises:
        AwsFault: NoSuchEntity.
    """
    if (provider := providers.get(arn)) is None:
        raise faults.no_such_entity(f"OpenIDConnect Provider not found for arn {arn}")
    return provider


def _audiences(given: Iterable[str]) -> tuple[str, ...]:
    audiences = tuple(given)
    if len(audiences) > MAX_AUDIENCES:
        raise faults.limit_exceeded("ClientIdsPerOpenIdConnectProvider", MAX_AUDIENCES)
    return audiences


def _thumbprints(given: Sequence[str]) -> tuple[str, ...]:
    if len(given) > MAX_THUMBPRINTS:
        raise faults.invalid_input("Thumbprint list must contain fewer than 5 entries.")
    return tuple(thumbprint.lower() for thumbprint in given)
