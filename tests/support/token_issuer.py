"""An issuer of web identity tokens on this machine: OpenID Connect discovery, its keys, and tokens signed with them."""

import functools
import json
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE: Final = "sts.amazonaws.com"
SUBJECT: Final = "system:serviceaccount:kube-system:ebs-csi-controller-sa"


@functools.cache
def rsa_key(name: str) -> RSAPrivateKey:  # noqa: ARG001 - the cache's key
    """A key, the same for each name."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def curve_key() -> EllipticCurvePrivateKey:
    """A key on the curve P-256."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(slots=True)
class TokenIssuer:
    """An issuer, whose documents a test can change."""

    url: str = ""
    discovery: dict[str, Any] = field(default_factory=dict)
    jwks: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """The paths that were requested."""

    answers: dict[str, web.Response] = field(default_factory=dict)
    """Answers in place of the documents, by path."""

    def token(self, *, key: str = "one", algorithm: str = "RS256", **claims: Any) -> str:
        """A token with these claims; a claim that is None is left out."""
        headers = {"kid": key}
        private: Any = curve_key() if algorithm == "ES256" else rsa_key(key)
        return jwt.encode(self.claims(**claims), private, algorithm=algorithm, headers=headers)

    def claims(self, **claims: Any) -> dict[str, Any]:
        """The claims of a service account's token, with changes."""
        instant = int(time.time())
        usual = {"iss": self.url, "sub": SUBJECT, "aud": [AUDIENCE], "iat": instant, "exp": instant + 600}
        return {name: value for name, value in (usual | claims).items() if value is not None}

    def publish(self, *keys: str) -> None:
        """Publish these RSA keys, and the key on the curve."""
        entries = [{**jwk(rsa_key(key)), "kid": key, "use": "sig"} for key in keys]
        self.jwks = {"keys": [*entries, {**ECAlgorithm.to_jwk(curve_key().public_key(), as_dict=True), "kid": "curve"}]}

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a request for one of the documents."""
        self.requests.append(request.path)
        if (planned := self.answers.get(request.path)) is not None:
            return web.Response(status=planned.status, body=planned.body, headers=planned.headers)
        document: Mapping[str, Any] = self.jwks if request.path.endswith("/keys") else self.discovery
        return web.Response(text=json.dumps(document), content_type="application/json")


def jwk(key: RSAPrivateKey) -> dict[str, Any]:
    """The public part of a key as a JSON Web Key."""
    return RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)


@asynccontextmanager
async def serve_issuer(*, tls: ssl.SSLContext | None = None) -> AsyncGenerator[TokenIssuer]:
    """Serve an issuer with one RSA key, `one`, until the block ends; with `tls` at an https URL."""
    issuer = TokenIssuer()
    application = web.Application()
    application.router.add_get("/{path:.*}", issuer.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        host = "localhost" if tls else "127.0.0.1"
        await web.TCPSite(runner, host, 0, ssl_context=tls).start()
        issuer.url = f"{'https' if tls else 'http'}://{host}:{runner.addresses[0][1]}/id/ONE"
        issuer.discovery = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"}
        issuer.publish("one")
        yield issuer
    finally:
        await runner.cleanup()
