"""What the access tools learn from IAM's policy simulator about users and roles."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import aiohttp
import pytest

from hyperpod_ebs.access.aws.permissions import Need, Verdict, principal_arn, simulate
from hyperpod_ebs.access.aws.session import Aws as Caller
from hyperpod_ebs.access.aws.session import open_aws
from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws
from tests.support.iam_users import allow, create_user, document
from tests.support.roles import TRUST_ACCOUNT, policy

ACCOUNT: Final = "123456789012"
VOLUME: Final = f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/vol-1"
KEY: Final = f"arn:aws:kms:us-west-2:{ACCOUNT}:key/1"
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/job"


@asynccontextmanager
async def caller(monkeypatch: pytest.MonkeyPatch, emulator: Emulator, **env: str) -> AsyncGenerator[Caller]:
    """The access tools' clients, which sign with these credentials or else the administrator's."""
    for name, value in {**emulator.env, **env}.items():
        monkeypatch.setenv(name, value)
    async with open_aws() as aws:
        yield aws


async def create_role(aws: Aws, *statements: Any, **members: Any) -> None:
    await aws("iam", "create_role", RoleName="job", AssumeRolePolicyDocument=policy(TRUST_ACCOUNT), **members)
    if statements:
        text = document(*statements)
        await aws("iam", "put_role_policy", RoleName="job", PolicyName="own", PolicyDocument=text)


def summary(verdicts: list[Verdict]) -> list[tuple[str, str]]:
    return [(verdict.need.action, verdict.decision) for verdict in verdicts]


async def test_the_simulator_is_asked_once_for_needs_of_one_resource_and_context(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, aws: Aws
) -> None:
    await create_role(aws, allow("ec2:AttachVolume", resource=VOLUME), allow("ec2:Describe*"))
    needs = [
        Need(action="ec2:DescribeVolumes"),
        Need(action="ec2:DescribeInstances"),
        Need(action="ec2:AttachVolume", resource=VOLUME),
        Need(action="sagemaker:ListClusters"),
        Need(action="ec2:AttachVolume", resource=VOLUME, context={"aws:ResourceTag/a": ["b"]}),
    ]

    async with caller(monkeypatch, emulator) as tools:
        verdicts = await simulate(tools, ROLE, needs)

    async with aiohttp.ClientSession(emulator.url) as http, http.get("/_emulator/calls/latest") as answer:
        calls = [call for call in (await answer.json())["calls"] if "SimulatePrincipalPolicy" in call["operation"]]
    assert [verdict.need for verdict in verdicts] == needs
    assert [verdict.decision for verdict in verdicts] == ["allowed", "allowed", "allowed", "denied", "allowed"]
    assert "no policy allows it" in verdicts[3].reason
    assert len(calls) == 3


async def test_a_denial_names_the_statement_or_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, aws: Aws
) -> None:
    boundary = (await aws("iam", "create_policy", PolicyName="limit", PolicyDocument=document(allow("ec2:*"))))[
        "Policy"
    ]["Arn"]
    tagged = allow("ec2:DeleteVolume", Condition={"StringEquals": {"aws:ResourceTag/owner": "job"}})
    deny = {"Effect": "Deny", "Action": "ec2:AttachVolume", "Resource": "*"}
    await create_role(aws, allow("ec2:A*", "sagemaker:*"), deny, tagged, PermissionsBoundary=boundary)
    actions = ["ec2:AttachVolume", "sagemaker:ListClusters", "ec2:DeleteVolume", "ec2:CreateVolume"]

    async with caller(monkeypatch, emulator) as tools:
        verdicts = await simulate(tools, ROLE, [Need(action=action, resource=VOLUME) for action in actions])

    assert {verdict.decision for verdict in verdicts} == {"denied"}
    explicit, outside, condition, missing = (verdict.reason for verdict in verdicts)
    assert "denied by policy role_job_own from line 1" in explicit
    assert "the permissions boundary" in outside
    assert "no policy allows it without values for aws:ResourceTag/owner" in condition
    assert missing == f"{ROLE} may not ec2:CreateVolume on {VOLUME}: no policy allows it"


class KeyCase(NamedTuple):
    """A role's own statements, a statement of a key policy, and the decision."""

    id: str
    own: list[Any]
    principal: str
    condition: Any
    decision: str


ROOT: Final = f"arn:aws:iam::{ACCOUNT}:root"
OTHER_SERVICE: Final = {"StringEquals": {"kms:ViaService": "s3.us-west-2.amazonaws.com"}}
DENY_KMS: Final = {"Effect": "Deny", "Action": "kms:*", "Resource": "*"}
NOT_ALLOWED: Final = "the resource's policy does not allow it"

KEY_CASES: Final = [
    KeyCase("account", [allow("kms:*")], ROOT, {}, "allowed"),
    KeyCase("account alone", [], ROOT, {}, "no policy allows it"),
    KeyCase("role", [], ROLE, {}, "allowed"),
    KeyCase("other role", [allow("kms:*")], f"{ROLE}-2", {}, NOT_ALLOWED),
    KeyCase("condition", [], ROLE, {"Bool": {"kms:GrantIsForAWSResource": True}}, "allowed"),
    KeyCase("other condition", [], ROLE, OTHER_SERVICE, "use of the resource's policy allows it only with kms:Via"),
    KeyCase("explicit deny", [DENY_KMS], ROLE, {}, "denied by policy role_job_own"),
]


@pytest.mark.parametrize("case", KEY_CASES, ids=lambda case: case.id)
async def test_the_policy_of_a_key_decides_with_those_of_a_role(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, aws: Aws, case: KeyCase
) -> None:
    """KMS Developer Guide, "Key policies in AWS KMS": a key policy that names the role needs no other policy."""
    await create_role(aws, *case.own)
    statement = allow("kms:CreateGrant", Principal={"AWS": case.principal}, Sid="use", Condition=case.condition)
    context = {"kms:ViaService": ["ec2.us-west-2.amazonaws.com"], "kms:GrantIsForAWSResource": ["true"]}
    need = Need(action="kms:CreateGrant", resource=KEY, context=context, resource_policy=document(statement))

    async with caller(monkeypatch, emulator) as tools:
        (verdict,) = await simulate(tools, ROLE, [need])

    assert case.decision in (verdict.reason or verdict.decision)


async def test_a_simulator_that_may_not_be_asked_leaves_all_unknown(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, aws: Aws
) -> None:
    await create_user(emulator, aws, "ann")
    key = (await aws("iam", "create_access_key", UserName="ann"))["AccessKey"]
    env = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    async with caller(monkeypatch, emulator, **env) as tools:
        denied = await simulate(tools, ROLE, [Need(action="ec2:AttachVolume"), Need(action="ec2:DeleteVolume")])
    async with caller(monkeypatch, emulator) as tools:
        missing = await simulate(tools, ROLE, [Need(action="ec2:AttachVolume")])
        federated = await simulate(tools, f"arn:aws:sts::{ACCOUNT}:federated-user/bob", [Need(action="ec2:A")])
        root = await simulate(tools, f"arn:aws:iam::{ACCOUNT}:root", [Need(action="ec2:AttachVolume")])

    assert [verdict.decision for verdict in denied] == ["unknown", "unknown"]
    assert "iam:SimulatePrincipalPolicy" in denied[0].reason
    assert (missing[0].decision, "job" in missing[0].reason) == ("unknown", True)
    assert federated[0].decision == "unknown"
    assert root[0].decision == "allowed"


async def test_a_session_stands_for_its_role(monkeypatch: pytest.MonkeyPatch, emulator: Emulator, aws: Aws) -> None:
    """IAM API reference, SimulatePrincipalPolicy: PolicySourceArn is the ARN of a role, with its path."""
    await create_role(aws, Path="/jobs/")
    arn = f"arn:aws:iam::{ACCOUNT}:role/jobs/job"
    given = (await aws("sts", "assume_role", RoleArn=arn, RoleSessionName="one"))["Credentials"]
    env = {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/job/one"

    async with caller(monkeypatch, emulator) as tools:
        read = await principal_arn(tools, session)
    async with caller(monkeypatch, emulator, **env) as tools:
        own = await principal_arn(tools, (await tools.caller()).arn)

    assert read == arn
    assert own == f"arn:aws:iam::{ACCOUNT}:role/job"
