"""What a policy decision is about: a principal wants an action on a resource, in a context.

Source: IAM User Guide, "Policy evaluation logic" and "The request context".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class PrincipalType(Enum):
    """The kinds of principals, as the Principal element of a policy tells them apart."""

    ACCOUNT = "Account"
    """The root user of an account."""

    USER = "User"
    ROLE_SESSION = "AssumedRole"
    FEDERATED = "FederatedUser"
    """A person or program with a token of an identity provider; only a role's trust policy decides about it."""

    SERVICE = "Service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who makes a request."""

    type: PrincipalType

    arn: str
    """A user's, a role session's or a root user's ARN; an identity provider's ARN or URL; a service's host name."""

    account: str = ""
    """The account of a user, a root user or a role session."""

    role: str = ""
    """The ARN of the role of a role session."""

    unique_id: str = ""
    """The id that starts with AIDA for a user, with AROA for the role of a session."""


class Context:
    """The condition keys of a request and their values; keys are compared without regard to case.

    Two tags whose keys differ only by case are one condition key with two values, which no operator for single values
    accepts. So a tag cannot hide another one.
    """

    __slots__ = ("_values",)

    def __init__(self, *layers: Mapping[str, str | Iterable[str]]) -> None:
        """Create the context; a key of a later layer replaces that of an earlier one."""
        self._values: Final[dict[str, tuple[str, ...]]] = {}
        for layer in layers:
            self._values.update(_merge_cases(layer))

    def get(self, key: str) -> tuple[str, ...]:
        """The values of a key; empty if the request lacks the key."""
        return self._values.get(key.lower(), ())

    def items(self) -> Iterable[tuple[str, tuple[str, ...]]]:
        """The keys in lower case, with their values."""
        return self._values.items()


def _merge_cases(values: Mapping[str, str | Iterable[str]]) -> Mapping[str, tuple[str, ...]]:
    """The values by keys in lower case; keys that differ only by case get the values of all."""
    merged: dict[str, tuple[str, ...]] = {}
    for key, value in values.items():
        given, name = (value,) if isinstance(value, str) else tuple(value), key.lower()
        merged[name] = merged[name] + given if name in merged else given
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One action on one resource; a call to AWS may need several."""

    principal: Principal
    action: str
    """The service's prefix and the operation: ec2:AttachVolume."""

    resource: str
    """The resource's ARN; an asterisk for an action that takes no resource."""

    resource_account: str
    context: Context = field(default_factory=lambda: Context({}))
