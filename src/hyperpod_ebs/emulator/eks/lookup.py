"""Finding EKS's resources by what a request names, with EKS's errors."""

from collections.abc import Mapping
from typing import Final

from hyperpod_ebs.emulator.eks_records import OidcIssuer
from hyperpod_ebs.emulator.records import EksCluster
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

MAX_TAGS: Final = 50
"""The most tags of a resource."""


def require_cluster(store: Store, name: str) -> EksCluster:
    """The cluster with this name.

    Raises:
        AwsFault: There is none.
    """
    if (cluster := store.eks_clusters.get(name)) is None:
        raise AwsFault("ResourceNotFoundException", f"No cluster found for name: {name}.", 404)
    return cluster


def issuer_of(store: Store, cluster: str) -> OidcIssuer | None:
    """The token issuer of a cluster; only clusters of older state directories have none."""
    return next(iter(store.oidc_issuers.where("cluster", cluster)), None)


def check_tags(tags: Mapping[str, str], *, code: str = "InvalidParameterException") -> None:
    """Refuse tags that only AWS may set, and too many tags.

    Raises:
        AwsFault: With this code.
    """
    if reserved := next((key for key in tags if key.lower().startswith("aws:")), None):
        raise AwsFault(code, f"Tag key {reserved} is not valid: keys that start with aws: are reserved for AWS")
    if len(tags) > MAX_TAGS:
        raise AwsFault(code, f"A resource can have at most {MAX_TAGS} tags, not {len(tags)}")


def limit_exceeded(text: str) -> AwsFault:
    """The error of a request that exceeds a quota."""
    return AwsFault("ResourceLimitExceededException", text)


def is_repeated(client_token: str, parameters: Parameters) -> bool:
    """Whether a request repeats the one that created a resource, whose answer was lost.

    Source: EKS API Reference, `clientRequestToken` of CreateCluster. SDKs fill it in, and keep it when they retry.

    Args:
        client_token: The token of the request that created the resource; empty if it had none.
        parameters: The parameters of the request.
    """
    return bool(client_token) and parameters.get("clientRequestToken") == client_token
