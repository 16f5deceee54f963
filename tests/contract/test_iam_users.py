"""IAM's users, access keys and inline policies, as boto3 sees them, and what EC2 then allows."""

import asyncio
import json
from pathlib import Path

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws, clients, cloud
from tests.support.iam_users import allow, create_clients, create_user, document

VOLUMES = "arn:aws:ec2:us-west-2:123456789012:volume/*"


async def test_a_user_may_do_what_an_inline_policy_allows_and_nothing_else(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Troubleshoot access denied error messages"; EC2 API reference, UnauthorizedOperation."""
    volume = await aws.create_volume()
    ann = await create_user(emulator, aws, "ann", allow("ec2:DescribeVolumes"))

    shown = await ann.describe_volume(volume)
    code, text = await ann.expect_error("ec2", "delete_volume", VolumeId=volume)

    assert shown["VolumeId"] == volume
    assert code == "UnauthorizedOperation"
    assert text.startswith(
        "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/ann is not authorized "
        f"to perform: ec2:DeleteVolume on resource: arn:aws:ec2:us-west-2:123456789012:volume/{volume} "
        "because no identity-based policy allows the ec2:DeleteVolume action. Encoded authorization failure message: "
    )
    assert await aws.volume_state(volume) == "available"


async def test_a_change_of_a_policy_takes_effect_at_once(emulator: Emulator, aws: Aws) -> None:
    """AWS's own replicas take seconds; the emulator answers by the newest policies."""
    volume = await aws.create_volume()
    ann = await create_user(emulator, aws, "ann")

    before = await ann.expect_error("ec2", "delete_volume", VolumeId=volume)
    own = {"UserName": "ann", "PolicyName": "delete"}
    await aws("iam", "put_user_policy", **own, PolicyDocument=document(allow("ec2:DeleteVolume", resource=VOLUMES)))
    await ann.ec2("delete_volume", VolumeId=volume)
    await aws("iam", "delete_user_policy", **own)
    after = await ann.expect_error("ec2", "delete_volume", VolumeId=volume)

    assert before[0] == after[0] == "UnauthorizedOperation"


async def test_an_inactive_or_deleted_key_signs_nothing(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Manage access keys for IAM users"."""
    ann = await create_user(emulator, aws, "ann")
    (key,) = (await aws("iam", "list_access_keys", UserName="ann"))["AccessKeyMetadata"]
    named = {"UserName": "ann", "AccessKeyId": key["AccessKeyId"]}

    await ann("sts", "get_caller_identity")
    await aws("iam", "update_access_key", **named, Status="Inactive")
    inactive = await ann.expect_error("sts", "get_caller_identity")
    await aws("iam", "update_access_key", **named, Status="Active")
    await ann("sts", "get_caller_identity")
    await aws("iam", "delete_access_key", **named)
    deleted = await ann.expect_error("ec2", "describe_volumes")

    assert (inactive[0], deleted[0]) == ("InvalidClientTokenId", "AuthFailure")


async def test_a_renamed_user_keeps_keys_and_policies(emulator: Emulator, aws: Aws) -> None:
    """IAM API reference, UpdateUser: only name and path change, and the ARN with them."""
    ann = await create_user(emulator, aws, "ann", allow("ec2:DescribeVolumes"))

    await aws("iam", "update_user", UserName="ann", NewUserName="anna", NewPath="/people/")

    assert (await ann("sts", "get_caller_identity"))["Arn"] == "arn:aws:iam::123456789012:user/people/anna"
    assert (await ann.ec2("describe_volumes"))["Volumes"] == []
    assert (await aws.expect_error("iam", "get_user", UserName="ann"))[0] == "NoSuchEntity"


async def test_names_differ_by_more_than_case(aws: Aws) -> None:
    """IAM API reference, CreateUser: names are unique without regard to case."""
    await aws("iam", "create_user", UserName="Ann")

    code, text = await aws.expect_error("iam", "create_user", UserName="aNN")

    assert (code, text) == ("EntityAlreadyExists", "User with name aNN already exists.")
    assert (await aws("iam", "get_user", UserName="ann"))["User"]["UserName"] == "Ann"


async def test_a_user_in_use_cannot_be_deleted(emulator: Emulator, aws: Aws) -> None:
    """IAM API reference, DeleteUser: keys and policies must be deleted first."""
    await create_user(emulator, aws, "ann", allow("ec2:DescribeVolumes"))
    (key,) = (await aws("iam", "list_access_keys", UserName="ann"))["AccessKeyMetadata"]

    with_key = await aws.expect_error("iam", "delete_user", UserName="ann")
    await aws("iam", "delete_access_key", UserName="ann", AccessKeyId=key["AccessKeyId"])
    with_policy = await aws.expect_error("iam", "delete_user", UserName="ann")
    await aws("iam", "delete_user_policy", UserName="ann", PolicyName="own")
    await aws("iam", "delete_user", UserName="ann")
    gone = await aws.expect_error("iam", "get_user", UserName="ann")

    assert with_key == ("DeleteConflict", "Cannot delete entity, must delete access keys first.")
    assert with_policy == ("DeleteConflict", "Cannot delete entity, must delete policies first.")
    assert gone == ("NoSuchEntity", "The user with name ann cannot be found.")


async def test_a_user_manages_its_own_keys_without_naming_itself(emulator: Emulator, aws: Aws) -> None:
    """IAM API reference, CreateAccessKey: the default user is the caller; the caller needs the permission on itself."""
    own = "arn:aws:iam::123456789012:user/ann"
    ann = await create_user(emulator, aws, "ann", allow("iam:*AccessKey*", resource=own))

    key = (await ann("iam", "create_access_key"))["AccessKey"]
    keys = (await ann("iam", "list_access_keys"))["AccessKeyMetadata"]
    third = await ann.expect_error("iam", "create_access_key")
    other = await ann.expect_error("iam", "create_access_key", UserName="emulator")
    self_ = await ann.expect_error("iam", "get_user")

    assert key["AccessKeyId"] in {each["AccessKeyId"] for each in keys}
    assert third == ("LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2")
    assert other[0] == self_[0] == "AccessDenied"
    assert f"iam:GetUser on resource: {own} because" in self_[1]


async def test_lists_have_pages(aws: Aws) -> None:
    """IAM API reference, ListUsers: Marker and MaxItems."""
    for number in range(5):
        await aws("iam", "create_user", UserName=f"user{number}", Path="/five/")

    first = await aws("iam", "list_users", PathPrefix="/five/", MaxItems=3)
    second = await aws("iam", "list_users", PathPrefix="/five/", MaxItems=3, Marker=first["Marker"])

    assert (first["IsTruncated"], second["IsTruncated"]) == (True, False)
    assert [user["UserName"] for page in (first, second) for user in page["Users"]] == [f"user{n}" for n in range(5)]


async def test_a_document_that_is_no_policy_changes_nothing(aws: Aws) -> None:
    """IAM API reference, PutUserPolicy: MalformedPolicyDocument, LimitExceeded and ValidationError."""
    await aws("iam", "create_user", UserName="ann")
    named = {"UserName": "ann", "PolicyName": "own"}
    large = document(*[allow("ec2:DescribeVolumes") for _ in range(40)])

    malformed = await aws.expect_error("iam", "put_user_policy", **named, PolicyDocument="{}")
    oversized = await aws.expect_error("iam", "put_user_policy", **named, PolicyDocument=large)
    wrong_name = await aws.expect_error(
        "iam", "put_user_policy", **named | {"PolicyName": "a b"}, PolicyDocument=document(allow("ec2:*"))
    )

    assert malformed == ("MalformedPolicyDocument", "Missing required field Statement")
    assert oversized == ("LimitExceeded", "Maximum policy size of 2048 bytes exceeded for user ann")
    assert wrong_name[0] == "ValidationError"
    assert wrong_name[1].startswith("1 validation error detected: Value 'a b' at 'policyName' failed to satisfy")
    assert (await aws("iam", "list_user_policies", UserName="ann"))["PolicyNames"] == []


async def test_a_document_is_returned_as_it_was_written(aws: Aws) -> None:
    """IAM API reference, GetUserPolicy: the document is URL-encoded; boto3 decodes it."""
    written = document(allow("ec2:CreateTags", resource="arn:aws:ec2:*:*:volume/*", Sid="Tags"))
    await aws("iam", "create_user", UserName="ann")
    await aws("iam", "put_user_policy", UserName="ann", PolicyName="own", PolicyDocument=written)

    answer = await aws("iam", "get_user_policy", UserName="ann", PolicyName="own")

    assert answer["PolicyDocument"] == json.loads(written)


async def test_users_keys_and_policies_survive_a_restart(tmp_path: Path) -> None:
    """All of IAM's records are on disk before a call is answered."""
    async with cloud(tmp_path / "state") as (emulator, aws):
        await create_user(emulator, aws, "ann", allow("ec2:DescribeVolumes"))
        key = (await aws("iam", "create_access_key", UserName="ann"))["AccessKey"]
    async with cloud(tmp_path / "state") as (emulator, _):
        env = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        ann = await asyncio.to_thread(clients, emulator.env | env)

        assert (await ann.ec2("describe_volumes"))["Volumes"] == []
        assert (await ann.expect_error("ec2", "describe_instances"))[0] == "UnauthorizedOperation"


async def test_a_second_key_has_a_secret_of_its_own(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide: with two keys, one can be replaced while the other signs."""
    first = await create_user(emulator, aws, "ann")
    second = await create_clients(emulator, aws, "ann")

    assert await first("sts", "get_caller_identity") != {}
    assert (await second("sts", "get_caller_identity"))["Arn"].endswith(":user/ann")


async def test_a_new_name_needs_the_permission_as_well_as_the_old_one(emulator: Emulator, aws: Aws) -> None:
    """IAM API reference, UpdateUser and UpdateGroup: permissions on both the source and the target object."""
    start = "arn:aws:iam::123456789012"
    ann = await create_user(
        emulator,
        aws,
        "ann",
        allow("iam:UpdateUser", resource=f"{start}:user/dev/*"),
        allow("iam:UpdateGroup", resource=f"{start}:group/dev/*"),
    )
    await aws("iam", "create_user", UserName="bob", Path="/dev/")
    await aws("iam", "create_group", GroupName="some", Path="/dev/")

    user = await ann.expect_error("iam", "update_user", UserName="bob", NewUserName="boss", NewPath="/")
    group = await ann.expect_error("iam", "update_group", GroupName="some", NewPath="/admins/")
    await ann("iam", "update_user", UserName="bob", NewUserName="rob")
    await ann("iam", "update_group", GroupName="some", NewGroupName="others")

    assert f"iam:UpdateUser on resource: {start}:user/boss because" in user[1]
    assert f"iam:UpdateGroup on resource: {start}:group/admins/some because" in group[1]
