"""Public keys in a JWK set (RFC 7517)."""

import json
from collections.abc import Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from hyperpod_ebs.emulator.identity.issuer_keys import PublicKeys

MAX_KEYS: Final = 100
"""Keys of a set that are read."""

RSA_BITS: Final = range(2048, 8193)
"""Sizes of RSA keys; with larger ones it takes long to verify a signature."""

PRIVATE: Final = "d"
"""The private exponent. To load a private key, PyJWT factors the modulus, which takes hours for a long one."""

_BROKEN: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError)


def parse(text: bytes) -> PublicKeys:
    """The keys for signatures by key id; private keys and keys of other kinds are left out.

    Raises:
        ValueError: The text is not a JWK set.
    """
    entries = json_object(text).get("keys")
    if not isinstance(entries, list):
        raise ValueError("the document has no keys")  # noqa: TRY004 - the error of any bad document
    return {
        entry["kid"]: key
        for entry in entries[:MAX_KEYS]
        if isinstance(entry, dict)
        and isinstance(entry.get("kid"), str)
        and entry.get("use", "sig") == "sig"
        and (key := _key(entry)) is not None
    }


def json_object(text: bytes) -> Mapping[str, Any]:  # Any: JSON
    """The object in a JSON document of a stranger.

    Raises:
        ValueError: The text is not a JSON object.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("the document is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("the document is not an object")  # noqa: TRY004 - the error of any bad document
    return value


def _key(entry: dict[str, Any]) -> RSAPublicKey | EllipticCurvePublicKey | None:  # Any: JSON
    try:
        match entry.get("kty"):
            case "RSA" | "EC" if PRIVATE in entry:
                return None
            case "RSA":
                key: object = RSAAlgorithm.from_jwk(entry)
            case "EC":
                key = ECAlgorithm.from_jwk(entry)
            case _:
                return None
    except _BROKEN:
        return None
    if isinstance(key, RSAPublicKey):
        return key if key.key_size in RSA_BITS else None
    return key if isinstance(key, EllipticCurvePublicKey) else None
