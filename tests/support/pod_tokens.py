"""Tokens of Kubernetes service accounts, signed as the API server of an EKS cluster signs them, and roles for pods."""

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws
from tests.support.iam_users import allow, document

AUDIENCE: Final = "pods.eks.amazonaws.com"

POD_TRUST: Final[Mapping[str, Any]] = {
    "Effect": "Allow",
    "Principal": {"Service": AUDIENCE},
    "Action": ["sts:AssumeRole", "sts:TagSession"],
}
"""What EKS Pod Identity needs in a trust policy (EKS User Guide, "EKS Pod Identity role trust policy")."""


async def create_role(
    aws: Aws, name: str, *, trust: Mapping[str, Any] = POD_TRUST, path: str = "/", allows: str | None = None
) -> str:
    """Create a role with one statement in its trust policy; return its ARN. It may do the action that it allows."""
    role = await aws("iam", "create_role", RoleName=name, Path=path, AssumeRolePolicyDocument=document(trust))
    if allows:
        policy = document(allow(allows))
        await aws("iam", "put_role_policy", RoleName=name, PolicyName="own", PolicyDocument=policy)
    return str(role["Role"]["Arn"])


def pod_claims(issuer: str, *, namespace: str = "kube-system", service_account: str = "ebs") -> dict[str, Any]:
    """The claims of the token of a pod's service account (kubernetes/kubernetes, pkg/serviceaccount/claims.go)."""
    at = int(time.time())
    return {
        "iss": issuer,
        "sub": f"system:serviceaccount:{namespace}:{service_account}",
        "aud": [AUDIENCE],
        "exp": at + 3600,
        "iat": at,
        "nbf": at,
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": {"name": service_account, "uid": "5d2f"},
            "pod": {"name": "ebs-csi-controller-0", "uid": "9c1e"},
        },
    }


def sign(emulator: Emulator, cluster: str, claims: Mapping[str, Any], *, key_id: str | None = None) -> str:
    """Sign claims with the key of a cluster, under its key id or another."""
    (issuer,) = emulator.world.store.oidc_issuers.where("cluster", cluster)
    return sign_with_file(emulator.state, cluster, claims, key_id=key_id or issuer.key_id)


def sign_with_file(state: Path, cluster: str, claims: Mapping[str, Any], *, key_id: str) -> str:
    """Sign claims with the key file of a cluster in a state directory, as a control plane on this machine does."""
    key = load_pem_private_key((state / "eks" / cluster / "sa.key").read_bytes(), password=None)
    return jwt.encode(dict(claims), key, algorithm="RS256", headers={"kid": key_id})  # type: ignore[arg-type] # an RSA key


def cluster_key_id(public_key: bytes) -> str:
    """The `kid` that a Kubernetes API server gives a public key in PEM (pkg/serviceaccount/jwt.go)."""
    der = load_pem_public_key(public_key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def pod_token(emulator: Emulator, cluster: str, *, without: Sequence[str] = (), **changes: Any) -> str:
    """A token of a pod in the cluster, with some claims changed or left out."""
    (issuer,) = emulator.world.store.oidc_issuers.where("cluster", cluster)
    claims = {**pod_claims(issuer.id), **changes}
    return sign(emulator, cluster, {name: value for name, value in claims.items() if name not in without})
