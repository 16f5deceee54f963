"""KMS: keys and their states, aliases, encryption, key policies and tags, as boto3 sees them."""

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.state.store import StateRefused
from tests.support.emulator_clients import Aws, cloud
from tests.support.key_users import allow, create_caller, document, user_arn

SCOPE = "arn:aws:kms:us-west-2:123456789012"
UNKNOWN = "12345678-1234-1234-1234-123456789012"
ROOT = "arn:aws:iam::123456789012:root"
ADMINISTRATOR = user_arn("emulator")


async def create_key(aws: Aws, **members: Any) -> str:
    """Create a key; its ARN."""
    return str((await aws("kms", "create_key", **members))["KeyMetadata"]["Arn"])


async def key_state(aws: Aws, key: str) -> str:
    """The key's state."""
    return str((await aws("kms", "describe_key", KeyId=key))["KeyMetadata"]["KeyState"])


async def test_a_new_key_is_enabled_and_encrypts(aws: Aws) -> None:
    """KMS API reference, CreateKey: the defaults of its parameters."""
    created = (await aws("kms", "create_key", Description="data"))["KeyMetadata"]

    assert created["Arn"] == f"{SCOPE}:key/{created['KeyId']}"
    assert (created["KeyState"], created["Enabled"], created["Description"]) == ("Enabled", True, "data")
    assert (created["KeySpec"], created["KeyUsage"], created["Origin"]) == (
        "SYMMETRIC_DEFAULT",
        "ENCRYPT_DECRYPT",
        "AWS_KMS",
    )
    assert (created["KeyManager"], created["MultiRegion"], created["AWSAccountId"]) == (
        "CUSTOMER",
        False,
        "123456789012",
    )


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ({"MultiRegion": True}, "UnsupportedOperationException", "multi-Region"),
        ({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}, "UnsupportedOperationException", "RSA_2048"),
        ({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}, "UnsupportedOperationException", "HMAC_256"),
        ({"Origin": "EXTERNAL"}, "UnsupportedOperationException", "EXTERNAL"),
        ({"KeyUsage": "SIGN_VERIFY"}, "ValidationException", "not compatible"),
        (
            {"KeySpec": "SYMMETRIC_DEFAULT", "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT"},
            "ValidationException",
            "cannot specify KeySpec and CustomerMasterKeySpec",
        ),
        ({"Tags": [{"TagKey": "aws:x", "TagValue": ""}]}, "TagException", "aws:"),
        ({"Tags": [{"TagKey": "a", "TagValue": ""}] * 2}, "TagException", "Duplicate"),
        ({"Policy": "{}"}, "MalformedPolicyDocumentException", "Statement"),
        ({"Tags": [{"TagKey": f"k{n}", "TagValue": ""} for n in range(51)]}, "LimitExceededException", "tags"),
    ],
)
async def test_other_keys_are_refused_and_not_created(aws: Aws, members: dict[str, Any], code: str, words: str) -> None:
    """KMS API reference, CreateKey: Errors."""
    before = await aws("kms", "list_keys")

    refused = await aws.expect_error("kms", "create_key", **members)

    assert refused[0] == code
    assert words in refused[1]
    assert (await aws("kms", "list_keys"))["Keys"] == before["Keys"]


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        (UNKNOWN, "NotFoundException", f"Key '{SCOPE}:key/{UNKNOWN}' does not exist"),
        (f"{SCOPE}:key/{UNKNOWN}", "NotFoundException", f"Key '{SCOPE}:key/{UNKNOWN}' does not exist"),
        ("alias/none", "NotFoundException", f"Alias {SCOPE}:alias/none is not found."),
        (f"{SCOPE}:alias/none", "NotFoundException", f"Alias {SCOPE}:alias/none is not found."),
        ("my key", "NotFoundException", "Invalid keyId 'my key'"),
        ("arn:aws:kms:::", "InvalidArnException", "Invalid arn arn:aws:kms:::"),
        (f"arn:aws:kms:eu-west-1:123456789012:key/{UNKNOWN}", "NotFoundException", "Invalid arn eu-west-1"),
        (
            f"arn:aws:kms:us-west-2:999988887777:key/{UNKNOWN}",
            "AccessDeniedException",
            (
                f"User: {ADMINISTRATOR} is not authorized to perform: kms:DescribeKey on resource: "
                f"arn:aws:kms:us-west-2:999988887777:key/{UNKNOWN} because the resource does not exist in this Region, "
                "no resource-based policies allow access, or a resource-based policy explicitly denies access"
            ),
        ),
    ],
)
async def test_an_unknown_key_is_refused_as_by_kms(aws: Aws, name: str, code: str, text: str) -> None:
    """KMS API reference, DescribeKey: NotFoundException and InvalidArnException."""
    assert await aws.expect_error("kms", "describe_key", KeyId=name) == (code, text)


async def test_a_key_has_four_names(aws: Aws) -> None:
    """KMS Developer Guide, "Key identifiers (KeyId)"."""
    arn = await create_key(aws)
    await aws("kms", "create_alias", AliasName="alias/storage", TargetKeyId=arn)

    names = [arn, arn.rpartition("/")[2], "alias/storage", f"{SCOPE}:alias/storage"]
    found = [(await aws("kms", "describe_key", KeyId=name))["KeyMetadata"]["Arn"] for name in names]

    assert found == [arn] * 4
    refused = await aws.expect_error("kms", "disable_key", KeyId="alias/storage")
    assert refused == ("NotFoundException", "Invalid keyId 'alias/storage'"), "only some operations accept an alias"


async def test_what_a_key_encrypts_only_the_same_context_decrypts(aws: Aws) -> None:
    """KMS Developer Guide, "Encryption context": additional authenticated data, in any order."""
    key, context = await create_key(aws), {"a": "1", "b": "2"}
    blob = (await aws("kms", "encrypt", KeyId=key, Plaintext=b"secret", EncryptionContext=context))["CiphertextBlob"]

    decrypted = await aws("kms", "decrypt", CiphertextBlob=blob, EncryptionContext={"b": "2", "a": "1"})
    wrong: list[dict[str, Any]] = [
        {"CiphertextBlob": blob},
        {"CiphertextBlob": blob, "EncryptionContext": {"a": "1"}},
        {"CiphertextBlob": blob[:-1], "EncryptionContext": context},
        {"CiphertextBlob": blob[:-1] + bytes([blob[-1] ^ 1]), "EncryptionContext": context},
        {"CiphertextBlob": blob[:18] + b"\x01" + blob[19:], "EncryptionContext": context},
        {"CiphertextBlob": b"\x01", "EncryptionContext": context},
    ]
    refusals = [await aws.expect_error("kms", "decrypt", **members) for members in wrong]

    assert (decrypted["Plaintext"], decrypted["KeyId"]) == (b"secret", key)
    assert b"secret" not in blob
    assert {code for code, _ in refusals} == {"InvalidCiphertextException"}


async def test_decrypt_checks_the_key_that_the_caller_names(aws: Aws) -> None:
    """KMS API reference, Decrypt: IncorrectKeyException."""
    key, other = await create_key(aws), await create_key(aws)
    blob = (await aws("kms", "encrypt", KeyId=key, Plaintext=b"secret"))["CiphertextBlob"]
    await aws("kms", "disable_key", KeyId=key)  # the caller may not know this, whose permission is on the other key

    refused = await aws.expect_error("kms", "decrypt", CiphertextBlob=blob, KeyId=other)
    await aws("kms", "enable_key", KeyId=key)

    assert refused == (
        "IncorrectKeyException",
        "The key ID in the request does not identify a CMK that can perform this operation.",
    )
    assert (await aws("kms", "decrypt", CiphertextBlob=blob, KeyId=key))["Plaintext"] == b"secret"


async def test_re_encrypt_changes_key_and_context(aws: Aws) -> None:
    """KMS API reference, ReEncrypt."""
    source, destination = await create_key(aws), await create_key(aws)
    blob = (await aws("kms", "encrypt", KeyId=source, Plaintext=b"secret", EncryptionContext={"of": "one"}))[
        "CiphertextBlob"
    ]

    moved = await aws(
        "kms",
        "re_encrypt",
        CiphertextBlob=blob,
        SourceEncryptionContext={"of": "one"},
        DestinationKeyId=destination,
        DestinationEncryptionContext={"of": "other"},
    )
    opened = await aws("kms", "decrypt", CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"of": "other"})

    assert (moved["SourceKeyId"], moved["KeyId"]) == (source, destination)
    assert (opened["Plaintext"], opened["KeyId"]) == (b"secret", destination)


async def test_a_data_key_decrypts_to_its_plaintext(aws: Aws) -> None:
    """KMS API reference, GenerateDataKey."""
    key = await create_key(aws)

    data_key = await aws("kms", "generate_data_key", KeyId=key, KeySpec="AES_128")
    sealed = await aws("kms", "generate_data_key_without_plaintext", KeyId=key, NumberOfBytes=64)
    opened = [
        (await aws("kms", "decrypt", CiphertextBlob=each["CiphertextBlob"]))["Plaintext"] for each in (data_key, sealed)
    ]

    assert opened[0] == data_key["Plaintext"]
    assert [len(plaintext) for plaintext in opened] == [16, 64]
    both = await aws.expect_error("kms", "generate_data_key", KeyId=key, KeySpec="AES_256", NumberOfBytes=32)
    assert both == ("ValidationException", "Please specify either number of bytes or key spec.")


async def test_a_disabled_key_neither_encrypts_nor_decrypts_until_it_is_enabled(aws: Aws) -> None:
    """KMS Developer Guide, "Key states of AWS KMS keys"."""
    key = await create_key(aws)
    blob = (await aws("kms", "encrypt", KeyId=key, Plaintext=b"secret"))["CiphertextBlob"]
    await aws("kms", "disable_key", KeyId=key)

    expected = ("DisabledException", f"{key} is disabled.")
    assert await aws.expect_error("kms", "encrypt", KeyId=key, Plaintext=b"x") == expected
    assert await aws.expect_error("kms", "decrypt", CiphertextBlob=blob) == expected
    assert await aws.expect_error("kms", "generate_data_key", KeyId=key, KeySpec="AES_256") == expected
    assert await aws.expect_error("kms", "enable_key_rotation", KeyId=key) == expected

    await aws("kms", "enable_key", KeyId=key)
    assert (await aws("kms", "decrypt", CiphertextBlob=blob))["Plaintext"] == b"secret"


async def test_a_key_that_is_pending_deletion_can_only_be_kept(aws: Aws) -> None:
    """KMS Developer Guide, "Deleting AWS KMS keys"."""
    key = await create_key(aws)
    scheduled = await aws("kms", "schedule_key_deletion", KeyId=key)

    expected = ("KMSInvalidStateException", f"{key} is pending deletion.")
    assert (scheduled["KeyState"], scheduled["PendingWindowInDays"]) == ("PendingDeletion", 30)
    assert await aws.expect_error("kms", "encrypt", KeyId=key, Plaintext=b"x") == expected
    assert await aws.expect_error("kms", "enable_key", KeyId=key) == expected
    assert await aws.expect_error("kms", "schedule_key_deletion", KeyId=key) == expected
    assert await aws.expect_error("kms", "create_alias", AliasName="alias/a", TargetKeyId=key) == expected

    await aws("kms", "cancel_key_deletion", KeyId=key)
    assert await key_state(aws, key) == "Disabled"
    again = await aws.expect_error("kms", "cancel_key_deletion", KeyId=key)
    assert again == ("KMSInvalidStateException", f"{key} is not pending deletion.")


async def test_a_deleted_key_is_gone_with_its_aliases_and_grants(emulator: Emulator, aws: Aws) -> None:
    """KMS API reference, ScheduleKeyDeletion: what is deleted after the waiting period."""
    key = await create_key(aws)
    await aws("kms", "create_alias", AliasName="alias/a", TargetKeyId=key)
    await aws("kms", "create_grant", KeyId=key, GranteePrincipal=ROOT, Operations=["Decrypt"])
    await aws("kms", "schedule_key_deletion", KeyId=key, PendingWindowInDays=7)

    emulator.world.clock.schedule_at(f"key-deletion/{key.rpartition('/')[2]}", "key deleted", 0)

    assert (await aws.expect_error("kms", "describe_key", KeyId=key))[0] == "NotFoundException"
    assert [alias["AliasName"] for alias in (await aws("kms", "list_aliases"))["Aliases"]] == ["alias/aws/ebs"]
    assert (await aws("kms", "list_retirable_grants", RetiringPrincipal=ROOT))["Grants"] == []
    assert not emulator.world.store.kms_grants


async def test_a_rotated_key_decrypts_what_its_earlier_material_encrypted(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Rotate AWS KMS keys"."""
    key = await create_key(aws)
    old = await aws("kms", "encrypt", KeyId=key, Plaintext=b"old")
    before = (await aws("kms", "describe_key", KeyId=key))["KeyMetadata"]["CurrentKeyMaterialId"]
    await aws("kms", "enable_key_rotation", KeyId=key, RotationPeriodInDays=90)

    emulator.world.clock.schedule_at(f"key-rotation/{key.rpartition('/')[2]}", "key rotated", 0)
    status = await aws("kms", "get_key_rotation_status", KeyId=key)
    opened = await aws("kms", "decrypt", CiphertextBlob=old["CiphertextBlob"])
    after = (await aws("kms", "describe_key", KeyId=key))["KeyMetadata"]["CurrentKeyMaterialId"]

    assert (status["KeyRotationEnabled"], status["RotationPeriodInDays"]) == (True, 90)
    assert opened["Plaintext"] == b"old"
    assert before != after
    await aws("kms", "disable_key_rotation", KeyId=key)
    assert (await aws("kms", "get_key_rotation_status", KeyId=key))["KeyRotationEnabled"] is False


async def test_aliases_are_unique_and_move_between_keys(aws: Aws) -> None:
    """KMS Developer Guide, "Aliases in AWS KMS"."""
    one, other = await create_key(aws), await create_key(aws)
    await aws("kms", "create_alias", AliasName="alias/a", TargetKeyId=one)

    taken = await aws.expect_error("kms", "create_alias", AliasName="alias/a", TargetKeyId=other)
    reserved = await aws.expect_error("kms", "create_alias", AliasName="alias/aws/mine", TargetKeyId=one)
    await aws("kms", "update_alias", AliasName="alias/a", TargetKeyId=other)

    assert taken == ("AlreadyExistsException", f"An alias with the name {SCOPE}:alias/a already exists")
    assert reserved[0] == "InvalidAliasNameException"
    assert (await aws("kms", "describe_key", KeyId="alias/a"))["KeyMetadata"]["Arn"] == other
    assert (await aws("kms", "list_aliases", KeyId=one))["Aliases"] == []


async def test_a_key_has_fifty_aliases_at_most(aws: Aws) -> None:
    """KMS Developer Guide, "Resource quotas": aliases per key."""
    key = await create_key(aws)
    for number in range(50):
        await aws("kms", "create_alias", AliasName=f"alias/{number}", TargetKeyId=key)

    assert (await aws.expect_error("kms", "create_alias", AliasName="alias/x", TargetKeyId=key))[0] == (
        "LimitExceededException"
    )


async def test_lists_have_pages(aws: Aws) -> None:
    """KMS API reference: Limit, Marker, NextMarker and Truncated."""
    keys = {await create_key(aws) for _ in range(3)}
    listed: list[str] = []
    page = await aws("kms", "list_keys", Limit=2)
    while page["Truncated"]:
        listed += [key["KeyArn"] for key in page["Keys"]]
        page = await aws("kms", "list_keys", Limit=2, Marker=page["NextMarker"])
    listed += [key["KeyArn"] for key in page["Keys"]]

    assert len(listed) == 4
    assert {*listed} > keys, "the key aws/ebs is listed as well"


async def test_the_key_of_ebs_is_managed_by_aws_and_cannot_be_changed(aws: Aws) -> None:
    """KMS Developer Guide, "AWS managed keys": no user can change their policies, rotation or deletion."""
    described = (await aws("kms", "describe_key", KeyId="alias/aws/ebs"))["KeyMetadata"]
    key = described["Arn"]
    policy = json.loads((await aws("kms", "get_key_policy", KeyId=key))["Policy"])

    assert described["KeyManager"] == "AWS"
    assert policy["Statement"][0]["Condition"]["StringEquals"] == {
        "kms:CallerAccount": "123456789012",
        "kms:ViaService": "ec2.us-west-2.amazonaws.com",
    }
    for operation in ("disable_key", "schedule_key_deletion", "enable_key_rotation"):
        assert (await aws.expect_error("kms", operation, KeyId=key))[0] == "AccessDeniedException"
    direct = await aws.expect_error("kms", "encrypt", KeyId=key, Plaintext=b"x")
    assert direct[0] == "AccessDeniedException", "only EC2 may use it for the caller"


async def test_without_enforcement_the_key_of_ebs_does_not_change_either() -> None:
    """The same, with `--iam off`."""
    async with cloud(iam="off") as (_, aws):
        assert (await aws.expect_error("kms", "disable_key", KeyId=f"{SCOPE}:key/{UNKNOWN}"))[0] == "NotFoundException"
        key = (await aws("kms", "describe_key", KeyId="alias/aws/ebs"))["KeyMetadata"]["Arn"]

        assert (await aws.expect_error("kms", "disable_key", KeyId=key))[0] == "AccessDeniedException"


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ([allow("kms:*", Principal={"AWS": user_arn("unknown")})], "invalid principals"),
        ([allow("kms:*", Principal={"AWS": "arn:aws:iam::123456789012:role/*"})], "invalid principals"),
        ([allow("kms:*")], "Missing required field Principal"),
        ([allow("kms:Decrypt", Principal={"AWS": ROOT})], "will not allow you to update the key policy"),
        ([allow("kms:*", Principal={"AWS": "999988887777"})], "will not allow you to update the key policy"),
    ],
)
async def test_a_bad_key_policy_is_refused_and_the_old_one_stays(
    aws: Aws, statements: list[dict[str, Any]], words: str
) -> None:
    """KMS API reference, PutKeyPolicy: MalformedPolicyDocumentException and the lockout safety check."""
    key = await create_key(aws)
    before = await aws("kms", "get_key_policy", KeyId=key)

    refused = await aws.expect_error("kms", "put_key_policy", KeyId=key, Policy=document(*statements))

    assert refused[0] == "MalformedPolicyDocumentException"
    assert words in refused[1]
    assert (await aws("kms", "get_key_policy", KeyId=key))["Policy"] == before["Policy"]


async def test_the_lockout_check_can_be_bypassed(aws: Aws) -> None:
    """KMS API reference, PutKeyPolicy: BypassPolicyLockoutSafetyCheck. No user can change the key after that."""
    policy = document(allow("kms:GetKeyPolicy", Principal={"AWS": ROOT}))

    key = await create_key(aws, Policy=policy, BypassPolicyLockoutSafetyCheck=True)

    assert (await aws("kms", "get_key_policy", KeyId=key))["Policy"] == policy
    assert (await aws.expect_error("kms", "put_key_policy", KeyId=key, Policy=policy))[0] == "AccessDeniedException"
    other = await aws.expect_error("kms", "get_key_policy", KeyId=key, PolicyName="mine")
    assert other == ("NotFoundException", "No such policy exists")


async def test_a_dry_run_changes_nothing(aws: Aws) -> None:
    """KMS Developer Guide, "Testing your permissions"."""
    key = await create_key(aws)
    expected = ("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")

    assert await aws.expect_error("kms", "encrypt", KeyId=key, Plaintext=b"x", DryRun=True) == expected
    grant = {"KeyId": key, "GranteePrincipal": ROOT, "Operations": ["Decrypt"]}
    assert await aws.expect_error("kms", "create_grant", **grant, DryRun=True) == expected
    assert (await aws("kms", "list_grants", KeyId=key))["Grants"] == []
    without_ciphertext = {"KeyId": key, "DryRun": True, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}
    assert await aws.expect_error("kms", "decrypt", **without_ciphertext) == expected


async def test_a_caller_without_permission_is_denied_by_name(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Troubleshoot access denied error messages"."""
    key, caller = await create_key(aws), await create_caller(emulator, "reader", allow("kms:DescribeKey"))

    denied = await caller.expect_error("kms", "encrypt", KeyId=key, Plaintext=b"x")

    assert denied == (
        "AccessDeniedException",
        (
            f"User: {user_arn('reader')} is not authorized to perform: kms:Encrypt on resource: {key} because no "
            "identity-based policy allows the kms:Encrypt action"
        ),
    )
    assert await key_state(caller, key) == "Enabled"


async def test_another_emulator_on_the_same_state_decrypts_what_the_first_one_encrypted(tmp_path: Path) -> None:
    """Keys, aliases, grants and policies are durable, and the root key stays out of the database."""
    state = tmp_path / "state"
    async with cloud(state) as (_, aws):
        key = await create_key(aws)
        await aws("kms", "create_alias", AliasName="alias/a", TargetKeyId=key)
        await aws("kms", "create_grant", KeyId=key, GranteePrincipal=ROOT, Operations=["Decrypt"], Name="one")
        blob = (await aws("kms", "encrypt", KeyId=key, Plaintext=b"secret"))["CiphertextBlob"]

    root_key = (state / "kms_root.key").read_bytes()
    async with cloud(state) as (_, aws):
        opened = await aws("kms", "decrypt", CiphertextBlob=blob)
        named = await aws("kms", "describe_key", KeyId="alias/a")
        grants = await aws("kms", "list_grants", KeyId=key)

    assert (opened["Plaintext"], named["KeyMetadata"]["Arn"]) == (b"secret", key)
    assert [grant["Name"] for grant in grants["Grants"]] == ["one"]
    assert (state / "kms_root.key").stat().st_mode & 0o777 == 0o600
    database = b"".join(file.read_bytes() for file in state.glob("state.db*"))
    assert root_key not in database
    assert base64.b64encode(root_key) not in database


async def test_an_emulator_without_its_root_key_does_not_start(tmp_path: Path) -> None:
    """A new root key could not decrypt the keys of the database."""
    state = tmp_path / "state"
    async with cloud(state) as (_, aws):
        await create_key(aws)
    (state / "kms_root.key").unlink()

    with pytest.raises(StateRefused, match=r"kms_root\.key is missing"):
        async with cloud(state):
            pass


async def test_what_encrypts_is_on_disk_before_the_answer(tmp_path: Path) -> None:
    """A crash after the answer must not lose the material of a rotation, without which the ciphertext is lost."""
    async with cloud(tmp_path) as (emulator, aws):
        key = (await create_key(aws)).rpartition("/")[2]
        await aws("kms", "enable_key_rotation", KeyId=key, RotationPeriodInDays=90)
        emulator.world.clock.schedule_at(f"key-rotation/{key}", "key rotated", 0)

        await aws("kms", "encrypt", KeyId=key, Plaintext=b"new")

        with closing(sqlite3.connect(f"file:{tmp_path}/state.db?mode=ro", uri=True)) as database:
            ((body,),) = database.execute("SELECT body FROM record WHERE kind='Key' AND id=?", (key,)).fetchall()
    assert len(json.loads(body)["materials"]) == 2
