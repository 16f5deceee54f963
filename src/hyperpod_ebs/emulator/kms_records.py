"""The records of KMS: keys, aliases, grants, and the account's settings for the encryption of EBS volumes.

Key material is stored encrypted under the emulator's root key, which is in a file of its own.
Instants are seconds since the epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Tags = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A KMS key for symmetric encryption."""

    id: str
    """The UUID at the end of the ARN."""

    created: float
    materials: tuple[str, ...]
    """Each generation of the key material, encrypted and in base64; the last one encrypts."""

    policy: str
    """The key policy as the caller wrote it."""

    description: str = ""
    state: str = "Enabled"
    """Enabled, Disabled or PendingDeletion."""

    manager: str = "CUSTOMER"
    """CUSTOMER, or AWS for a key that AWS manages."""

    deletion: float | None = None
    """When the key will be deleted, in state PendingDeletion."""

    rotation_days: int = 0
    """Days between automatic rotations; 0 without rotation."""

    next_rotation: float | None = None
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name of a key."""

    id: str
    """The name with its prefix: alias/storage."""

    key: str
    """The id of the key."""

    created: float
    updated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A permission for one principal to use a key."""

    id: str
    """64 hex digits."""

    key: str
    """The id of the key."""

    grantee: str
    """The ARN of a principal, or the host name of a service."""

    retiree: str = ""
    """The principal that may retire the grant; empty without one."""

    operations: tuple[str, ...]
    context_subset: Mapping[str, str] = field(default_factory=dict)
    """The constraint EncryptionContextSubset; empty without one."""

    context_equals: Mapping[str, str] = field(default_factory=dict)
    """The constraint EncryptionContextEquals; empty without one."""

    source_arn: str = ""
    """The constraint SourceArn; empty without one."""

    name: str = ""
    issuer: str
    """The ARN of the account that created the grant."""

    created: float
    attachment: str = ""
    """The attachment whose volume EC2 decrypts with the grant; empty for a grant of a caller's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EbsEncryption:
    """The account's settings for new EBS volumes."""

    id: str = "account"
    is_default: bool = False
    """Whether new volumes are encrypted even if the request does not ask for it."""

    key: str = ""
    """The ARN of the default key; empty for the key that AWS manages."""
