"""The public keys of the token issuers of EKS clusters, with which STS and EKS Auth verify tokens.

AWS fetches the keys from the issuer. The emulator is the issuer as well, so it reads them from
its records, and a call never waits for a connection.
"""

import functools
from collections.abc import Mapping
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hyperpod_ebs.emulator.state.store import Store

PublicKeys = Mapping[str, RSAPublicKey | EllipticCurvePublicKey]
"""Keys by key id (`kid`)."""


class IssuerKeys(Protocol):
    """Knows issuers of tokens."""

    def find(self, issuer: str) -> PublicKeys | None:
        """The public keys of the issuer with this URL, scheme included; None if there is no such issuer."""
        ...


class ClusterIssuerKeys:
    """Knows the issuers of the account's EKS clusters."""

    def __init__(self, store: Store) -> None:
        self._issuers = store.oidc_issuers

    def find(self, issuer: str) -> PublicKeys | None:
        """The public keys of the issuer with this URL, scheme included; None if no cluster has it."""
        if (record := self._issuers.get(issuer)) is None:
            return None
        return {record.key_id: public_key(record.public_key)}


@functools.lru_cache(maxsize=1024)
def public_key(pem: str) -> RSAPublicKey:
    """The key in a PEM document.

    Raises:
        TypeError: It is not an RSA key.
    """
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, RSAPublicKey):
        raise TypeError(f"issuer key is a {type(key).__name__}, not an RSA key")
    return key
