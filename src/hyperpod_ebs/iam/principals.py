"""The Principal and NotPrincipal elements of key policies and trust policies.

Source: IAM User Guide, "AWS JSON policy elements: Principal".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from hyperpod_ebs.iam.request import Principal, PrincipalType

EVERY_PRINCIPAL: Final = "*"

_ACCOUNT: Final = re.compile(r"(?:arn:[a-z-]+:iam::)?(?P<account>[0-9]{12})(?::root)?", re.ASCII)


class Grant(IntEnum):
    """How closely an element names a principal, which decides what else the principal needs."""

    NONE = 0
    ACCOUNT = 1
    """The principal's account: the policies of the principal must allow the action as well."""

    ROLE = 2
    """The role of the session: a permissions boundary and a session policy still limit the session."""

    EVERY_PRINCIPAL = 3
    """An asterisk: only a session policy still limits the principal."""

    PRINCIPAL = 4
    """The user or the session itself: no other policy has to allow the action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """The principals that the element names, by type."""

    aws: frozenset[str]
    """ARNs, account ids, unique ids, or an asterisk, which stands for the principals of all types."""

    services: frozenset[str]
    federated: frozenset[str]

    @classmethod
    def build(
        cls, *, aws: Sequence[str] = (), services: Sequence[str] = (), federated: Sequence[str] = ()
    ) -> "Principals":
        """Normalise account ids, so that both ways to write an account are one."""
        return cls(
            aws=frozenset(map(account_or_name, aws)), services=frozenset(services), federated=frozenset(federated)
        )

    def grant(self, principal: Principal) -> Grant:
        """How closely the element names the principal."""
        is_everyone = EVERY_PRINCIPAL in self.aws
        match principal.type:
            case PrincipalType.SERVICE:
                return Grant.PRINCIPAL if is_everyone or principal.arn in self.services else Grant.NONE
            case PrincipalType.FEDERATED:
                return Grant.PRINCIPAL if is_everyone or principal.arn in self.federated else Grant.NONE
            case PrincipalType.ACCOUNT | PrincipalType.USER | PrincipalType.ROLE_SESSION:
                return self._aws_grant(principal)

    def exempts(self, principal: Principal) -> bool:
        """Whether the element, as the NotPrincipal of a Deny statement, excepts the principal.

        A user must be named with its account, and a role session with its role and its account. AWS may check these
        first (IAM User Guide, "AWS JSON policy elements: NotPrincipal").
        """
        if EVERY_PRINCIPAL in self.aws:
            return True
        match principal.type:
            case PrincipalType.SERVICE | PrincipalType.FEDERATED:
                return self.grant(principal) is not Grant.NONE
            case PrincipalType.ACCOUNT:
                return principal.account in self.aws
            case PrincipalType.USER:
                return principal.account in self.aws and bool({principal.arn, principal.unique_id} & self.aws)
            case PrincipalType.ROLE_SESSION:
                is_role_named = bool({principal.role, principal.unique_id} & self.aws)
                return principal.account in self.aws and is_role_named and principal.arn in self.aws

    def _aws_grant(self, principal: Principal) -> Grant:
        if principal.arn in self.aws:
            return Grant.PRINCIPAL
        if principal.type is PrincipalType.USER and principal.unique_id in self.aws:
            return Grant.PRINCIPAL
        if EVERY_PRINCIPAL in self.aws:
            return Grant.EVERY_PRINCIPAL
        if principal.type is PrincipalType.ROLE_SESSION and {principal.role, principal.unique_id} & self.aws:
            return Grant.ROLE
        return Grant.ACCOUNT if principal.account in self.aws else Grant.NONE


def account_or_name(name: str) -> str:
    """The id of the account that a name stands for, such as the ARN of its root user; the name of another principal."""
    match = _ACCOUNT.fullmatch(name)
    return match["account"] if match else name
