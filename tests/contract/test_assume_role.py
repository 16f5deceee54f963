"""AssumeRole: who may, for how long, and with which tags and policies."""

from typing import Any, NamedTuple

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity_records import ManagedPolicy, PolicyVersion
from tests.support.emulator_clients import Aws, cloud
from tests.support.roles import (
    ACCOUNT,
    ALLOW_ALL,
    TRUST_ACCOUNT,
    assume,
    connect,
    policy,
    put_role,
    put_user,
)

ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:user/emulator"
ALLOW_ASSUME = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
SESSION = {"RoleSessionName": "me"}


async def deny(aws: Aws, role: str, **members: Any) -> str:
    """Assume the role, which must be denied; return the message."""
    code, text = await aws.expect_error("sts", "assume_role", RoleArn=role, **SESSION | members)
    assert code == "AccessDenied"
    return text


async def test_a_session_has_the_permissions_and_the_arn_of_its_role(emulator: Emulator, aws: Aws) -> None:
    """STS API Reference, AssumeRole."""
    read_volumes = {"Effect": "Allow", "Action": "ec2:DescribeVolumes", "Resource": "*"}
    role = put_role(emulator, "reader", allow=read_volumes, path="/team/")

    answer = await aws("sts", "assume_role", RoleArn=role, RoleSessionName="me")
    session = await connect(emulator, answer["Credentials"], "sts", "ec2")
    identity = await session("sts", "get_caller_identity")
    volumes = await session.ec2("describe_volumes")
    denied, _ = await session.expect_error("ec2", "describe_snapshots")

    unique_id = emulator.world.store.roles["reader"].unique_id
    assert answer["AssumedRoleUser"] == {
        "AssumedRoleId": f"{unique_id}:me",
        "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/me",
    }
    assert (identity["UserId"], identity["Arn"]) == (f"{unique_id}:me", answer["AssumedRoleUser"]["Arn"])
    assert (volumes["Volumes"], denied) == ([], "UnauthorizedOperation")
    assert "PackedPolicySize" not in answer


class Trust(NamedTuple):
    """A trust policy, the caller's policy, and whether the two together allow the caller."""

    id: str
    principal: dict[str, str]
    statements: list[dict[str, Any]]
    refusal: str | None


TRUSTS = [
    Trust("account and user's policy", {"AWS": ACCOUNT}, [ALLOW_ASSUME], None),
    Trust("account alone", {"AWS": ACCOUNT}, [], "no identity-based policy allows the sts:AssumeRole action"),
    Trust("named user alone", {"AWS": f"arn:aws:iam::{ACCOUNT}:user/bob"}, [], None),
    Trust(
        "another user, and user's policy",
        {"AWS": f"arn:aws:iam::{ACCOUNT}:user/eve"},
        [ALLOW_ASSUME],
        "no resource-based policy allows the sts:AssumeRole action",
    ),
    Trust(
        "a service, and user's policy",
        {"Service": "ec2.amazonaws.com"},
        [ALLOW_ASSUME],
        "no resource-based policy allows the sts:AssumeRole action",
    ),
    Trust(
        "named user, and a deny",
        {"AWS": f"arn:aws:iam::{ACCOUNT}:user/bob"},
        [{**ALLOW_ASSUME, "Effect": "Deny"}],
        "with an explicit deny in an identity-based policy",
    ),
]


@pytest.mark.parametrize("case", TRUSTS, ids=[case.id for case in TRUSTS])
async def test_the_trust_policy_and_the_caller_s_policy_decide_together(emulator: Emulator, case: Trust) -> None:
    """IAM User Guide, "Policy evaluation logic": a trust policy that names only the account delegates to it."""
    role = put_role(emulator, "work", {**TRUST_ACCOUNT, "Principal": case.principal})
    bob = await connect(emulator, put_user(emulator, "bob", *case.statements))

    if case.refusal is None:
        await assume(bob, role)
    else:
        text = await deny(bob, role)
        assert text.startswith(f"User: arn:aws:iam::{ACCOUNT}:user/bob is not authorized to perform: sts:AssumeRole on")
        assert case.refusal in text
        assert not emulator.world.store.sessions


@pytest.mark.parametrize("name", ["none", "work", "path/work"])
async def test_a_role_that_does_not_exist_is_denied_like_one_that_does_not_trust(
    emulator: Emulator, aws: Aws, name: str
) -> None:
    """STS does not reveal which roles exist; a role's ARN includes its path."""
    put_role(emulator, "work", path="/team/")

    text = await deny(aws, f"arn:aws:iam::{ACCOUNT}:role/{name}")

    assert f"on resource: arn:aws:iam::{ACCOUNT}:role/{name} because no resource-based policy" in text


async def test_a_role_with_an_external_id_needs_it(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Access to AWS accounts owned by third parties"."""
    external = {"StringEquals": {"sts:ExternalId": "4711"}}
    role = put_role(emulator, "partner", {**TRUST_ACCOUNT, "Condition": external})

    await deny(aws, role)
    await deny(aws, role, ExternalId="4712")
    await assume(aws, role, ExternalId="4711")


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"DurationSeconds": 7201}, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."),
        ({"DurationSeconds": 43201}, "Member must have value less than or equal to 43200"),
        ({"RoleArn": "arn:aws:iam::123456789012:user/x"}, "Request ARN is invalid"),
        ({"RoleSessionName": "a b"}, r"Member must satisfy regular expression pattern: [\w+=,.@-]*"),
        ({"Policy": "x" * 2049}, "Member must have length less than or equal to 2048"),
        ({"PolicyArns": [{"arn": f"arn:aws:iam::aws:policy/P{n}"} for n in range(11)]}, "less than or equal to 10"),
    ],
    ids=["longer than the role's", "too long", "not a role", "session name", "policy", "policy ARNs"],
)
async def test_a_value_out_of_bounds_is_a_validation_error(
    emulator: Emulator, aws: Aws, members: dict[str, Any], text: str
) -> None:
    """STS API Reference, AssumeRole."""
    role = put_role(emulator, "work", max_session_seconds=7200)

    code, message = await aws.expect_error("sts", "assume_role", **{"RoleArn": role, **SESSION} | members)

    assert code == "ValidationError"
    assert text in message
    assert not emulator.world.store.sessions


async def test_credentials_are_valid_for_as_long_as_requested(emulator: Emulator, aws: Aws) -> None:
    """STS API Reference, AssumeRole: one hour, unless the request says otherwise."""
    role = put_role(emulator, "work", max_session_seconds=43200)

    cases: list[tuple[dict[str, Any], int]] = [({}, 3600), *(({"DurationSeconds": n}, n) for n in (900, 43200))]
    for requested, seconds in cases:
        credentials = await assume(aws, role, **requested)
        session = emulator.world.store.sessions[credentials["AccessKeyId"]]
        assert session.expires == int(session.issued) + seconds


async def test_role_chaining_ends_after_an_hour(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Role chaining"."""
    first = put_role(emulator, "first", allow=ALLOW_ALL, max_session_seconds=43200)
    second = put_role(emulator, "second", max_session_seconds=43200)
    session = await connect(emulator, await assume(aws, first, DurationSeconds=43200))

    refused = await session.expect_error("sts", "assume_role", RoleArn=second, DurationSeconds=3601, **SESSION)
    await assume(session, second, DurationSeconds=3600)

    assert refused == (
        "ValidationError",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
    )


async def test_session_policies_limit_the_session(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Session policies": the permissions are the intersection of both."""
    arn = f"arn:aws:iam::{ACCOUNT}:policy/read"
    emulator.world.store.managed_policies.put(
        ManagedPolicy(id=arn, name="read", unique_id="ANPA1", created=0, updated=0)
    )
    snapshots = policy({"Effect": "Allow", "Action": "ec2:DescribeSnapshots", "Resource": "*"})
    emulator.world.store.policy_versions.put(PolicyVersion(policy=arn, number=1, document=snapshots, created=0))
    role = put_role(emulator, "work", allow=ALLOW_ALL)
    inline = policy({"Effect": "Allow", "Action": "ec2:DescribeVolumes", "Resource": "*"})

    answer = await aws("sts", "assume_role", RoleArn=role, Policy=inline, PolicyArns=[{"arn": arn}], **SESSION)
    session = await connect(emulator, answer["Credentials"], "ec2")
    await session.ec2("describe_volumes")
    await session.ec2("describe_snapshots")
    code, text = await session.expect_error("ec2", "describe_instances")

    assert code == "UnauthorizedOperation"
    assert "because no session policy allows the ec2:DescribeInstances action" in text
    assert 0 < answer["PackedPolicySize"] <= 100


async def test_a_managed_session_policy_applies_as_it_is_and_not_as_it_was(emulator: Emulator, aws: Aws) -> None:
    """STS API Reference, PolicyDescriptorType: a reference to the managed policy; a deleted one allows nothing."""
    created = await aws("iam", "create_policy", PolicyName="read", PolicyDocument=policy(ALLOW_ALL))
    arn, role = created["Policy"]["Arn"], put_role(emulator, "work", allow=ALLOW_ALL)
    answer = await aws("sts", "assume_role", RoleArn=role, PolicyArns=[{"arn": arn}], **SESSION)
    session = await connect(emulator, answer["Credentials"], "ec2")
    await session.ec2("describe_volumes")

    read = policy({"Effect": "Allow", "Action": "ec2:DescribeSnapshots", "Resource": "*"})
    version = {"PolicyArn": arn, "PolicyDocument": read, "SetAsDefault": True}
    await aws("iam", "create_policy_version", **version)
    await session.ec2("describe_snapshots")
    narrowed = await session.expect_error("ec2", "describe_volumes")
    await aws("iam", "delete_policy_version", PolicyArn=arn, VersionId="v1")
    await aws("iam", "delete_policy", PolicyArn=arn)
    deleted = await session.expect_error("ec2", "describe_snapshots")

    assert "because no session policy allows the ec2:DescribeVolumes action" in narrowed[1]
    assert "because no session policy allows the ec2:DescribeSnapshots action" in deleted[1]


async def test_a_session_does_not_keep_the_documents_of_managed_policies(emulator: Emulator, aws: Aws) -> None:
    """CWE-770: ten policies of 6,144 characters for each session would fill the memory."""
    administrator = "arn:aws:iam::aws:policy/AdministratorAccess"
    credentials = await assume(aws, put_role(emulator, "work"), PolicyArns=[{"arn": administrator}])

    stored = emulator.world.store.sessions[credentials["AccessKeyId"]]

    assert (stored.policies, stored.policy_arns) == ((), (administrator,))


@pytest.mark.parametrize(
    ("members", "code", "text"),
    [
        ({"Policy": "{"}, "MalformedPolicyDocument", "Syntax errors in policy."),
        (
            {"Policy": '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}}'},
            "MalformedPolicyDocument",
            "Policy document should not specify a principal.",
        ),
        ({"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/Nothing"}]}, "InvalidParameterValue", "does not exist"),
        (
            {"Tags": [{"Key": "Team", "Value": "a"}, {"Key": "team", "Value": "b"}]},
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ),
        ({"Tags": [{"Key": "aws:x", "Value": "a"}]}, "InvalidParameterValue", "reserved"),
        (
            {"TransitiveTagKeys": ["Team"]},
            "InvalidParameterValue",
            "The specified transitive tag key must be included in the requested tags.",
        ),
        ({"SourceIdentity": "aws:x"}, "ValidationError", "pattern"),
        ({"TokenCode": "123456"}, "AccessDenied", "must provide both MFA serial number and one time pass code"),
        (
            {"SerialNumber": f"arn:aws:iam::{ACCOUNT}:mfa/x", "TokenCode": "123456"},
            "AccessDenied",
            "unable to validate MFA code",
        ),
    ],
    ids=[
        *("syntax", "principal", "unknown policy", "same key twice", "reserved key", "transitive key without a tag"),
        *("source identity", "half of MFA", "MFA"),
    ],
)
async def test_a_bad_parameter_is_refused_and_nothing_is_stored(
    emulator: Emulator, aws: Aws, members: dict[str, Any], code: str, text: str
) -> None:
    """STS API Reference, AssumeRole; IAM User Guide, "Pass session tags in AWS STS"."""
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    role = put_role(emulator, "work", {**TRUST_ACCOUNT, "Action": actions})

    refused = await aws.expect_error("sts", "assume_role", RoleArn=role, **SESSION, **members)

    assert refused[0] == code
    assert text in refused[1]
    assert not emulator.world.store.sessions


async def test_policies_and_tags_that_take_too_much_space_are_refused(emulator: Emulator, aws: Aws) -> None:
    """STS API Reference, AssumeRole, PackedPolicyTooLarge: the message has the percentage."""
    role = put_role(emulator, "work", {**TRUST_ACCOUNT, "Action": ["sts:AssumeRole", "sts:TagSession"]})
    tags = [{"Key": f"{n:x}".rjust(64, "k"), "Value": f"{n * 0x9E3779B97F4A7C15:0128x}"} for n in range(50)]
    tags = [{**tag, "Value": f"{pow(3, 1000 + 7 * n):x}"[:256]} for n, tag in enumerate(tags)]

    code, text = await aws.expect_error("sts", "assume_role", RoleArn=role, Tags=tags, **SESSION)

    assert code == "PackedPolicyTooLarge"
    assert "% of allotted space" in text


async def test_session_tags_need_sts_tag_session_and_override_the_role_s_tags(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Pass session tags in AWS STS"."""
    is_blue = {"StringEquals": {"aws:PrincipalTag/team": "blue"}}
    own = {"Effect": "Allow", "Action": "ec2:DescribeVolumes", "Resource": "*", "Condition": is_blue}
    untagged = put_role(emulator, "untagged")
    tag_blue = {"StringEqualsIfExists": {"aws:RequestTag/Team": "blue"}}
    trust = {**TRUST_ACCOUNT, "Action": ["sts:AssumeRole", "sts:TagSession"], "Condition": tag_blue}
    role = put_role(emulator, "tagged", trust, allow=own, tags={"Team": "red"})
    blue = [{"Key": "TEAM", "Value": "blue"}]

    refused = await deny(aws, untagged, Tags=blue)
    wrong = await deny(aws, role, Tags=[{"Key": "Team", "Value": "green"}])
    session = await connect(emulator, await assume(aws, role, Tags=blue), "ec2")
    plain = await connect(emulator, await assume(aws, role), "ec2")
    await session.ec2("describe_volumes")
    code, _ = await plain.expect_error("ec2", "describe_volumes")

    assert f"not authorized to perform: sts:TagSession on resource: {untagged}" in refused
    assert "sts:AssumeRole" in wrong
    assert code == "UnauthorizedOperation"


async def test_transitive_tags_reach_the_next_session_and_cannot_be_replaced(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Chaining roles with session tags"."""
    tagging = {**TRUST_ACCOUNT, "Action": ["sts:AssumeRole", "sts:TagSession"]}
    first, second = put_role(emulator, "first", tagging, allow=ALLOW_ALL), put_role(emulator, "second", tagging)
    untagged = put_role(emulator, "untagged")
    tags = [{"Key": "Team", "Value": "blue"}, {"Key": "Job", "Value": "1"}]
    session = await connect(emulator, await assume(aws, first, Tags=tags, TransitiveTagKeys=["team"]))

    chained = await assume(session, second, Tags=[{"Key": "Job", "Value": "2"}])
    code, text = await session.expect_error(
        "sts", "assume_role", RoleArn=second, Tags=[{"Key": "TEAM", "Value": "red"}], **SESSION
    )
    denied = await deny(session, untagged)

    record = emulator.world.store.sessions[chained["AccessKeyId"]]
    assert (record.tags, record.transitive) == ({"Team": "blue", "Job": "2"}, ("Team",))
    assert (code, "conflicts with a transitive tag key" in text) == ("InvalidParameterValue", True)
    assert "sts:TagSession" in denied


async def test_the_source_identity_is_set_once_and_kept_by_chained_sessions(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Monitor and control actions taken with assumed roles"."""
    naming = {**TRUST_ACCOUNT, "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"]}
    first, second = put_role(emulator, "first", naming, allow=ALLOW_ALL), put_role(emulator, "second", naming)
    silent = put_role(emulator, "silent")

    refused = await deny(aws, silent, SourceIdentity="Ann")
    answer = await aws("sts", "assume_role", RoleArn=first, SourceIdentity="Ann", **SESSION)
    session = await connect(emulator, answer["Credentials"])
    chained = await session("sts", "assume_role", RoleArn=second, **SESSION)
    changed = await deny(session, second, SourceIdentity="Eve")
    lost = await deny(session, silent)

    assert (answer["SourceIdentity"], chained["SourceIdentity"]) == ("Ann", "Ann")
    assert "sts:SetSourceIdentity" in refused
    assert "cannot be changed" in changed
    assert "sts:SetSourceIdentity" in lost


async def test_a_session_token_has_the_size_that_was_requested(emulator: Emulator, aws: Aws) -> None:
    """STS API Reference, AssumeRole, MinimumSessionTokenSize."""
    role = put_role(emulator, "work")

    answer = await aws("sts", "assume_role", RoleArn=role, MinimumSessionTokenSize=4096, **SESSION)
    await (await connect(emulator, answer["Credentials"]))("sts", "get_caller_identity")

    assert len(answer["Credentials"]["SessionToken"]) == answer["SessionTokenSize"] == 4096
    assert answer["SessionTokenUtilization"] == 100


async def test_without_enforcement_roles_trust_everyone_and_must_still_exist() -> None:
    """`--iam off` is about policies only."""
    async with cloud(iam="off") as (emulator, aws):
        role = put_role(emulator, "work", {**TRUST_ACCOUNT, "Effect": "Deny"})

        await assume(aws, role)
        text = await deny(aws, f"{role}s")
        too_long = await aws.expect_error("sts", "assume_role", RoleArn=role, DurationSeconds=3601, **SESSION)

    assert text == f"User: {ADMINISTRATOR} is not authorized to perform: sts:AssumeRole on resource: {role}s"
    assert too_long[0] == "ValidationError"
