"""Volumes under KMS keys: what EBS asks of KMS for its caller when a volume is created, restored and attached."""

from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import ZONE, Aws, cloud, error_of
from tests.support.key_users import (
    ACCOUNT,
    EVERYTHING_BUT_KMS,
    GUIDE,
    MANAGE,
    MANAGED,
    OTHER_THAN_GUIDE,
    SCOPE,
    VIA_EC2,
    allow,
    create_caller,
    create_key,
    document,
    grant_to,
)
from tests.support.waiting import wait_until_equal

REVOKED: Final = "CustomerKeyHasBeenRevoked"


async def create_volume(aws: Aws, key: str, **members: Any) -> dict[str, Any]:
    """Ask for a volume under a key; the answer."""
    request = {"AvailabilityZone": ZONE, "Size": 1, "Encrypted": True, "KmsKeyId": key, **members}
    created: dict[str, Any] = await aws.ec2("create_volume", **request)
    return created


async def state_of(aws: Aws, volume: str) -> str:
    """The volume's state, or the code of the error if it is unknown."""
    try:
        return await aws.volume_state(volume)
    except ClientError as error:
        return error_of(error)[0]


async def outcome(aws: Aws, key: str, **members: Any) -> str:
    """What becomes of a volume under a key: available, or gone."""
    created = await create_volume(aws, key, **members)
    assert created["State"] == "creating"
    states = {"available": "available", "InvalidVolume.NotFound": "gone"}

    async def is_decided() -> bool:
        return await state_of(aws, created["VolumeId"]) in states

    await wait_until_equal(is_decided, True)  # noqa: FBT003 - the value that is awaited
    return states[await state_of(aws, created["VolumeId"])]


@pytest.mark.parametrize("name", ["id", "ARN", "alias", "alias ARN"])
async def test_a_key_may_be_named_in_four_ways(aws: Aws, name: str) -> None:
    """EC2 API reference, CreateVolume, KmsKeyId. The answer has the key's ARN."""
    key = await create_key(aws)
    await aws("kms", "create_alias", AliasName="alias/storage", TargetKeyId=key)
    names = {"id": key.rpartition("/")[2], "ARN": key, "alias": "alias/storage", "alias ARN": f"{SCOPE}:alias/storage"}

    volume = await aws.create_volume(Encrypted=True, KmsKeyId=names[name])

    assert (await aws.describe_volume(volume))["KmsKeyId"] == key


@pytest.mark.parametrize(
    "name",
    ["1234abcd-12ab-34cd-56ef-1234567890ab", "alias/none", f"arn:aws:kms:us-west-2:999988887777:key/{ACCOUNT}", "x y"],
)
async def test_a_volume_under_an_unknown_key_disappears(aws: Aws, name: str) -> None:
    """EC2 API reference, CreateVolume: EC2 authenticates the KmsKeyId asynchronously."""
    assert await outcome(aws, name) == "gone"


@pytest.mark.parametrize("state", ["disabled", "pending deletion"])
async def test_a_volume_under_an_unusable_key_disappears_and_burns_its_token(aws: Aws, state: str) -> None:
    """As AWS does: the token's volume is deleted, so a retry with the token is refused."""
    key = await create_key(aws)
    await aws("kms", "disable_key" if state == "disabled" else "schedule_key_deletion", KeyId=key)

    assert await outcome(aws, key, ClientToken="one") == "gone"
    request = {"AvailabilityZone": ZONE, "Size": 1, "Encrypted": True, "KmsKeyId": key, "ClientToken": "one"}
    assert (await aws.expect_error("ec2", "create_volume", **request))[0] == "IdempotentParameterMismatch"


async def test_a_volume_disappears_if_its_key_is_disabled_while_it_is_created() -> None:
    """The key is used until the volume is available."""
    async with cloud(profile="aws") as (_, aws):
        key = await create_key(aws)
        created = await create_volume(aws, key)
        await aws("kms", "disable_key", KeyId=key)

        await wait_until_equal(lambda: state_of(aws, created["VolumeId"]), "InvalidVolume.NotFound")


async def test_the_key_of_aws_needs_no_permission_in_kms(emulator: Emulator, aws: Aws) -> None:
    """Amazon EBS User Guide, "Default KMS key for EBS encryption": its policy lets all of the account use it."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))

    volume = await caller.create_volume(Encrypted=True)
    instance = await caller.run_instance()
    await caller.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")

    assert await caller.volume_state(volume) == "in-use attached"
    assert (await caller.describe_volume(volume))["KmsKeyId"] == MANAGED
    assert (await aws("kms", "describe_key", KeyId="alias/aws/ebs"))["KeyMetadata"]["Arn"] == MANAGED


BLANK: Final = ["GenerateDataKeyWithoutPlaintext", "Decrypt"]
RESTORE: Final = ["DescribeKey", *BLANK]


@pytest.mark.parametrize("missing", [None, *BLANK])
async def test_a_blank_volume_needs_a_data_key(emulator: Emulator, aws: Aws, missing: str | None) -> None:
    """KMS Developer Guide, "How Amazon EBS uses AWS KMS"; kubernetes/kubernetes issue 62171: these two suffice."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    actions = [action for action in BLANK if action != missing]
    key = await create_key(aws, grant_to("one", actions, Condition=VIA_EC2))

    assert await outcome(caller, key) == ("gone" if missing else "available")


@pytest.mark.parametrize("missing", [None, *RESTORE])
async def test_a_restore_under_the_same_key_needs_the_key(emulator: Emulator, aws: Aws, missing: str | None) -> None:
    """Amazon EBS User Guide, "How EBS encryption works when the snapshot is encrypted"."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    key = await create_key(aws, grant_to("one", [action for action in RESTORE if action != missing]))
    snapshot = await create_snapshot(aws, Encrypted=True, KmsKeyId=key)

    assert await outcome(caller, key, SnapshotId=snapshot) == ("gone" if missing else "available")


@pytest.mark.parametrize("missing", [None, "ReEncryptFrom", "ReEncryptTo", *RESTORE])
async def test_a_restore_under_another_key_needs_both_keys(emulator: Emulator, aws: Aws, missing: str | None) -> None:
    """Amazon EBS User Guide, "How EBS encryption works when the snapshot is encrypted": with another key."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    old = await create_key(aws, grant_to("one", [action for action in ["ReEncryptFrom"] if action != missing] or ["X"]))
    new = await create_key(aws, grant_to("one", [action for action in ["ReEncryptTo", *RESTORE] if action != missing]))
    snapshot = await create_snapshot(aws, Encrypted=True, KmsKeyId=old)

    assert await outcome(caller, new, SnapshotId=snapshot) == ("gone" if missing else "available")


@pytest.mark.parametrize("missing", [None, "CreateGrant", *RESTORE])
async def test_encrypting_a_plain_snapshot_needs_a_grant(emulator: Emulator, aws: Aws, missing: str | None) -> None:
    """Amazon EBS User Guide, "How EBS encryption works when the snapshot is unencrypted"."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2",))
    key = await create_key(aws, grant_to("one", [each for each in ["CreateGrant", *RESTORE] if each != missing]))
    snapshot = await create_snapshot(aws)

    assert await outcome(caller, key, SnapshotId=snapshot) == ("gone" if missing else "available")


async def create_snapshot(aws: Aws, **members: Any) -> str:
    """Create a volume and a completed snapshot of it; the snapshot's id."""
    snapshot = await aws.ec2("create_snapshot", VolumeId=await aws.create_volume(**members))
    return str(snapshot["SnapshotId"])


async def describe_snapshot(aws: Aws, snapshot: str) -> Any:
    """The snapshot as EC2 describes it."""
    return (await aws.ec2("describe_snapshots", SnapshotIds=[snapshot]))["Snapshots"][0]


async def test_snapshots_of_one_lineage_have_one_data_key(aws: Aws) -> None:
    """EC2 API reference, Snapshot, DataEncryptionKeyId: inherited by volumes from snapshots and vice versa."""
    key, other = await create_key(aws), await create_key(aws)
    first = await create_snapshot(aws, Encrypted=True, KmsKeyId=key)
    same = await create_snapshot(aws, SnapshotId=first)
    moved = await create_snapshot(aws, SnapshotId=first, Encrypted=True, KmsKeyId=other)
    plain = await create_snapshot(aws)

    shown = [await describe_snapshot(aws, snapshot) for snapshot in (first, same, moved)]

    assert [snapshot["KmsKeyId"] for snapshot in shown] == [key, key, other]
    lineages = [snapshot["DataEncryptionKeyId"] for snapshot in shown]
    assert lineages[0] == lineages[1] != lineages[2]
    assert "DataEncryptionKeyId" not in await describe_snapshot(aws, plain)


class Attaching:
    """A caller who attaches a volume to a HyperPod node, or to an instance of EC2."""

    def __init__(self, aws: Aws, volume: str, *, node: str, cluster: str = "") -> None:
        """Attach to the node of a HyperPod cluster, or to an instance if `cluster` is empty."""
        self.aws = aws
        self.volume = volume
        self._node = node
        self._cluster = cluster

    @classmethod
    async def prepare(cls, aws: Aws, caller: Aws, key: str, *, to: str) -> "Attaching":
        """Create what is needed as the administrator: a volume under the key, and a node or an instance."""
        volume = await aws.create_volume(Encrypted=True, KmsKeyId=key)
        if to == "an instance":
            return cls(caller, volume, node=await aws.run_instance())
        cluster, (node,) = await aws.create_cluster()
        return cls(caller, volume, node=node, cluster=cluster)

    @property
    def _on_node(self) -> dict[str, str]:
        return {"ClusterArn": self._cluster, "NodeId": self._node, "VolumeId": self.volume}

    async def attach(self) -> str:
        """Attach the volume; the code of the error, or nothing."""
        on_instance = {"VolumeId": self.volume, "InstanceId": self._node, "Device": "/dev/xvdba"}
        try:
            if self._cluster:
                await self.aws("sagemaker", "attach_cluster_node_volume", **self._on_node)
            else:
                await self.aws.ec2("attach_volume", **on_instance)
        except ClientError as error:
            code, text = error_of(error)
            if self._cluster:
                assert code == "ValidationException"
                return text.partition("Ec2ErrCode: ")[2].partition(" ")[0]
            return code
        return ""

    async def detach(self) -> None:
        """Detach the volume."""
        if self._cluster:
            await self.aws("sagemaker", "detach_cluster_node_volume", **self._on_node)
        else:
            await self.aws.ec2("detach_volume", VolumeId=self.volume)


BOTH = pytest.mark.parametrize("to", ["a HyperPod node", "an instance"])


@BOTH
async def test_the_guides_key_policy_lets_its_caller_attach_and_detach(emulator: Emulator, aws: Aws, to: str) -> None:
    """SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters"."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2", "sagemaker"))
    key = await create_key(aws, grant_to("one", ["DescribeKey"]), grant_to("one", ["CreateGrant"], Condition=GUIDE))
    attaching = await Attaching.prepare(aws, caller, key, to=to)

    assert await attaching.attach() == ""
    (grant,) = (await aws("kms", "list_grants", KeyId=key))["Grants"]
    assert ":assumed-role/aws:ec2-infrastructure/i-" in grant["GranteePrincipal"]
    assert grant["Operations"] == ["Decrypt"]
    assert grant["Constraints"] == {"EncryptionContextSubset": {"aws:ebs:id": attaching.volume}}

    await attaching.detach()
    await wait_until_equal(lambda: caller.volume_state(attaching.volume), "available")
    assert (await aws("kms", "list_grants", KeyId=key))["Grants"] == []


@BOTH
@pytest.mark.parametrize("condition", OTHER_THAN_GUIDE.values(), ids=OTHER_THAN_GUIDE)
async def test_each_condition_of_the_guides_key_policy_decides(
    emulator: Emulator, aws: Aws, to: str, condition: dict[str, Any]
) -> None:
    """The same page, the statement for kms:CreateGrant; a refused attachment changes nothing."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2", "sagemaker"))
    key = await create_key(aws, grant_to("one", ["DescribeKey"]), grant_to("one", ["CreateGrant"], Condition=condition))
    attaching = await Attaching.prepare(aws, caller, key, to=to)

    assert await attaching.attach() == REVOKED
    assert await aws.volume_state(attaching.volume) == "available"
    assert (await aws("kms", "list_grants", KeyId=key))["Grants"] == []


async def test_a_hyperpod_node_needs_both_lines_of_the_guides_key_policy(emulator: Emulator, aws: Aws) -> None:
    """The same page: kms:DescribeKey and kms:CreateGrant."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("sagemaker",))
    key = await create_key(aws)
    attaching = await Attaching.prepare(aws, caller, key, to="a HyperPod node")
    lines = [grant_to("one", ["DescribeKey"]), grant_to("one", ["CreateGrant"], Condition=GUIDE)]

    results = []
    for statements in ([], lines[:1], lines[1:], lines):
        await aws("kms", "put_key_policy", KeyId=key, Policy=document(MANAGE, *statements))
        results.append(await attaching.attach())

    assert results == [REVOKED, REVOKED, REVOKED, ""]


async def test_an_explicit_deny_keeps_the_instance_from_decrypting(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Grants": a grant allows nothing that a key policy denies."""
    deny = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "kms:Decrypt", "Resource": "*"}
    through = {"ArnLike": {"aws:PrincipalArn": "arn:aws:sts::*:assumed-role/aws:ec2-infrastructure/*"}}
    key = await create_key(aws, {**deny, "Condition": through})
    attaching = await Attaching.prepare(aws, aws, key, to="an instance")

    assert await attaching.attach() == REVOKED
    assert emulator.world.store.kms_grants.where("key", key.rpartition("/")[2]) == []


async def test_delegation_to_iam_policies_works_for_volumes(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Default key policy", with the permissions that the EBS User Guide lists."""
    actions = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext"]
    statements = [EVERYTHING_BUT_KMS, allow([*actions, "kms:ReEncrypt*"], Condition=VIA_EC2)]
    caller = await create_caller(emulator, "one", *statements, services=("ec2",))
    key = (await aws("kms", "create_key"))["KeyMetadata"]["Arn"]

    volume = await caller.create_volume(Encrypted=True, KmsKeyId=key)
    instance = await caller.run_instance()
    await caller.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")

    assert await caller.volume_state(volume) == "in-use attached"


@BOTH
@pytest.mark.parametrize("how", ["disabled", "pending deletion", "deleted", "denied by its policy"])
async def test_a_key_that_is_lost_refuses_the_next_attach_and_no_detach(
    emulator: Emulator, aws: Aws, to: str, how: str
) -> None:
    """Amazon EBS User Guide: attached volumes keep their data key in memory; detaching needs no KMS."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2", "sagemaker"))
    key = await create_key(aws, grant_to("one", ["DescribeKey", "CreateGrant"]))
    attaching = await Attaching.prepare(aws, caller, key, to=to)
    assert await attaching.attach() == ""

    match how:
        case "disabled":
            await aws("kms", "disable_key", KeyId=key)
        case "denied by its policy":
            await aws("kms", "put_key_policy", KeyId=key, Policy=document(MANAGE))
        case _:
            await aws("kms", "schedule_key_deletion", KeyId=key, PendingWindowInDays=7)
    if how == "deleted":
        emulator.world.clock.schedule_at(f"key-deletion/{key.rpartition('/')[2]}", "key deleted", 0)

    assert await caller.volume_state(attaching.volume) == "in-use attached"
    await attaching.detach()
    await wait_until_equal(lambda: caller.volume_state(attaching.volume), "available")
    assert await attaching.attach() == REVOKED


@BOTH
async def test_a_revoked_grant_leaves_the_volume_attached(aws: Aws, to: str) -> None:
    """Amazon EBS User Guide: the data key of an attached volume is in memory; the next attachment has a new grant."""
    key = await create_key(aws)
    attaching = await Attaching.prepare(aws, aws, key, to=to)
    assert await attaching.attach() == ""
    (grant,) = (await aws("kms", "list_grants", KeyId=key))["Grants"]

    await aws("kms", "revoke_grant", KeyId=key, GrantId=grant["GrantId"])

    assert await aws.volume_state(attaching.volume) == "in-use attached"
    await attaching.detach()
    await wait_until_equal(lambda: aws.volume_state(attaching.volume), "available")
    assert await attaching.attach() == ""
    assert len((await aws("kms", "list_grants", KeyId=key))["Grants"]) == 1


async def test_an_enabled_key_attaches_again(aws: Aws) -> None:
    """KMS Developer Guide, "Enable and disable keys"."""
    key = await create_key(aws)
    attaching = await Attaching.prepare(aws, aws, key, to="an instance")
    await aws("kms", "disable_key", KeyId=key)

    assert await attaching.attach() == REVOKED
    await aws("kms", "enable_key", KeyId=key)
    assert await attaching.attach() == ""


async def test_all_new_volumes_are_encrypted_if_the_account_says_so(aws: Aws) -> None:
    """Amazon EBS User Guide, "Encryption by default"."""
    key = await create_key(aws)
    assert (await aws.ec2("get_ebs_encryption_by_default"))["EbsEncryptionByDefault"] is False
    assert (await aws.ec2("get_ebs_default_kms_key_id"))["KmsKeyId"] == "alias/aws/ebs"
    await aws.ec2("enable_ebs_encryption_by_default")

    managed = await aws.describe_volume(await aws.create_volume(Encrypted=False))
    await aws.ec2("modify_ebs_default_kms_key_id", KmsKeyId=key.rpartition("/")[2])
    own = await aws.describe_volume(await aws.create_volume())
    named = await aws.describe_volume(await aws.create_volume(KmsKeyId="alias/aws/ebs"))
    reset = await aws.ec2("reset_ebs_default_kms_key_id")
    await aws.ec2("disable_ebs_encryption_by_default")
    plain = await aws.describe_volume(await aws.create_volume())

    shown = [(volume["Encrypted"], volume.get("KmsKeyId")) for volume in (managed, own, named, plain)]
    assert shown == [(True, MANAGED), (True, key), (True, MANAGED), (False, None)]
    assert reset["KmsKeyId"] == MANAGED


async def test_the_default_key_is_that_of_volumes_that_only_ask_for_encryption(aws: Aws) -> None:
    """EC2 API reference, ModifyEbsDefaultKmsKeyId; an unusable key makes later volumes disappear."""
    await aws.ec2("modify_ebs_default_kms_key_id", KmsKeyId="alias/none")

    created = await aws.ec2("create_volume", AvailabilityZone=ZONE, Size=1, Encrypted=True)

    assert created["KmsKeyId"] == f"{SCOPE}:alias/none"
    assert await state_of(aws, created["VolumeId"]) == "InvalidVolume.NotFound"


async def test_default_encryption_needs_permission(emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, EC2; a refused call changes nothing."""
    caller = await create_caller(emulator, "one", services=("ec2",))

    assert (await caller.expect_error("ec2", "enable_ebs_encryption_by_default"))[0] == "UnauthorizedOperation"
    assert (await aws.ec2("get_ebs_encryption_by_default"))["EbsEncryptionByDefault"] is False


async def test_without_enforcement_only_the_state_of_the_key_counts() -> None:
    """`--iam off`: policies decide nothing, and keys work as on AWS."""
    async with cloud(iam="off") as (emulator, aws):
        key = await create_key(aws)
        caller = await create_caller(emulator, "one", services=("ec2",))
        volume = await caller.create_volume(Encrypted=True, KmsKeyId=key)
        instance = await aws.run_instance()
        await caller.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")
        await aws("kms", "disable_key", KeyId=key)

        assert await outcome(caller, key) == "gone"


async def test_an_attached_volume_keeps_its_grant_over_a_restart(tmp_path: Path) -> None:
    """The grant and the data key are durable."""
    state = tmp_path / "state"
    async with cloud(state) as (_, aws):
        key = await create_key(aws)
        attaching = await Attaching.prepare(aws, aws, key, to="an instance")
        assert await attaching.attach() == ""

    async with cloud(state) as (_, aws):
        assert len((await aws("kms", "list_grants", KeyId=key))["Grants"]) == 1
        attaching.aws = aws
        await attaching.detach()
        await wait_until_equal(lambda: aws.volume_state(attaching.volume), "available")
        assert (await aws("kms", "list_grants", KeyId=key))["Grants"] == []
        assert await attaching.attach() == ""
