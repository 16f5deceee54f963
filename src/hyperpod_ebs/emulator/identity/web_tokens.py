"""Tokens of Kubernetes service accounts and other web identities: JSON Web Tokens, signed with RS256.

Source: RFC 7519; OpenID Connect Core 1.0, section 3.1.3.7, "ID Token Validation".
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import jwt

from hyperpod_ebs.emulator.identity.issuer_keys import IssuerKeys

ALGORITHM: Final = "RS256"
"""The only accepted algorithm; no key can be confused with a secret, and no token can be unsigned."""

MAX_TIME: Final = 253_402_300_799
"""Seconds since the epoch of the last second of the year 9999."""

_BROKEN: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""What PyJWT raises for tokens of any content."""


class Flaw(Enum):
    """What can be wrong with a token."""

    MALFORMED = auto()
    UNKNOWN_ISSUER = auto()
    WRONG_SIGNATURE = auto()
    EXPIRED = auto()
    NOT_YET_VALID = auto()


class TokenRefused(Exception):  # noqa: N818 - named for what happened
    """A token proves nothing."""

    def __init__(self, flaw: Flaw, *, issuer: str = "", expires: int | None = None) -> None:
        super().__init__(flaw)
        self.flaw = flaw
        self.issuer = issuer
        """The issuer that the token names; empty if it cannot be read."""

        self.expires = expires
        """Seconds since the epoch at which an expired token expired."""


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
    try:
        issuer = jwt.decode(token, options={"verify_signature": False})["iss"]
    except (*_BROKEN, KeyError):
        raise TokenRefused(Flaw.MALFORMED) from None  # the cause may quote the token
    if not isinstance(issuer, str):
        raise TokenRefused(Flaw.MALFORMED)
    return issuer


def verify(token: str, keys: IssuerKeys) -> WebToken:
    """Verify the token's signature and times, and return its claims; the caller checks audience and subject.

    Raises:
        TokenRefused: The token is malformed, of an unknown issuer, not signed by it, expired or not valid yet.
    """
    issuer = issuer_of(token)
    if (known := keys.find(issuer)) is None:
        raise TokenRefused(Flaw.UNKNOWN_ISSUER, issuer=issuer)
    try:
        header = jwt.get_unverified_header(token)
        # A Kubernetes API server and AWS's issuers always name the key.
        if header.get("alg") != ALGORITHM or (key := known.get(str(header.get("kid")))) is None:
            raise TokenRefused(Flaw.WRONG_SIGNATURE, issuer=issuer)
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], options=_CHECKS)
    except jwt.InvalidSignatureError:
        raise TokenRefused(Flaw.WRONG_SIGNATURE, issuer=issuer) from None
    except _BROKEN:
        raise TokenRefused(Flaw.MALFORMED, issuer=issuer) from None
    return _web_token(claims, issuer)


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
