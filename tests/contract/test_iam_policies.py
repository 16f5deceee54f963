"""IAM's managed policies, groups, tags, providers and account reports, as boto3 sees them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity import aws_managed
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.documents import Kind
from tests.support.emulator_clients import Aws
from tests.support.iam_users import allow, create_user, document

TRUST = document({"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "sts:AssumeRole"})
DRIVER_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"


async def create_policy(aws: Aws, name: str, *actions: str) -> str:
    answer = await aws("iam", "create_policy", PolicyName=name, PolicyDocument=document(allow(*actions)))
    return str(answer["Policy"]["Arn"])


async def test_the_default_version_of_a_policy_applies_at_once(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Versioning IAM policies"."""
    ann = await create_user(emulator, aws, "ann")
    arn = await create_policy(aws, "driver", "ec2:DescribeVolumes")
    await aws("iam", "attach_user_policy", UserName="ann", PolicyArn=arn)
    await ann.ec2("describe_volumes")

    wider = document(allow("ec2:DescribeInstances"))
    await aws("iam", "create_policy_version", PolicyArn=arn, PolicyDocument=wider, SetAsDefault=True)
    denied = await ann.expect_error("ec2", "describe_volumes")
    await ann.ec2("describe_instances")
    await aws("iam", "set_default_policy_version", PolicyArn=arn, VersionId="v1")
    await ann.ec2("describe_volumes")
    await aws("iam", "detach_user_policy", UserName="ann", PolicyArn=arn)

    assert denied[0] == (await ann.expect_error("ec2", "describe_volumes"))[0] == "UnauthorizedOperation"


async def test_a_policy_has_at_most_five_versions(aws: Aws) -> None:
    """IAM User Guide, "Versioning IAM policies"; numbers of deleted versions are not used again."""
    arn = await create_policy(aws, "driver", "ec2:DescribeVolumes")
    new = {"PolicyArn": arn, "PolicyDocument": document(allow("ec2:DescribeTags"))}
    for _ in range(4):
        await aws("iam", "create_policy_version", **new)

    sixth = await aws.expect_error("iam", "create_policy_version", **new)
    default = await aws.expect_error("iam", "delete_policy_version", PolicyArn=arn, VersionId="v1")
    several = await aws.expect_error("iam", "delete_policy", PolicyArn=arn)
    await aws("iam", "delete_policy_version", PolicyArn=arn, VersionId="v5")
    next_version = await aws("iam", "create_policy_version", **new)

    assert sixth[0] == "LimitExceeded"
    assert sixth[1].startswith("A managed policy can have up to 5 versions.")
    assert default == ("DeleteConflict", "Cannot delete the default version of a policy.")
    assert several[0] == "DeleteConflict"
    assert next_version["PolicyVersion"]["VersionId"] == "v6"


async def test_the_policies_that_aws_manages_can_be_read_and_attached(emulator: Emulator, aws: Aws) -> None:
    """AWS Managed Policy Reference Guide, AmazonEBSCSIDriverPolicy: version v15."""
    policy = (await aws("iam", "get_policy", PolicyArn=DRIVER_POLICY))["Policy"]
    version = (await aws("iam", "get_policy_version", PolicyArn=DRIVER_POLICY, VersionId="v15"))["PolicyVersion"]
    ann = await create_user(emulator, aws, "ann")
    await aws("iam", "attach_user_policy", UserName="ann", PolicyArn=DRIVER_POLICY)

    await ann.ec2("describe_instance_types", InstanceTypes=["m5.large"])
    denied = await ann.expect_error("ec2", "create_volume", AvailabilityZone="us-west-2a", Size=1)
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "CSIVolumeName", "Value": "one"}]}]
    await ann.ec2("create_volume", AvailabilityZone="us-west-2a", Size=1, TagSpecifications=tags)

    assert (policy["Path"], policy["DefaultVersionId"]) == ("/service-role/", "v15")
    assert "ec2:LockSnapshot" in json.dumps(version["Document"])
    assert denied[0] == "UnauthorizedOperation"


def test_every_policy_that_aws_manages_is_valid() -> None:
    """The documents are those of the AWS Managed Policy Reference Guide."""
    for policy in aws_managed.all_policies().values():
        assert documents.parse(policy.document, kind=Kind.IDENTITY).statements


async def test_nobody_changes_a_policy_of_aws(aws: Aws) -> None:
    """IAM User Guide, "AWS managed policies": only AWS changes them; those of service-linked roles are for services."""
    await aws("iam", "create_user", UserName="ann")
    service_policy = "arn:aws:iam::aws:policy/aws-service-role/AmazonEKSServiceRolePolicy"

    deleted = await aws.expect_error("iam", "delete_policy", PolicyArn=DRIVER_POLICY)
    attached = await aws.expect_error("iam", "attach_user_policy", UserName="ann", PolicyArn=service_policy)
    unknown = await aws.expect_error(
        "iam", "attach_user_policy", UserName="ann", PolicyArn="arn:aws:iam::aws:policy/Unknown"
    )

    assert deleted[0] == "AccessDenied"
    assert attached[0] == "PolicyNotAttachable"
    assert unknown == (
        "NoSuchEntity",
        "Policy arn:aws:iam::aws:policy/Unknown does not exist or is not attachable.",
    )


async def test_lists_of_policies_are_filtered(aws: Aws) -> None:
    """IAM API reference, ListPolicies: Scope, OnlyAttached, PathPrefix and pages."""
    arn = await create_policy(aws, "driver", "ec2:DescribeVolumes")
    aws_policies = (await aws("iam", "list_policies", Scope="AWS", PathPrefix="/service-role/"))["Policies"]
    attached = (await aws("iam", "list_policies", OnlyAttached=True))["Policies"]
    first = await aws("iam", "list_policies", MaxItems=1)
    second = await aws("iam", "list_policies", MaxItems=1, Marker=first["Marker"])

    assert [policy["Arn"] for policy in aws_policies] == [DRIVER_POLICY]
    assert [policy["PolicyName"] for policy in attached] == ["AdministratorAccess"]
    assert [policy["Arn"] for policy in (await aws("iam", "list_policies", Scope="Local"))["Policies"]] == [arn]
    assert first["IsTruncated"] is True
    assert first["Policies"] != second["Policies"]


async def test_members_of_a_group_have_its_policies(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "IAM user groups"; membership takes effect at once, and a renamed group keeps its members."""
    ann = await create_user(emulator, aws, "ann")
    arn = await create_policy(aws, "see", "ec2:DescribeInstances")
    await aws("iam", "create_group", GroupName="team")
    await aws("iam", "attach_group_policy", GroupName="team", PolicyArn=arn)
    seeing = document(allow("ec2:DescribeVolumes"))
    await aws("iam", "put_group_policy", GroupName="team", PolicyName="see", PolicyDocument=seeing)

    before = await ann.expect_error("ec2", "describe_volumes")
    await aws("iam", "add_user_to_group", GroupName="team", UserName="ann")
    await aws("iam", "update_group", GroupName="team", NewGroupName="crew")
    await ann.ec2("describe_volumes")
    await ann.ec2("describe_instances")
    full = await aws.expect_error("iam", "delete_group", GroupName="crew")
    member = await aws.expect_error("iam", "delete_user", UserName="ann")
    users = (await aws("iam", "list_entities_for_policy", PolicyArn=arn))["PolicyGroups"]
    await aws("iam", "remove_user_from_group", GroupName="crew", UserName="ann")
    after = await ann.expect_error("ec2", "describe_volumes")

    assert before[0] == after[0] == "UnauthorizedOperation"
    assert full == ("DeleteConflict", "Cannot delete entity, must remove users from group first.")
    assert member[0] == "DeleteConflict"
    assert [group["GroupName"] for group in users] == ["crew"]


async def test_quotas_are_those_of_aws(aws: Aws) -> None:
    """IAM User Guide, "IAM and AWS STS quotas"."""
    await aws("iam", "create_user", UserName="ann")
    *first, last = [await create_policy(aws, f"p{number}", "ec2:DescribeVolumes") for number in range(11)]
    for arn in first:
        await aws("iam", "attach_user_policy", UserName="ann", PolicyArn=arn)
    large = document(*[allow("ec2:DescribeVolumes") for _ in range(120)])

    attached = await aws.expect_error("iam", "attach_user_policy", UserName="ann", PolicyArn=last)
    oversized = await aws.expect_error("iam", "create_policy", PolicyName="large", PolicyDocument=large)
    tags = [{"Key": f"k{number}", "Value": ""} for number in range(50)]
    await aws("iam", "tag_user", UserName="ann", Tags=tags)
    tagged = await aws.expect_error("iam", "tag_user", UserName="ann", Tags=[{"Key": "k50", "Value": ""}])

    assert attached == ("LimitExceeded", "Cannot exceed quota for PoliciesPerUser: 10")
    assert oversized == ("LimitExceeded", "Cannot exceed quota for PolicySize: 6144")
    assert tagged[0] == "LimitExceeded"


class Quota(NamedTuple):
    """A quota of an account, and a call that creates one object; `{}` stands for the object's name."""

    name: str
    limit: int
    table: str
    method: str
    member: str
    value: str = "{}"
    others: Mapping[str, str] = {}


QUOTAS = [
    Quota("UsersPerAccount", 5000, "users", "create_user", "UserName"),
    Quota("GroupsPerAccount", 300, "groups", "create_group", "GroupName"),
    Quota("InstanceProfilesPerAccount", 1000, "instance_profiles", "create_instance_profile", "InstanceProfileName"),
    Quota(
        *("OpenIdConnectProvidersPerAccount", 100, "oidc_providers", "create_open_id_connect_provider", "Url"),
        value="https://{}.example",
    ),
    Quota(
        *("PoliciesPerAccount", 1500, "managed_policies", "create_policy", "PolicyName"),
        others={"PolicyDocument": document(allow("ec2:DescribeVolumes"))},
    ),
    Quota(*("RolesPerAccount", 1000, "roles", "create_role", "RoleName"), others={"AssumeRolePolicyDocument": TRUST}),
]


@pytest.mark.parametrize("quota", QUOTAS, ids=[quota.name for quota in QUOTAS])
async def test_an_account_has_a_limited_number_of_objects(emulator: Emulator, aws: Aws, quota: Quota) -> None:
    """IAM User Guide, "IAM and AWS STS quotas"."""
    table = getattr(emulator.world.store, quota.table)
    await aws("iam", quota.method, **{quota.member: quota.value.format("first")}, **quota.others)
    (sample,) = (record for id_, record in table.items() if "first" in id_)
    for number in range(quota.limit - len(table)):
        table.put(replace(sample, id=f"other{number}"))

    refused = await aws.expect_error("iam", quota.method, **{quota.member: quota.value.format("last")}, **quota.others)

    assert refused == ("LimitExceeded", f"Cannot exceed quota for {quota.name}: {quota.limit}")


async def test_a_policy_of_aws_has_one_name(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "IAM ARNs": each partition has its own; another ARN would evade a condition on iam:PolicyARN."""
    administrator = "arn:aws:iam::aws:policy/AdministratorAccess"
    condition = {"ArnNotEquals": {"iam:PolicyARN": administrator}}
    ann = await create_user(emulator, aws, "ann", allow("iam:*", Condition=condition))
    other = administrator.replace(":aws:iam", ":aws-cn:iam")

    attached = await ann.expect_error("iam", "attach_user_policy", UserName="ann", PolicyArn=other)
    bounded = await aws.expect_error("iam", "create_user", UserName="bob", PermissionsBoundary=other)
    shown = await aws.expect_error("iam", "get_policy", PolicyArn=other)

    denied = await ann.expect_error("iam", "attach_user_policy", UserName="ann", PolicyArn=administrator)

    assert denied[0] == "AccessDenied"
    assert attached[0] == bounded[0] == shown[0] == "NoSuchEntity"


async def test_keys_of_tags_differ_by_more_than_case(aws: Aws) -> None:
    """IAM User Guide, "Tags for AWS Identity and Access Management resources"."""
    await aws("iam", "create_user", UserName="ann", Tags=[{"Key": "Team", "Value": "a"}])

    twice = [{"Key": "team", "Value": "b"}, {"Key": "TEAM", "Value": "c"}]
    duplicate = await aws.expect_error("iam", "tag_user", UserName="ann", Tags=twice)
    reserved = await aws.expect_error("iam", "tag_user", UserName="ann", Tags=[{"Key": "aws:x", "Value": ""}])
    await aws("iam", "tag_user", UserName="ann", Tags=twice[:1])

    assert duplicate == (
        "InvalidInput",
        "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
    )
    assert reserved[0] == "InvalidInput"
    assert (await aws("iam", "list_user_tags", UserName="ann"))["Tags"] == twice[:1]


async def test_a_second_provider_of_the_same_issuer_is_refused(aws: Aws) -> None:
    """IAM API reference, CreateOpenIDConnectProvider and DeleteOpenIDConnectProvider, which is idempotent."""
    url = "https://oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE"
    arn = (await aws("iam", "create_open_id_connect_provider", Url=url))["OpenIDConnectProviderArn"]

    again = await aws.expect_error("iam", "create_open_id_connect_provider", Url=url)
    for _ in range(2):
        await aws("iam", "delete_open_id_connect_provider", OpenIDConnectProviderArn=arn)
    gone = await aws.expect_error("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)

    assert arn == "arn:aws:iam::123456789012:oidc-provider/oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE"
    assert again == ("EntityAlreadyExists", f"Provider with url {url} already exists.")
    assert gone == ("NoSuchEntity", f"OpenIDConnect Provider not found for arn {arn}")


async def test_an_issuer_on_this_machine_may_have_http(aws: Aws) -> None:
    """AWS takes https alone; the emulator serves its EKS issuers itself, without TLS."""
    here = await aws("iam", "create_open_id_connect_provider", Url="http://127.0.0.1:4566/oidc/1")
    elsewhere = await aws.expect_error("iam", "create_open_id_connect_provider", Url="http://oidc.example.com")
    broken = await aws.expect_error("iam", "create_open_id_connect_provider", Url="https://[::1")

    assert here["OpenIDConnectProviderArn"].endswith(":oidc-provider/127.0.0.1:4566/oidc/1")
    assert elsewhere[0] == broken[0] == "ValidationError"


async def test_the_whole_account_is_reported_in_pages(aws: Aws) -> None:
    """IAM API reference, GetAccountAuthorizationDetails."""
    arn = await create_policy(aws, "see", "ec2:DescribeVolumes")
    await aws("iam", "create_group", GroupName="team")
    await aws("iam", "create_user", UserName="ann")
    await aws("iam", "add_user_to_group", GroupName="team", UserName="ann")
    await aws("iam", "attach_user_policy", UserName="ann", PolicyArn=arn)
    trust = document({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"})
    await aws("iam", "create_role", RoleName="node", AssumeRolePolicyDocument=trust)

    pages = [await aws("iam", "get_account_authorization_details", MaxItems=2)]
    while pages[-1]["IsTruncated"]:
        pages.append(await aws("iam", "get_account_authorization_details", MaxItems=2, Marker=pages[-1]["Marker"]))
    users = {user["UserName"]: user for page in pages for user in page["UserDetailList"]}

    assert {*users} == {"ann", "emulator"}
    assert users["ann"]["AttachedManagedPolicies"] == [{"PolicyName": "see", "PolicyArn": arn}]
    assert users["ann"]["GroupList"] == ["team"]
    assert [role["RoleName"] for page in pages for role in page["RoleDetailList"]] == ["node"]
    assert [group["GroupName"] for page in pages for group in page["GroupDetailList"]] == ["team"]
    policies = {policy["PolicyName"]: policy for page in pages for policy in page["Policies"]}
    assert {*policies} == {"see", "AdministratorAccess"}
    assert policies["see"]["PolicyVersionList"][0]["Document"] == json.loads(document(allow("ec2:DescribeVolumes")))
