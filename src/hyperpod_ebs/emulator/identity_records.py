"""The records of IAM and STS: users, groups, roles, policies, access keys and sessions.

Documents are kept as the caller wrote them. Instants are seconds since the epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Tags = Mapping[str, str]

Documents = Mapping[str, str]
"""Inline policies by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An IAM user."""

    id: str
    """The name."""

    path: str = "/"
    unique_id: str
    """AIDA and 16 letters or digits."""

    created: float
    boundary: str = ""
    """ARN of the policy that is the permissions boundary; empty without one."""

    inline: Documents = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    """ARNs of managed policies."""

    groups: tuple[str, ...] = ()
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of users with policies in common."""

    id: str
    """The name."""

    path: str = "/"
    unique_id: str
    """AGPA and 16 letters or digits."""

    created: float
    inline: Documents = field(default_factory=dict)
    attached: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role that trusted principals can assume."""

    id: str
    """The name."""

    path: str = "/"
    unique_id: str
    """AROA and 16 letters or digits."""

    created: float
    trust: str
    """The trust policy."""

    description: str = ""
    max_session_seconds: int = 3600
    boundary: str = ""
    inline: Documents = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionTask:
    """The deletion of a service-linked role, which is decided at once."""

    id: str
    """task/aws-service-role/SERVICE/ROLE/ID."""

    created: float
    usage: tuple[str, ...]
    """The ARNs of the resources because of which the deletion failed; none if the role is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A version of a customer-managed policy."""

    policy: str
    """The policy's ARN."""

    number: int
    document: str
    created: float

    @property
    def id(self) -> str:
        """The policy's ARN and the version: arn:aws:iam::123456789012:policy/storage:v1."""
        return f"{self.policy}:v{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedPolicy:
    """A customer-managed policy."""

    id: str
    """The ARN."""

    name: str
    path: str = "/"
    unique_id: str
    """ANPA and 16 letters or digits."""

    created: float
    updated: float
    description: str = ""
    default: int = 1
    """The number of the version that applies."""

    latest: int = 1
    """The highest number of a version so far; numbers are not used again."""

    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceProfile:
    """The container through which EC2 instances get a role."""

    id: str
    """The name."""

    path: str = "/"
    unique_id: str
    """AIPA and 16 letters or digits."""

    created: float
    role: str = ""
    """The role's name; empty without one."""

    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcProvider:
    """An identity provider whose tokens AssumeRoleWithWebIdentity accepts."""

    id: str
    """The ARN; it ends in the issuer's URL without https://."""

    url: str
    """The issuer's URL without https://."""

    created: float
    audiences: tuple[str, ...] = ()
    thumbprints: tuple[str, ...] = ()
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A user's long-term credentials."""

    id: str
    """AKIA and 16 letters or digits."""

    user: str
    secret: str = field(repr=False)
    is_active: bool = True
    created: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Temporary credentials."""

    id: str
    """ASIA and 16 letters or digits."""

    secret: str = field(repr=False)
    token: str = field(repr=False)
    role: str = ""
    """The role's name; empty for the session of a user."""

    user: str = ""
    """The user's name; empty for the session of a role."""

    name: str = ""
    """The session's name in the ARN of an assumed role."""

    issued: float
    expires: float
    policies: tuple[str, ...] = ()
    """Documents of session policies: the inline one and, in a state of schema 1, those of the managed ones."""

    policy_arns: tuple[str, ...] = ()
    """ARNs of managed session policies; without these and `policies`, the session has all permissions."""

    tags: Tags = field(default_factory=dict)
    """The principal tags of the session."""

    transitive: tuple[str, ...] = ()
    """Keys of tags that sessions chained from this one keep."""

    source_identity: str = ""
    is_chained: bool = False
    """Whether a session assumed the role; such sessions last an hour at most."""

    provider: str = ""
    """The issuer of the token with which the role was assumed; empty without one."""

    has_mfa: bool = False
