"""What a pod needs to get AWS credentials from EKS: environment variables, and a token of its service account.

With IRSA the SDK exchanges the token at STS, with Pod Identity at the agent on the node.

Sources: EKS User Guide, "Configure Pods to use a Kubernetes service account" and "Understand how
EKS Pod Identity works"; aws/amazon-eks-pod-identity-webhook, README.md and pkg/handler/handler.go.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

EXPIRATION: Final = 86400
"""Seconds for which a token is valid by default."""

MIN_EXPIRATION: Final = 3600
"""Seconds for which a token is valid at least."""

_DOMAIN: Final = "eks.amazonaws.com"

Annotations = Mapping[str, str]
Json = Mapping[str, Any]  # an object of Kubernetes


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way in which a pod gets credentials."""

    variables: Mapping[str, str]
    """The environment variables with which an SDK finds the token and the credentials."""
    volume: str
    directory: str
    file: str
    audience: str
    """The audience of the token."""


_POD_IDENTITY_DIRECTORY: Final = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
_POD_IDENTITY_FILE: Final = "eks-pod-identity-token"

POD_IDENTITY: Final = Method(
    variables={
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": f"{_POD_IDENTITY_DIRECTORY}/{_POD_IDENTITY_FILE}",
    },
    volume="eks-pod-identity-token",
    directory=_POD_IDENTITY_DIRECTORY,
    file=_POD_IDENTITY_FILE,
    audience="pods.eks.amazonaws.com",
)


def pod_patch(pod: Json, account: Annotations, *, has_association: bool, region: str) -> list[Json]:
    """The JSON patch (RFC 6902) that gives a new pod the credentials of its service account; empty if it has no role.

    A container keeps the variables and mounts that it has. As in EKS, Pod Identity wins over IRSA.

    Args:
        pod: The pod.
        account: The annotations of its service account.
        has_association: Whether the service account has a Pod Identity association.
        region: The AWS region of the cluster.
    """
    method = POD_IDENTITY if has_association else _web_identity(account)
    if method is None:
        return []
    annotations, spec = pod["metadata"].get("annotations", {}), pod["spec"]
    skipped = set(next(csv.reader([annotations.get(f"{_DOMAIN}/skip-containers", "")]), ()))
    is_regional = account.get(f"{_DOMAIN}/sts-regional-endpoints", "true") == "true"
    groups = [
        {"AWS_STS_REGIONAL_ENDPOINTS": "regional"} if is_regional else {},
        {"AWS_DEFAULT_REGION": region, "AWS_REGION": region},
        method.variables,
    ]
    expiration = _expiration(annotations, _expiration(account, EXPIRATION))
    return [
        *_volume_patch(spec, method, expiration),
        *(
            {
                "op": "add",
                "path": f"/spec/{kind}",
                "value": [
                    container if container["name"] in skipped else _with_credentials(container, method, groups)
                    for container in spec[kind]
                ],
            }
            for kind in ("initContainers", "containers")
            if spec.get(kind)
        ),
    ]


def _web_identity(account: Annotations) -> Method | None:
    """IRSA with the role in the annotations of a service account; None without one."""
    if not (role := account.get(f"{_DOMAIN}/role-arn")):
        return None
    directory, file = "/var/run/secrets/eks.amazonaws.com/serviceaccount", "token"
    return Method(
        variables={"AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": f"{directory}/{file}"},
        volume="aws-iam-token",
        directory=directory,
        file=file,
        audience=account.get(f"{_DOMAIN}/audience", "sts.amazonaws.com"),
    )


def _expiration(annotations: Annotations, default: int) -> int:
    """The seconds in the annotations; the default if there are none, or no number."""
    try:
        return max(int(annotations[f"{_DOMAIN}/token-expiration"]), MIN_EXPIRATION)
    except (LookupError, ValueError):
        return default


def _volume_patch(spec: Json, method: Method, expiration: int) -> list[Json]:
    """The patch that adds the volume of the token, unless the pod has a volume of this name."""
    volumes = spec.get("volumes", [])
    if any(volume["name"] == method.volume for volume in volumes):
        return []
    token = {"audience": method.audience, "expirationSeconds": expiration, "path": method.file}
    volume = {"name": method.volume, "projected": {"sources": [{"serviceAccountToken": token}]}}
    if volumes:
        return [{"op": "add", "path": "/spec/volumes/0", "value": volume}]
    return [{"op": "add", "path": "/spec/volumes", "value": [volume]}]


def _with_credentials(container: Json, method: Method, groups: Sequence[Mapping[str, str]]) -> Json:
    """A container with the token, and with each group of variables of which it sets none itself."""
    env, mounts = container.get("env", []), container.get("volumeMounts", [])
    own = {variable["name"] for variable in env}
    added = [
        {"name": name, "value": value} for group in groups if not own & group.keys() for name, value in group.items()
    ]
    if all(mount["name"] != method.volume for mount in mounts):
        mounts = [*mounts, {"name": method.volume, "mountPath": method.directory, "readOnly": True}]
    return {**container, "env": [*env, *added], "volumeMounts": mounts}
