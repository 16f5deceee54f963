"""Tokens of Kubernetes service accounts, signed as the API server of an EKS cluster signs them, and roles for pods."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity_records import Role
from hyperpod_ebs.emulator.state.world import now

AUDIENCE: Final = "pods.eks.amazonaws.com"

POD_TRUST: Final[Mapping[str, Any]] = {
    "Effect": "Allow",
    "Principal": {"Service": AUDIENCE},
    "Action": ["sts:AssumeRole", "sts:TagSession"],
}
"""What EKS Pod Identity needs in a trust policy (EKS User Guide, "EKS Pod Identity role trust policy")."""


def create_role(emulator: Emulator, name: str, *, trust: Mapping[str, Any] = POD_TRUST, **members: Any) -> str:
    """Create a role with one statement in its trust policy; return its ARN."""
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = Role(id=name, unique_id=new_unique_id("AROA"), created=now(), trust=document, **members)
    emulator.world.store.roles.put(role)
    return f"arn:aws:iam::123456789012:role{role.path}{name}"


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


def sign(
    emulator: Emulator, cluster: str, claims: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
) -> str:
    """Sign claims with the key file of a cluster, which stands for the key of its API server."""
    (issuer,) = emulator.world.store.oidc_issuers.where("cluster", cluster)
    key = load_pem_private_key((emulator.state / "eks" / cluster / "sa.key").read_bytes(), password=None)
    return jwt.encode(dict(claims), key, algorithm="RS256", headers={"kid": issuer.key_id, **(headers or {})})  # type: ignore[arg-type] # an RSA key


def pod_token(emulator: Emulator, cluster: str, *, without: Sequence[str] = (), **changes: Any) -> str:
    """A token of a pod in the cluster, with some claims changed or left out."""
    (issuer,) = emulator.world.store.oidc_issuers.where("cluster", cluster)
    claims = {**pod_claims(issuer.id), **changes}
    return sign(emulator, cluster, {name: value for name, value in claims.items() if name not in without})
