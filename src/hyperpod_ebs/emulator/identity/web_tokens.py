"""Tokens of Kubernetes service accounts and other web identities: signed JSON Web Tokens.

Source: RFC 7519; OpenID Connect Core 1.0, section 3.1.3.7, "ID Token Validation"; IAM User
Guide, "Create an OpenID Connect (OIDC) identity provider in IAM", for the algorithms.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from hyperpod_ebs.emulator.identity.issuer_keys import IssuerKeys
from hyperpod_ebs.kit import base64url

_RSA: Final = ("RS256", "RS384", "RS512")
_CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
"""The accepted algorithms, by the type of the key; no key can be confused with a secret, and no token is unsigned."""

MAX_TIME: Final = 253_402_300_799
"""Seconds since the epoch of the last second of the year 9999."""

_BROKEN: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""What PyJWT raises for tokens of any content."""


class Flaw(Enum):
    """What can be wrong with a token."""

    MALFORMED = auto()
    MISSING_CLAIM = auto()
    UNKNOWN_ISSUER = auto()
    WRONG_SIGNATURE = auto()
    EXPIRED = auto()
    NOT_YET_VALID = auto()


class TokenRefused(Exception):  # noqa: N818 - named for what happened
    """A token proves nothing."""

    def __init__(self, flaw: Flaw, *, issuer: str = "", expires: int | None = None, claim: str = "") -> None:
        super().__init__(flaw)
        self.flaw = flaw
        self.issuer = issuer
        """The issuer that the token names; empty if it cannot be read."""

        self.expires = expires
        """Seconds since the epoch at which an expired token expired."""

        self.claim = claim
        """The name of the claim that is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebToken:
    """The claims of a token whose signature and times are right; the audience is not checked yet."""

    issuer: str
    subject: str
    audiences: tuple[str, ...]
    expires: int
    """Seconds since the epoch."""

    claims: Mapping[str, Any]  # Any: JSON


def issuer_of(token: str) -> str:
    """The issuer that the token names, unverified.

    Raises:
        TokenRefused: The token is malformed.
    """
    if not all(map(_is_canonical, token.split("."))):
        raise TokenRefused(Flaw.MALFORMED)
    try:
        issuer = jwt.decode(token, options={"verify_signature": False})["iss"]
    except (*_BROKEN, KeyError):
        raise TokenRefused(Flaw.MALFORMED) from None  # the cause may quote the token
    if not isinstance(issuer, str):
        raise TokenRefused(Flaw.MALFORMED)
    return issuer


def key_id_of(token: str) -> str:
    """The id of the key with which the token says that it is signed; empty if it names none.

    Raises:
        TokenRefused: The token is malformed.
    """
    try:
        key_id = jwt.get_unverified_header(token).get("kid", "")
    except _BROKEN:
        raise TokenRefused(Flaw.MALFORMED) from None  # the cause may quote the token
    return str(key_id)


def verify(token: str, keys: IssuerKeys) -> WebToken:
    """Verify the token's signature and times, and return its claims; the caller checks audience and subject.

    Raises:
        TokenRefused: The token is malformed or lacks a claim, its issuer is unknown or did not sign it, it is expired
            or not valid yet.
    """
    issuer = issuer_of(token)
    if (known := keys.find(issuer)) is None:
        raise TokenRefused(Flaw.UNKNOWN_ISSUER, issuer=issuer)
    try:
        # A Kubernetes API server and AWS's issuers always name the key.
        if (key := known.get(key_id_of(token))) is None:
            raise TokenRefused(Flaw.WRONG_SIGNATURE, issuer=issuer)
        claims = jwt.decode(token, key, algorithms=_algorithms(key), options=_CHECKS)
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
        raise TokenRefused(Flaw.WRONG_SIGNATURE, issuer=issuer) from None
    except jwt.MissingRequiredClaimError as error:
        raise TokenRefused(Flaw.MISSING_CLAIM, issuer=issuer, claim=error.claim) from None
    except _BROKEN:
        raise TokenRefused(Flaw.MALFORMED, issuer=issuer) from None
    return _web_token(claims, issuer)


def _algorithms(key: RSAPublicKey | EllipticCurvePublicKey) -> Sequence[str]:
    return _RSA if isinstance(key, RSAPublicKey) else _CURVES.get(key.curve.name, ())


def _is_canonical(part: str) -> bool:
    """Whether a part of a token is base64url; Python and PyJWT ignore foreign characters."""
    try:
        base64url.decode(part)
    except ValueError:
        return False
    return True


_CHECKS: Final[Any] = {  # Any: PyJWT's Options, which it does not export
    "require": ["iss", "sub", "aud", "exp"],
    **dict.fromkeys(("verify_aud", "verify_exp", "verify_nbf", "verify_iat"), False),
}


def _web_token(claims: Mapping[str, Any], issuer: str) -> WebToken:  # Any: JSON
    audience, now = claims["aud"], time.time()
    audiences = (audience,) if isinstance(audience, str) else audience
    times = [claims["exp"], claims.get("nbf", 0)]
    if not (
        isinstance(claims["sub"], str)
        and isinstance(audiences, list | tuple)
        and all(isinstance(each, str) for each in audiences)
        and all(isinstance(each, int | float) and 0 <= each <= MAX_TIME for each in times)  # never true for NaN
    ):
        raise TokenRefused(Flaw.MALFORMED, issuer=issuer)
    expires, starts = map(int, times)
    if expires <= now:
        raise TokenRefused(Flaw.EXPIRED, issuer=issuer, expires=expires)
    if starts > now:
        raise TokenRefused(Flaw.NOT_YET_VALID, issuer=issuer)
    return WebToken(issuer=issuer, subject=claims["sub"], audiences=tuple(audiences), expires=expires, claims=claims)
