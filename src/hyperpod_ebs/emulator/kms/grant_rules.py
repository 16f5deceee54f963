"""What a grant allows.

Source: KMS Developer Guide, "Grants in AWS KMS" and "Grant constraints".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.emulator.kms_records import Grant
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


def is_allowed_by(grant: Grant, use: Use, principal: Principal) -> bool:
    """Whether the grant allows the principal to use its key so."""
    if use.operation == "RetireGrant" and is_same(grant.retiree, principal):
        return True
    if use.operation not in grant.operations or not is_same(grant.grantee, principal):
        return False
    if grant.source_arn:  # no request is made on behalf of another resource
        return False
    if use.operation == "CreateGrant" and not _is_as_strict(use, grant):
        return False
    return use.operation in _WITHOUT_CONTEXT or _meets_constraints(grant, use.context)


def is_same(named: str, principal: Principal) -> bool:
    """Whether the ARN names the principal: the user, the session or the session's role."""
    return bool(named) and named in {principal.arn, principal.role}


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
