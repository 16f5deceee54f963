"""A statement of a policy, compiled."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from hyperpod_ebs.iam.conditions import Condition
from hyperpod_ebs.iam.patterns import ArnPatterns, Pattern
from hyperpod_ebs.iam.principals import Grant, Principals
from hyperpod_ebs.iam.request import Request


class Effect(Enum):
    """What a statement does with the requests that match it."""

    ALLOW = "Allow"
    DENY = "Deny"


class Element(IntEnum):
    """The elements of a statement, in the order in which they are compared with a request."""

    ACTION = 1
    PRINCIPAL = 2
    RESOURCE = 3
    CONDITION = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """The first element of a statement that does not match a request."""

    element: Element
    condition: Condition | None = None
    """The condition that the request does not meet."""


_OTHER_ACTION: Final = Mismatch(element=Element.ACTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement of a policy."""

    index: int
    """The position in the document, from 0."""

    sid: str
    effect: Effect
    actions: frozenset[str]
    """Actions without wildcards, in lower case."""

    action_patterns: Sequence[Pattern]
    is_not_action: bool
    resources: ArnPatterns | None
    """None in a trust policy, whose resource is the role."""

    is_not_resource: bool
    principals: Principals | None
    """None in an identity policy."""

    is_not_principal: bool
    """Only Deny statements have NotPrincipal."""

    conditions: Sequence[Condition]

    @property
    def name(self) -> str:
        """The statement's id, or its position in the document if it has none."""
        return self.sid or f"statement {self.index + 1}"

    def mismatch(self, request: Request, *, has_boundary: bool) -> Mismatch | None:
        """The first element that does not match; None if the statement applies to the request.

        Args:
            request: The request.
            has_boundary: Whether the principal has a permissions boundary. To such a principal a Deny statement with
                NotPrincipal always applies (IAM User Guide, "NotPrincipal").
        """
        if self._has_action(request.action) == self.is_not_action:
            return _OTHER_ACTION
        if self.principals is not None and not self._has_principal(self.principals, request, has_boundary=has_boundary):
            return Mismatch(element=Element.PRINCIPAL)
        if self.resources and self.resources.is_match(request.resource, request.context) in {
            None,
            self.is_not_resource,
        }:
            return Mismatch(element=Element.RESOURCE)
        for condition in self.conditions:
            if not condition.is_met(request.context):
                return Mismatch(element=Element.CONDITION, condition=condition)
        return None

    def grant(self, request: Request) -> Grant:
        """How closely an Allow statement names the principal of the request."""
        return self.principals.grant(request.principal) if self.principals else Grant.NONE

    def _has_principal(self, principals: Principals, request: Request, *, has_boundary: bool) -> bool:
        """Whether the statement is about the principal of the request."""
        if self.is_not_principal:
            return has_boundary or not principals.exempts(request.principal)
        return principals.grant(request.principal) is not Grant.NONE

    def _has_action(self, action: str) -> bool:
        name = action.lower()
        if name in self.actions:
            return True
        return bool(self.action_patterns) and any(pattern.is_match(name) for pattern in self.action_patterns)
