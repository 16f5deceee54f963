"""Scenarios for any AWS client: every operation of KMS once with success, and once with an error."""

import asyncio
import base64
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

OPERATIONS: Final = frozenset(
    {
        *("CreateKey", "DescribeKey", "ListKeys", "EnableKey", "DisableKey", "UpdateKeyDescription"),
        *("ScheduleKeyDeletion", "CancelKeyDeletion", "GetKeyRotationStatus", "EnableKeyRotation"),
        *("DisableKeyRotation", "TagResource", "UntagResource", "ListResourceTags"),
        *("CreateAlias", "UpdateAlias", "DeleteAlias", "ListAliases"),
        *("PutKeyPolicy", "GetKeyPolicy", "ListKeyPolicies"),
        *("CreateGrant", "ListGrants", "ListRetirableGrants", "RetireGrant", "RevokeGrant"),
        *("Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext"),
    }
)
"""The emulated operations of KMS."""

ROOT: Final = "arn:aws:iam::123456789012:root"
UNKNOWN_KEY: Final = "12345678-1234-1234-1234-123456789012"
_KEY: Final = {"KeyId": UNKNOWN_KEY}
_TAGS: Final = [{"TagKey": "app", "TagValue": "db"}]
_GRANT: Final = {"GranteePrincipal": ROOT, "RetiringPrincipal": ROOT, "Operations": ["Decrypt"]}
_NOT_FOUND: Final = "NotFoundException"

ERRORS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "CreateKey": ({"MultiRegion": True}, "UnsupportedOperationException"),
    "DescribeKey": (_KEY, _NOT_FOUND),
    "ListKeys": ({"Marker": "!"}, "InvalidMarkerException"),
    "EnableKey": (_KEY, _NOT_FOUND),
    "DisableKey": ({"KeyId": "arn:aws:nothing:us-west-2:123456789012:key/1"}, "InvalidArnException"),
    "UpdateKeyDescription": ({**_KEY, "Description": "one"}, _NOT_FOUND),
    "ScheduleKeyDeletion": ({**_KEY, "PendingWindowInDays": 6}, "ValidationException"),
    "CancelKeyDeletion": (_KEY, _NOT_FOUND),
    "GetKeyRotationStatus": (_KEY, _NOT_FOUND),
    "EnableKeyRotation": (_KEY, _NOT_FOUND),
    "DisableKeyRotation": (_KEY, _NOT_FOUND),
    "TagResource": ({**_KEY, "Tags": _TAGS}, _NOT_FOUND),
    "UntagResource": ({**_KEY, "TagKeys": ["app"]}, _NOT_FOUND),
    "ListResourceTags": (_KEY, _NOT_FOUND),
    "CreateAlias": ({"AliasName": "one", "TargetKeyId": UNKNOWN_KEY}, "InvalidAliasNameException"),
    "UpdateAlias": ({"AliasName": "alias/one", "TargetKeyId": UNKNOWN_KEY}, _NOT_FOUND),
    "DeleteAlias": ({"AliasName": "alias/one"}, _NOT_FOUND),
    "ListAliases": (_KEY, _NOT_FOUND),
    "PutKeyPolicy": ({**_KEY, "Policy": "{}"}, _NOT_FOUND),
    "GetKeyPolicy": (_KEY, _NOT_FOUND),
    "ListKeyPolicies": (_KEY, _NOT_FOUND),
    "CreateGrant": ({**_KEY, **_GRANT}, _NOT_FOUND),
    "ListGrants": (_KEY, _NOT_FOUND),
    "ListRetirableGrants": ({"RetiringPrincipal": "me"}, "InvalidArnException"),
    "RetireGrant": ({"GrantToken": "x"}, "InvalidGrantTokenException"),
    "RevokeGrant": ({**_KEY, "GrantId": "1"}, _NOT_FOUND),
    "Encrypt": ({**_KEY, "Plaintext": b"hello"}, _NOT_FOUND),
    "Decrypt": ({"CiphertextBlob": b"hello"}, "InvalidCiphertextException"),
    "ReEncrypt": ({"CiphertextBlob": b"hello", "DestinationKeyId": UNKNOWN_KEY}, "InvalidCiphertextException"),
    "GenerateDataKey": ({**_KEY, "KeySpec": "AES_256"}, _NOT_FOUND),
    "GenerateDataKeyWithoutPlaintext": (_KEY, "ValidationException"),
}
"""The parameters and the error code of a call of each operation; no key has the id `UNKNOWN_KEY`."""


class Client(Protocol):
    """An AWS client: an SDK or the AWS CLI."""

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """Call the operation and return its answer; only times and blobs may differ from JSON."""
        ...


async def call_every_operation(aws: Client) -> None:
    """Call each operation of KMS once with success, and check the answers."""
    tags = [{"TagKey": "app", "TagValue": "db"}]
    created = (await aws("kms", "CreateKey", Description="storage", Tags=tags))["KeyMetadata"]
    key, arn = {"KeyId": created["KeyId"]}, created["Arn"]
    context = {"aws:ebs:id": "vol-1"}

    await _use(aws, key, arn, context)
    await _manage(aws, key, arn)
    await _share(aws, key)

    deletion = await aws("kms", "ScheduleKeyDeletion", **key, PendingWindowInDays=7)
    cancelled = await aws("kms", "CancelKeyDeletion", **key)
    await aws("kms", "EnableKey", **key)
    await aws("kms", "DisableKey", **key)
    described = (await aws("kms", "DescribeKey", **key))["KeyMetadata"]
    assert (deletion["KeyState"], deletion["PendingWindowInDays"], cancelled["KeyId"]) == ("PendingDeletion", 7, arn)
    assert (described["KeyState"], described["Enabled"], described["Description"]) == ("Disabled", False, "archive")


async def _use(aws: Client, key: Mapping[str, str], arn: str, context: Mapping[str, str]) -> None:
    encrypted, data_key, sealed = await _run_concurrently(
        aws("kms", "Encrypt", **key, Plaintext=b"hello", EncryptionContext=context),
        aws("kms", "GenerateDataKey", **key, KeySpec="AES_256"),
        aws("kms", "GenerateDataKeyWithoutPlaintext", **key, NumberOfBytes=24),
    )
    blob = _bytes(encrypted["CiphertextBlob"])
    decrypted, moved = await _run_concurrently(
        aws("kms", "Decrypt", CiphertextBlob=blob, EncryptionContext=context),
        aws(
            "kms",
            "ReEncrypt",
            CiphertextBlob=blob,
            SourceEncryptionContext=context,
            DestinationKeyId=arn,
        ),
    )
    assert _bytes(decrypted["Plaintext"]) == b"hello"
    assert data_key["Plaintext"] != data_key["CiphertextBlob"]
    assert "Plaintext" not in sealed
    assert moved["SourceKeyId"] == moved["KeyId"] == arn


async def _manage(aws: Client, key: Mapping[str, str], arn: str) -> None:
    policy, names, keys, *_ = await _run_concurrently(
        aws("kms", "GetKeyPolicy", **key),
        aws("kms", "ListKeyPolicies", **key),
        aws("kms", "ListKeys"),
        aws("kms", "EnableKeyRotation", **key),
        aws("kms", "TagResource", **key, Tags=[{"TagKey": "team", "TagValue": "a b&c"}]),
        aws("kms", "CreateAlias", AliasName="alias/storage", TargetKeyId=arn),
    )
    assert names["PolicyNames"] == ["default"]
    assert arn in [listed["KeyArn"] for listed in keys["Keys"]]

    rotation, tags, aliases, *_ = await _run_concurrently(
        aws("kms", "GetKeyRotationStatus", **key),
        aws("kms", "ListResourceTags", **key),
        aws("kms", "ListAliases", **key),
        aws("kms", "UpdateKeyDescription", **key, Description="archive"),
        aws("kms", "PutKeyPolicy", **key, Policy=policy["Policy"]),
        aws("kms", "UpdateAlias", AliasName="alias/storage", TargetKeyId=arn),
    )
    assert rotation["KeyRotationEnabled"] is True
    assert {tag["TagKey"]: tag["TagValue"] for tag in tags["Tags"]} == {"app": "db", "team": "a b&c"}
    assert [alias["AliasName"] for alias in aliases["Aliases"]] == ["alias/storage"]

    await _run_concurrently(
        aws("kms", "DisableKeyRotation", **key),
        aws("kms", "UntagResource", **key, TagKeys=["team"]),
        aws("kms", "DeleteAlias", AliasName="alias/storage"),
    )


async def _share(aws: Client, key: Mapping[str, str]) -> None:
    one, other = await _run_concurrently(
        aws("kms", "CreateGrant", **key, **_GRANT), aws("kms", "CreateGrant", **key, **_GRANT)
    )
    grants, retirable = await _run_concurrently(
        aws("kms", "ListGrants", **key), aws("kms", "ListRetirableGrants", RetiringPrincipal=ROOT)
    )
    ids = {one["GrantId"], other["GrantId"]}
    assert {grant["GrantId"] for grant in grants["Grants"]} == ids
    assert {grant["GrantId"] for grant in retirable["Grants"]} == ids

    await _run_concurrently(
        aws("kms", "RetireGrant", GrantToken=one["GrantToken"]),
        aws("kms", "RevokeGrant", **key, GrantId=other["GrantId"]),
    )
    assert (await aws("kms", "ListGrants", **key))["Grants"] == []


def _bytes(blob: str | bytes) -> bytes:
    """A blob of an answer; the AWS CLI prints it in base64."""
    return base64.b64decode(blob) if isinstance(blob, str) else blob


async def _run_concurrently(*calls: Coroutine[Any, Any, Any]) -> Sequence[Any]:
    """Make independent calls at the same time and return their answers."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]
