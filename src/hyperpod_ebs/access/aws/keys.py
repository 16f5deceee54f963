"""KMS keys: their state, policies and grants (KMS API reference)."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors

ENABLED: Final = "Enabled"
_UNKNOWN: Final = "NotFoundException"


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsKey:
    """A KMS key."""

    arn: str
    state: str
    deletion: datetime | None
    """When it will be deleted, in state PendingDeletion."""

    is_managed_by_aws: bool
    is_symmetric: bool

    @property
    def account(self) -> str:
        """The account that owns it."""
        return self.arn.split(":")[4]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyGrant:
    """A permission to use a key."""

    grantee: str
    operations: frozenset[str]


async def find_key(aws: Aws, key: str) -> KmsKey | None:
    """The key with this id, ARN or alias; None if there is none.

    Raises:
        Error: The caller may not describe it.
    """
    kms = await aws.kms()
    try:
        with translate_sdk_errors(f"describe KMS key {key}"):
            found = (await kms.describe_key(KeyId=key))["KeyMetadata"]
    except errors.CloudError as error:
        if error.code == _UNKNOWN:
            return None
        raise
    return KmsKey(
        arn=found["Arn"],
        state=found["KeyState"],
        deletion=found.get("DeletionDate"),
        is_managed_by_aws=found.get("KeyManager") == "AWS",
        is_symmetric=found.get("KeySpec", "SYMMETRIC_DEFAULT") == "SYMMETRIC_DEFAULT",
    )


async def key_policy(aws: Aws, key: str) -> str:
    """The key's policy, as JSON.

    Raises:
        Error: The caller may not read it.
    """
    kms = await aws.kms()
    with translate_sdk_errors(f"read the policy of KMS key {key}"):
        return (await kms.get_key_policy(KeyId=key, PolicyName="default"))["Policy"]


async def list_grants(aws: Aws, key: str, grantee: str) -> list[KeyGrant]:
    """The key's grants for a principal.

    Raises:
        Error: The caller may not list them.
    """
    kms, grants = await aws.kms(), list[KeyGrant]()
    with translate_sdk_errors(f"list the grants of KMS key {key}"):
        async for page in kms.get_paginator("list_grants").paginate(KeyId=key, GranteePrincipal=grantee):
            grants += [
                KeyGrant(grantee=grant["GranteePrincipal"], operations=frozenset(map(str, grant["Operations"])))
                for grant in page["Grants"]
            ]
    return grants


async def default_volume_key(aws: Aws) -> str:
    """The key that encrypts new volumes by default, as id, ARN or alias; empty if new volumes are not encrypted.

    Raises:
        Error: The caller may not read the settings.
    """
    ec2 = await aws.ec2()
    with translate_sdk_errors("read the default encryption of EBS volumes"):
        if not (await ec2.get_ebs_encryption_by_default())["EbsEncryptionByDefault"]:
            return ""
        return (await ec2.get_ebs_default_kms_key_id())["KmsKeyId"]
