"""Encrypted copies of snapshots: their keys, and what EBS asks of KMS for its caller.

Sources: Amazon EBS User Guide, "Copy an Amazon EBS snapshot"; EC2 API reference, CopySnapshot.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import pytest
from botocore.exceptions import WaiterError

from hyperpod_ebs.emulator.ec2 import snapshot_copies
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.state import clock
from tests.support.emulator_clients import Aws, cloud
from tests.support.key_users import (
    EVERYTHING_BUT_KMS,
    GUIDE,
    MANAGED,
    OTHER_THAN_GUIDE,
    VIA_EC2,
    create_caller,
    create_key,
    grant_to,
)
from tests.support.waiting import wait_until_equal

COPY: Final = ["DescribeKey", "CreateGrant", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "Decrypt"]
RE_ENCRYPT: Final = ["ReEncryptFrom", "ReEncryptTo"]


async def create_snapshot(aws: Aws, **members: Any) -> str:
    """Create a volume and a completed snapshot of it; the snapshot's id."""
    snapshot = (await aws.ec2("create_snapshot", VolumeId=await aws.create_volume(**members)))["SnapshotId"]
    await aws.ec2("describe_snapshots")
    return str(snapshot)


async def copy_snapshot(aws: Aws, source: str, **members: Any) -> Any:
    """Copy a snapshot; the copy as EC2 describes it when it is no longer pending."""
    request = {"SourceRegion": "us-west-2", "SourceSnapshotId": source, **members}
    copy = (await aws.ec2("copy_snapshot", **request))["SnapshotId"]

    async def is_pending() -> bool:
        return bool((await describe_snapshot(aws, copy))["State"] == "pending")

    await wait_until_equal(is_pending, False)  # noqa: FBT003 - the value that is awaited
    return await describe_snapshot(aws, copy)


async def describe_snapshot(aws: Aws, snapshot: str) -> Any:
    """The snapshot as EC2 describes it."""
    return (await aws.ec2("describe_snapshots", SnapshotIds=[snapshot]))["Snapshots"][0]


@pytest.mark.parametrize("is_default", [False, True], ids=["on request", "by default"])
async def test_a_copy_has_the_key_of_the_table_in_the_user_guide(is_default: bool, aws: Aws) -> None:  # noqa: FBT001
    """Amazon EBS User Guide, "Encryption outcomes for snapshot copies"."""
    named, default = await create_key(aws), await create_key(aws)
    plain, encrypted = await create_snapshot(aws), await create_snapshot(aws, Encrypted=True, KmsKeyId=named)
    await aws.ec2("modify_ebs_default_kms_key_id", KmsKeyId=default)
    if is_default:
        await aws.ec2("enable_ebs_encryption_by_default")

    async def key(source: str, **members: Any) -> str | None:
        copy = await copy_snapshot(aws, source, **members)
        assert (copy["State"], copy["Encrypted"]) == ("completed", "KmsKeyId" in copy)
        found: str | None = copy.get("KmsKeyId")
        return found

    assert await key(plain) == (default if is_default else None)
    assert await key(plain, Encrypted=True) == default
    assert await key(plain, Encrypted=True, KmsKeyId=named) == named
    assert await key(encrypted) == (default if is_default else MANAGED)
    assert await key(encrypted, KmsKeyId=named) == named


async def test_an_encrypted_copy_has_the_data_and_the_lineage_of_its_source(emulator: Emulator, aws: Aws) -> None:
    """EC2 API reference, Snapshot: the same DataEncryptionKeyId means the same lineage; volumes inherit it."""
    key, other = await create_key(aws), await create_key(aws)
    volume = await aws.create_volume(Encrypted=True, KmsKeyId=key)
    with emulator.world.backing_files.path(volume).open("r+b") as file:
        file.write(b"written before the snapshot")
    source = (await aws.ec2("create_snapshot", VolumeId=volume))["SnapshotId"]

    same = await copy_snapshot(aws, source, KmsKeyId=key)
    moved = await copy_snapshot(aws, source, KmsKeyId=other)
    again = await copy_snapshot(aws, same["SnapshotId"], KmsKeyId=key)
    await aws.ec2("delete_snapshot", SnapshotId=source)
    restored = await aws.create_volume(SnapshotId=moved["SnapshotId"])

    lineages = [copy["DataEncryptionKeyId"] for copy in (same, moved, again)]
    assert lineages[0] == lineages[2] != lineages[1]
    with emulator.world.backing_files.path(restored).open("rb") as file:
        assert file.read(27) == b"written before the snapshot"
    assert (await aws.describe_volume(restored))["KmsKeyId"] == other


@pytest.mark.parametrize("missing", [None, *COPY])
async def test_encrypting_a_plain_snapshot_needs_each_permission(
    missing: str | None, emulator: Emulator, aws: Aws
) -> None:
    """Amazon EBS User Guide, "Permissions for copying encrypted snapshots", without kms:ReEncrypt."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    key = await create_key(aws, grant_to("one", [each for each in COPY if each != missing], Condition=VIA_EC2))

    copy = await copy_snapshot(caller, await create_snapshot(aws), Encrypted=True, KmsKeyId=key)

    check_outcome(copy, missing)


@pytest.mark.parametrize("missing", [None, *COPY, *RE_ENCRYPT])
async def test_a_copy_under_the_same_key_needs_each_permission(
    missing: str | None, emulator: Emulator, aws: Aws
) -> None:
    """Amazon EBS User Guide, "Permissions for copying encrypted snapshots"."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    actions = [each for each in [*COPY, *RE_ENCRYPT] if each != missing]
    key = await create_key(aws, grant_to("one", actions, Condition=VIA_EC2))
    source = await create_snapshot(aws, Encrypted=True, KmsKeyId=key)

    check_outcome(await copy_snapshot(caller, source, KmsKeyId=key), missing)


@pytest.mark.parametrize("condition", [GUIDE, *OTHER_THAN_GUIDE.values()], ids=["guide", *OTHER_THAN_GUIDE])
async def test_the_conditions_of_the_guide_decide_about_the_grant_of_a_copy(
    condition: Mapping[str, Any], emulator: Emulator, aws: Aws
) -> None:
    """EBS creates its grant for the caller: KMS Developer Guide, "kms:GrantIsForAWSResource" and its kin."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    others = [each for each in COPY if each != "CreateGrant"]
    key = await create_key(aws, grant_to("one", others), grant_to("one", ["CreateGrant"], Condition=condition))

    copy = await copy_snapshot(caller, await create_snapshot(aws), Encrypted=True, KmsKeyId=key)

    check_outcome(copy, None if condition is GUIDE else "CreateGrant")


@pytest.mark.parametrize("missing", [None, *RE_ENCRYPT])
async def test_a_copy_under_another_key_needs_both_keys(missing: str | None, emulator: Emulator, aws: Aws) -> None:
    """Amazon EBS User Guide, "Permissions for copying encrypted snapshots"."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    old = await create_key(aws, grant_to("one", ["ReEncryptFrom" if missing != "ReEncryptFrom" else "ListGrants"]))
    new = await create_key(aws, grant_to("one", [each for each in [*COPY, "ReEncryptTo"] if each != missing]))
    source = await create_snapshot(aws, Encrypted=True, KmsKeyId=old)

    check_outcome(await copy_snapshot(caller, source, KmsKeyId=new), missing)


def check_outcome(copy: Any, missing: str | None) -> None:
    """Check that the copy is completed, or has failed if a permission was missing."""
    assert copy["State"] == ("error" if missing else "completed")
    assert copy.get("StateMessage") == ("Given key ID is not accessible" if missing else None)


@pytest.mark.parametrize("key_is", ["unknown", "disabled", "pending deletion"])
async def test_a_copy_under_an_unusable_key_fails_and_can_only_be_deleted(key_is: str, aws: Aws) -> None:
    """EC2 API reference, CopySnapshot: AWS authenticates the key asynchronously; Snapshot, StateMessage."""
    key = "alias/none" if key_is == "unknown" else await create_key(aws)
    if key_is != "unknown":
        await aws("kms", "disable_key" if key_is == "disabled" else "schedule_key_deletion", KeyId=key)
    source = await create_snapshot(aws)

    copy = await copy_snapshot(aws, source, Encrypted=True, KmsKeyId=key)
    waiter = aws.clients["ec2"].get_waiter("snapshot_completed")
    with pytest.raises(WaiterError, match="terminal failure state"):
        await asyncio.to_thread(waiter.wait, SnapshotIds=[copy["SnapshotId"]])
    unusable = [
        await aws.expect_error("ec2", method, **members)
        for method, members in (
            ("create_volume", {"AvailabilityZone": "us-west-2a", "SnapshotId": copy["SnapshotId"]}),
            ("copy_snapshot", {"SourceRegion": "us-west-2", "SourceSnapshotId": copy["SnapshotId"]}),
        )
    ]
    await aws.ec2("delete_snapshot", SnapshotId=copy["SnapshotId"])

    check_outcome(copy, key_is)
    assert [code for code, _ in unusable] == ["IncorrectState", "IncorrectState"]
    assert [each["SnapshotId"] for each in (await aws.ec2("describe_snapshots"))["Snapshots"]] == [source]


async def test_a_copy_fails_if_the_key_of_its_source_is_disabled(aws: Aws) -> None:
    """The copy must be encrypted again, which needs the key of the source."""
    key = await create_key(aws)
    source = await create_snapshot(aws, Encrypted=True, KmsKeyId=key)
    await aws("kms", "disable_key", KeyId=key)

    check_outcome(await copy_snapshot(aws, source), missing=key)


async def test_a_copy_fails_if_its_key_is_disabled_while_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is used until the copy is completed."""
    make_copies_slow(monkeypatch)
    async with cloud(profile="aws") as (emulator, aws):
        key, source = await create_key(aws), await create_snapshot_slowly(aws)
        request = {"SourceRegion": "us-west-2", "SourceSnapshotId": source, "Encrypted": True, "KmsKeyId": key}
        copy = (await aws.ec2("copy_snapshot", **request))["SnapshotId"]
        pending = await describe_snapshot(aws, copy)
        await aws("kms", "disable_key", KeyId=key)
        emulator.world.clock.schedule_at(copy, "snapshot copied", 0)

        assert (pending["State"], pending["Encrypted"], pending["KmsKeyId"]) == ("pending", True, key)
        check_outcome(await describe_snapshot(aws, copy), missing=key)


async def test_the_twenty_first_copy_at_a_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amazon EBS User Guide, "Considerations for copying snapshots": ResourceLimitExceeded."""
    make_copies_slow(monkeypatch)
    async with cloud(profile="aws") as (_, aws):
        request = {"SourceRegion": "us-west-2", "SourceSnapshotId": await create_snapshot_slowly(aws)}
        for _number in range(snapshot_copies.MAX_PENDING):
            await aws.ec2("copy_snapshot", **request)

        assert (await aws.expect_error("ec2", "copy_snapshot", **request))[0] == "ResourceLimitExceeded"


def make_copies_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the profile `aws`, complete snapshots at once, and copies in an hour."""
    monkeypatch.setitem(clock.AWS_DURATIONS, "snapshot completed", clock.Duration(0.001, 0.002))
    monkeypatch.setitem(clock.AWS_DURATIONS, "snapshot copied", clock.Duration(3600, 3601))


async def create_snapshot_slowly(aws: Aws) -> str:
    """Create a snapshot with the profile `aws`, and wait until it is completed; its id."""
    snapshot = await create_snapshot(aws)

    async def state() -> str:
        return str((await describe_snapshot(aws, snapshot))["State"])

    await wait_until_equal(state, "completed")
    return snapshot
