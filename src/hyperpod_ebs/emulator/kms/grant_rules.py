"""What a grant allows.

Source: KMS Developer Guide, "Grants in AWS KMS" and "Grant constraints".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.emulator.kms_records import Grant
from hyperpod_ebs.iam import principals
from hyperpod_ebs.iam.request import Principal

OPERATIONS: Final = frozenset(
    {
        *("Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"),
        *("CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"),
    }
)
"""The operations that a grant for a key of symmetric encryption may allow."""

_WITHOUT_CONTEXT: Final = frozenset({"DescribeKey", "RetireGrant"})
"""The operations to which constraints on the encryption context do not apply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a principal wants to do with a key."""

    operation: str
    context: Mapping[str, str] = field(default_factory=dict)
    """The encryption context; for CreateGrant, that of the new grant's constraint."""

    operations: Sequence[str] = ()
    """The operations of the grant that CreateGrant is to create."""

    is_exact: bool = False
    """Whether the constraint of that grant is EncryptionContextEquals."""


def grant_to(principal: Principal, use: Use, grants: Iterable[Grant]) -> principals.Grant:
    """How closely the closest grant that allows the principal to use its key so names the principal."""
    return max((_closeness(grant, use, principal) for grant in grants), default=principals.Grant.NONE)


def _closeness(grant: Grant, use: Use, principal: Principal) -> principals.Grant:
    """How closely the grant names the principal; NONE if it does not allow the use."""
    as_retiree = _named_closeness(grant.retiree, principal)
    if use.operation == "RetireGrant" and as_retiree is not principals.Grant.NONE:
        return as_retiree
    return _named_closeness(grant.grantee, principal) if _allows(grant, use) else principals.Grant.NONE


def _allows(grant: Grant, use: Use) -> bool:
    """Whether the grant allows its grantee to use the key so."""
    if use.operation not in grant.operations:
        return False
    if grant.source_arn:  # no request is made on behalf of another resource
        return False
    if use.operation == "CreateGrant" and not _is_as_strict(use, grant):
        return False
    return use.operation in _WITHOUT_CONTEXT or _meets_constraints(grant, use.context)


def _named_closeness(named: str, principal: Principal) -> principals.Grant:
    """How closely the ARN of a grant names the principal: the user or session, the session's role, or the account."""
    if not named:
        return principals.Grant.NONE
    if named == principal.arn:
        return principals.Grant.PRINCIPAL
    if named == principal.role:
        return principals.Grant.ROLE
    is_account = principals.account_or_name(named) == principal.account
    return principals.Grant.ACCOUNT if is_account else principals.Grant.NONE


def constraint(grant: Grant) -> Mapping[str, Mapping[str, str] | str]:
    """The constraints as KMS writes them; empty without one."""
    members: dict[str, Mapping[str, str] | str] = {
        "EncryptionContextSubset": grant.context_subset,
        "EncryptionContextEquals": grant.context_equals,
        "SourceArn": grant.source_arn,
    }
    return {name: value for name, value in members.items() if value}


def _is_as_strict(use: Use, grant: Grant) -> bool:
    """Whether the grant that CreateGrant is to create allows no more than this one."""
    return {*use.operations} <= {*grant.operations} and (use.is_exact or not grant.context_equals)


def _meets_constraints(grant: Grant, context: Mapping[str, str]) -> bool:
    if grant.context_equals and dict(grant.context_equals) != dict(context):
        return False
    return grant.context_subset.items() <= context.items()
