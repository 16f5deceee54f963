"""IAM's policy simulator, as boto3 sees it: decisions, the statements that decide, and missing condition keys."""

from typing import Any

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws
from tests.support.iam_users import allow, create_user, document

ACCOUNT = "123456789012"
VOLUMES = f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/*"
VOLUME = f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/vol-1"
OTHER = f"arn:aws:ec2:us-west-2:{ACCOUNT}:snapshot/snap-1"


async def simulate(aws: Aws, *policies: str, actions: list[str], **members: Any) -> list[dict[str, Any]]:
    """The EvaluationResults of SimulateCustomPolicy."""
    answer = await aws("iam", "simulate_custom_policy", PolicyInputList=policies, ActionNames=actions, **members)
    results: list[dict[str, Any]] = answer["EvaluationResults"]
    return results


async def test_each_action_is_decided_by_the_given_policies(aws: Aws) -> None:
    """IAM API reference, SimulateCustomPolicy: one result for each action, in the order of the request."""
    deny = {"Effect": "Deny", "Action": "ec2:DeleteVolume", "Resource": "*"}

    results = await simulate(
        aws,
        document(allow("ec2:*")),
        document(deny),
        actions=["ec2:CreateVolume", "ec2:DeleteVolume", "kms:Decrypt"],
    )

    assert [(each["EvalActionName"], each["EvalDecision"]) for each in results] == [
        ("ec2:CreateVolume", "allowed"),
        ("ec2:DeleteVolume", "explicitDeny"),
        ("kms:Decrypt", "implicitDeny"),
    ]
    sources = [[statement["SourcePolicyId"] for statement in each["MatchedStatements"]] for each in results]
    assert sources == [["PolicyInputList.1"], ["PolicyInputList.2"], []]
    assert all("ResourceSpecificResults" not in each for each in results)


AS_AWS_PRINTS = """{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "*",
      "Resource": "*"
    }
  ]
}"""


@pytest.mark.parametrize(
    ("written", "positions"),
    [
        ('{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}', (1, 38, 1, 84)),
        (AS_AWS_PRINTS, (3, 17, 8, 6)),
        ('{"Statement": {"Effect":"Allow","Action":"*","Resource":"*"}}', (1, 14, 1, 61)),
    ],
    ids=["one line", "AdministratorAccess", "one statement without brackets"],
)
async def test_matched_statements_have_positions(aws: Aws, written: str, positions: tuple[int, ...]) -> None:
    """IAM API reference, Statement: StartPosition and EndPosition; the numbers are those of AWS's answers."""
    ((result,)) = await simulate(aws, written, actions=["ec2:CreateVolume"])

    ((statement,)) = result["MatchedStatements"]
    start, end = statement["StartPosition"], statement["EndPosition"]
    assert (start["Line"], start["Column"], end["Line"], end["Column"]) == positions
    assert statement["SourcePolicyType"] == "IAM Policy"


async def test_resources_have_results_of_their_own(aws: Aws) -> None:
    """IAM API reference, EvaluationResult: the most restrictive decision of all resources comes first."""
    policy = document(allow("ec2:CreateTags", resource=VOLUMES))

    ((result,)) = await simulate(aws, policy, actions=["ec2:CreateTags"], ResourceArns=[VOLUME, OTHER])

    by_resource = {each["EvalResourceName"]: each for each in result["ResourceSpecificResults"]}
    assert result["EvalDecision"] == "implicitDeny"
    assert by_resource[VOLUME]["EvalResourceDecision"] == "allowed"
    assert len(by_resource[VOLUME]["MatchedStatements"]) == 1
    assert by_resource[OTHER]["EvalResourceDecision"] == "implicitDeny"


async def test_missing_condition_keys_are_named(aws: Aws) -> None:
    """IAM API reference, EvaluationResult: MissingContextValues; ContextEntries supply them."""
    key = "ec2:ResourceTag/ebs.csi.aws.com/cluster-name"
    condition = {"StringEquals": {key: "${aws:PrincipalTag/eks-cluster-name}"}}
    policy = document(allow("ec2:DeleteVolume", Condition=condition), allow("kms:Decrypt", resource="*"))
    entries = [
        {"ContextKeyName": name, "ContextKeyValues": ["one"], "ContextKeyType": "string"}
        for name in (key, "aws:PrincipalTag/eks-cluster-name")
    ]

    ((without,)) = await simulate(aws, policy, actions=["ec2:DeleteVolume"])
    ((with_keys,)) = await simulate(aws, policy, actions=["ec2:DeleteVolume"], ContextEntries=entries)
    keys = await aws("iam", "get_context_keys_for_custom_policy", PolicyInputList=[policy])

    assert without["EvalDecision"] == "implicitDeny"
    assert sorted(without["MissingContextValues"]) == sorted(keys["ContextKeyNames"])
    assert {*keys["ContextKeyNames"]} == {key, "aws:PrincipalTag/eks-cluster-name"}
    assert (with_keys["EvalDecision"], with_keys["MissingContextValues"]) == ("allowed", [])


async def test_a_boundary_decides_with_the_policies(aws: Aws) -> None:
    """IAM API reference, PermissionsBoundaryDecisionDetail."""
    boundary = [document(allow("ec2:Describe*"))]

    seeing, deleting = await simulate(
        aws,
        document(allow("ec2:*")),
        actions=["ec2:DescribeVolumes", "ec2:DeleteVolume"],
        PermissionsBoundaryPolicyInputList=boundary,
    )

    assert seeing["EvalDecision"] == "allowed"
    assert seeing["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": True}
    assert deleting["EvalDecision"] == "implicitDeny"
    assert deleting["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": False}


async def test_a_resource_policy_decides_with_the_policies(aws: Aws) -> None:
    """IAM API reference, SimulateCustomPolicy: ResourcePolicy needs a CallerArn; key policies are required."""
    caller = f"arn:aws:iam::{ACCOUNT}:user/ann"
    key = f"arn:aws:kms:us-west-2:{ACCOUNT}:key/1"
    to_caller = document({"Effect": "Allow", "Principal": {"AWS": caller}, "Action": "kms:Decrypt", "Resource": "*"})
    to_other = to_caller.replace("user/ann", "user/bob")
    members: dict[str, Any] = {"actions": ["kms:Decrypt"], "ResourceArns": [key], "CallerArn": caller}
    kms = document(allow("kms:*"))

    ((named,)) = await simulate(aws, document(allow("ec2:*")), ResourcePolicy=to_caller, **members)
    ((other,)) = await simulate(aws, kms, ResourcePolicy=to_other, **members)
    without = await aws.expect_error(
        "iam",
        "simulate_custom_policy",
        PolicyInputList=[kms],
        ActionNames=["kms:Decrypt"],
        ResourcePolicy=to_caller,
    )

    assert (named["EvalDecision"], named["EvalDecisionDetails"]) == ("allowed", {})
    assert named["MatchedStatements"][0]["SourcePolicyId"] == "ResourcePolicy"
    assert other["EvalDecision"] == "implicitDeny"
    assert without[0] == "InvalidInput"


async def test_the_policies_of_a_user_and_its_groups_are_simulated(emulator: Emulator, aws: Aws) -> None:
    """IAM API reference, SimulatePrincipalPolicy; the decisions are those of the user's own calls."""
    ann = await create_user(emulator, aws, "ann", allow("ec2:DescribeVolumes"))
    await aws("iam", "create_group", GroupName="team")
    seeing = document(allow("ec2:DescribeInstances"))
    await aws("iam", "put_group_policy", GroupName="team", PolicyName="see", PolicyDocument=seeing)
    await aws("iam", "add_user_to_group", GroupName="team", UserName="ann")
    driver = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicyV2"
    await aws("iam", "put_user_permissions_boundary", UserName="ann", PermissionsBoundary=driver)
    source = {"PolicySourceArn": f"arn:aws:iam::{ACCOUNT}:user/ann"}
    actions = ["ec2:DescribeVolumes", "ec2:DescribeInstances", "ec2:DeleteVolume"]

    answer = await aws("iam", "simulate_principal_policy", **source, ActionNames=actions)
    without_group = await aws(
        "iam",
        "simulate_principal_policy",
        **source,
        ActionNames=actions,
        PolicyExclusionList=[
            {"InlinePolicyIdentifier": {"PolicyName": "see", "AttachmentType": "group", "AttachmentName": "team"}}
        ],
    )
    await ann.ec2("describe_volumes")
    await ann.ec2("describe_instances")

    results = answer["EvaluationResults"]
    assert [each["EvalDecision"] for each in results] == ["allowed", "allowed", "implicitDeny"]
    sources = [each["MatchedStatements"][0]["SourcePolicyId"] for each in results[:2]]
    assert sources == ["user_ann_own", "group_team_see"]
    assert all(each["PermissionsBoundaryDecisionDetail"] for each in results)
    assert without_group["EvaluationResults"][1]["EvalDecision"] == "implicitDeny"


async def test_a_role_is_simulated_with_its_tags(aws: Aws) -> None:
    """AWS Managed Policy Reference Guide, AmazonEBSCSIDriverEKSClusterScopedPolicy: a tag names the cluster."""
    trust = document(
        {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    )
    tags = [{"Key": "eks-cluster-name", "Value": "one"}]
    role = (await aws("iam", "create_role", RoleName="driver", AssumeRolePolicyDocument=trust, Tags=tags))["Role"]
    scoped = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverEKSClusterScopedPolicy"
    await aws("iam", "attach_role_policy", RoleName="driver", PolicyArn=scoped)

    decisions = []
    for cluster in ("one", "two"):
        key = "ec2:ResourceTag/ebs.csi.aws.com/cluster-name"
        entry = {"ContextKeyName": key, "ContextKeyValues": [cluster], "ContextKeyType": "string"}
        answer = await aws(
            "iam",
            "simulate_principal_policy",
            PolicySourceArn=role["Arn"],
            ActionNames=["ec2:DeleteVolume"],
            ResourceArns=[VOLUME],
            ContextEntries=[entry],
        )
        decisions.append(answer["EvaluationResults"][0]["EvalDecision"])

    assert decisions == ["allowed", "implicitDeny"]


async def test_results_have_pages(aws: Aws) -> None:
    """IAM API reference, SimulateCustomPolicy: Marker and MaxItems."""
    request = {"PolicyInputList": [document(allow("ec2:*"))], "ActionNames": [f"ec2:Action{n}" for n in range(3)]}

    first = await aws("iam", "simulate_custom_policy", **request, MaxItems=2)
    second = await aws("iam", "simulate_custom_policy", **request, MaxItems=2, Marker=first["Marker"])

    names = [each["EvalActionName"] for answer in (first, second) for each in answer["EvaluationResults"]]
    assert names == request["ActionNames"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"PolicyInputList": ["{}"]},
        {"ActionNames": ["DeleteVolume"]},
        {"ActionNames": ["ec2:*"]},
        {"CallerArn": f"arn:aws:sts::{ACCOUNT}:assumed-role/a/b"},
        {"PermissionsBoundaryPolicyInputList": [document(allow("ec2:*"))] * 2},
    ],
    ids=["document", "action without service", "wildcard", "session", "two boundaries"],
)
async def test_a_wrong_request_is_refused(aws: Aws, wrong: Any) -> None:
    """IAM API reference, SimulateCustomPolicy: InvalidInput."""
    right = {"PolicyInputList": [document(allow("ec2:*"))], "ActionNames": ["ec2:DeleteVolume"]}

    code, _ = await aws.expect_error("iam", "simulate_custom_policy", **{**right, **wrong})

    assert code == "InvalidInput"


async def test_a_simulation_that_would_take_long_is_refused(aws: Aws) -> None:
    """CWE-400: a request of 1 MiB can ask for many millions of decisions, while other calls wait."""
    policy = document(*(allow("ec2:*") for _ in range(400)))
    resources = [f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/vol-{number}" for number in range(30)]
    request = {"PolicyInputList": [policy], "ActionNames": [f"ec2:Action{n}" for n in range(30)]}

    code, text = await aws.expect_error("iam", "simulate_custom_policy", **request, ResourceArns=resources)

    assert code == "InvalidInput"
    assert "30 actions, 30 resources and 400 statements" in text


async def test_a_wrong_path_is_no_way_to_simulate_another_user(emulator: Emulator, aws: Aws) -> None:
    """CWE-863: the decision is about the ARN in the request, so only the user with this very ARN is simulated."""
    of_team = f"arn:aws:iam::{ACCOUNT}:user/dev/*"
    ann = await create_user(emulator, aws, "ann", allow("iam:SimulatePrincipalPolicy", resource=of_team))
    await create_user(emulator, aws, "boss", allow("kms:*"))
    request = {"PolicySourceArn": f"arn:aws:iam::{ACCOUNT}:user/dev/boss", "ActionNames": ["kms:Decrypt"]}

    code, _ = await ann.expect_error("iam", "simulate_principal_policy", **request)
    elsewhere = {**request, "PolicySourceArn": "arn:aws:iam::210987654321:user/boss"}
    other, _ = await aws.expect_error("iam", "simulate_principal_policy", **elsewhere)

    assert (code, other) == ("NoSuchEntity", "NoSuchEntity")
