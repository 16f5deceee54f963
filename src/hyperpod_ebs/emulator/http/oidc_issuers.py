"""The documents of the token issuers of EKS clusters: discovery and public keys, for everyone.

Sources: OpenID Connect Discovery 1.0, section 4; EKS User Guide, "Fetch signing keys to validate
OIDC tokens". AWS serves them at https://oidc.eks.REGION.amazonaws.com/id/ID.
"""

from aiohttp import web

from hyperpod_ebs.emulator.eks_records import OidcIssuer
from hyperpod_ebs.emulator.identity.issuer_keys import public_key
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.kit import base64url


def routes(world: World) -> list[web.RouteDef]:
    """The routes under /oidc/ID of every issuer."""

    async def show_configuration(request: web.Request) -> web.Response:
        issuer = await find(request)
        document = {
            "issuer": issuer.id,
            "jwks_uri": f"{issuer.id}/keys",
            "authorization_endpoint": "urn:kubernetes:programmatic_authorization",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "claims_supported": ["sub", "iss"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return web.json_response(document)

    async def show_keys(request: web.Request) -> web.Response:
        issuer = await find(request)
        numbers = public_key(issuer.public_key).public_numbers()
        key = {
            "use": "sig",
            "kty": "RSA",
            "kid": issuer.key_id,
            "alg": "RS256",
            "n": _number(numbers.n),
            "e": _number(numbers.e),
        }
        return web.json_response({"keys": [key]})

    async def find(request: web.Request) -> OidcIssuer:
        """The issuer in the path, under any name of the emulator.

        Raises:
            web.HTTPNotFound: There is none.
        """
        await world.clock.run_due_steps()
        end = f"/oidc/{request.match_info['id']}"
        for issuer in world.store.oidc_issuers.values():
            if issuer.id.endswith(end):
                return await world.acknowledge(issuer)
        raise web.HTTPNotFound

    path = "/oidc/{id:[0-9A-F]{32}}"
    return [web.get(f"{path}/.well-known/openid-configuration", show_configuration), web.get(f"{path}/keys", show_keys)]


def _number(value: int) -> str:
    """An integer as a JSON Web Key has it (RFC 7518, section 2, "Base64urlUInt")."""
    return base64url.encode(value.to_bytes((value.bit_length() + 7) // 8))
