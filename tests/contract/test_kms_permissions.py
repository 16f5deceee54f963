"""Who may use a key: key policies, IAM policies, grants, and KMS's condition keys."""

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws
from tests.support.key_users import EVERYTHING_BUT_KMS, allow, create_caller, document, user_arn
from tests.support.roles import assume, connect, put_role

ROOT: Final = "arn:aws:iam::123456789012:root"
MANAGE: Final = allow("kms:*", Principal={"AWS": user_arn("emulator")})
"""The statement of a key policy that keeps the administrator from being locked out."""


async def create_key(aws: Aws, *statements: Mapping[str, Any]) -> str:
    """Create a key whose policy has these statements, and one for the administrator; its ARN."""
    members = {"Policy": document(MANAGE, *statements)} if statements else {}
    return str((await aws("kms", "create_key", **members))["KeyMetadata"]["Arn"])


async def is_allowed(caller: Aws, operation: str, **members: Any) -> bool:
    """Whether KMS allows the caller a dry run of the operation."""
    code, _ = await caller.expect_error("kms", operation, DryRun=True, **members)
    assert code in {"DryRunOperationException", "AccessDeniedException"}
    return code == "DryRunOperationException"


async def encrypts(caller: Aws, key: str, **members: Any) -> bool:
    """Whether the caller may encrypt with the key."""
    return await is_allowed(caller, "encrypt", KeyId=key, Plaintext=b"x", **members)


async def test_the_default_key_policy_lets_iam_policies_decide(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Default key policy": allows the account and enables IAM policies."""
    key = await create_key(aws)
    with_policy = await create_caller(emulator, "one", allow("kms:Encrypt", key))
    without_policy = await create_caller(emulator, "two", allow("kms:Decrypt", key))

    assert await encrypts(with_policy, key)
    assert not await encrypts(without_policy, key)


async def test_a_key_policy_that_names_a_user_needs_no_iam_policy(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Key policies in AWS KMS"."""
    one, two = await create_caller(emulator, "one"), await create_caller(emulator, "two", allow("kms:*"))
    key = await create_key(aws, allow("kms:Encrypt", Principal={"AWS": user_arn("one")}))

    assert await encrypts(one, key)
    assert not await encrypts(two, key), "the key policy does not delegate to IAM policies"
    denied = await two.expect_error("kms", "encrypt", KeyId=key, Plaintext=b"x")
    assert denied[1].endswith("because no resource-based policy allows the kms:Encrypt action")


@pytest.mark.parametrize("where", ["key policy", "IAM policy"])
async def test_an_explicit_deny_beats_every_permission(emulator: Emulator, aws: Aws, where: str) -> None:
    """IAM User Guide, "Policy evaluation logic"; a grant does not help either."""
    deny = {"Effect": "Deny", "Action": "kms:Encrypt", "Resource": "*"}
    own = [allow("kms:*")] + ([deny] if where == "IAM policy" else [])
    caller = await create_caller(emulator, "one", *own)
    on_key = [{**deny, "Principal": {"AWS": user_arn("one")}}] if where == "key policy" else []
    key = await create_key(aws, allow("kms:*", Principal={"AWS": ROOT}), *on_key)
    await aws("kms", "create_grant", KeyId=key, GranteePrincipal=user_arn("one"), Operations=["Encrypt"])

    denied = await caller.expect_error("kms", "encrypt", KeyId=key, Plaintext=b"x")

    assert denied[0] == "AccessDeniedException"
    assert "explicit deny" in denied[1]


async def test_a_grant_allows_its_operations_to_its_grantee_until_it_ends(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Grants in AWS KMS"."""
    key = await create_key(aws)
    one, two = await create_caller(emulator, "one"), await create_caller(emulator, "two")
    grant = await aws(
        "kms", "create_grant", KeyId=key, GranteePrincipal=user_arn("one"), Operations=["Encrypt", "DescribeKey"]
    )

    assert await encrypts(one, key)
    assert await encrypts(one, key, GrantTokens=[grant["GrantToken"]])
    assert not await encrypts(two, key), "another principal"
    assert not await is_allowed(one, "generate_data_key", KeyId=key, KeySpec="AES_256"), "another operation"
    assert (await one("kms", "describe_key", KeyId=key))["KeyMetadata"]["Arn"] == key
    bad_token = await one.expect_error("kms", "encrypt", KeyId=key, Plaintext=b"x", GrantTokens=["x"])
    assert bad_token[0] == "InvalidGrantTokenException"

    await aws("kms", "revoke_grant", KeyId=key, GrantId=grant["GrantId"])
    assert not await encrypts(one, key)


@pytest.mark.parametrize(
    ("constraint", "context", "is_met"),
    [
        ({"EncryptionContextSubset": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"EncryptionContextSubset": {"a": "1"}}, {"a": "2"}, False),
        ({"EncryptionContextSubset": {"a": "1"}}, {}, False),
        ({"EncryptionContextEquals": {"a": "1"}}, {"a": "1"}, True),
        ({"EncryptionContextEquals": {"a": "1"}}, {"a": "1", "b": "2"}, False),
    ],
)
async def test_a_constraint_limits_a_grant_to_encryption_contexts(
    emulator: Emulator, aws: Aws, constraint: dict[str, Any], context: dict[str, str], *, is_met: bool
) -> None:
    """KMS Developer Guide, "Using grant constraints"."""
    key, caller = await create_key(aws), await create_caller(emulator, "one")
    grant = {"GranteePrincipal": user_arn("one"), "Operations": ["Encrypt"], "Constraints": constraint}
    await aws("kms", "create_grant", KeyId=key, **grant)

    assert await encrypts(caller, key, EncryptionContext=context) is is_met


async def test_a_grantee_passes_on_only_what_it_has(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Grant constraints": a grant of CreateGrant allows no broader grants."""
    key, caller = await create_key(aws), await create_caller(emulator, "one")
    subset = {"EncryptionContextSubset": {"a": "1"}}
    given = {"KeyId": key, "GranteePrincipal": user_arn("one"), "Constraints": subset}
    await aws("kms", "create_grant", **given, Operations=["CreateGrant", "Decrypt"])

    assert await is_allowed(caller, "create_grant", **given, Operations=["Decrypt"])
    assert not await is_allowed(caller, "create_grant", **given, Operations=["Encrypt"]), "another operation"
    wider = {"KeyId": key, "GranteePrincipal": user_arn("one")}
    assert not await is_allowed(caller, "create_grant", **wider, Operations=["Decrypt"]), "without the constraint"


async def test_the_same_grant_request_with_a_name_creates_one_grant(aws: Aws) -> None:
    """KMS API reference, CreateGrant, Name: the same id, a new token; all tokens are interchangeable."""
    key = await create_key(aws)
    request = {"KeyId": key, "GranteePrincipal": ROOT, "Operations": ["Decrypt"], "Name": "one"}

    first, again = await aws("kms", "create_grant", **request), await aws("kms", "create_grant", **request)
    other = await aws("kms", "create_grant", **{**request, "Operations": ["Encrypt"]})
    nameless = {name: value for name, value in request.items() if name != "Name"}
    unnamed = [(await aws("kms", "create_grant", **nameless))["GrantId"] for _ in range(2)]

    assert first["GrantId"] == again["GrantId"]
    assert first["GrantToken"] != again["GrantToken"]
    assert len({first["GrantId"], other["GrantId"], *unnamed}) == 4
    assert len((await aws("kms", "list_grants", KeyId=key))["Grants"]) == 4


async def test_the_retiring_principal_retires_its_grants(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Retiring and revoking grants"."""
    key = await create_key(aws)
    retiree, other = await create_caller(emulator, "one"), await create_caller(emulator, "two")
    grant = await aws(
        "kms",
        "create_grant",
        KeyId=key,
        GranteePrincipal=user_arn("two"),
        RetiringPrincipal=user_arn("one"),
        Operations=["Decrypt"],
    )
    by_id = {"KeyId": key, "GrantId": grant["GrantId"]}

    assert (await other.expect_error("kms", "retire_grant", **by_id))[0] == "AccessDeniedException"
    listed = await aws("kms", "list_retirable_grants", RetiringPrincipal=user_arn("one"))
    assert [each["GrantId"] for each in listed["Grants"]] == [grant["GrantId"]]
    await retiree("kms", "retire_grant", GrantToken=grant["GrantToken"])
    assert (await aws("kms", "list_grants", KeyId=key))["Grants"] == []


async def test_iam_policies_and_not_the_key_policy_let_others_retire_a_grant(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Retiring and revoking grants": kms:RetireGrant has no effect in a key policy."""
    named = await create_caller(emulator, "one")
    deny = {"Effect": "Deny", "Action": "kms:RetireGrant", "Resource": "*"}
    by_policy, denied = (
        await create_caller(emulator, "two", allow("kms:RetireGrant")),
        await create_caller(emulator, "three", deny),
    )
    on_key = [allow("kms:*", Principal={"AWS": user_arn("one")}), {**deny, "Principal": {"AWS": user_arn("two")}}]
    key = await create_key(aws, *on_key)
    members = {"GranteePrincipal": user_arn("one"), "RetiringPrincipal": user_arn("three"), "Operations": ["Decrypt"]}
    grant = {"KeyId": key, "GrantId": (await aws("kms", "create_grant", KeyId=key, **members))["GrantId"]}

    assert not await is_allowed(named, "retire_grant", **grant)
    assert await is_allowed(by_policy, "retire_grant", **grant)
    assert not await is_allowed(denied, "retire_grant", **grant)


@pytest.mark.parametrize(
    "element", [{"Principal": {"Service": "*"}}, {"Principal": {"Federated": "*"}}, {"NotPrincipal": {"AWS": ROOT}}]
)
async def test_a_key_policy_names_whom_it_allows(aws: Aws, element: dict[str, Any]) -> None:
    """IAM User Guide, "AWS JSON policy elements: Principal" and "... NotPrincipal"."""
    policy = document(MANAGE, allow("kms:Decrypt", **element))

    assert (await aws.expect_error("kms", "create_key", Policy=policy))[0] == "MalformedPolicyDocumentException"


async def test_a_grant_to_a_role_does_not_widen_a_session_policy_and_one_to_the_session_does(
    emulator: Emulator, aws: Aws
) -> None:
    """IAM User Guide, "Policy evaluation for requests within a single account": a role's ARN and a session's ARN."""
    role, key = put_role(emulator, "work", allow=EVERYTHING_BUT_KMS), await create_key(aws)
    free = await connect(emulator, await assume(aws, role, "free"), "kms")
    limited = await connect(emulator, await assume(aws, role, "me", Policy=document(EVERYTHING_BUT_KMS)), "kms")
    await aws("kms", "create_grant", KeyId=key, GranteePrincipal=role, Operations=["Encrypt"])

    assert await encrypts(free, key)
    refused = await limited.expect_error("kms", "encrypt", KeyId=key, Plaintext=b"x")

    assert refused[0] == "AccessDeniedException"
    assert refused[1].endswith("because no session policy allows the kms:Encrypt action")
    session = "arn:aws:sts::123456789012:assumed-role/work/me"
    await aws("kms", "create_grant", KeyId=key, GranteePrincipal=session, Operations=["Encrypt"])
    assert await encrypts(limited, key)


async def test_a_grant_to_an_account_counts_for_those_whom_an_iam_policy_allows_the_operation(
    emulator: Emulator, aws: Aws
) -> None:
    """KMS Developer Guide, "Grants in AWS KMS": the grantee can be an account, whose IAM policies decide then."""
    key = await create_key(aws, allow("kms:DescribeKey", Principal={"AWS": user_arn("emulator")}))
    by_policy = await create_caller(emulator, "one", allow("kms:Encrypt"), allow("kms:RetireGrant"))
    other = await create_caller(emulator, "two", allow("kms:Decrypt"))
    limited = await create_caller(emulator, "three", allow("kms:Encrypt"))
    await aws("iam", "create_policy", PolicyName="limit", PolicyDocument=document(EVERYTHING_BUT_KMS))
    limit = "arn:aws:iam::123456789012:policy/limit"
    await aws("iam", "put_user_permissions_boundary", UserName="three", PermissionsBoundary=limit)
    assert not await encrypts(by_policy, key)

    await aws("kms", "create_grant", KeyId=key, GranteePrincipal=ROOT, Operations=["Encrypt", "Decrypt"])

    assert [await encrypts(caller, key) for caller in (by_policy, other, limited)] == [True, False, False]


async def test_a_boundary_limits_a_grant_to_a_role_and_not_one_to_a_user(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Permissions boundaries for IAM entities": evaluating effective permissions with boundaries."""
    await aws("iam", "create_policy", PolicyName="limit", PolicyDocument=document(EVERYTHING_BUT_KMS))
    limit = "arn:aws:iam::123456789012:policy/limit"
    role, user = put_role(emulator, "work", boundary=limit), await create_caller(emulator, "one")
    await aws("iam", "put_user_permissions_boundary", UserName="one", PermissionsBoundary=limit)
    session, key = await connect(emulator, await assume(aws, role), "kms"), await create_key(aws)
    for grantee in (role, user_arn("one")):
        await aws("kms", "create_grant", KeyId=key, GranteePrincipal=grantee, Operations=["Encrypt"])

    assert not await encrypts(session, key)
    assert await encrypts(user, key)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"GranteePrincipal": "me"}, "InvalidArnException"),
        ({"GranteePrincipal": user_arn("stranger")}, "InvalidArnException"),
        ({"GranteePrincipal": "arn:aws:iam::123456789012:role/stranger"}, "InvalidArnException"),
        ({"GranteePrincipal": "arn:aws:sts::123456789012:assumed-role/stranger/me"}, "InvalidArnException"),
        ({"GranteePrincipal": ROOT, "RetiringPrincipal": user_arn("stranger")}, "InvalidArnException"),
        ({}, "ValidationException"),
        ({"GranteePrincipal": ROOT, "GranteeServicePrincipal": "ec2.amazonaws.com"}, "ValidationException"),
        ({"GranteeServicePrincipal": "ec2.amazonaws.com"}, "ValidationException"),
        ({"GranteePrincipal": ROOT, "Operations": ["Sign"]}, "ValidationException"),
        ({"GranteePrincipal": ROOT, "Operations": ["Fly"]}, "ValidationException"),
        ({"GranteePrincipal": ROOT, "GrantTokens": ["x"]}, "InvalidGrantTokenException"),
        (
            {
                "GranteePrincipal": ROOT,
                "Constraints": {"EncryptionContextSubset": {"a": "1"}, "EncryptionContextEquals": {"a": "1"}},
            },
            "ValidationException",
        ),
    ],
)
async def test_an_invalid_grant_is_refused_and_not_created(aws: Aws, members: dict[str, Any], code: str) -> None:
    """KMS API reference, CreateGrant: Errors."""
    key = await create_key(aws)

    refused = await aws.expect_error("kms", "create_grant", **{"KeyId": key, "Operations": ["Decrypt"], **members})

    assert refused[0] == code
    assert (await aws("kms", "list_grants", KeyId=key))["Grants"] == []


CONTEXT: Final = {"EncryptionContext": {"app": "db", "env": "test"}}
GRANT: Final = {
    "GranteePrincipal": ROOT,
    "Operations": ["Decrypt"],
    "Constraints": {"EncryptionContextSubset": {"aws:ebs:id": "vol-1"}},
}
SERVICE_GRANT: Final = {
    "GranteeServicePrincipal": "sns.amazonaws.com",
    "RetiringServicePrincipal": "sns.amazonaws.com",
    "Operations": ["Decrypt"],
    "Constraints": {"SourceArn": "arn:aws:sns:us-west-2:123456789012:topic"},
}
DATA_KEY: Final = {"KeySpec": "AES_256"}
ROTATION: Final = {"RotationPeriodInDays": 90}
WITHOUT_DRY_RUN: Final = {"describe_key", "list_grants", "enable_key_rotation"}


@pytest.mark.parametrize(
    ("operation", "members", "condition", "is_met"),
    [
        ("encrypt", {}, {"StringEquals": {"kms:CallerAccount": "123456789012"}}, True),
        ("encrypt", {}, {"StringEquals": {"kms:CallerAccount": "999988887777"}}, False),
        ("encrypt", {}, {"StringEquals": {"kms:ViaService": "ec2.us-west-2.amazonaws.com"}}, False),
        ("encrypt", CONTEXT, {"StringEquals": {"kms:EncryptionContext:app": "db"}}, True),
        ("encrypt", CONTEXT, {"StringEquals": {"kms:EncryptionContext:app": "web"}}, False),
        ("encrypt", CONTEXT, {"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["app", "env"]}}, True),
        ("encrypt", CONTEXT, {"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["app"]}}, False),
        ("encrypt", {}, {"Null": {"kms:EncryptionContextKeys": True}}, True),
        ("encrypt", {}, {"StringEquals": {"kms:KeyOrigin": "AWS_KMS", "kms:KeyUsage": "ENCRYPT_DECRYPT"}}, True),
        ("encrypt", {}, {"StringEquals": {"kms:KeySpec": "RSA_2048"}}, False),
        ("encrypt", {}, {"StringEquals": {"kms:RequestAlias": "alias/a"}}, False),
        ("encrypt", {"KeyId": "alias/a"}, {"StringEquals": {"kms:RequestAlias": "alias/a"}}, True),
        ("encrypt", {}, {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/a"}}, True),
        ("encrypt", {}, {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/b"}}, False),
        ("encrypt", {}, {"StringEquals": {"aws:ResourceTag/team": "storage"}}, True),
        ("create_grant", GRANT, {"ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt"]}}, True),
        ("create_grant", GRANT, {"ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt"]}}, False),
        ("create_grant", GRANT, {"Bool": {"kms:GrantIsForAWSResource": True}}, False),
        ("create_grant", GRANT, {"StringEquals": {"kms:GranteePrincipal": ROOT}}, True),
        ("create_grant", GRANT, {"StringEquals": {"kms:GranteePrincipal": "x"}}, False),
        ("create_grant", GRANT, {"StringEquals": {"kms:GrantConstraintType": "EncryptionContextSubset"}}, True),
        ("create_grant", GRANT, {"StringEquals": {"kms:GrantConstraintType": "EncryptionContextEquals"}}, False),
        ("create_grant", GRANT, {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:ebs:id"}}, True),
        ("create_grant", SERVICE_GRANT, {"StringEquals": {"kms:GranteeServicePrincipal": "sns.amazonaws.com"}}, True),
        ("create_grant", SERVICE_GRANT, {"StringEquals": {"kms:RetiringServicePrincipal": "sns.amazonaws.com"}}, True),
        ("create_grant", SERVICE_GRANT, {"Null": {"kms:GranteePrincipal": True, "kms:RetiringPrincipal": True}}, True),
        ("create_grant", SERVICE_GRANT, {"ArnLike": {"kms:GrantConstraintSourceArn": "arn:aws:sns:*:*:*"}}, True),
        ("create_grant", SERVICE_GRANT, {"StringEquals": {"kms:GrantConstraintType": "SourceArn"}}, False),
        ("encrypt", {}, {"StringEquals": {"kms:EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}}, True),
        ("encrypt", {}, {"StringEquals": {"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_1"}}, False),
        ("generate_data_key", DATA_KEY, {"StringEquals": {"kms:EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}}, True),
        ("describe_key", {}, {"Null": {"kms:EncryptionAlgorithm": True}}, True),
        ("list_grants", {}, {"Bool": {"kms:GrantIsForAWSResource": False}}, True),
        ("enable_key_rotation", ROTATION, {"NumericLessThan": {"kms:RotationPeriodInDays": 100}}, True),
        ("enable_key_rotation", ROTATION, {"NumericLessThan": {"kms:RotationPeriodInDays": 90}}, False),
    ],
)
async def test_a_condition_key_decides(  # noqa: PLR0913 - pytest's arguments
    emulator: Emulator,
    aws: Aws,
    operation: str,
    members: dict[str, Any],
    condition: dict[str, Any],
    *,
    is_met: bool,
) -> None:
    """KMS Developer Guide, "AWS KMS condition keys"."""
    caller = await create_caller(emulator, "one")
    statement = allow("kms:*", Principal={"AWS": user_arn("one")}, Condition=condition)
    key = await create_key(aws, statement)
    await aws("kms", "create_alias", AliasName="alias/a", TargetKeyId=key)
    await aws("kms", "tag_resource", KeyId=key, Tags=[{"TagKey": "team", "TagValue": "storage"}])
    request = {"KeyId": key, **({"Plaintext": b"x"} if operation == "encrypt" else {}), **members}

    if operation not in WITHOUT_DRY_RUN:
        assert await is_allowed(caller, operation, **request) is is_met
    elif is_met:
        await caller("kms", operation, **request)
    else:
        assert (await caller.expect_error("kms", operation, **request))[0] == "AccessDeniedException"


async def test_the_constraint_of_a_grant_decides_who_may_retire_it(emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, AWS KMS, RetireGrant: kms:EncryptionContext and kms:GrantConstraintType."""
    key, grants = await create_key(aws), []
    for constraints in ({}, {"EncryptionContextEquals": {"team": "storage"}}):
        grant = {"GranteePrincipal": ROOT, "Operations": ["Decrypt"], "Constraints": constraints}
        grants.append((await aws("kms", "create_grant", KeyId=key, **grant))["GrantId"])
    conditions = {"kms:EncryptionContext:team": "storage", "kms:GrantConstraintType": "EncryptionContextEquals"}
    caller = await create_caller(emulator, "one", allow("kms:RetireGrant", Condition={"StringEquals": conditions}))

    assert [await is_allowed(caller, "retire_grant", KeyId=key, GrantId=grant) for grant in grants] == [False, True]


async def test_re_encrypt_needs_both_keys(emulator: Emulator, aws: Aws) -> None:
    """KMS API reference, ReEncrypt: kms:ReEncryptFrom on the source, kms:ReEncryptTo on the destination."""
    source, destination = await create_key(aws), await create_key(aws)
    blob = (await aws("kms", "encrypt", KeyId=source, Plaintext=b"x"))["CiphertextBlob"]
    request = {"CiphertextBlob": blob, "DestinationKeyId": destination}
    both = [allow("kms:ReEncryptFrom", source), allow("kms:ReEncryptTo", destination)]

    assert await is_allowed(await create_caller(emulator, "one", *both), "re_encrypt", **request)
    assert not await is_allowed(await create_caller(emulator, "two", both[0]), "re_encrypt", **request)
    assert not await is_allowed(await create_caller(emulator, "three", both[1]), "re_encrypt", **request)


async def test_an_alias_needs_permission_on_alias_and_key(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Controlling access to aliases"."""
    key = await create_key(aws)
    name = "arn:aws:kms:us-west-2:123456789012:alias/a"
    request = {"AliasName": "alias/a", "TargetKeyId": key}
    half = await create_caller(emulator, "one", allow("kms:CreateAlias", key))
    both = await create_caller(emulator, "two", allow("kms:CreateAlias", key), allow("kms:*Alias", name))

    assert (await half.expect_error("kms", "create_alias", **request))[0] == "AccessDeniedException"
    await both("kms", "create_alias", **request)
    denied = await both.expect_error("kms", "delete_alias", AliasName="alias/a")
    assert f"kms:DeleteAlias on resource: {key}" in denied[1]


async def test_tagging_at_creation_is_a_permission_of_its_own(emulator: Emulator, aws: Aws) -> None:
    """KMS API reference, CreateKey, Tags: kms:TagResource in an IAM policy."""
    caller = await create_caller(emulator, "one", allow("kms:CreateKey"))
    before = await aws("kms", "list_keys")

    denied = await caller.expect_error("kms", "create_key", Tags=[{"TagKey": "a", "TagValue": "b"}])

    assert "kms:TagResource" in denied[1]
    assert (await aws("kms", "list_keys"))["Keys"] == before["Keys"]


async def test_the_default_policy_is_the_documented_one(aws: Aws) -> None:
    """KMS Developer Guide, "Default key policy"."""
    key = await create_key(aws)

    policy = json.loads((await aws("kms", "get_key_policy", KeyId=key))["Policy"])

    assert policy["Statement"] == [
        {
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": {"AWS": ROOT},
            "Action": "kms:*",
            "Resource": "*",
        }
    ]


async def test_a_grantee_cannot_loosen_exact_constraints(emulator: Emulator, aws: Aws) -> None:
    """KMS Developer Guide, "Grant constraints": the constraint of a new grant is as strict as that of the grant."""
    key, caller = await create_key(aws), await create_caller(emulator, "one")
    given = {"KeyId": key, "GranteePrincipal": user_arn("one")}
    exact, subset = ({f"EncryptionContext{kind}": {"a": "1"}} for kind in ("Equals", "Subset"))
    await aws("kms", "create_grant", **given, Constraints=exact, Operations=["CreateGrant", "Encrypt"])

    assert await is_allowed(caller, "create_grant", **given, Constraints=exact, Operations=["Encrypt"])
    assert not await is_allowed(caller, "create_grant", **given, Constraints=subset, Operations=["Encrypt"])


async def test_a_grant_for_the_requests_of_a_resource_allows_no_other_requests(emulator: Emulator, aws: Aws) -> None:
    """KMS API reference, GrantConstraints, SourceArn: only when the request is made on behalf of the resource."""
    key, caller = await create_key(aws), await create_caller(emulator, "one")
    source = {"SourceArn": "arn:aws:sns:us-west-2:123456789012:topic"}
    grant = {"GranteePrincipal": user_arn("one"), "Operations": ["Encrypt"], "Constraints": source}
    await aws("kms", "create_grant", KeyId=key, **grant)

    assert not await encrypts(caller, key)


async def test_a_grant_goes_with_its_user_and_not_with_the_name(emulator: Emulator, aws: Aws) -> None:
    """KMS stores the unique id of a grantee, as policies do: a new user of the same name has no grant."""
    key, before = await create_key(aws), await create_caller(emulator, "one")
    grant = {"GranteePrincipal": user_arn("one"), "Operations": ["Encrypt"]}
    await aws("kms", "create_grant", KeyId=key, **grant, RetiringPrincipal=user_arn("one"))

    await aws("iam", "update_user", UserName="one", NewUserName="two")
    assert await encrypts(before, key), "the user has another name, and the same grant"
    for listed in (await aws("iam", "list_access_keys", UserName="two"))["AccessKeyMetadata"]:
        await aws("iam", "delete_access_key", UserName="two", AccessKeyId=listed["AccessKeyId"])
    await aws("iam", "delete_user", UserName="two")
    after = await create_caller(emulator, "two")

    assert not await encrypts(after, key)
    (shown,) = (await aws("kms", "list_grants", KeyId=key))["Grants"]
    assert shown["GranteePrincipal"].startswith("AIDA")
    assert shown["RetiringPrincipal"] == shown["GranteePrincipal"]


async def test_a_grant_to_a_session_goes_with_its_role_and_not_with_the_name(emulator: Emulator, aws: Aws) -> None:
    """A session's ARN names the role only by its name: a new role of the name has another unique id."""
    role, key = put_role(emulator, "work"), await create_key(aws)
    grant = {"GranteePrincipal": "arn:aws:sts::123456789012:assumed-role/work/me", "Operations": ["Encrypt"]}
    await aws("kms", "create_grant", KeyId=key, **grant)
    before = await connect(emulator, await assume(aws, role), "kms")
    assert await encrypts(before, key)
    unique_id = (await aws("iam", "get_role", RoleName="work"))["Role"]["RoleId"]

    await aws("iam", "delete_role", RoleName="work")
    put_role(emulator, "work")
    after = await connect(emulator, await assume(aws, role), "kms")

    assert not await encrypts(after, key)
    (shown,) = (await aws("kms", "list_grants", KeyId=key))["Grants"]
    assert shown["GranteePrincipal"] == f"{unique_id}:me"
