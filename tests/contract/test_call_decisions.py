"""The call log's callers and decisions: who called, which statement decided, and what was missing."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.callers import Caller
from tests.support.emulator_clients import Aws, clients, cloud
from tests.support.iam_users import allow, create_user
from tests.support.key_users import EVERYTHING_BUT_KMS, create_caller
from tests.support.roles import connect, put_provider, put_role
from tests.support.token_issuer import AUDIENCE, serve_issuer
from tests.support.waiting import wait_until

VOLUME = "vol-0123456789abcdef0"


async def latest(emulator: Emulator) -> list[dict[str, Any]]:
    """The calls in the answer of the call log's route."""
    async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls/latest") as answer:
        calls: list[dict[str, Any]] = (await answer.json())["calls"]
        return calls


async def last_call(emulator: Emulator) -> dict[str, Any]:
    """The latest call."""
    return (await latest(emulator))[-1]


async def test_an_allowed_call_shows_its_caller_and_the_statement_that_allowed_it(emulator: Emulator, aws: Aws) -> None:
    answer = await aws.ec2("describe_volumes")

    call = await last_call(emulator)

    assert call["request_id"] == answer["ResponseMetadata"]["RequestId"]
    assert call["caller"] == "arn:aws:iam::123456789012:user/emulator"
    assert call["key_id"] == emulator.env["AWS_ACCESS_KEY_ID"]
    (decision,) = call["decisions"]
    assert (decision["action"], decision["resource"], decision["verdict"]) == ("ec2:DescribeVolumes", "*", "allowed")
    assert decision["policy"] == "arn:aws:iam::aws:policy/AdministratorAccess"
    assert decision["statement"] == "statement 1"
    assert not call["denied"]


async def test_a_denied_call_shows_the_condition_that_was_not_met(emulator: Emulator, aws: Aws) -> None:
    """The user reads the key, the values that the policy wants, and the value that the request has."""
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "team", "Value": "red"}]}]
    volume = await aws.create_volume(TagSpecifications=tags)
    blue = {"StringEquals": {"aws:ResourceTag/team": ["blue", "green"]}}
    bob = await create_user(emulator, aws, "bob", allow("ec2:DeleteVolume", Sid="Team", Condition=blue))

    await bob.expect_error("ec2", "delete_volume", VolumeId=volume)
    call = await last_call(emulator)

    assert (call["outcome"], call["denied"], call["caller"]) == (
        "UnauthorizedOperation",
        True,
        "arn:aws:iam::123456789012:user/bob",
    )
    (decision,) = call["decisions"]
    assert (decision["verdict"], decision["policy"], decision["statement"]) == ("denied", "own", "Team")
    assert decision["missing"] == {
        "element": "Condition",
        "operator": "StringEquals",
        "key": "aws:ResourceTag/team",
        "wanted": ["blue", "green"],
        "values": ["red"],
    }
    assert "wants blue or green: the request has red" in decision["reason"]


@pytest.mark.parametrize(
    ("statement", "missing", "reason"),
    [
        (allow("ec2:DescribeVolumes"), None, "no identity-based policy has an Allow statement with this action"),
        (allow("ec2:DeleteVolume", resource="arn:aws:ec2:*:*:volume/vol-1"), {"element": "Resource"}, "Resource does"),
        (
            {"Effect": "Deny", "Action": "ec2:*", "Resource": "*", "Sid": "Never"},
            None,
            "by an explicit deny in statement Never of the identity-based policy own",
        ),
    ],
    ids=["action", "resource", "explicit"],
)
async def test_a_denied_call_shows_what_was_missing(
    statement: dict[str, Any], missing: object, reason: str, emulator: Emulator
) -> None:
    caller = await Caller.create(emulator)
    caller.allow([statement])

    await caller.aws.expect_error("ec2", "delete_volume", VolumeId=VOLUME)
    (decision,) = (await last_call(emulator))["decisions"]

    assert decision["missing"] == missing
    assert reason in decision["reason"]


async def test_a_call_shows_what_a_service_was_refused_on_behalf_of_the_caller(emulator: Emulator, aws: Aws) -> None:
    """SageMaker calls EC2 with the caller's permissions, and wraps EC2's denial in an error of its own."""
    volume, (cluster, (node,)) = await aws.create_volume(), await aws.create_cluster()
    caller = await Caller.create(emulator)
    caller.allow([allow("sagemaker:AttachClusterNodeVolume", "eks:DescribeCluster")])

    members = {"ClusterArn": cluster, "NodeId": node, "VolumeId": volume}
    await caller.aws.expect_error("sagemaker", "attach_cluster_node_volume", **members)
    call = await last_call(emulator)

    assert (call["outcome"], call["denied"]) == ("ValidationException", True)
    assert [each["action"] for each in call["decisions"] if each["verdict"] == "denied"] == ["ec2:AttachVolume"]
    assert {each["action"] for each in call["decisions"] if each["verdict"] == "allowed"} == {
        "sagemaker:AttachClusterNodeVolume",
        "eks:DescribeCluster",
    }


async def test_a_call_that_succeeds_shows_what_ebs_was_refused_by_kms(emulator: Emulator, aws: Aws) -> None:
    """CreateVolume answers before EBS asks KMS, so only the call log says why the volume disappears."""
    key = (await aws("kms", "create_key"))["KeyMetadata"]["KeyId"]
    caller = await create_caller(emulator, "bob", EVERYTHING_BUT_KMS, services=["ec2"])

    await caller.ec2("create_volume", AvailabilityZone="us-west-2a", Size=1, Encrypted=True, KmsKeyId=key)
    created = next(call for call in await latest(emulator) if call["operation"] == "ec2:CreateVolume")

    assert (created["outcome"], created["denied"]) == ("ok", True)
    (denied,) = [each for each in created["decisions"] if each["verdict"] == "denied"]
    assert denied["action"] == "kms:GenerateDataKeyWithoutPlaintext"


async def test_a_missing_resource_is_not_a_denial(emulator: Emulator) -> None:
    """EC2 answers NotFound if only a condition on the missing volume's tags is not met."""
    caller = await Caller.create(emulator)
    caller.allow([allow("ec2:DeleteVolume", Condition={"StringEquals": {"aws:ResourceTag/a": "b"}})])

    await caller.aws.expect_error("ec2", "delete_volume", VolumeId=VOLUME)
    call = await last_call(emulator)

    assert (call["outcome"], call["denied"]) == ("InvalidVolume.NotFound", False)
    assert call["decisions"][0]["verdict"] == "missing"


async def test_calls_with_bad_signatures_and_unknown_operations_are_recorded(emulator: Emulator, aws: Aws) -> None:
    """Neither counts as a call of an operation."""
    thief = clients({**emulator.env, "AWS_SECRET_ACCESS_KEY": "guessed"}, ["sts"])

    await thief.expect_error("sts", "get_caller_identity")
    await aws.expect_error("ec2", "describe_vpcs")
    async with aiohttp.request("POST", emulator.url, headers={"x-amz-target": "Unknown.Thing"}, data=b"{}"):
        pass
    async with aiohttp.request("POST", emulator.url, data={"Action": "Nothing", "Version": "2011-06-15"}):
        pass
    async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls") as answer:
        counts = await answer.json()

    calls = await latest(emulator)
    assert [(call["operation"], call["outcome"]) for call in calls] == [
        ("sts:GetCallerIdentity", "SignatureDoesNotMatch"),
        ("ec2:DescribeVpcs", "InvalidAction"),
        ("?:?", "UnknownOperationException"),
        ("sts:?", "MissingAuthenticationToken"),
    ]
    assert [bool(call["caller"]) for call in calls] == [False, True, False, False]
    assert counts == {}


async def test_a_token_s_exchange_shows_the_decision_of_the_trust_policy(emulator: Emulator) -> None:
    """The caller is unsigned, so the decision names the provider as the principal."""
    async with serve_issuer() as issuer:
        provider = put_provider(emulator, issuer.url, AUDIENCE)
        trust = {
            "Sid": "Pods",
            "Effect": "Allow",
            "Principal": {"Federated": provider},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {f"{issuer.url.partition('://')[2]}:sub": "another"}},
        }
        role, token = put_role(emulator, "pod", trust), issuer.token()
        unsigned = clients(emulator.env, ["sts"])

        await unsigned.expect_error(
            "sts", "assume_role_with_web_identity", RoleArn=role, RoleSessionName="me", WebIdentityToken=token
        )
        text = json.dumps(call := await last_call(emulator))

    (decision,) = call["decisions"]
    assert (call["caller"], decision["principal"], decision["statement"]) == (None, provider, "Pods")
    assert decision["missing"]["element"] == "Condition"
    assert token not in text


async def test_no_secret_is_in_the_call_log(emulator: Emulator, aws: Aws) -> None:
    """Neither what a request contains, nor what an answer contains, nor what signs a request."""
    session = (await aws("sts", "assume_role", RoleArn=put_role(emulator, "work"), RoleSessionName="me"))["Credentials"]
    as_role = await connect(emulator, session)
    key = (await aws("kms", "create_key"))["KeyMetadata"]["KeyId"]
    data = await aws("kms", "generate_data_key", KeyId=key, KeySpec="AES_256")
    await aws("kms", "encrypt", KeyId=key, Plaintext=b"a plain text")
    await as_role("sts", "get_caller_identity")

    async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls/latest") as answer:
        text = await answer.text()
    events = (await aws("cloudtrail", "lookup_events"))["Events"]

    secrets = (
        *(session["SecretAccessKey"], session["SessionToken"], emulator.env["AWS_SECRET_ACCESS_KEY"]),
        *("a plain text", "YSBwbGFpbiB0ZXh0", repr(data["Plaintext"]), repr(data["CiphertextBlob"])),
    )
    for secret in secrets:
        assert secret not in text
        assert secret not in str(events)


async def test_many_and_long_resources_take_little_room(emulator: Emulator, aws: Aws) -> None:
    """One call may name a thousand resources, and a caller chooses their names."""
    names = [f"vol-{number:017x}" for number in range(1000)]
    await aws.expect_error("ec2", "create_tags", Resources=names, Tags=[{"Key": "a", "Value": "b"}])
    await aws.expect_error("ec2", "delete_volume", VolumeId="vol-" + 100_000 * "f")

    many, long = (await latest(emulator))[-2:]

    assert (len(many["resources"]), many["further"]) == (10, 990)
    assert len(many["decisions"]) <= 10
    assert len(json.dumps(long)) < 5000


async def test_without_enforcement_calls_have_no_decisions() -> None:
    async with cloud(iam="off") as (emulator, aws):
        await aws.ec2("describe_volumes")

        call = await last_call(emulator)

    assert (call["decisions"], call["denied"], call["outcome"]) == ([], False, "ok")


@pytest.mark.parametrize("operation", ["delete_volume", "create_snapshot", "detach_volume"])
async def test_a_call_that_waits_for_other_changes_is_decided_after_them(
    emulator: Emulator, aws: Aws, operation: str
) -> None:
    """Between the decision and the act nothing changes: a tag that the policy asks for is still there."""
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "team", "Value": "blue"}]}]
    volume = await aws.create_volume(TagSpecifications=tags)
    blue = {"StringEquals": {"aws:ResourceTag/team": "blue"}}
    bob = await create_user(emulator, aws, "bob", allow("ec2:*", Condition=blue))
    volumes = emulator.world.store.volumes

    async def is_under_way() -> bool:
        return bool((await last_call(emulator))["outcome"] == "under way")

    async with asyncio.TaskGroup() as group, emulator.world.clock.pause():
        call = group.create_task(bob.expect_error("ec2", operation, VolumeId=volume))
        await wait_until(is_under_way)
        volumes.put(replace(volumes[volume], tags={"team": "red"}))

    assert call.result()[0] == "UnauthorizedOperation"
    assert volumes[volume].state == "available"
