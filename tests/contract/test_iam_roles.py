"""IAM's roles, trust policies, boundaries, instance profiles and service-linked roles, as boto3 sees them."""

import json
from typing import Any

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.iam_api import service_linked_roles
from tests.support.emulator_clients import Aws
from tests.support.iam_users import allow, create_user, document
from tests.support.roles import assume, connect, put_role

ACCOUNT = "123456789012"


def trust(**principal: Any) -> str:
    return document({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"})


async def test_a_role_is_shown_with_its_trust_policy(aws: Aws) -> None:
    """IAM API reference, CreateRole and GetRole."""
    written = trust(Service="pods.eks.amazonaws.com")
    created = await aws(
        "iam",
        "create_role",
        RoleName="driver",
        Path="/eks/",
        AssumeRolePolicyDocument=written,
        MaxSessionDuration=7200,
        Tags=[{"Key": "eks-cluster-name", "Value": "one"}],
    )

    shown = (await aws("iam", "get_role", RoleName="driver"))["Role"]

    assert shown["Arn"] == created["Role"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/eks/driver"
    assert shown["AssumeRolePolicyDocument"] == json.loads(written)
    assert (shown["MaxSessionDuration"], shown["RoleId"][:4]) == (7200, "AROA")
    assert shown["Tags"] == [{"Key": "eks-cluster-name", "Value": "one"}]


@pytest.mark.parametrize(
    ("principal", "shown"),
    [
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:user/stranger"}, f'"AWS":"arn:aws:iam::{ACCOUNT}:user/stranger"'),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:role/*"}, f'"AWS":"arn:aws:iam::{ACCOUNT}:role/*"'),
        ({"AWS": f"arn:aws-cn:iam::{ACCOUNT}:user/emulator"}, f'"AWS":"arn:aws-cn:iam::{ACCOUNT}:user/emulator"'),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:group/team"}, f'"AWS":"arn:aws:iam::{ACCOUNT}:group/team"'),
        ({"AWS": "AIDAXXXXXXXXXXXXXXXXX"}, '"AWS":"AIDAXXXXXXXXXXXXXXXXX"'),
        ({"AWS": "12345"}, '"AWS":"12345"'),
        ({"Service": "ec2"}, '"SERVICE":"ec2"'),
        ({"Service": "*"}, '"SERVICE":"*"'),
    ],
    ids=["user", "wildcard", "partition", "group", "id", "account", "service", "every service"],
)
async def test_a_trust_policy_names_principals_that_exist(aws: Aws, principal: Any, shown: str) -> None:
    """IAM User Guide, "AWS JSON policy elements: Principal"; the refused call creates no role."""
    code, text = await aws.expect_error("iam", "create_role", RoleName="r", AssumeRolePolicyDocument=trust(**principal))

    assert (code, text) == ("MalformedPolicyDocument", f"Invalid principal in policy: {shown}")
    assert (await aws("iam", "list_roles"))["Roles"] == []


@pytest.mark.parametrize("provider", ["*", "issuer", f"arn:aws:iam:{ACCOUNT}:oidc-provider/issuer.example"])
async def test_a_trust_policy_names_a_provider_by_its_arn_or_its_domain(aws: Aws, provider: str) -> None:
    """CreateRole's message for other federated principals (terraform-aws-modules/terraform-aws-eks, issue 2594)."""
    document = trust(Federated=provider)

    code, text = await aws.expect_error("iam", "create_role", RoleName="r", AssumeRolePolicyDocument=document)

    assert code == "MalformedPolicyDocument"
    assert text == "Federated principals must be valid domain names or SAML metadata ARNs"


async def test_a_trust_policy_may_name_users_accounts_services_and_providers(aws: Aws) -> None:
    """IAM User Guide, "AWS JSON policy elements: Principal"; other accounts cannot be looked up."""
    me = (await aws("iam", "get_user"))["User"]
    principals: list[dict[str, Any]] = [
        {"AWS": [me["Arn"], me["UserId"], ACCOUNT, "arn:aws:iam::210987654321:role/theirs", "*"]},
        {"Service": ["ec2.amazonaws.com", "hyperpod.sagemaker.amazonaws.com"]},
        {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.eks.us-west-2.amazonaws.com/id/A"},
    ]
    for number, principal in enumerate(principals):
        name = f"role{number}"
        await aws("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=trust(**principal))
        await aws("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=trust(**principal))


async def test_a_trust_policy_follows_a_renamed_user_and_shows_the_id_of_a_deleted_one(
    emulator: Emulator, aws: Aws
) -> None:
    """IAM User Guide, "AWS JSON policy elements: Principal": a new user of the same name is not trusted."""
    ann = await create_user(emulator, aws, "ann")
    user = (await aws("iam", "get_user", UserName="ann"))["User"]
    await aws("iam", "create_role", RoleName="r", AssumeRolePolicyDocument=trust(AWS=[user["Arn"], ACCOUNT]))
    arn = f"arn:aws:iam::{ACCOUNT}:role/r"

    async def principals() -> Any:
        role = (await aws("iam", "get_role", RoleName="r"))["Role"]
        return role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["AWS"]

    await aws("iam", "update_user", UserName="ann", NewUserName="anna")
    renamed = await principals()
    await ann("sts", "assume_role", RoleArn=arn, RoleSessionName="one")
    await aws("iam", "update_user", UserName="anna", NewUserName="ann")
    (key,) = (await aws("iam", "list_access_keys", UserName="ann"))["AccessKeyMetadata"]
    await aws("iam", "delete_access_key", UserName="ann", AccessKeyId=key["AccessKeyId"])
    await aws("iam", "delete_user", UserName="ann")
    other = await create_user(emulator, aws, "ann")
    denied = await other.expect_error("sts", "assume_role", RoleArn=arn, RoleSessionName="two")

    assert renamed == [f"{user['Arn']}a", ACCOUNT]
    assert await principals() == [user["UserId"], ACCOUNT]
    assert denied[0] == "AccessDenied"


async def test_a_deleted_user_that_a_policy_names_with_escapes_is_not_trusted_again(
    emulator: Emulator, aws: Aws
) -> None:
    """RFC 8259, section 7: a slash may be written as an escape, as PHP does."""
    await aws("iam", "create_user", UserName="ann")
    escaped = trust(AWS=f"arn:aws:iam::{ACCOUNT}:user/ann").replace("/", "\\/")
    await aws("iam", "create_role", RoleName="r", AssumeRolePolicyDocument=escaped)

    await aws("iam", "delete_user", UserName="ann")
    other = await create_user(emulator, aws, "ann")
    role = f"arn:aws:iam::{ACCOUNT}:role/r"
    denied = await other.expect_error("sts", "assume_role", RoleArn=role, RoleSessionName="two")

    assert denied[0] == "AccessDenied"


async def test_a_key_policy_shows_the_id_of_a_deleted_role(aws: Aws) -> None:
    """KMS Developer Guide, "Key policies in AWS KMS": a principal that is deleted is shown by its unique id."""
    role = (await aws("iam", "create_role", RoleName="r", AssumeRolePolicyDocument=trust(AWS=ACCOUNT)))["Role"]
    by_role = {"Effect": "Allow", "Principal": {"AWS": role["Arn"]}, "Action": "kms:Decrypt", "Resource": "*"}
    by_account = by_role | {"Principal": {"AWS": ACCOUNT}, "Action": "kms:*"}
    policy = document(by_account, by_role | {"Condition": {"ArnLike": {"aws:PrincipalArn": role["Arn"]}}})
    key = (await aws("kms", "create_key", Policy=policy))["KeyMetadata"]["KeyId"]

    await aws("iam", "delete_role", RoleName="r")
    shown = json.loads((await aws("kms", "get_key_policy", KeyId=key, PolicyName="default"))["Policy"])

    _, statement = shown["Statement"]
    assert statement["Principal"] == {"AWS": role["RoleId"]}
    assert statement["Condition"] == {"ArnLike": {"aws:PrincipalArn": role["Arn"]}}


async def test_a_new_role_of_the_name_has_not_the_trust_of_a_session_of_the_old_one(
    emulator: Emulator, aws: Aws
) -> None:
    """IAM User Guide, "AWS JSON policy elements: Principal": a deleted role is shown by its unique id."""
    hop = put_role(emulator, "hop", allow=allow("sts:AssumeRole"))
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/hop/me"
    target = await aws("iam", "create_role", RoleName="target", AssumeRolePolicyDocument=trust(AWS=[session, ACCOUNT]))
    await aws("iam", "update_assume_role_policy", RoleName="target", PolicyDocument=trust(AWS=session))
    arn, unique_id = target["Role"]["Arn"], (await aws("iam", "get_role", RoleName="hop"))["Role"]["RoleId"]
    before = await connect(emulator, await assume(aws, hop))
    await before("sts", "assume_role", RoleArn=arn, RoleSessionName="one")

    await aws("iam", "delete_role_policy", RoleName="hop", PolicyName="permissions")
    await aws("iam", "delete_role", RoleName="hop")
    put_role(emulator, "hop", allow=allow("sts:AssumeRole"))
    after = await connect(emulator, await assume(aws, hop))

    assert (await after.expect_error("sts", "assume_role", RoleArn=arn, RoleSessionName="two"))[0] == "AccessDenied"
    shown = (await aws("iam", "get_role", RoleName="target"))["Role"]["AssumeRolePolicyDocument"]
    assert shown["Statement"][0]["Principal"] == {"AWS": f"{unique_id}:me"}


async def test_a_role_in_use_cannot_be_deleted(aws: Aws) -> None:
    """IAM API reference, DeleteRole: profiles, attached and inline policies must be removed first."""
    role, profile = {"RoleName": "node"}, {"InstanceProfileName": "nodes"}
    policy = {"PolicyArn": "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy"}
    await aws("iam", "create_role", **role, AssumeRolePolicyDocument=trust(Service="ec2.amazonaws.com"))
    await aws("iam", "create_instance_profile", **profile)
    await aws("iam", "add_role_to_instance_profile", **role, **profile)
    await aws("iam", "attach_role_policy", **role, **policy)

    in_profile = await aws.expect_error("iam", "delete_role", **role)
    second = await aws.expect_error("iam", "add_role_to_instance_profile", **role, **profile)
    full = await aws.expect_error("iam", "delete_instance_profile", **profile)
    await aws("iam", "remove_role_from_instance_profile", **role, **profile)
    attached = await aws.expect_error("iam", "delete_role", **role)
    await aws("iam", "detach_role_policy", **role, **policy)
    await aws("iam", "delete_role", **role)

    conflict = "Cannot delete entity, must remove roles from instance profile first."
    assert in_profile == full == ("DeleteConflict", conflict)
    assert second == ("LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
    assert attached == ("DeleteConflict", "Cannot delete entity, must detach all policies first.")
    assert (await aws.expect_error("iam", "get_role", **role))[1] == "The role with name node cannot be found."


async def test_a_boundary_limits_what_policies_allow(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Permissions boundaries for IAM entities"; a new boundary takes effect at once."""
    ann = await create_user(emulator, aws, "ann", allow("ec2:*"))
    policy = (await aws("iam", "create_policy", PolicyName="see", PolicyDocument=document(allow("ec2:Describe*"))))[
        "Policy"
    ]
    zone = {"AvailabilityZone": "us-west-2a", "Size": 1}

    await ann.ec2("create_volume", **zone)
    await aws("iam", "put_user_permissions_boundary", UserName="ann", PermissionsBoundary=policy["Arn"])
    code, text = await ann.expect_error("ec2", "create_volume", **zone)
    await ann.ec2("describe_volumes")
    in_use = await aws.expect_error("iam", "delete_policy", PolicyArn=policy["Arn"])
    await aws("iam", "delete_user_permissions_boundary", UserName="ann")
    await ann.ec2("create_volume", **zone)

    assert code == "UnauthorizedOperation"
    assert "because no permissions boundary allows the ec2:CreateVolume action" in text
    assert in_use == ("DeleteConflict", "Cannot delete a policy attached to entities.")


async def test_the_boundary_is_a_condition_key(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Delegating responsibility to others using permissions boundaries": iam:PermissionsBoundary."""
    boundary = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicy"
    boundary = boundary.replace("policy/", "policy/service-role/")
    admin = await create_user(
        emulator,
        aws,
        "admin",
        allow("iam:CreateUser", "iam:PutUserPolicy", Condition={"StringEquals": {"iam:PermissionsBoundary": boundary}}),
    )

    without = await admin.expect_error("iam", "create_user", UserName="ann")
    await admin("iam", "create_user", UserName="ann", PermissionsBoundary=boundary)
    await admin(
        "iam", "put_user_policy", UserName="ann", PolicyName="p", PolicyDocument=document(allow("ec2:CreateTags"))
    )

    assert without[0] == "AccessDenied"
    assert (await aws("iam", "get_user", UserName="ann"))["User"]["PermissionsBoundary"] == {
        "PermissionsBoundaryType": "Policy",
        "PermissionsBoundaryArn": boundary,
    }


async def test_a_caller_must_be_allowed_to_pass_a_role(emulator: Emulator, aws: Aws) -> None:
    """IAM API reference, AddRoleToInstanceProfile: the caller must be granted iam:PassRole on the role."""
    await aws("iam", "create_role", RoleName="node", AssumeRolePolicyDocument=trust(Service="ec2.amazonaws.com"))
    await aws("iam", "create_instance_profile", InstanceProfileName="nodes")
    ann = await create_user(emulator, aws, "ann", allow("iam:AddRoleToInstanceProfile"))
    members = {"InstanceProfileName": "nodes", "RoleName": "node"}

    code, text = await ann.expect_error("iam", "add_role_to_instance_profile", **members)
    passing = allow(
        "iam:AddRoleToInstanceProfile",
        "iam:PassRole",
        Condition={"StringEqualsIfExists": {"iam:PassedToService": "ec2.amazonaws.com"}},
    )
    await aws("iam", "put_user_policy", UserName="ann", PolicyName="own", PolicyDocument=document(passing))
    await ann("iam", "add_role_to_instance_profile", **members)

    assert code == "AccessDenied"
    assert f"iam:PassRole on resource: arn:aws:iam::{ACCOUNT}:role/node because" in text


async def test_a_tag_of_a_role_decides_who_may_change_it(emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, IAM: iam:ResourceTag and aws:ResourceTag of roles."""
    for name, team in (("ours", "a"), ("theirs", "b")):
        tags = [{"Key": "team", "Value": team}]
        await aws("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=trust(AWS=ACCOUNT), Tags=tags)
    of_team = {"StringEquals": {"iam:ResourceTag/team": "a", "aws:ResourceTag/team": "a"}}
    ann = await create_user(emulator, aws, "ann", allow("iam:UpdateRole", Condition=of_team))

    await ann("iam", "update_role", RoleName="ours", Description="changed")
    denied = await ann.expect_error("iam", "update_role", RoleName="theirs", Description="changed")

    assert denied[0] == "AccessDenied"
    assert (await aws("iam", "get_role", RoleName="ours"))["Role"]["Description"] == "changed"
    assert "Description" not in (await aws("iam", "get_role", RoleName="theirs"))["Role"]


async def test_tagging_a_new_role_is_a_permission_of_its_own(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Tags for AWS Identity and Access Management resources": iam:TagRole, also at creation."""
    ann = await create_user(emulator, aws, "ann", allow("iam:CreateRole"))
    request = {"RoleName": "r", "AssumeRolePolicyDocument": trust(AWS=ACCOUNT)}

    code, text = await ann.expect_error("iam", "create_role", **request, Tags=[{"Key": "team", "Value": "a"}])
    await ann("iam", "create_role", **request)

    assert code == "AccessDenied"
    assert f"iam:TagRole on resource: arn:aws:iam::{ACCOUNT}:role/r because" in text


async def test_only_its_service_changes_a_service_linked_role(aws: Aws) -> None:
    """IAM User Guide, "Create a service-linked role"; EKS User Guide, "Using roles for Amazon EKS clusters"."""
    service = "hyperpod.sagemaker.amazonaws.com"
    role = (await aws("iam", "create_service_linked_role", AWSServiceName=service))["Role"]
    name = {"RoleName": role["RoleName"]}

    attached = (await aws("iam", "list_attached_role_policies", **name))["AttachedPolicies"]
    again = await aws.expect_error("iam", "create_service_linked_role", AWSServiceName=service)
    deleted = await aws.expect_error("iam", "delete_role", **name)
    changed = await aws.expect_error(
        "iam", "put_role_policy", **name, PolicyName="p", PolicyDocument=document(allow("ec2:*"))
    )

    assert role["RoleName"] == "AWSServiceRoleForSageMakerHyperPod"
    assert [policy["PolicyName"] for policy in attached] == ["AmazonSageMakerHyperPodServiceRolePolicy"]
    assert again[0] == "InvalidInput"
    assert deleted[0] == changed[0] == "UnmodifiableEntity"
    assert deleted[1].endswith("- this role is only modifiable by AWS")


async def test_a_service_linked_role_stays_while_its_service_has_resources(aws: Aws) -> None:
    """IAM API reference, DeleteServiceLinkedRole: the deletion fails, and names the resources."""
    await aws("iam", "create_service_linked_role", AWSServiceName="eks.amazonaws.com")
    cluster = await aws.create_eks_cluster()
    name = "AWSServiceRoleForAmazonEKS"

    task = (await aws("iam", "delete_service_linked_role", RoleName=name))["DeletionTaskId"]
    status = await aws("iam", "get_service_linked_role_deletion_status", DeletionTaskId=task)

    assert status["Status"] == "FAILED"
    assert status["Reason"]["RoleUsageList"] == [{"Region": "us-west-2", "Resources": [cluster]}]
    assert (await aws("iam", "get_role", RoleName=name))["Role"]["RoleName"] == name


async def test_the_status_of_a_deletion_is_that_of_one_task_and_says_nothing_about_other_roles(aws: Aws) -> None:
    """IAM API reference, GetServiceLinkedRoleDeletionStatus: the id of a task that DeleteServiceLinkedRole answered."""
    service, name = "eks.amazonaws.com", "AWSServiceRoleForAmazonEKS"
    await aws("iam", "create_role", RoleName="secret", AssumeRolePolicyDocument=trust(AWS=ACCOUNT))
    await aws("iam", "create_service_linked_role", AWSServiceName=service)
    task = (await aws("iam", "delete_service_linked_role", RoleName=name))["DeletionTaskId"]
    await aws("iam", "create_service_linked_role", AWSServiceName=service)
    guesses = [f"task/aws-service-role/{service}/{role}/{'0' * 32}" for role in ("secret", "nothing", name)]

    deleted = await aws("iam", "get_service_linked_role_deletion_status", DeletionTaskId=task)
    answers = [
        await aws.expect_error("iam", "get_service_linked_role_deletion_status", DeletionTaskId=guess)
        for guess in guesses
    ]

    assert deleted["Status"] == "SUCCEEDED"
    assert [code for code, _ in answers] == ["NoSuchEntity"] * 3


async def test_only_the_latest_deletion_tasks_are_kept(
    emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CWE-770: a caller must not fill the memory with tasks."""
    monkeypatch.setattr(service_linked_roles, "MAX_TASKS", 2)
    service, name = "eks.amazonaws.com", "AWSServiceRoleForAmazonEKS"

    tasks = []
    for _ in range(3):
        await aws("iam", "create_service_linked_role", AWSServiceName=service)
        tasks.append((await aws("iam", "delete_service_linked_role", RoleName=name))["DeletionTaskId"])

    assert [*emulator.world.store.deletion_tasks] == tasks[1:]
