"""Temporary credentials: the token they need, what they may call, and their end."""

import asyncio
import time
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity import identities, sessions
from hyperpod_ebs.emulator.identity_records import Session
from tests.support.emulator_clients import Aws, cloud
from tests.support.roles import ACCOUNT, ALLOW_ALL, assume, connect, put_role, put_user
from tests.support.waiting import wait_until_equal


class Refusal(NamedTuple):
    """A service's error for credentials that it does not accept."""

    service: str
    method: str
    code: str
    text: str


TOKEN = "The security token included in the request is "
EXPIRED = [
    Refusal("ec2", "describe_volumes", "RequestExpired", "Request has expired."),
    Refusal("sagemaker", "list_clusters", "ExpiredTokenException", f"{TOKEN}expired"),
    Refusal("eks", "list_clusters", "ExpiredTokenException", f"{TOKEN}expired"),
    Refusal("iam", "list_users", "ExpiredToken", f"{TOKEN}expired"),
    Refusal("kms", "list_keys", "ExpiredTokenException", f"{TOKEN}expired"),
    Refusal("sts", "get_caller_identity", "ExpiredToken", f"{TOKEN}expired"),
]


def expire(emulator: Emulator, key: str, *, seconds_ago: float = 1) -> None:
    """Let the session with this key have expired."""
    session = emulator.world.store.sessions[key]
    emulator.world.store.sessions.put(replace(session, expires=time.time() - seconds_ago))


@pytest.mark.parametrize("case", EXPIRED, ids=[case.service for case in EXPIRED])
async def test_expired_credentials_get_the_error_of_the_service(emulator: Emulator, aws: Aws, case: Refusal) -> None:
    """The error by which each SDK knows that it must get new credentials."""
    credentials = await assume(aws, put_role(emulator, "work", allow=ALLOW_ALL))
    session = await connect(emulator, credentials, case.service)
    await session(case.service, case.method)

    expire(emulator, credentials["AccessKeyId"])
    refused = await session.expect_error(case.service, case.method)

    assert refused == (case.code, case.text)


INVALID = [
    Refusal("ec2", "describe_volumes", "AuthFailure", "AWS was not able to validate the provided access credentials"),
    Refusal("sagemaker", "list_clusters", "UnrecognizedClientException", f"{TOKEN}invalid."),
    Refusal("eks", "list_clusters", "UnrecognizedClientException", f"{TOKEN}invalid."),
    Refusal("iam", "list_users", "InvalidClientTokenId", f"{TOKEN}invalid."),
    Refusal("kms", "list_keys", "UnrecognizedClientException", f"{TOKEN}invalid."),
    Refusal("sts", "get_caller_identity", "InvalidClientTokenId", f"{TOKEN}invalid."),
]


@pytest.mark.parametrize("token", [None, "IQoJb3JpZ2luX2VjEA", "other"], ids=["missing", "wrong", "of another session"])
@pytest.mark.parametrize("case", INVALID, ids=[case.service for case in INVALID])
async def test_temporary_credentials_need_their_session_token(
    emulator: Emulator, aws: Aws, token: str | None, case: Refusal
) -> None:
    """IAM User Guide, "Use temporary credentials with AWS resources"."""
    role = put_role(emulator, "work", allow=ALLOW_ALL)
    credentials, other = await assume(aws, role), await assume(aws, role)
    sent: dict[str, Any] = {**credentials, "SessionToken": other["SessionToken"] if token == "other" else token}

    refused = await (await connect(emulator, sent, case.service)).expect_error(case.service, case.method)

    assert refused == (case.code, case.text)


async def test_long_term_credentials_with_a_session_token_are_refused(emulator: Emulator, aws: Aws) -> None:
    """A long-term key has no session token."""
    credentials = await assume(aws, put_role(emulator, "work"))
    user = put_user(emulator, "bob")

    session = await connect(emulator, {**user, "SessionToken": credentials["SessionToken"]})
    code, _ = await session.expect_error("sts", "get_caller_identity")

    assert code == "InvalidClientTokenId"


async def test_the_sessions_of_a_deleted_role_end(emulator: Emulator, aws: Aws) -> None:
    """IAM API Reference, DeleteRole."""
    session = await connect(emulator, await assume(aws, put_role(emulator, "work")))

    emulator.world.store.roles.drop("work")
    code, _ = await session.expect_error("sts", "get_caller_identity")

    assert code == "InvalidClientTokenId"


async def test_a_session_survives_a_restart(tmp_path: Any) -> None:
    """What was acknowledged is on disk."""
    async with cloud(tmp_path) as (emulator, aws):
        credentials = await assume(aws, put_role(emulator, "work"))
    async with cloud(tmp_path) as (emulator, _):
        identity = await (await connect(emulator, credentials))("sts", "get_caller_identity")

    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/work/me"


async def test_sessions_that_expired_long_ago_are_removed_a_few_at_a_time(
    emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions must not fill the memory, and the call that removes them must not wait."""
    monkeypatch.setattr(sessions, "MAX_REMOVED", 2)
    store, role = emulator.world.store, put_role(emulator, "work")
    adder = sessions.Sessions(store)
    for number in range(4):
        expires = time.time() - sessions.KEPT + (-10 if number < 3 else 10)
        adder.add(Session(id=f"ASIA{number}", secret="", token="", role="work", issued=0, expires=expires))

    adder.add(Session(id="ASIA4", secret="", token="", role="work", issued=0, expires=time.time()))
    remaining = set(store.sessions)
    credentials = await assume(aws, role)

    assert remaining == {"ASIA3", "ASIA4"}
    assert credentials["AccessKeyId"] in store.sessions


async def test_sts_throttles_when_there_are_too_many_sessions(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-770: a caller cannot fill the memory with sessions; expired ones give way."""
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    async with cloud(tmp_path) as (emulator, aws):
        role = put_role(emulator, "work")
        first, second = await assume(aws, role), await assume(aws, role)
        refused = await aws.expect_error("sts", "assume_role", RoleArn=role, RoleSessionName="me")
        expire(emulator, first["AccessKeyId"])
    async with cloud(tmp_path) as (emulator, aws):
        third = await assume(aws, role)
        remaining = set(emulator.world.store.sessions)

    assert refused == ("Throttling", "Rate exceeded")
    assert remaining == {second["AccessKeyId"], third["AccessKeyId"]}


async def test_the_policies_of_few_callers_are_kept_compiled(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CWE-770: sessions with policies of their own must not fill the memory."""
    monkeypatch.setattr(identities, "MAX_CACHED", 3)
    known = identities.Identities(emulator.world.store, emulator.world.region)
    put_role(emulator, "work")
    names = [f"ASIA{number}" for number in range(10)]
    for name in names:
        emulator.world.store.sessions.put(
            Session(id=name, secret="", token="", role="work", name=name, issued=0, expires=time.time() + 60)
        )

    first = {name: known.require(name) for name in names}
    are_kept = [known.require(name) is first[name] for name in reversed(names)]

    assert are_kept == [True] * 3 + [False] * 7
    assert known.require(names[0]) == first[names[0]]


async def test_a_user_gets_temporary_credentials_with_the_user_s_permissions(emulator: Emulator) -> None:
    """STS API Reference, GetSessionToken."""
    read = {"Effect": "Allow", "Action": "ec2:DescribeVolumes", "Resource": "*"}
    bob = await connect(emulator, put_user(emulator, "bob", read))

    credentials = (await bob("sts", "get_session_token", DurationSeconds=129_600))["Credentials"]
    session = await connect(emulator, credentials, "sts", "ec2")
    identity = await session("sts", "get_caller_identity")
    await session.ec2("describe_volumes")
    code, _ = await session.expect_error("ec2", "describe_snapshots")

    record = emulator.world.store.sessions[credentials["AccessKeyId"]]
    assert identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/bob"
    assert code == "UnauthorizedOperation"
    assert record.expires == int(record.issued) + 129_600


async def test_get_session_token_needs_no_permission(emulator: Emulator) -> None:
    """STS API Reference, GetSessionToken: policies do not control authentication operations."""
    deny_all = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    bob = await connect(emulator, put_user(emulator, "bob", deny_all))

    credentials = (await bob("sts", "get_session_token"))["Credentials"]

    record = emulator.world.store.sessions[credentials["AccessKeyId"]]
    assert record.expires == int(record.issued) + 43_200


async def test_a_user_s_temporary_credentials_cannot_call_iam_and_most_of_sts(emulator: Emulator) -> None:
    """STS API Reference, GetSessionToken: only AssumeRole and GetCallerIdentity, and no IAM without MFA."""
    bob = await connect(emulator, put_user(emulator, "bob", ALLOW_ALL))
    session = await connect(emulator, (await bob("sts", "get_session_token"))["Credentials"], "sts", "iam")

    again = await session.expect_error("sts", "get_session_token")
    info = await session.expect_error("sts", "get_access_key_info", AccessKeyId="AKIA0000000000000000")
    users = await session.expect_error("iam", "list_users")
    credentials = await assume(session, put_role(emulator, "work", allow=ALLOW_ALL))
    of_role = await (await connect(emulator, credentials)).expect_error("sts", "get_session_token")

    text = "Cannot call GetSessionToken with session credentials"
    assert again == of_role == ("AccessDenied", text)
    assert (info[0], users[0]) == ("AccessDenied", "InvalidClientTokenId")
    assert not emulator.world.store.sessions[credentials["AccessKeyId"]].is_chained


async def test_get_caller_identity_works_under_an_explicit_deny(emulator: Emulator, aws: Aws) -> None:
    """STS API Reference, GetCallerIdentity: no permissions are required."""
    deny_all = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    session = await connect(emulator, await assume(aws, put_role(emulator, "work", allow=deny_all)))

    identity = await session("sts", "get_caller_identity")
    code, _ = await session.expect_error("sts", "get_access_key_info", AccessKeyId="AKIA0000000000000000")

    assert identity["Account"] == ACCOUNT
    assert code == "AccessDenied"


async def test_the_message_of_a_denied_call_can_be_decoded_with_permission(emulator: Emulator) -> None:
    """STS API Reference, DecodeAuthorizationMessage."""
    decode = {"Effect": "Allow", "Action": "sts:DecodeAuthorizationMessage", "Resource": "*"}
    bob = await connect(emulator, put_user(emulator, "bob"), "ec2", "sts")
    eve = await connect(emulator, put_user(emulator, "eve", decode))

    _, text = await bob.expect_error("ec2", "delete_volume", VolumeId="vol-0123456789abcdef0")
    message = text.partition("Encoded authorization failure message: ")[2]
    refused = await bob.expect_error("sts", "decode_authorization_message", EncodedMessage=message)
    decoded = await eve("sts", "decode_authorization_message", EncodedMessage=message)
    changed = await eve.expect_error("sts", "decode_authorization_message", EncodedMessage=message[:-9])

    assert refused[0] == "AccessDenied"
    assert '"action":"ec2:DeleteVolume"' in decoded["DecodedMessage"]
    assert changed == ("InvalidAuthorizationMessageException", "Message is not valid")


async def test_one_user_cannot_take_all_sessions(emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-770: GetSessionToken needs no permission, so a user without any must not end role sessions for others."""
    monkeypatch.setattr(sessions, "MAX_OF_OWNER", 2)
    bob, role = await connect(emulator, put_user(emulator, "bob")), put_role(emulator, "work")
    for _ in range(2):
        await bob("sts", "get_session_token")

    refused = await bob.expect_error("sts", "get_session_token")
    of_role = await assume(aws, role)

    assert refused == ("Throttling", "Rate exceeded")
    assert of_role["AccessKeyId"] in emulator.world.store.sessions


async def test_a_key_that_is_deleted_during_a_call_is_unknown(emulator: Emulator, aws: Aws) -> None:
    """IAM API reference, "Common errors": InvalidClientTokenId, not an internal error."""
    role, credentials = put_role(emulator, "work"), put_user(emulator, "bob", ALLOW_ALL)
    bob = await connect(emulator, credentials)
    emulator.faults.plan("AssumeRole", delay=0.5)

    async def count_plans() -> int:
        return emulator.faults.remaining()

    async def delete_key() -> None:
        await wait_until_equal(count_plans, 0)
        await aws("iam", "delete_access_key", UserName="bob", AccessKeyId=credentials["AccessKeyId"])

    request = {"RoleArn": role, "RoleSessionName": "me"}
    async with asyncio.TaskGroup() as group:
        refused = group.create_task(bob.expect_error("sts", "assume_role", **request))
        await delete_key()

    assert refused.result() == ("InvalidClientTokenId", f"{TOKEN}invalid.")
    assert not emulator.world.store.sessions
