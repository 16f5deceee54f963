"""The keys of a cluster: the key pair that signs service account tokens, and the certificate authority.

Source: EKS User Guide, "Create an IAM OIDC provider for your cluster". The key id is computed
as a Kubernetes API server computes the `kid` of its tokens (pkg/serviceaccount/jwt.go).
"""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from hyperpod_ebs.kit import base64url

RSA_BITS: Final = 2048

VALIDITY: Final = timedelta(days=3650)
"""How long the certificate of the authority is valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterKeys:
    """Keys and certificate in PEM."""

    key_id: str
    """The `kid` of tokens."""

    public_key: str
    private_key: str = field(repr=False)
    authority: str
    """The certificate of the certificate authority."""

    authority_key: str = field(repr=False)

    @classmethod
    def generate(cls) -> "ClusterKeys":
        """Generate the keys; takes about 0.1 s."""
        tokens = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        authority = ec.generate_private_key(ec.SECP256R1())
        public = tokens.public_key()
        return cls(
            key_id=_key_id(public),
            public_key=public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            private_key=_private_pem(tokens),
            authority=_certificate(authority),
            authority_key=_private_pem(authority),
        )


def _key_id(key: rsa.RSAPublicKey) -> str:
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return base64url.encode(digest)


def _private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _certificate(key: ec.EllipticCurvePrivateKey) -> str:
    """A certificate of the authority, signed with its own key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clients' clocks may be late
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )
