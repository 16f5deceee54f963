"""Scenarios for any AWS client: every operation of IAM once with success, and the members of a call with an error."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from hyperpod_ebs.emulator.http.faults import Faults
from hyperpod_ebs.emulator.wire import models
from hyperpod_ebs.emulator.wire.operations import AwsFault
from tests.support.iam_users import allow, document

ACCOUNT: Final = "123456789012"
DOCUMENT: Final = document(allow("ec2:DescribeVolumes"))
CONDITION_KEY: Final = "ec2:ResourceTag/team"
CONDITION: Final = document(allow("ec2:DeleteVolume", Condition={"StringEquals": {CONDITION_KEY: "a"}}))
TRUST: Final = document({"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"})
AWS_POLICY: Final = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicyV2"
UNKNOWN_POLICY: Final = f"arn:aws:iam::{ACCOUNT}:policy/unknown"
UNKNOWN_PROVIDER: Final = f"arn:aws:iam::{ACCOUNT}:oidc-provider/unknown.example.com"
UNKNOWN_KEY: Final = "AKIA" + 16 * "X"
THUMBPRINT: Final = 20 * "ab"

IAM_OPERATIONS: Final = frozenset(
    {
        *("CreateUser", "GetUser", "ListUsers", "UpdateUser", "DeleteUser", "ListGroupsForUser"),
        *("CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey"),
        *("CreateGroup", "GetGroup", "ListGroups", "UpdateGroup", "DeleteGroup"),
        *("AddUserToGroup", "RemoveUserFromGroup"),
        *("CreateRole", "GetRole", "ListRoles", "UpdateRole", "UpdateRoleDescription", "DeleteRole"),
        *("UpdateAssumeRolePolicy", "ListInstanceProfilesForRole"),
        *("CreateServiceLinkedRole", "DeleteServiceLinkedRole", "GetServiceLinkedRoleDeletionStatus"),
        *("CreateInstanceProfile", "GetInstanceProfile", "ListInstanceProfiles", "DeleteInstanceProfile"),
        *("AddRoleToInstanceProfile", "RemoveRoleFromInstanceProfile"),
        *("CreatePolicy", "GetPolicy", "ListPolicies", "DeletePolicy", "ListEntitiesForPolicy"),
        *("CreatePolicyVersion", "GetPolicyVersion", "ListPolicyVersions", "SetDefaultPolicyVersion"),
        "DeletePolicyVersion",
        *("CreateOpenIDConnectProvider", "GetOpenIDConnectProvider", "ListOpenIDConnectProviders"),
        *("AddClientIDToOpenIDConnectProvider", "RemoveClientIDFromOpenIDConnectProvider"),
        *("UpdateOpenIDConnectProviderThumbprint", "DeleteOpenIDConnectProvider"),
        *("GetAccountAuthorizationDetails", "GetAccountSummary"),
        *("SimulateCustomPolicy", "SimulatePrincipalPolicy"),
        *("GetContextKeysForCustomPolicy", "GetContextKeysForPrincipalPolicy"),
        *(f"{verb}{kind}PermissionsBoundary" for kind in ("User", "Role") for verb in ("Put", "Delete")),
        *(f"{verb}{kind}Policy" for kind in ("User", "Group", "Role") for verb in ("Put", "Get", "Delete")),
        *(f"{verb}{kind}Policy" for kind in ("User", "Group", "Role") for verb in ("Attach", "Detach")),
        *(f"List{what}{kind}Policies" for kind in ("User", "Group", "Role") for what in ("", "Attached")),
        *(
            operation
            for kind in ("User", "Role", "Policy", "InstanceProfile", "OpenIDConnectProvider")
            for operation in (f"Tag{kind}", f"Untag{kind}", f"List{kind}Tags")
        ),
    }
)


class Client(Protocol):
    """An AWS client."""

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """Call the operation and return its answer."""
        ...


async def call_every_iam_operation(aws: Client) -> None:
    """Call each operation of IAM, and check the answers; what is created is deleted."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_call_operations_on_users(aws))
        group.create_task(_call_operations_on_groups(aws))
        group.create_task(_call_operations_on_roles(aws))
        group.create_task(_call_operations_on_policies(aws))
        group.create_task(_call_operations_on_providers(aws))
        group.create_task(_simulate(aws))
    summary = await aws("iam", "GetAccountSummary")
    details = await aws("iam", "GetAccountAuthorizationDetails", Filter=["User"])
    assert summary["SummaryMap"]["Users"] == len(details["UserDetailList"]) == 1


async def _call_operations_on_users(aws: Client) -> None:
    created = await aws("iam", "CreateUser", UserName="ann", Path="/people/")
    await aws("iam", "UpdateUser", UserName="ann", NewUserName="Anna")
    shown, listed = await aws("iam", "GetUser", UserName="Anna"), await aws("iam", "ListUsers", PathPrefix="/people/")
    assert created["User"]["UserId"] == shown["User"]["UserId"] == listed["Users"][0]["UserId"]
    assert shown["User"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/people/Anna"

    key = (await aws("iam", "CreateAccessKey", UserName="Anna"))["AccessKey"]["AccessKeyId"]
    await aws("iam", "UpdateAccessKey", UserName="Anna", AccessKeyId=key, Status="Inactive")
    (metadata,) = (await aws("iam", "ListAccessKeys", UserName="Anna"))["AccessKeyMetadata"]
    assert (metadata["AccessKeyId"], metadata["Status"]) == (key, "Inactive")
    await aws("iam", "DeleteAccessKey", UserName="Anna", AccessKeyId=key)

    await aws("iam", "PutUserPermissionsBoundary", UserName="Anna", PermissionsBoundary=AWS_POLICY)
    await aws("iam", "DeleteUserPermissionsBoundary", UserName="Anna")
    await _call_operations_on_policies_of(aws, "User", UserName="Anna")
    await _call_operations_on_tags(aws, "User", UserName="Anna")
    await aws("iam", "DeleteUser", UserName="Anna")


async def _call_operations_on_groups(aws: Client) -> None:
    created = await aws("iam", "CreateGroup", GroupName="team")
    await aws("iam", "UpdateGroup", GroupName="team", NewGroupName="Team")
    await aws("iam", "AddUserToGroup", GroupName="Team", UserName="emulator")
    shown, listed = await aws("iam", "GetGroup", GroupName="Team"), await aws("iam", "ListGroups")
    of_user = await aws("iam", "ListGroupsForUser", UserName="emulator")
    assert shown["Users"][0]["UserName"] == "emulator"
    assert created["Group"]["GroupId"] == listed["Groups"][0]["GroupId"] == of_user["Groups"][0]["GroupId"]
    await aws("iam", "RemoveUserFromGroup", GroupName="Team", UserName="emulator")
    await _call_operations_on_policies_of(aws, "Group", GroupName="Team")
    await aws("iam", "DeleteGroup", GroupName="Team")


async def _call_operations_on_roles(aws: Client) -> None:
    role = {"RoleName": "node"}
    created = (await aws("iam", "CreateRole", **role, AssumeRolePolicyDocument=TRUST))["Role"]
    await aws("iam", "UpdateRole", **role, MaxSessionDuration=7200)
    described = (await aws("iam", "UpdateRoleDescription", **role, Description="of nodes"))["Role"]
    await aws("iam", "UpdateAssumeRolePolicy", **role, PolicyDocument=TRUST)
    await aws("iam", "PutRolePermissionsBoundary", **role, PermissionsBoundary=AWS_POLICY)
    shown = (await aws("iam", "GetRole", **role))["Role"]
    await aws("iam", "DeleteRolePermissionsBoundary", **role)
    names = [each["RoleName"] for each in (await aws("iam", "ListRoles"))["Roles"]]
    assert (created["AssumeRolePolicyDocument"], described["Description"]) == (json.loads(TRUST), "of nodes")
    assert (shown["MaxSessionDuration"], shown["PermissionsBoundary"]["PermissionsBoundaryArn"]) == (7200, AWS_POLICY)
    assert "node" in names

    profile = {"InstanceProfileName": "nodes"}
    await aws("iam", "CreateInstanceProfile", **profile)
    await aws("iam", "AddRoleToInstanceProfile", **profile, **role)
    shown = (await aws("iam", "GetInstanceProfile", **profile))["InstanceProfile"]
    listed = (await aws("iam", "ListInstanceProfiles"))["InstanceProfiles"]
    of_role = (await aws("iam", "ListInstanceProfilesForRole", **role))["InstanceProfiles"]
    assert [each["Roles"][0]["Arn"] for each in (shown, *listed, *of_role)] == [created["Arn"]] * 3
    await _call_operations_on_tags(aws, "InstanceProfile", **profile)
    await aws("iam", "RemoveRoleFromInstanceProfile", **profile, **role)
    await aws("iam", "DeleteInstanceProfile", **profile)

    await _call_operations_on_policies_of(aws, "Role", **role)
    await _call_operations_on_tags(aws, "Role", **role)
    await aws("iam", "DeleteRole", **role)

    linked = (await aws("iam", "CreateServiceLinkedRole", AWSServiceName="eks.amazonaws.com"))["Role"]
    task = (await aws("iam", "DeleteServiceLinkedRole", RoleName=linked["RoleName"]))["DeletionTaskId"]
    status = await aws("iam", "GetServiceLinkedRoleDeletionStatus", DeletionTaskId=task)
    assert linked["Path"] == "/aws-service-role/eks.amazonaws.com/"
    assert status["Status"] == "SUCCEEDED"


async def _call_operations_on_policies(aws: Client) -> None:
    created = (await aws("iam", "CreatePolicy", PolicyName="see", PolicyDocument=DOCUMENT))["Policy"]
    arn = {"PolicyArn": created["Arn"]}
    second = await aws("iam", "CreatePolicyVersion", **arn, PolicyDocument=DOCUMENT)
    version = second["PolicyVersion"]["VersionId"]
    await aws("iam", "SetDefaultPolicyVersion", **arn, VersionId=version)
    await aws("iam", "DeletePolicyVersion", **arn, VersionId="v1")
    shown, listed = await aws("iam", "GetPolicy", **arn), await aws("iam", "ListPolicies", Scope="Local")
    first = await aws("iam", "GetPolicyVersion", **arn, VersionId=version)
    versions, users = await aws("iam", "ListPolicyVersions", **arn), await aws("iam", "ListEntitiesForPolicy", **arn)
    assert shown["Policy"]["DefaultVersionId"] == version == "v2"
    assert [policy["Arn"] for policy in listed["Policies"]] == [created["Arn"]]
    assert first["PolicyVersion"]["Document"] == json.loads(DOCUMENT)
    assert ([each["VersionId"] for each in versions["Versions"]], users["PolicyUsers"]) == ([version], [])
    await _call_operations_on_tags(aws, "Policy", **arn)
    await aws("iam", "DeletePolicy", **arn)


async def _call_operations_on_providers(aws: Client) -> None:
    url = "https://oidc.example.com/id/1"
    created = await aws("iam", "CreateOpenIDConnectProvider", Url=url, ClientIDList=["sts.amazonaws.com"])
    arn = {"OpenIDConnectProviderArn": created["OpenIDConnectProviderArn"]}
    await aws("iam", "AddClientIDToOpenIDConnectProvider", **arn, ClientID="other")
    await aws("iam", "RemoveClientIDFromOpenIDConnectProvider", **arn, ClientID="sts.amazonaws.com")
    await aws("iam", "UpdateOpenIDConnectProviderThumbprint", **arn, ThumbprintList=[THUMBPRINT])
    shown = await aws("iam", "GetOpenIDConnectProvider", **arn)
    listed = await aws("iam", "ListOpenIDConnectProviders")
    assert (shown["Url"], shown["ClientIDList"]) == ("oidc.example.com/id/1", ["other"])
    assert (shown["ThumbprintList"], len(listed["OpenIDConnectProviderList"])) == ([THUMBPRINT], 1)
    await _call_operations_on_tags(aws, "OpenIDConnectProvider", **arn)
    await aws("iam", "DeleteOpenIDConnectProvider", **arn)


async def _simulate(aws: Client) -> None:
    given = {"PolicyInputList": [CONDITION]}
    source = {"PolicySourceArn": f"arn:aws:iam::{ACCOUNT}:user/emulator"}
    custom = await aws("iam", "SimulateCustomPolicy", **given, ActionNames=["ec2:DeleteVolume"])
    principal = await aws("iam", "SimulatePrincipalPolicy", **source, ActionNames=["ec2:DeleteVolume"])
    keys = await aws("iam", "GetContextKeysForCustomPolicy", **given)
    own_keys = await aws("iam", "GetContextKeysForPrincipalPolicy", **source)
    assert [each["EvaluationResults"][0]["EvalDecision"] for each in (custom, principal)] == ["implicitDeny", "allowed"]
    assert custom["EvaluationResults"][0]["MissingContextValues"] == keys["ContextKeyNames"] == [CONDITION_KEY]
    assert own_keys["ContextKeyNames"] == []


async def _call_operations_on_policies_of(aws: Client, kind: str, **owner: str) -> None:
    await aws("iam", f"Put{kind}Policy", **owner, PolicyName="see", PolicyDocument=DOCUMENT)
    shown = await aws("iam", f"Get{kind}Policy", **owner, PolicyName="see")
    names = await aws("iam", f"List{kind}Policies", **owner)
    await aws("iam", f"Delete{kind}Policy", **owner, PolicyName="see")
    assert shown["PolicyDocument"] == json.loads(DOCUMENT)
    assert names["PolicyNames"] == ["see"]
    await aws("iam", f"Attach{kind}Policy", **owner, PolicyArn=AWS_POLICY)
    attached = await aws("iam", f"ListAttached{kind}Policies", **owner)
    await aws("iam", f"Detach{kind}Policy", **owner, PolicyArn=AWS_POLICY)
    assert [policy["PolicyArn"] for policy in attached["AttachedPolicies"]] == [AWS_POLICY]


async def _call_operations_on_tags(aws: Client, kind: str, **named: str) -> None:
    await aws("iam", f"Tag{kind}", **named, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
    await aws("iam", f"Untag{kind}", **named, TagKeys=["A"])
    assert (await aws("iam", f"List{kind}Tags", **named))["Tags"] == [{"Key": "b", "Value": ""}]


def plan_iam_errors(faults: Faults) -> None:
    """Plan the errors of the operations that have none of their own."""
    for operation in ("GetAccountSummary", "ListOpenIDConnectProviders"):
        faults.plan(operation, AwsFault("ServiceFailure", "out of order", 500))


def iam_error_cases() -> Mapping[str, tuple[Mapping[str, Any], str]]:
    """The members of a call of each operation that must answer an error, and the error's code."""
    return {operation: _CASES.get(operation) or _call_of_a_stranger(operation) for operation in IAM_OPERATIONS}


_WRONG_MARKER: Final = ({"Marker": "?"}, "ValidationError")
_CASES: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "CreateUser": ({"UserName": "EMULATOR"}, "EntityAlreadyExists"),
    "CreateGroup": ({"GroupName": "a b"}, "ValidationError"),
    "CreateRole": ({"RoleName": "r", "AssumeRolePolicyDocument": DOCUMENT}, "MalformedPolicyDocument"),
    "CreateInstanceProfile": ({"InstanceProfileName": "p", "Path": "x"}, "ValidationError"),
    "CreatePolicy": ({"PolicyName": "p", "PolicyDocument": TRUST}, "MalformedPolicyDocument"),
    "CreateOpenIDConnectProvider": ({"Url": "http://oidc.example.com"}, "ValidationError"),
    "DeleteOpenIDConnectProvider": ({"OpenIDConnectProviderArn": UNKNOWN_POLICY}, "InvalidInput"),
    "CreateServiceLinkedRole": ({"AWSServiceName": "unknown.amazonaws.com"}, "InvalidInput"),
    "SimulateCustomPolicy": ({"PolicyInputList": ["{}"], "ActionNames": ["ec2:DeleteVolume"]}, "InvalidInput"),
    "GetContextKeysForCustomPolicy": ({"PolicyInputList": ["{}"]}, "InvalidInput"),
    "GetServiceLinkedRoleDeletionStatus": ({"DeletionTaskId": "task/none"}, "NoSuchEntity"),
    "GetAccountSummary": ({}, "ServiceFailure"),  # a planned fault
    "ListOpenIDConnectProviders": ({}, "ServiceFailure"),
    "ListUsers": _WRONG_MARKER,
    "ListGroups": _WRONG_MARKER,
    "ListRoles": _WRONG_MARKER,
    "ListPolicies": _WRONG_MARKER,
    "ListInstanceProfiles": _WRONG_MARKER,
    "GetAccountAuthorizationDetails": _WRONG_MARKER,
}


def _call_of_a_stranger(operation: str) -> tuple[Mapping[str, Any], str]:
    """A call about an object that does not exist."""
    named = {"UserName": "stranger", "GroupName": "strangers", "RoleName": "strange", "InstanceProfileName": "strange"}
    others = {
        "OpenIDConnectProviderArn": UNKNOWN_PROVIDER,
        "PolicyArn": UNKNOWN_POLICY,
        "PolicyName": "none",
        "PolicySourceArn": f"arn:aws:iam::{ACCOUNT}:user/stranger",
        "ActionNames": ["ec2:DeleteVolume"],
        "PolicyDocument": TRUST if operation == "UpdateAssumeRolePolicy" else DOCUMENT,
        "PermissionsBoundary": AWS_POLICY,
        "Description": "none",
        "VersionId": "v1",
        "AccessKeyId": UNKNOWN_KEY,
        "Status": "Active",
        "ClientID": "none",
        "ThumbprintList": [THUMBPRINT],
        "Tags": [{"Key": "k", "Value": "v"}],
        "TagKeys": ["k"],
    }
    shape = models.load("iam").operation_model(operation).input_shape
    assert shape is not None
    required = {*shape.required_members} | ({"UserName"} & {*shape.members})
    return {name: value for name, value in (named | others).items() if name in required}, "NoSuchEntity"
