"""The records of EKS beside its clusters: token issuers, pod identities, access entries and add-ons.

Instants are seconds since the epoch. A member of a cluster is dropped together with the cluster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Tags = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcIssuer:
    """The issuer of the service account tokens of an EKS cluster, and its key pair."""

    id: str
    """The issuer's URL, as tokens have it in `iss`: http://127.0.0.1:4566/oidc/4C5F...E1."""

    cluster: str
    """The name of the cluster."""

    key_id: str
    """The `kid` of tokens, as a Kubernetes API server computes it."""

    public_key: str
    """PEM, SubjectPublicKeyInfo."""

    private_key: str = field(repr=False)
    """PEM, PKCS #8; no answer and no log has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentityAssociation:
    """The role that the pods of a service account get."""

    id: str
    """a- and 17 letters or digits."""

    cluster: str
    namespace: str
    service_account: str
    role: str
    """The role's ARN."""

    has_session_tags: bool = True
    policy: str = ""
    """The session policy; empty without one."""

    owner: str = ""
    """The ARN of the add-on that the association belongs to; empty without one."""

    created: float
    modified: float
    client_token: str = ""
    """The client token of the request that created it; the same request may be sent again."""

    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessEntry:
    """What an IAM principal may do in a cluster's Kubernetes."""

    cluster: str
    principal: str
    """The ARN of a user or a role."""

    unique_id: str
    """The last part of the entry's ARN."""

    kind: str
    """STANDARD, EC2_LINUX, ..."""

    username: str
    groups: tuple[str, ...] = ()
    policies: tuple[Mapping[str, str | float | Sequence[str]], ...] = ()
    """The associated access policies: arn, scope, namespaces, associated, modified."""

    created: float
    modified: float
    client_token: str = ""
    """The client token of the request that created it; the same request may be sent again."""

    tags: Tags = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The cluster and the principal, which has at most one entry in a cluster."""
        return f"{self.cluster}/{self.principal}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addon:
    """An add-on that EKS manages in a cluster."""

    cluster: str
    name: str
    unique_id: str
    """The last part of the add-on's ARN."""

    version: str
    state: str = "CREATING"
    role: str = ""
    """The ARN of the service account's role; empty without one."""

    configuration: str = ""
    associations: tuple[str, ...] = ()
    """The ids of its pod identity associations."""

    created: float
    modified: float
    client_token: str = ""
    """The client token of the request that created it; the same request may be sent again."""

    tags: Tags = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The cluster and the name."""
        return f"{self.cluster}/{self.name}"
